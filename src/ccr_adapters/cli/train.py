"""Runs a recipe: base, language, cached targets, stages one after the other, evaluation, adapter folder.

Everything lies in the recipe's output folder, and a run that was killed goes on from there: stages that are finished
are loaded, the one that was running resumes from its last whole checkpoint.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import PeftType
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset
from transformers import AutoTokenizer, EarlyStoppingCallback, PreTrainedTokenizerBase, set_seed

from ccr_adapters.cli.recipe import Recipe, Stage
from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import DASDConfig, find_text_encoder
from ccr_adapters.dasd.anatomy import width_of
from ccr_adapters.data.corpus import Corpus, load_corpus
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import ConfigError, TrainingError
from ccr_adapters.evaluation import RetrievalMetrics, evaluate_retrieval, protocol_line, write_metrics
from ccr_adapters.methods import DASD, NO_TERM, STAGES, EnglishFineTune, Method, Terms
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.vocabulary_source import source_table
from ccr_adapters.processing.captions import token_ids
from ccr_adapters.processing.collator import SourceCollator, TargetCollator
from ccr_adapters.processing.vocabulary import start_table, train_tokenizer
from ccr_adapters.training import CCRTrainer, CCRTrainingArguments, TargetCache, last_checkpoint
from ccr_adapters.training.trainer import remove_incomplete, save_state

logger = logging.getLogger(__name__)

STAGE_DONE = "stage.json"
STAGE_WEIGHTS = "stage.safetensors"


@dataclass
class Outcome:
    """What a run leaves behind."""

    model: CCRModel
    adapter: Path
    metrics: dict[str, RetrievalMetrics]
    summary: dict[str, Any] = field(default_factory=dict)


class _Rows(Dataset[dict[str, Any]]):
    """Rows of the corpus with their index; texts are read from the memory-mapped file when they are needed."""

    def __init__(self, corpus: Corpus, column: str) -> None:
        self.rows = corpus.rows.select_columns([column])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"row": index, **self.rows[index]}


def peft_config(values: dict[str, Any]) -> Any:
    """A peft configuration from a recipe's `adapter:`.

    Raises:
        ConfigError: If the method or a key is unknown.
    """
    values = dict(values)
    name = str(values.pop("peft_type", "DASD")).upper()
    if name not in PEFT_TYPE_TO_CONFIG_MAPPING:
        known = ", ".join(sorted(str(getattr(key, "value", key)) for key in PEFT_TYPE_TO_CONFIG_MAPPING))
        raise ConfigError(f"`peft_type` is {name!r}; peft knows {known}.")
    try:
        return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name)](**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"`adapter`: {str(error).split('__init__() ')[-1]}") from error


def stage_arguments(recipe: Recipe, stage: Stage) -> CCRTrainingArguments:
    """Training arguments of a stage: the recipe's, and over them the stage's own.

    Raises:
        ConfigError: If a name is unknown or a value impossible.
    """
    values = {"seed": recipe.seed, **recipe.arguments, **stage.arguments}
    values["output_dir"] = str(Path(recipe.output_dir) / stage.name)
    try:
        arguments = CCRTrainingArguments(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Arguments of stage '{stage.name}': {str(error).split('__init__() ')[-1]}") from error
    if stage.patience and arguments.eval_strategy == "no":
        raise ConfigError(
            f"Stage '{stage.name}': `patience` counts evaluations; set `eval_strategy` to steps or epoch."
        )
    return arguments


def stage_terms(stage: Stage) -> Terms:
    """Weights of a stage's terms: published defaults by its name, and over them the recipe's."""
    if stage.name not in STAGES and not stage.terms:
        raise ConfigError(f"Stage '{stage.name}' has no published terms ({', '.join(STAGES)} have); give it `terms`.")
    return Terms.from_dict(stage.terms, STAGES.get(stage.name))


def check_recipe(recipe: Recipe) -> None:
    """Build everything that can be wrong in a recipe, before any work."""
    adapter = peft_config(recipe.adapter)
    dynamic = isinstance(adapter, DASDConfig) and adapter.mode == "dynamic"
    for stage in recipe.stages:
        stage_arguments(recipe, stage)
        if stage.name != "english" and not stage_terms(stage).computed(dynamic=dynamic):
            raise ConfigError(f"Stage '{stage.name}': {NO_TERM}")


def visual_vectors(model: CCRModel, questions: RetrievalSet) -> torch.Tensor:
    """Vectors of a set's gallery, precomputed or encoded. (M, d)"""
    if questions.visual is not None:
        return F.normalize(torch.from_numpy(questions.visual.astype("float32")), dim=-1)
    pictures = questions.pictures
    chunks = [model.encode_image(pictures[i : i + 256]) for i in range(0, len(pictures), 256)]  # type: ignore[arg-type,index]
    return torch.cat(chunks).cpu()


def evaluate_model(
    model: CCRModel,
    questions: RetrievalSet,
    language: str | None,
    *,
    captions: str | None = None,
    visual: torch.Tensor | None = None,
    bootstrap: int = 1000,
) -> RetrievalMetrics:
    """Score one language of a retrieval set.

    Args:
        model: The model.
        questions: The set.
        language: Language that the captions are encoded as; `None` for the base.
        captions: Language of the captions, where it is another: German through the bare base, for example.
        visual: Vectors of the gallery, when they are at hand. (M, d)
        bootstrap: Resamples behind the interval.
    """
    spoken = captions or language or "en"
    text = model.encode_text(questions.captions[spoken], language, batch_size=128, show_progress=False)
    visual = visual_vectors(model, questions) if visual is None else visual
    return evaluate_retrieval(text.cpu(), visual, questions.caption_to_image[spoken], bootstrap=bootstrap)


class _Validation:
    """Metrics of the method on the validation set; the gallery is encoded once."""

    def __init__(self, questions: RetrievalSet, language: str | None, visual: torch.Tensor | None) -> None:
        self.questions = questions
        self.language = language
        self.visual = visual

    def __call__(self, method: Method) -> dict[str, float]:
        scores = evaluate_model(method.model, self.questions, self.language, visual=self.visual, bootstrap=0)
        return {"mAR": scores.sum_r / 6, "sumR": scores.sum_r}


# ------------------------------------------------------------------------------------------------------- parts of a run


def build_vocabulary(
    recipe: Recipe, corpus: Corpus, model: CCRModel, folder: Path
) -> tuple[PreTrainedTokenizerBase, VocabularyConfig, torch.Tensor | None, list[int] | None]:
    """The language's tokenizer and the start of its table, made once and kept in the output folder."""
    plan = recipe.vocabulary
    if plan is None:
        raise ConfigError("The recipe has no `vocabulary`.")
    width = width_of(find_text_encoder(model.base).config)
    base_table = find_text_encoder(model.base).token_embedding.weight
    state = PartialState()
    with state.main_process_first():
        if not (folder / "table.safetensors").is_file():
            translations, captions = list(corpus.rows["translation"]), list(corpus.rows["caption"])
            longest = recipe.max_length or model.processor.base_max_length  # type: ignore[union-attr]
            if plan.tokenizer:
                tokenizer = AutoTokenizer.from_pretrained(plan.tokenizer)
            else:
                tokenizer = train_tokenizer(translations, size=plan.size, kind=plan.kind, max_length=longest)
            if plan.source:
                table = source_table(plan.source)
            elif plan.start == "aligned":
                base_tokens = model.processor.tokenizer  # type: ignore[union-attr]
                table = start_table(translations, captions, tokenizer, base_tokens, base_table)
            elif plan.start == "random":
                generator = torch.Generator().manual_seed(recipe.seed)
                spread = base_table.std().item()
                table = base_table.mean(0).cpu() + spread * torch.randn(len(tokenizer), width, generator=generator)
            else:
                raise ConfigError(f"`vocabulary.start` is {plan.start!r}; expected 'aligned' or 'random'.")
            tokenizer.save_pretrained(str(folder))
            save_file({"table": table.contiguous()}, str(folder / ".table"))
            os.replace(folder / ".table", folder / "table.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    table = load_file(str(folder / "table.safetensors"))["table"]
    config = VocabularyConfig(
        size=len(table),
        width=table.shape[1],
        projection=plan.projection,
        train=plan.train,
        source=plan.source,
    )
    touched: list[int] | None = None
    if plan.train == "touched":
        longest = recipe.max_length or model.processor.base_max_length  # type: ignore[union-attr]
        touched = sorted({i for ids in token_ids(corpus.rows["translation"], tokenizer, longest) for i in ids})
    return tokenizer, config, table, touched


def load_base(recipe: Recipe, corpus: Corpus, base: str) -> CCRModel:
    """The bare base.

    Raises:
        ConfigError: If it cannot be compared with what the corpus shows.
    """
    width = None if corpus.visual is None else int(corpus.visual.shape[1])
    model = CCRModel.from_base(base, pooling=recipe.pooling, visual_dim=width)
    if width is None and "image" not in model.modalities:
        raise ConfigError(f"The base '{base}' has no image tower, and the data has pictures instead of visual vectors.")
    if width is not None and width != model.embedding_dim:
        raise ConfigError(
            f"The base '{base}' makes vectors of width {model.embedding_dim}, the visual vectors of the data have {width}."
        )
    return model


def build_model(recipe: Recipe, corpus: Corpus, base: str, folder: Path) -> CCRModel:
    """The base with the untrained language, its parameters trainable."""
    model = load_base(recipe, corpus, base)
    parts: dict[str, Any] = {"max_length": recipe.max_length}
    if recipe.vocabulary is not None:
        tokenizer, config, table, touched = build_vocabulary(recipe, corpus, model, folder)
        parts.update(tokenizer=tokenizer, vocabulary=config, source=table, touched=touched)
    set_seed(recipe.seed)
    model.add_language(recipe.language, peft_config(recipe.adapter), **parts)
    model.trainable(recipe.language)
    return model


def _run_trainer(trainer: CCRTrainer, method: Method, done: Path, seconds_before: float = 0.0) -> dict[str, Any]:
    """Train one stage, from its last checkpoint where there is one, and leave its weights and a summary."""
    folder = Path(str(trainer.args.output_dir))
    if trainer.is_world_process_zero():
        remove_incomplete(folder)
    trainer.accelerator.wait_for_everyone()
    checkpoint = last_checkpoint(folder)
    start = time.perf_counter()
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    summary = {
        "steps": trainer.state.global_step,
        "seconds": round(time.perf_counter() - start + seconds_before, 1),
        "loss": result.training_loss,
        "best": trainer.state.best_metric,
        "resumed_from": checkpoint.name if checkpoint else None,
    }
    if trainer.is_world_process_zero():
        save_state(method, folder / STAGE_WEIGHTS)
        write_metrics(done, summary)
    trainer.accelerator.wait_for_everyone()
    return summary


def _callbacks(stage: Stage) -> list[Any]:
    return [EarlyStoppingCallback(stage.patience)] if stage.patience else []


def fine_tune_english(recipe: Recipe, stage: Stage, corpus: Corpus, base: str) -> str:
    """Stage `english`: train the base itself, and save it as a base of its own. Returns its folder."""
    folder = Path(recipe.output_dir) / "base"
    done = Path(recipe.output_dir) / stage.name / STAGE_DONE
    if done.is_file() and (folder / "config.json").is_file():
        return str(folder)
    model = load_base(recipe, corpus, base)
    method = EnglishFineTune(model)
    if done.is_file():  # killed before the base was saved
        method.load_trainable_state(load_file(str(done.with_name(STAGE_WEIGHTS))))
    else:
        arguments = stage_arguments(recipe, stage)
        # a base has parts that no vector passes through: its own temperature, BERT's pooler
        arguments.ddp_find_unused_parameters = True
        trainer = CCRTrainer(
            method,
            arguments,
            train_dataset=_Rows(corpus, "caption"),
            data_collator=SourceCollator(model.processor, corpus.image_index, corpus.pictures, corpus.visual),
            evaluate_method=_Validation(corpus.validation, None, None),
            callbacks=_callbacks(stage),
        )
        _run_trainer(trainer, method, done)
    if PartialState().is_main_process:
        _save_base(model, folder)
    PartialState().wait_for_everyone()
    return str(folder)


def _save_base(model: CCRModel, folder: Path) -> None:
    """Write the base: aside, then moved, so that a folder with this name is a whole base."""
    aside = folder.with_name(f".{folder.name}")
    for path in (aside, folder):
        shutil.rmtree(path, ignore_errors=True)
    processor: Any = model.processor
    parts = [model.base, processor.tokenizer, processor.image_processor]
    for part in parts:
        if part is not None:
            part.save_pretrained(str(aside))
    os.replace(aside, folder)


def _same_recipe(recipe: Recipe, output: Path) -> None:
    """Refuse an output folder of another recipe, instead of going on with something else."""
    path = output / "recipe.json"
    own = json.loads(json.dumps(asdict(recipe), default=str))
    for place in ("output_dir", "cache_dir"):
        own.pop(place)
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        different = sorted(key for key in own if before.get(key) != own[key])
        if different:
            raise ConfigError(
                f"'{output}' holds a run of another recipe (different: {', '.join(different)}). Choose another output_dir, "
                "or remove the folder to start anew."
            )
    elif PartialState().is_main_process:
        write_metrics(path, own)
    PartialState().wait_for_everyone()


def _check_rows(recipe: Recipe, corpus: Corpus) -> None:
    """Refuse a corpus that does not fill one batch, which would train nothing."""
    for stage in recipe.stages:
        arguments = stage_arguments(recipe, stage)
        rows = arguments.train_batch_size * arguments.world_size
        if len(corpus.rows) < rows and arguments.dataloader_drop_last:
            raise TrainingError(
                f"{len(corpus.rows)} pairs do not fill one batch of {rows}. Lower per_device_train_batch_size."
            )


@contextmanager
def _quick_backward(model: CCRModel) -> Iterator[None]:
    """Plain attention while training on a CPU, where the backward pass of torch's fused attention is the slower one."""
    before = getattr(model.base.config, "_attn_implementation", None)
    switch = model.device.type == "cpu" and before == "sdpa"
    if switch:
        model.base.set_attn_implementation("eager")
    try:
        yield
    finally:
        if switch:
            model.base.set_attn_implementation(before)


def _train_stages(
    recipe: Recipe,
    stages: list[Stage],
    corpus: Corpus,
    model: CCRModel,
    collator: TargetCollator,
    lengths: list[int],
    gallery: torch.Tensor,
    visual: np.ndarray,
    summary: dict[str, Any],
) -> None:
    """Train one stage after the other, or load those that are finished."""
    output, language = Path(recipe.output_dir), recipe.language
    for stage in stages:
        terms = stage_terms(stage)
        bank = torch.from_numpy(visual[:].astype("float32")) if terms.bank or terms.relational else None
        # the discriminator starts the same whether the stages before were trained just now or loaded
        set_seed(recipe.seed)
        method = DASD(model, language, terms, bank)
        done = output / stage.name / STAGE_DONE
        if done.is_file():
            logger.info("Stage '%s' is finished already.", stage.name)
            method.load_trainable_state(load_file(str(output / stage.name / STAGE_WEIGHTS)))
            summary["stages"][stage.name] = json.loads(done.read_text(encoding="utf-8"))
            continue
        arguments = stage_arguments(recipe, stage)
        trainer = CCRTrainer(
            method,
            arguments,
            lengths=lengths,
            train_dataset=_Rows(corpus, "translation"),
            data_collator=collator,
            evaluate_method=_Validation(corpus.validation, language, gallery),
            callbacks=_callbacks(stage),
        )
        summary["stages"][stage.name] = _run_trainer(trainer, method, done)
        del trainer, method
        gc.collect()


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
    set_seed(recipe.seed)
    if corpus is None:
        corpus = load_corpus(recipe.data, recipe.language, recipe.seed)
    _check_rows(recipe, corpus)
    base = recipe.base
    stages = list(recipe.stages)
    summary: dict[str, Any] = {
        "recipe": json.loads((output / "recipe.json").read_text(encoding="utf-8")),
        "stages": {},
    }
    if stages[0].name == "english":
        base = fine_tune_english(recipe, stages.pop(0), corpus, base)
    model = build_model(recipe, corpus, base, output / "vocabulary")
    cache = TargetCache(recipe.cache_dir or output / "targets", model)
    with PartialState().main_process_first():
        source = cache.source(list(corpus.rows["caption"]))
        visual = corpus.visual if corpus.visual is not None else cache.visual(corpus.pictures, corpus.image_ids)  # type: ignore[arg-type]
    language = recipe.language
    tokenizer, max_length = model.processor.languages[language]  # type: ignore[union-attr]
    fixed = tokenizer is None and model.processor.pad_to_max_length  # type: ignore[union-attr]
    pad_to = model.processor.base_max_length if fixed else None  # type: ignore[union-attr]
    tokenizer = tokenizer or model.processor.tokenizer  # type: ignore[union-attr]
    unknown = recipe.vocabulary.unknown if recipe.vocabulary else 0.0
    collator = TargetCollator(
        tokenizer, max_length, source, visual, corpus.image_index, pad_to, unknown=unknown, seed=recipe.seed
    )
    lengths = [len(ids) for ids in token_ids(corpus.rows["translation"], tokenizer, max_length)]
    gallery = visual_vectors(model, corpus.validation)
    with _quick_backward(model):
        _train_stages(recipe, stages, corpus, model, collator, lengths, gallery, visual, summary)
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


def evaluate_all(model: CCRModel, corpus: Corpus, language: str) -> dict[str, RetrievalMetrics]:
    """English and the language on every test set, before and after: `test/de`, `test/de before`, `test/en`."""
    found: dict[str, RetrievalMetrics] = {}
    for name, questions in corpus.test.items():
        visual = visual_vectors(model, questions)
        if "en" in questions.captions:
            found[f"{name}/en"] = evaluate_model(model, questions, None, visual=visual)
        found[f"{name}/{language} before"] = evaluate_model(model, questions, None, captions=language, visual=visual)
        found[f"{name}/{language}"] = evaluate_model(model, questions, language, visual=visual)
    return found


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
    training: dict[str, Any] = {
        **{key: corpus.facts[key] for key in ("data", "translator", "noise") if key in corpus.facts},
        "pairs": len(corpus.rows),
        "seed": recipe.seed,
        "recipe": ", then ".join(f"{name} ({found['steps']} steps)" for name, found in summary["stages"].items()),
        "time": f"{summary['seconds']:.0f} s on {summary['machine']}",
        "checkpoint": "highest validation mAR of each stage"
        if any(s.get("best") for s in summary["stages"].values())
        else "the last",
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
    evidence = {"protocol": protocol, "training": training, "metrics": flat, "table": table}
    model.save_pretrained(adapter, language=recipe.language, dtype=dtype, evidence=evidence)
    write_metrics(output / "metrics.json", flat)
    write_metrics(output / "training_summary.json", summary)
