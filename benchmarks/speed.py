"""What an adapter costs: encoding, a training step, and bytes on disk, as ratios within one process.

    python benchmarks/speed.py                                # German captions of the tiny world
    python benchmarks/speed.py --captions captions.txt        # your own, one a line (.gz is read too)
    python benchmarks/speed.py --threads 2 --rounds 5 --write README.md

All encoders are CLIP text towers with random weights, by default of ViT-B/32 sizes (512 wide, 12 blocks): speed does not
depend on their values. Rounds alternate between the rows, after a warm-up; the figures are medians.

`one batch` pads all captions to the longest, for all rows alike; `encode_text` tokenises too, and puts captions of like
length together. The authors' schedule is their computation, not their code: every caption padded to 77 tokens, and the two features
computed by two separate passes over the frozen prefix, beside the main pass.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedTokenizerBase

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.dasd.layer import DASDLayer
from ccr_adapters.methods import DASD, DASDTerms
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.captions import TokenizedCaptions, pad_ids, token_ids
from ccr_adapters.processing.processor import CCRProcessor
from ccr_adapters.processing.vocabulary import train_tokenizer
from measure import counted, machine, machine_line, medians
from towers import LONGEST, SIZES, Size, text_tower
from writing import Rows, add_outputs, tell, verdict

TARGETS = {"encode": 1.15, "authors": 3.2, "step": 0.8, "megabytes": 16.0}


def captions_of(path: Path | None) -> list[str]:
    """Captions to measure with, and to train the tokenizer on."""
    if path is None:
        from ccr_adapters.data import build_tiny_world

        world = build_tiny_world("de", train=2000, validation=0, test=0, image_size=8)
        return list(world["train"]["translation"])
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


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


def encoding(size: Size, tokenizer: PreTrainedTokenizerBase, captions: list[str], rounds: int) -> dict[str, float]:
    """Seconds to encode 64 captions."""
    from peft import get_peft_model

    ids = token_ids(captions, tokenizer, LONGEST)
    short, padded = pad_ids(ids, 0), pad_ids(ids, 0, LONGEST)
    bare = text_tower(size, tokenizer)
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
    return medians(rows, rounds)


def training(size: Size, tokenizer: PreTrainedTokenizerBase, captions: list[str], rounds: int) -> dict[str, float]:
    """Seconds of a training step: DASD with cached teacher vectors, LoRA with its teacher pass."""
    batch = pad_ids(token_ids(captions, tokenizer, LONGEST), 0)
    bare = text_tower(size, tokenizer)
    vectors = torch.randn(len(captions), size.embedding)

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
    return medians(rows, rounds)


def megabytes(tower: Size, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """Size of the adapter's file for one language, without vocabulary."""
    from peft import get_peft_model

    found = {}
    for name, config in {
        "DASD": DASDConfig(),
        "DASD, full generator": DASDConfig(generator_rank=None),
        "static acquirer": DASDConfig(mode="static"),
    }.items():
        with tempfile.TemporaryDirectory() as folder:
            get_peft_model(text_tower(tower, tokenizer), config).save_pretrained(folder)
            found[name] = (Path(folder) / "adapter_model.safetensors").stat().st_size / 1e6
    return found


def table(encode: dict[str, float], step: dict[str, float], size: dict[str, float], count: int) -> Rows:
    """What is shown of them."""
    bare, lora = encode["bare encoder, one batch"], step["LoRA r=16, teacher pass"]
    rows = [
        {
            "what": f"encode {count} captions",
            "row": name,
            "seconds": f"{value:.3f}",
            "against bare": f"{value / bare:.2f}x",
        }
        for name, value in encode.items()
    ]
    rows += [
        {"what": "training step", "row": name, "seconds": f"{value:.3f}", "against LoRA": f"{value / lora:.2f}x"}
        for name, value in step.items()
    ]
    return rows + [{"what": "adapter on disk", "row": name, "MB": f"{value:.1f}"} for name, value in size.items()]


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--captions", type=Path, help="text file with one caption a line; default: the tiny world's German"
    )
    sizes = [name for name, size in SIZES.items() if size.vision is not None]  # CLIP's
    parser.add_argument("--size", choices=sizes, default="vit-b-32")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    parser.add_argument("--batch", type=int, default=64, help="captions")
    add_outputs(parser, "speed")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    args = parsed(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    captions = captions_of(args.captions)
    tokenizer = train_tokenizer(captions, size=8000, max_length=LONGEST)
    batch = captions[: args.batch]
    tower = SIZES[args.size]
    encode = encoding(tower, tokenizer, batch, args.rounds)
    step = training(tower, tokenizer, batch, args.rounds)
    size = megabytes(tower, tokenizer)
    reached: Rows = []
    figures: dict[str, float] = {}
    for name, value, kind, target in (
        (
            "encode, DASD / bare",
            encode["DASD, one batch"] / encode["bare encoder, one batch"],
            "at most",
            TARGETS["encode"],
        ),
        (
            "encode, authors' schedule / encode_text",
            encode["authors' schedule"] / encode["DASD, encode_text"],
            "at least",
            TARGETS["authors"],
        ),
        (
            "training step, DASD / LoRA with teacher",
            step["DASD, cached teacher"] / step["LoRA r=16, teacher pass"],
            "at most",
            TARGETS["step"],
        ),
        ("adapter on disk, MB", size["DASD"], "at most", TARGETS["megabytes"]),
    ):
        figures[name] = value
        reached.append(verdict(name, value, kind, target, ".2f"))
    facts = machine()
    what = f"captions of {args.captions.name}" if args.captions else "German captions of the tiny world"
    note = machine_line(facts, f"text tower of {args.size} sizes, {what}, medians of {counted(args.rounds, 'round')}")
    found = {"machine": facts, "encode": encode, "step": step, "megabytes": size, "figures": figures}
    tell(args, "speed", [table(encode, step, size, len(batch)), reached], note, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
