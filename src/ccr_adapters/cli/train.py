"""Runs a recipe: base, language, cached targets, stages one after the other, evaluation, adapter folder.

Everything lies in the recipe's output folder, and a run that was killed goes on from there: stages that are finished
are loaded, the one that was running resumes from its last whole checkpoint.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import set_seed

from ccr_adapters.cli.build import build_model, check_language
from ccr_adapters.cli.checks import adapter_of, check_recipe, check_rows, stage_arguments
from ccr_adapters.cli.recipe import Recipe
from ccr_adapters.cli.scoring import evaluate_all, evaluate_model, visual_vectors
from ccr_adapters.cli.stages import STAGE_DONE, fine_tune_english, train_language
from ccr_adapters.cli.videos import with_frames
from ccr_adapters.data.corpus import Corpus, load_corpus
from ccr_adapters.errors import CCRError, ConfigError
from ccr_adapters.evaluation import RetrievalMetrics, protocol_line, write_metrics
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.warm_start import find_start
from ccr_adapters.training import TargetCache

__all__ = ["Outcome", "build_model", "check_recipe", "evaluate_model", "run_recipe", "visual_vectors"]

RECIPE = "recipe.json"
INPUTS = "inputs.json"
VOCABULARY = "vocabulary"


@dataclass
class Outcome:
    """What a run leaves behind."""

    model: CCRModel
    adapter: Path
    metrics: dict[str, RetrievalMetrics]
    summary: dict[str, Any] = field(default_factory=dict)


# Arguments that change the time or the memory of a training and not what comes out: they may be others when a run goes on, as
# after running out of memory. `logging_steps` is none: validation goes by it where `eval_steps` is not named.
_NEUTRAL = frozenset(
    {
        "activation_checkpointing",
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_prefetch_factor",
        "ddp_timeout",
        "disable_tqdm",
        "gradient_checkpointing",
        "mini_batch_size",
        "on_out_of_memory",
        "report_to",
        "save_total_limit",
    }
)


def _what_decides(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without the arguments that its adapter does not depend on."""

    def rest(arguments: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in arguments.items() if name not in _NEUTRAL}

    stages = [{**stage, "arguments": rest(stage["arguments"])} for stage in recipe["stages"]]
    return {**recipe, "arguments": rest(recipe["arguments"]), "stages": stages}


def _kept(recipe: Recipe) -> dict[str, Any]:
    """A recipe as its output folder keeps it: without where things lie, and what the card says."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(recipe), default=str))
    return {name: value for name, value in values.items() if name not in ("output_dir", "cache_dir", "license")}


def _same_recipe(recipe: Recipe, output: Path) -> None:
    """Refuse an output folder of another recipe, instead of going on with something else."""
    path = output / RECIPE
    if path.is_file():
        own = _kept(recipe)
        before = json.loads(path.read_text(encoding="utf-8"))
        then, now = _what_decides(before), _what_decides(own)
        different = sorted(key for key in now if then.get(key, now[key]) != now[key])
        if different:
            raise ConfigError(
                f"'{output}' holds a run of another recipe (different: {', '.join(different)}). Choose another output_dir, "
                "or remove the folder to start anew."
            )
    PartialState().wait_for_everyone()


def _rows_per_step(recipe: Recipe, output: Path) -> str:
    """Rows that a step of each stage has in all processes, as the run began with them.

    Each process takes as many as the recipe says, so the same recipe in another number of them is another training.

    Raises:
        ConfigError: If they are others now, and a stage is not finished.
    """
    arguments = [stage_arguments(recipe, stage) for stage in recipe.stages]
    now = ", ".join(str(own.train_batch_size * own.gradient_accumulation_steps * own.world_size) for own in arguments)
    before = _inputs(output).get("rows_per_step", now)
    if before != now and not all((output / stage.name / STAGE_DONE).is_file() for stage in recipe.stages):
        raise ConfigError(
            f"'{output}' holds a run whose steps have {before} rows (stage by stage); in {arguments[0].world_size} process(es) "
            f"they would have {now}. Start as many processes as it had, choose another output_dir, or remove the folder to start "
            "anew."
        )
    return before


def _inputs(output: Path) -> dict[str, str]:
    path = output / INPUTS
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _same_inputs(output: Path, **inputs: str) -> None:
    """Refuse to go on with other data or another base than the finished stages and checkpoints had.

    A path says nothing of what lies there: captions are filtered anew, and bases are replaced in place.
    """
    before = _inputs(output)
    different = sorted(name for name, value in inputs.items() if before.get(name, value) != value)
    if different:
        raise ConfigError(
            f"'{output}' holds a run with other {' and '.join(different).replace('_', ' ')} than there are now. Restore what it "
            "had, choose another output_dir, or remove the folder to start anew."
        )
    if PartialState().is_main_process and not before.items() >= inputs.items():
        write_metrics(output / INPUTS, {**before, **inputs})
    PartialState().wait_for_everyone()


@contextmanager
def _left_free_if_refused(recipe: Recipe, output: Path) -> Iterator[None]:
    """Let a recipe that turns out not to work leave its folder free for a mended one, unless something was trained there."""
    fresh = not (output / RECIPE).is_file()
    try:
        yield
    except CCRError:
        trained = any((output / stage.name).exists() for stage in recipe.stages)
        if fresh and not trained and PartialState().is_main_process:
            # with the vocabulary, which the mended recipe may want in another size
            shutil.rmtree(output / VOCABULARY, ignore_errors=True)
            for name in (RECIPE, INPUTS):
                (output / name).unlink(missing_ok=True)
        raise


def run_recipe(recipe: Recipe, corpus: Corpus | None = None, *, evaluate: bool = True) -> Outcome:
    """Train a language as a recipe says.

    Args:
        recipe: The recipe.
        corpus: The data, when it is at hand; by default what the recipe names.
        evaluate: Score the test sets before and after.

    Returns:
        The trained model, the folder of the adapter, the metrics by name, and a summary.

    Raises:
        ConfigError: If the recipe cannot work, before any training.
        TrainingError: If the loss is not finite.
    """
    check_recipe(recipe)
    output = Path(recipe.output_dir)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"`output_dir` '{output}' is a file.")
    output.mkdir(parents=True, exist_ok=True)
    _same_recipe(recipe, output)
    rows_per_step = _rows_per_step(recipe, output)
    set_seed(recipe.seed)
    if corpus is None:
        corpus = load_corpus(recipe.data, recipe.language, recipe.seed)
    check_rows(recipe, corpus)
    base = recipe.base
    stages = list(recipe.stages)
    english = output / "english" / STAGE_DONE if stages[0].name == "english" else None
    if english is not None and not english.is_file():
        check_language(recipe, corpus)
        set_seed(recipe.seed)
    with _left_free_if_refused(recipe, output):
        # only now: a folder is no run's before there is something to train
        if PartialState().is_main_process and not (output / RECIPE).is_file():
            write_metrics(output / RECIPE, _kept(recipe))
        PartialState().wait_for_everyone()
        given = {"training_pairs": corpus.pairs_fingerprint(), "visual_vectors": corpus.vectors_fingerprint()}
        given |= {"rows_per_step": rows_per_step}
        _same_inputs(output, **{name: value for name, value in given.items() if value is not None})
        summary: dict[str, Any] = {
            "recipe": json.loads((output / RECIPE).read_text(encoding="utf-8")),
            "stages": {},
        }
        if english is not None:
            base = fine_tune_english(recipe, stages.pop(0), corpus, base)
            summary["stages"]["english"] = json.loads(english.read_text(encoding="utf-8"))
        model = build_model(recipe, corpus, base, output / VOCABULARY)
    # before anything is encoded, and not when the first trainer moves it
    model.to(stage_arguments(recipe, stages[0]).device)  # type: ignore[arg-type]
    _same_inputs(output, base_weights=model.base_sha256())
    cache = TargetCache(recipe.cache_dir or output / "targets", model)
    corpus = with_frames(corpus, model, cache, recipe.language)
    summary["stages"].update(train_language(recipe, stages, corpus, model, cache))
    language = recipe.language
    summary["seconds"] = round(sum(found["seconds"] for found in summary["stages"].values()), 1)
    summary["pairs"] = len(corpus.rows)
    summary["trained_parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    summary["machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    model.eval()
    metrics = evaluate_all(model, corpus, language) if evaluate else {}
    adapter = output / "adapter"
    if base != recipe.base:
        # the fine-tuned base lies beside the adapter, and the two may move together
        model.config.base_model_name_or_path = os.path.relpath(base, adapter)
    if PartialState().is_main_process:
        _save(recipe, corpus, model, metrics, summary, adapter)
    PartialState().wait_for_everyone()
    return Outcome(model, adapter, metrics, summary)


def _started(recipe: Recipe) -> list[str]:
    """What training started from; a folder's path tells others nothing."""
    if recipe.warm_start is None:
        return []
    near = find_start(recipe.warm_start, recipe.warm_start_language, adapter_of(recipe))[1]
    name = "" if Path(recipe.warm_start).is_dir() else f" '{recipe.warm_start}'"
    return [f"started from an adapter{name} for {near}"]


def _checkpoint(stages: dict[str, Any]) -> str:
    """Which checkpoint the card says was kept: the best of each stage only where all of them chose one."""
    chosen = [stage.get("chosen") for stage in stages.values()]
    if not chosen or not all(chosen):
        return "the last"
    return f"highest validation {' and '.join(dict.fromkeys(chosen))} of each stage"


def _save(
    recipe: Recipe,
    corpus: Corpus,
    model: CCRModel,
    metrics: dict[str, RetrievalMetrics],
    summary: dict[str, Any],
    adapter: Path,
) -> None:
    output = Path(recipe.output_dir)
    flat: dict[str, dict[str, Any]] = {
        name: {"dataset": str(corpus.facts.get("data", "")), **scores.to_dict()} for name, scores in metrics.items()
    }
    stages = [f"{name} ({found['steps']} steps)" for name, found in summary["stages"].items()]
    training: dict[str, Any] = {
        **{key: corpus.facts[key] for key in ("data", "translator", "noise", "license") if key in corpus.facts},
        "pairs": len(corpus.rows),
        "seed": recipe.seed,
        "method": recipe.method,
        "recipe": ", then ".join([*_started(recipe), *stages]),
        "time": f"{summary['seconds']:.0f} s on {summary['machine']}",
        "checkpoint": _checkpoint(summary["stages"]),
    }
    model.config.languages[recipe.language].recipe = training
    table = [
        {
            "captions": name,
            "sum of recalls": scores.sum_r,
            "t2i R@1": scores.to_dict()["t2i_r@1"],
            "i2t R@1": scores.to_dict()["i2t_r@1"],
        }
        for name, scores in metrics.items()
    ]
    dtype = None if recipe.save_dtype == "float32" else getattr(torch, recipe.save_dtype)
    first = next(iter(metrics.values()), None)
    protocol = protocol_line(first.images, first.captions, unpaired=first.unpaired) if first else ""
    evidence = {"protocol": protocol, "training": training, "metrics": flat, "table": table, "license": recipe.license}
    model.save_pretrained(adapter, language=recipe.language, dtype=dtype, evidence=evidence)
    write_metrics(output / "metrics.json", flat)
    write_metrics(output / "training_summary.json", summary)
