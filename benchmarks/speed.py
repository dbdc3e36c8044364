"""What an adapter costs: encoding, a training step, and bytes on disk, as ratios within one process.

    python benchmarks/speed.py                                # German captions of the tiny world
    python benchmarks/speed.py --captions captions.txt        # your own, one a line (.gz is read too)
    python benchmarks/speed.py --threads 1 --rounds 9 --json speed.json

All encoders are CLIP text towers of ViT-B/32 sizes (512 wide, 12 blocks) with random weights: speed does not depend on
their values. Rounds alternate between the rows, after a warm-up; the figures are medians.

`one batch` pads all captions to the longest, for all rows alike; `encode_text` tokenises too, and puts captions of like
length together. The authors' schedule is their computation, not their code: every caption padded to 77 tokens, and the two features
computed by two separate passes over the frozen prefix, beside the main pass.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerBase

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.dasd.layer import DASDLayer
from ccr_adapters.evaluation import console_table, write_metrics
from ccr_adapters.methods import DASD, DASDTerms
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.captions import TokenizedCaptions, pad_ids, token_ids
from ccr_adapters.processing.processor import CCRProcessor
from ccr_adapters.processing.vocabulary import train_tokenizer

TARGETS = {"encode": 1.15, "authors": 3.2, "step": 0.8, "megabytes": 16.0}
LONGEST = 77


def captions_of(path: Path | None) -> list[str]:
    """Captions to measure with, and to train the tokenizer on."""
    if path is None:
        from ccr_adapters.data import build_tiny_world

        world = build_tiny_world("de", train=2000, validation=0, test=0)
        return list(world["train"]["translation"])
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


def text_tower(tokenizer: PreTrainedTokenizerBase) -> CLIPTextModelWithProjection:
    """A CLIP text tower of ViT-B/32 sizes, with random weights."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=8,
        projection_dim=512,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config).eval()


class AuthorsSchedule(nn.Module):
    """The published computation: 77 tokens, and two passes over the prefix of their own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        owner = next(layer for layer in model.modules() if isinstance(layer, DASDLayer))
        self.prefix = [owner._blocks[0], owner._blocks[1]]
        # the main pass then needs no prefix of its own: it is told to look through one block, its own
        for layer in model.modules():
            if isinstance(layer, DASDLayer):
                for settings in layer.dasd_settings.values():
                    settings.prefix_blocks = 1

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """Two passes for the features, one for the caption."""
        text = self.model.text_model
        for _ in range(2):
            states = text.embeddings(input_ids=input_ids)
            for block in self.prefix:
                states = block(states, None, is_causal=True)
        return self.model(input_ids=input_ids, attention_mask=attention_mask)


def alternating(rows: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each row, measured in turns."""
    for run in rows.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, run in rows.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def encoding(tokenizer: PreTrainedTokenizerBase, captions: list[str], rounds: int) -> dict[str, float]:
    """Seconds to encode 64 captions."""
    from peft import get_peft_model

    ids = token_ids(captions, tokenizer, LONGEST)
    short, padded = pad_ids(ids, 0), pad_ids(ids, 0, LONGEST)
    bare = text_tower(tokenizer)
    static = get_peft_model(copy.deepcopy(bare), DASDConfig(mode="static")).eval()
    dasd = get_peft_model(copy.deepcopy(bare), DASDConfig()).eval()
    authors = AuthorsSchedule(
        get_peft_model(copy.deepcopy(bare), DASDConfig(generator_rank=None)).base_model.model
    ).eval()

    def run(model: nn.Module, batch: TokenizedCaptions) -> Callable[[], Any]:
        def once() -> None:
            with torch.inference_mode():
                model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)

        return once

    model = CCRModel.from_base(copy.deepcopy(bare), processor=CCRProcessor(tokenizer))
    model.add_language("de", DASDConfig(), tokenizer=tokenizer)
    rows = {
        "bare encoder, one batch": run(bare, short),
        "static acquirer, one batch": run(static, short),
        "DASD, one batch": run(dasd, short),
        "DASD, encode_text": lambda: model.encode_text(captions, "de"),
        "authors' schedule": run(authors, padded),
    }
    return alternating(rows, rounds)


def training(tokenizer: PreTrainedTokenizerBase, captions: list[str], rounds: int) -> dict[str, float]:
    """Seconds of a training step: DASD with cached teacher vectors, LoRA with its teacher pass."""
    batch = pad_ids(token_ids(captions, tokenizer, LONGEST), 0)
    bare = text_tower(tokenizer)
    vectors = torch.randn(len(captions), 512)

    def step(adapter: Any, teacher: bool) -> Callable[[], Any]:
        model = CCRModel.from_base(copy.deepcopy(bare), processor=CCRProcessor(tokenizer))
        model.add_language("de", adapter, tokenizer=tokenizer)
        parameters = model.trainable("de")
        method = DASD(
            model, "de", DASDTerms(alignment=1.0, contrastive=1.0, consistency=0.1, adversarial=0.001)
        ).train()
        optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

        def once() -> None:
            source = vectors
            if teacher:
                with torch.no_grad():
                    source = model.base_features(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
            terms = method(
                target_input_ids=batch.input_ids,
                target_attention_mask=batch.attention_mask,
                target_pooled_at=batch.pooled_at,
                source_vectors=source,
                visual_vectors=vectors,
                image_index=torch.arange(len(captions)),
            )
            sum(terms.values()).backward()
            optimizer.step()
            optimizer.zero_grad()

        return once

    rows = {
        "DASD, cached teacher": step(DASDConfig(), False),
        "static acquirer, cached teacher": step(DASDConfig(mode="static"), False),
        "LoRA r=16, cached teacher": step(LoraConfig(r=16), False),
        "LoRA r=16, teacher pass": step(LoraConfig(r=16), True),
    }
    return alternating(rows, rounds)


def megabytes(tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """Size of the adapter's file for one language, without vocabulary."""
    from peft import get_peft_model

    found = {}
    for name, config in {
        "DASD": DASDConfig(),
        "DASD, full generator": DASDConfig(generator_rank=None),
        "static acquirer": DASDConfig(mode="static"),
    }.items():
        with tempfile.TemporaryDirectory() as folder:
            get_peft_model(text_tower(tokenizer), config).save_pretrained(folder)
            found[name] = (Path(folder) / "adapter_model.safetensors").stat().st_size / 1e6
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--captions", type=Path, help="text file with one caption a line; default: the tiny world's German"
    )
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    parser.add_argument("--batch", type=int, default=64, help="captions")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    captions = captions_of(args.captions)
    tokenizer = train_tokenizer(captions, size=8000, max_length=LONGEST)
    batch = captions[: args.batch]
    encode, step, size = (
        encoding(tokenizer, batch, args.rounds),
        training(tokenizer, batch, args.rounds),
        megabytes(tokenizer),
    )
    rows = [
        {
            "what": f"encode {len(batch)} captions",
            "row": name,
            "seconds": f"{value:.3f}",
            "against bare": f"{value / encode['bare encoder, one batch']:.2f}x",
        }
        for name, value in encode.items()
    ]
    rows += [
        {
            "what": "training step",
            "row": name,
            "seconds": f"{value:.3f}",
            "against LoRA": f"{value / step['LoRA r=16, teacher pass']:.2f}x",
        }
        for name, value in step.items()
    ]
    rows += [{"what": "adapter on disk", "row": name, "MB": f"{value:.1f}"} for name, value in size.items()]
    print(console_table(rows, ["what", "row", "seconds", "against bare", "against LoRA", "MB"]))
    figures = {
        "encode, DASD / bare": (
            encode["DASD, one batch"] / encode["bare encoder, one batch"],
            "at most",
            TARGETS["encode"],
        ),
        "encode, authors' schedule / encode_text": (
            encode["authors' schedule"] / encode["DASD, encode_text"],
            "at least",
            TARGETS["authors"],
        ),
        "training step, DASD / LoRA with teacher": (
            step["DASD, cached teacher"] / step["LoRA r=16, teacher pass"],
            "at most",
            TARGETS["step"],
        ),
        "adapter on disk, MB": (size["DASD"], "at most", TARGETS["megabytes"]),
    }
    print()
    for name, (value, kind, target) in figures.items():
        met = value <= target if kind == "at most" else value >= target
        print(f"{name:42s} {value:6.2f}   {kind} {target:g}   {'met' if met else 'MISSED'}")
    if args.json:
        write_metrics(
            args.json,
            {
                "encode": encode,
                "step": step,
                "megabytes": size,
                "threads": torch.get_num_threads(),
                "figures": {k: v[0] for k, v in figures.items()},
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
