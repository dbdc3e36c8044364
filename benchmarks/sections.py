"""The sections of the suite: encode, train step, load, evaluate, search; each gives seconds by row and round."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerBase

from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.evaluation import evaluate_retrieval
from ccr_adapters.methods import DASD, DASDTerms
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.captions import pad_ids, token_ids
from ccr_adapters.search import FaissIndex
from measure import alternating, places_of, precise
from towers import (
    BARE,
    DYNAMIC,
    FREE,
    FULL_GENERATOR,
    LANGUAGE,
    LONGEST,
    LORA,
    ROWS,
    STATIC,
    Size,
    adapter_of,
    image_tower,
    model_of,
    prefix_passes,
    save_base,
)

BATCH = 64
NAIVE = "bare encoder, naive loop"
HALF, COMPILED = f"{DYNAMIC}, bfloat16", f"{DYNAMIC}, blocks compiled"
TEACHER, PICTURES = "LoRA r=16, teacher's text pass", "LoRA r=16, text and image passes"
TERMS = DASDTerms(alignment=1.0, contrastive=1.0, consistency=0.1, adversarial=0.001)
Seconds = dict[str, list[float]]


@dataclass
class Setting:
    """What a section is measured with.

    Args:
        size: Of the towers.
        tokenizer: Of base and language.
        captions: What is encoded; training takes the first `batch`.
        rounds: Alternating rounds.
        batch: Rows of a training step.
        gallery: Pictures that are scored, with five captions each.
        index: Vectors that are searched.
        device: `cpu` or `cuda`.
        bf16: Compute in bfloat16.
        compiled: Encode with `torch.compile` too.
    """

    size: Size
    tokenizer: PreTrainedTokenizerBase
    captions: list[str]
    rounds: int
    batch: int
    gallery: int
    index: int
    device: str = "cpu"
    bf16: bool = False
    compiled: bool = False

    def model(self, row: str) -> CCRModel:
        """The model of a row."""
        return model_of(row, self.size, self.tokenizer, self.device)

    def timed(self, rows: dict[str, Callable[[], Any]]) -> Seconds:
        """Rounds in turns, in the setting's precision."""
        precisely = {name: precise(run, self.device, self.bf16) for name, run in rows.items()}
        return alternating(precisely, self.rounds, self.device)


@torch.inference_mode()
def naive_loop(model: CCRModel, captions: list[str], schedule: bool = False) -> torch.Tensor:
    """Captions as they come, 64 at a time, padded to the longest of the batch; or the published schedule, to 77 tokens."""
    found = []
    padding = {"padding": "max_length" if schedule else True, "truncation": True, "max_length": LONGEST}
    for start in range(0, len(captions), BATCH):
        batch = model.processor.tokenizer(captions[start : start + BATCH], return_tensors="pt", **padding)  # type: ignore[union-attr]
        input_ids, mask = batch["input_ids"].to(model.device), batch["attention_mask"].to(model.device)
        if schedule:
            prefix_passes(model, input_ids)
            features, _, _ = model.target_features(input_ids, mask, mask.sum(dim=1) - 1, LANGUAGE)
        else:
            features = model.base_features(input_ids=input_ids, attention_mask=mask)
        found.append(F.normalize(features.float(), dim=-1))
    return torch.cat(found)


def encode(setting: Setting) -> tuple[Seconds, str]:
    """All captions, tokenising included; against the bare encoder in a naive loop."""
    captions = setting.captions
    models = {row: setting.model(row) for row in ROWS}
    rows: dict[str, Callable[[], Any]] = {NAIVE: lambda: naive_loop(models[BARE], captions)}
    for row in (BARE, LORA, STATIC, DYNAMIC, FREE):
        code = None if row == BARE else LANGUAGE
        rows[row] = lambda model=models[row], code=code: model.encode_text(captions, code, show_progress=False)
    half = setting.model(DYNAMIC).to(torch.bfloat16)
    rows[HALF] = lambda: half.encode_text(captions, LANGUAGE, show_progress=False)
    if setting.compiled:
        torch._dynamo.reset()  # or the programs of an earlier size count against the limit
        torch._dynamo.config.recompile_limit = 64  # every block has a number, and is a program of its own
        compiled = setting.model(DYNAMIC)
        for block in find_text_encoder(compiled.base).blocks:
            block.compile(dynamic=True)
        rows[COMPILED] = lambda: compiled.encode_text(captions, LANGUAGE, show_progress=False)
    rows[FULL_GENERATOR] = lambda: naive_loop(models[FULL_GENERATOR], captions, schedule=True)
    return setting.timed(rows), NAIVE


def batch_of(setting: Setting) -> tuple[list[str], list[list[int]]]:
    """Captions of a training step, and their ids."""
    captions = (setting.captions * (1 + setting.batch // len(setting.captions)))[: setting.batch]
    return captions, token_ids(captions, setting.tokenizer, LONGEST)


def tokens_a_row(setting: Setting) -> str:
    """What the captions of a training step hold, what one batch of them is padded to, and what its parts are."""
    lengths = [len(ids) for ids in batch_of(setting)[1]]
    places = places_of(lengths, setting.device)
    return (
        f"{statistics.mean(lengths):.1f} tokens a row, padded to {max(lengths)}, "
        f"in parts of like length to {places / len(lengths):.1f}"
    )


def step_of(
    setting: Setting,
    row: str,
    *,
    model: CCRModel | None = None,
    teacher: bool = False,
    pictures: bool = False,
    by_length: bool = False,
) -> Callable[[], None]:
    """One training step: forward, backward, optimiser.

    Args:
        setting: The setting.
        row: Whose adapter.
        model: The row's model, where the caller has it.
        teacher: Encode the source captions too, in place of cached vectors.
        pictures: Encode the pictures too.
        by_length: Encode captions of like length together, as this package's trainer does.
    """
    model, device = model or setting.model(row), setting.device
    if device == "cpu":  # as the command trains there: plain attention has the faster backward pass
        model.base.set_attn_implementation("eager")
    schedule = row == FULL_GENERATOR
    captions, ids = batch_of(setting)
    batch = pad_ids(ids, 0, LONGEST if schedule else None)
    input_ids, mask, ends = (part.to(device) for part in (batch.input_ids, batch.attention_mask, batch.pooled_at))
    chosen = model.trainable(LANGUAGE)
    method = DASD(model, LANGUAGE, TERMS).to(device).train()
    optimizer = torch.optim.AdamW([*chosen, *(p for m in method.modules_of("auxiliary") for p in m.parameters())])
    cached = torch.randn(len(captions), setting.size.embedding, device=device)
    tower = image_tower(setting.size).to(device) if pictures else None
    pixels = torch.randn(len(captions) if pictures else 0, 3, 224, 224, device=device)
    index = torch.arange(len(captions), device=device)

    def once() -> None:
        source = visual = cached
        with torch.no_grad():
            if teacher:
                source = model.base_features(input_ids=input_ids, attention_mask=mask)
            if tower is not None:
                visual = tower(pixel_values=pixels).image_embeds
            if schedule:
                prefix_passes(model, input_ids)
        with model.by_length(by_length):
            terms = method(
                target_input_ids=input_ids,
                target_attention_mask=mask,
                target_pooled_at=ends,
                source_vectors=source,
                visual_vectors=visual,
                image_index=index,
            )
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return once


def steps(setting: Setting) -> dict[str, Callable[[], None]]:
    """Training steps by name; 'cached' is what this package's trainer does, against LoRA that encodes all it compares with."""
    rows = {TEACHER: step_of(setting, LORA, teacher=True)}
    for row in (LORA, STATIC, DYNAMIC, FREE):
        rows[f"{row}, cached"] = step_of(setting, row, by_length=True)
    seen = setting.size.vision is not None
    rows[FULL_GENERATOR] = step_of(setting, FULL_GENERATOR, teacher=True, pictures=seen)
    if seen:
        rows[PICTURES] = step_of(setting, LORA, teacher=True, pictures=True)
    return rows


def step(setting: Setting) -> tuple[Seconds, str]:
    """A training step; against LoRA with its teacher's text pass."""
    return setting.timed(steps(setting)), TEACHER


def load(setting: Setting) -> tuple[Seconds, str]:
    """From a folder on disk to a model that can encode; against the bare base."""
    with tempfile.TemporaryDirectory() as home:
        base = Path(home) / "base"
        save_base(setting.size, setting.tokenizer, base)
        rows: dict[str, Callable[[], Any]] = {BARE: lambda: CCRModel.from_base(base).to(setting.device)}
        for row in (LORA, STATIC, DYNAMIC):
            folder = Path(home) / row.replace(" ", "-")
            model = CCRModel.from_base(base)
            model.add_language(LANGUAGE, adapter_of(row), tokenizer=setting.tokenizer)
            model.save_pretrained(folder)
            rows[row] = lambda folder=folder: CCRModel.from_pretrained(folder).to(setting.device)
        return setting.timed(rows), BARE


def evaluate(setting: Setting) -> tuple[Seconds, str]:
    """Recall of five captions a picture, in both directions; against one matrix of all scores, sorted."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(setting.gallery, setting.size.embedding, generator=generator)
    owner = torch.arange(setting.gallery).repeat_interleave(5)
    texts = images[owner] + torch.randn(len(owner), images.shape[1], generator=generator)

    def whole() -> None:
        scores = F.normalize(texts, dim=-1) @ F.normalize(images, dim=-1).T
        for matrix in (scores, scores.T):
            matrix.argsort(dim=1, descending=True)

    rows = {
        "all scores, sorted": whole,
        "evaluate_retrieval": lambda: evaluate_retrieval(texts, images, owner, bootstrap=0),
    }
    return setting.timed(rows), "all scores, sorted"


def search(setting: Setting) -> tuple[Seconds, str]:
    """One caption encoded and looked up; against the same with the bare encoder."""
    vectors = np.random.default_rng(0).normal(size=(setting.index, setting.size.embedding)).astype("float32")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = setting.captions[0]
    with tempfile.TemporaryDirectory() as folder:
        index = FaissIndex.create(folder, vectors.shape[1], base="random", base_sha256="0" * 64)
        with index:
            index.add([str(row) for row in range(len(vectors))], vectors)
            index.save()
            rows: dict[str, Callable[[], Any]] = {}
            for row in (BARE, LORA, STATIC, DYNAMIC, FREE):
                model, code = setting.model(row), None if row == BARE else LANGUAGE
                rows[row] = lambda model=model, code=code: index.search(
                    model.encode_text(asked, code).float().cpu().numpy(), 10
                )
            return setting.timed(rows), BARE


SECTIONS: dict[str, Callable[[Setting], tuple[Seconds, str]]] = {
    "encode": encode,
    "step": step,
    "load": load,
    "evaluate": evaluate,
    "search": search,
}
