"""What a training step of each method costs, against the encoder passes that it needs, forward and backward."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ccr_adapters.cli.build import build_model
from ccr_adapters.cli.checks import needs_of, stage_terms
from ccr_adapters.methods import CL2CMTerms, NRCCRTerms, Terms, method_of
from ccr_adapters.processing.collator import TargetCollator
from cells import corpus_of
from contenders import name_of, recipe_of, title_of
from multi30k import packaged_encoder

KEYS = ("input_ids", "attention_mask", "pooled_at")


def passes_of(terms: Terms, needs: frozenset[str]) -> list[tuple[str, int]]:
    """Encoder passes that a step cannot do without: whose captions, and how many times the rows of the batch."""
    if isinstance(terms, NRCCRTerms):
        # captions and back-translations are English, and share a pass
        return [("target", 1), ("source", 2 if "back" in needs else 1)]
    found = [("target", 1)]
    if isinstance(terms, CL2CMTerms):
        found += [("source", 1)] if terms.source else []
        if terms.sentence or terms.words:
            # of the teacher, with each caption once more where its words are masked
            found += [(role, 2 if terms.words else 1) for role in ("target", "source")]
    return found


def one_step(
    cell: dict[str, Any], base: str, data: Path | None, output: Path
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A whole training step of a method, and the encoder passes that it needs, forward and backward."""
    plan = recipe_of(cell, base, output)
    corpus = corpus_of(cell, data, output)
    model = build_model(plan, corpus, base, output / name_of(cell) / "vocabulary")
    stage = plan.stages[-1]
    kind = method_of(plan.method)
    needs = needs_of(plan)
    visual = np.asarray(corpus.visual, dtype=np.float32)
    source = np.random.default_rng(0).normal(size=(len(corpus.rows), model.embedding_dim)).astype(np.float32)
    collator = TargetCollator(
        model.processor,  # type: ignore[arg-type]
        plan.language,
        visual,
        corpus.image_index,
        source=source if "source_vectors" in needs else None,
        roles=needs & {"source", "back"},
    )
    batch = collator([{"row": row, **corpus.rows[row]} for row in range(128)])
    bank = torch.from_numpy(visual) if "bank" in needs else None
    terms = stage_terms(plan, stage)
    method = kind(model, plan.language, terms, bank).train()
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-6, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.stack([term.float() for term in method(**batch).values()]).sum()
        loss.backward()
        optimiser.step()

    def passes() -> None:
        optimiser.zero_grad()
        for role, copies in passes_of(terms, needs):
            parts = [batch[f"{role}_{key}"].repeat(copies, *[1] * (batch[f"{role}_{key}"].ndim - 1)) for key in KEYS]
            with torch.autocast("cpu", torch.bfloat16):
                states = model.token_states(parts[0], parts[1], parts[2], plan.language, source=role == "source")
            states.float().square().mean().backward()
        optimiser.step()

    return step, passes


def step_costs(args: argparse.Namespace, rounds: int = 5) -> list[dict[str, str]]:
    """Each method's step against the encoder passes that it needs, medians of alternating rounds."""
    rows = []
    base = args.base or packaged_encoder()
    for method in args.methods:
        cell = {"world": "multi30k", "language": "de", "regime": "2900", "noise": 0.0, "pairs": 2900, "epochs": 1.0}
        step, passes = one_step({**cell, "method": method, "seed": 0}, base, args.data, args.output / "steps")
        times: dict[str, list[float]] = {"step": [], "passes": []}
        for turn in range(rounds + 1):
            for name, run in (("step", step), ("passes", passes)):
                start = time.perf_counter()
                run()
                if turn:  # the first round warms up
                    times[name].append(time.perf_counter() - start)
        ratio = median(times["step"]) / median(times["passes"])
        rows.append(
            {
                "method": title_of(method),
                "step, s": f"{median(times['step']):.2f}",
                "its encoder passes, s": f"{median(times['passes']):.2f}",
                "ratio": f"{ratio:.2f}x",
            }
        )
    return rows
