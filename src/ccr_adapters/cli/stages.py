"""The stages of a run: each trained from its last whole checkpoint, or loaded where it is finished."""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from safetensors.torch import load_file
from torch.utils.data import Dataset
from transformers import set_seed

from ccr_adapters.cli.build import load_base, subword_sampler
from ccr_adapters.cli.checks import needs_of, stage_arguments, stage_terms
from ccr_adapters.cli.recipe import Recipe, Stage
from ccr_adapters.cli.scoring import Validation, visual_vectors
from ccr_adapters.data.corpus import Corpus
from ccr_adapters.errors import ConfigError
from ccr_adapters.evaluation import write_metrics
from ccr_adapters.methods import EnglishFineTune, Method, method_of
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.collator import SourceCollator, TargetCollator
from ccr_adapters.processing.frames import mean_frames
from ccr_adapters.training import CCRTrainer, TargetCache, last_checkpoint
from ccr_adapters.training.checkpoints import Patience, ended, remove_incomplete, save_state

logger = logging.getLogger(__name__)

STAGE_DONE = "stage.json"
STAGE_WEIGHTS = "stage.safetensors"


class _Rows(Dataset[dict[str, Any]]):
    """Rows of the corpus with their index; texts are read from the memory-mapped file when they are needed."""

    def __init__(self, corpus: Corpus, columns: Sequence[str]) -> None:
        self.rows = corpus.rows.select_columns(list(columns))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"row": index, **self.rows[index]}


def _chosen_by(trainer: CCRTrainer) -> str | None:
    """The metric by which a checkpoint was kept; `None` where it is the last one, also if transformers knows the best."""
    if not (trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint):
        return None
    return str(trainer.args.metric_for_best_model).removeprefix("eval_")


def _run_trainer(trainer: CCRTrainer, method: Method, done: Path) -> dict[str, Any]:
    """Train one stage, from its last checkpoint where there is one, and leave its weights and a summary."""
    folder = Path(str(trainer.args.output_dir))
    if trainer.is_world_process_zero():
        remove_incomplete(folder)
    trainer.accelerator.wait_for_everyone()
    checkpoint = last_checkpoint(folder)
    trainer.count_from(checkpoint)
    if checkpoint is not None and ended(checkpoint):
        trainer.take_up(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    losses = [logs["loss"] for logs in trainer.state.log_history if "loss" in logs]
    summary = {
        "steps": trainer.state.global_step,
        "seconds": round(trainer.seconds, 1),
        "loss": losses[-1] if losses else None,
        "best": trainer.state.best_metric,
        "chosen": _chosen_by(trainer),
        "resumed_from": checkpoint.name if checkpoint else None,
    }
    if trainer.is_world_process_zero():
        save_state(method, folder / STAGE_WEIGHTS)
        write_metrics(done, summary)
    trainer.accelerator.wait_for_everyone()
    return summary


def _callbacks(stage: Stage) -> list[Any]:
    return [Patience(stage.patience)] if stage.patience else []


def fine_tune_english(recipe: Recipe, stage: Stage, corpus: Corpus, base: str) -> str:
    """Stage `english`: train the base itself, and save it as a base of its own. Returns its folder."""
    folder = Path(recipe.output_dir) / "base"
    done = Path(recipe.output_dir) / stage.name / STAGE_DONE
    if done.is_file() and (folder / "config.json").is_file():
        return str(folder)
    model = load_base(recipe, corpus, base)
    method = EnglishFineTune(model)
    visual = corpus.visual if corpus.videos is None else mean_frames(corpus.videos)
    if visual is not None and visual.shape[1] != model.embedding_dim:
        raise ConfigError(
            f"The stage 'english' compares the base's captions, of width {model.embedding_dim}, with visual vectors of width "
            f"{visual.shape[1]}. Leave the stage out."
        )
    if done.is_file():  # killed before the base was saved
        method.load_trainable_state(load_file(str(done.with_name(STAGE_WEIGHTS))))
    else:
        arguments = stage_arguments(recipe, stage)
        # a base has parts that no vector passes through: its own temperature, BERT's pooler
        arguments.ddp_find_unused_parameters = True
        trainer = CCRTrainer(
            method,
            arguments,
            train_dataset=_Rows(corpus, ["caption"]),
            data_collator=SourceCollator(model.processor, corpus.image_index, corpus.pictures, visual),
            evaluate_method=Validation(corpus.validation, None, None),
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


def _seed_of(seed: int, place: int) -> int:
    """A seed for each stage: epochs count from 0 in all, and with one seed the second would repeat the batches of the first."""
    return seed if place == 0 else int(np.random.SeedSequence((seed, place)).generate_state(1)[0])


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


def train_language(
    recipe: Recipe, stages: Sequence[Stage], corpus: Corpus, model: CCRModel, cache: TargetCache
) -> dict[str, Any]:
    """Train one stage after the other, or load those that are finished; returns a summary of each by name."""
    output, language, needs = Path(recipe.output_dir), recipe.language, needs_of(recipe)
    head = model.config.languages[language].head
    sampling = recipe.vocabulary.sampling if recipe.vocabulary else 0.0
    # before anything is encoded: it refuses a tokenizer that cannot cut
    sampler = subword_sampler(recipe, model)
    with PartialState().main_process_first():
        source = cache.source(corpus.rows["caption"]) if "source_vectors" in needs else None
        if corpus.videos is not None:
            visual = mean_frames(corpus.videos, unit=head is None or head.normalize_visual)
        elif corpus.visual is not None:
            visual = corpus.visual
        else:
            visual = cache.visual(corpus.pictures, corpus.image_ids)  # type: ignore[arg-type]
    collator = TargetCollator(
        model.processor,  # type: ignore[arg-type]
        language,
        visual,
        corpus.image_index,
        source=source,
        videos=corpus.videos,
        most_frames=head.frames if head else 0,
        roles=needs & {"source", "back"},
        unknown=recipe.vocabulary.unknown if recipe.vocabulary else 0.0,
        sampler=sampler,
        sampling=sampling,
        seed=recipe.seed,
    )
    rows = _Rows(corpus, collator.columns)
    lengths = model.processor.lengths(corpus.rows["translation"], language)  # type: ignore[union-attr]
    weights = np.asarray(corpus.rows["weight"]) if "weight" in corpus.rows.column_names else None
    validation = Validation(corpus.validation, language, visual_vectors(model, corpus.validation))
    method_class = method_of(recipe.method)
    summaries: dict[str, Any] = {}
    with _quick_backward(model):
        for place, stage in enumerate(stages):
            terms = stage_terms(recipe, stage)
            bank = torch.from_numpy(visual[:].astype("float32")) if "bank" in method_class.needs(terms) else None
            # the discriminator starts the same whether the stages before were trained just now or loaded
            set_seed(recipe.seed)
            method = method_class(model, language, terms, bank)
            done = output / stage.name / STAGE_DONE
            if done.is_file():
                logger.info("Stage '%s' is finished already.", stage.name)
                method.load_trainable_state(load_file(str(output / stage.name / STAGE_WEIGHTS)))
                summaries[stage.name] = json.loads(done.read_text(encoding="utf-8"))
            else:
                arguments = stage_arguments(recipe, stage)
                arguments.seed, collator.seed = (_seed_of(seed, place) for seed in (arguments.seed, recipe.seed))
                arguments.ddp_find_unused_parameters = method.leaves_unused or arguments.ddp_find_unused_parameters
                trainer = CCRTrainer(
                    method,
                    arguments,
                    lengths=lengths,
                    weights=weights,
                    train_dataset=rows,
                    data_collator=collator,
                    evaluate_method=validation,
                    callbacks=_callbacks(stage),
                )
                summaries[stage.name] = _run_trainer(trainer, method, done)
                del trainer
            method.finish()
            del method
            gc.collect()
    return summaries
