"""Train the tiny English CLIP that ships in `ccr_adapters.data.tiny_clip`, from nothing, on rendered pictures.

    python examples/train_tiny_clip.py --output_dir tiny_clip

Every step sees new scenes, so nothing is learnt by heart; scenes with the content of a validation or test scene are
left out. Beside the contrastive loss, a linear head reads off each embedding which things are told or seen, which
makes a small model learn in minutes what contrast alone teaches in hours; the head is not saved.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from tqdm.auto import tqdm
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    HfArgumentParser,
    PreTrainedTokenizerFast,
    get_cosine_schedule_with_warmup,
    set_seed,
)
from transformers.models.clip import CLIPImageProcessorPil

from ccr_adapters.data.tiny_world.build import build_tiny_world, describe, sample_scenes
from ccr_adapters.data.tiny_world.message import Mention, Message
from ccr_adapters.data.tiny_world.renderer import render
from ccr_adapters.data.tiny_world.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    Thing,
    scene_stream,
)

IMAGE_SIZE = 64
PROJECTION = 128
SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>")

# What the auxiliary head tells: for each shape whether it is there, its colour, size, texture and number; the background.
_FACETS = ("there", *COLOURS, *SIZES, *TEXTURES, 1, 2, 3)
FACTS = {fact: i for i, fact in enumerate([*((s, f) for s in SHAPES for f in _FACETS), *BACKGROUNDS])}


@dataclass
class Arguments:
    """Arguments of this script."""

    output_dir: Path = field(default=Path("tiny_clip"), metadata={"help": "Folder to write the model to."})
    steps: int = field(default=700, metadata={"help": "Optimiser steps."})
    batch_size: int = field(default=256, metadata={"help": "Pictures in a step, each with one caption."})
    learning_rate: float = field(default=1.5e-3, metadata={"help": "Highest learning rate, after the warm-up."})
    fact_weight: float = field(default=1.0, metadata={"help": "Weight of the auxiliary loss."})
    vision_width: int = field(default=160, metadata={"help": "Width of the vision tower."})
    text_width: int = field(default=128, metadata={"help": "Width of the text tower."})
    vocabulary: int = field(default=640, metadata={"help": "Size of the BPE vocabulary, with all 256 bytes."})
    eval_every: int = field(default=100, metadata={"help": "Steps between two looks at the validation pictures."})
    bf16: bool = field(default=True, metadata={"help": "Train in bfloat16 autocast."})
    seed: int = field(default=0, metadata={"help": "Seed of everything, also of the held-out pictures."})
    threads: int = field(default=2, metadata={"help": "CPU threads."})


def train_tokenizer(captions: list[str], size: int) -> PreTrainedTokenizerFast:
    """Train a lower-casing byte-level BPE, which can spell any language, on English captions."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    bos, eos = tokenizer.token_to_id("<bos>"), tokenizer.token_to_id("<eos>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", bos), ("<eos>", eos)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        model_max_length=77,
        model_input_names=["input_ids", "attention_mask"],
    )


def make_model(args: Arguments, tokenizer: PreTrainedTokenizerFast) -> CLIPModel:
    """A CLIP with four layers in each tower and random weights."""
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": args.text_width,
        "intermediate_size": 4 * args.text_width,
        "num_hidden_layers": 4,
        "num_attention_heads": args.text_width // 32,
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "projection_dim": PROJECTION,
    }
    vision = {
        "hidden_size": args.vision_width,
        "intermediate_size": 4 * args.vision_width,
        "num_hidden_layers": 4,
        "num_attention_heads": args.vision_width // 32,
        "image_size": IMAGE_SIZE,
        "patch_size": 8,
        "projection_dim": PROJECTION,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION))
    model.set_attn_implementation("eager")  # on CPUs twice as fast as 'sdpa' in bfloat16; not saved
    return model


def make_image_processor() -> CLIPImageProcessorPil:
    """The image processor, which needs PIL alone."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def facts(things: tuple[Thing, ...] | tuple[Mention, ...], background: str | None) -> torch.Tensor:
    """What is seen on a picture, or told by a caption, as a vector of zeros and ones. # (len(FACTS),)"""
    told = torch.zeros(len(FACTS))
    for thing in things:
        for facet in ("there", thing.colour, thing.size, thing.texture, thing.count):
            if facet is not None:
                told[FACTS[thing.shape, facet]] = 1
    if background is not None:
        told[FACTS[background]] = 1
    return told


class NewScenes(IterableDataset[tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]]):
    """Renders new pictures and writes new captions, without end: batches of model inputs, facts seen and facts told."""

    def __init__(self, args: Arguments, tokenizer: PreTrainedTokenizerFast, held_out: set[tuple[object, ...]]) -> None:
        self.args, self.tokenizer, self.held_out = args, tokenizer, held_out

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]]:
        stream = scene_stream(f"{self.args.seed}/tiny_clip")
        new = (scene for scene in stream if scene.signature not in self.held_out)
        rng = random.Random(self.args.seed)
        while True:
            scenes: list[Scene] = [next(new) for _ in range(self.args.batch_size)]
            told: list[tuple[Message, str]] = [describe(scene, "en", rng)[0] for scene in scenes]
            pixels = torch.from_numpy(np.stack([np.asarray(render(scene)) for scene in scenes]))
            inputs = dict(self.tokenizer([caption for _, caption in told], padding=True, return_tensors="pt"))
            # The same as the image processor computes, at a tenth of its time.
            inputs["pixel_values"] = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, 3, 64, 64)
            yield (
                inputs,
                torch.stack([facts(scene.things, scene.background) for scene in scenes]),
                torch.stack([facts(message.things, message.background) for message, _ in told]),
            )


@torch.no_grad()
def recall_at_1(model: CLIPModel, processor: CLIPProcessor, rows: Dataset) -> float:
    """Text-to-image R@1 in percent over all captions of a split; a tie counts as a miss."""
    model.eval()
    images, texts, owners = [], [], []
    for start in range(0, len(rows), 250):
        part = rows[start : start + 250]
        captions = [caption for row in part["caption"] for caption in row]
        owners += [start + i for i, row in enumerate(part["caption"]) for _ in row]
        inputs = processor(text=captions, images=part["image"], padding=True, truncation=True, return_tensors="pt")
        output = model(**inputs)
        images.append(output.image_embeds)
        texts.append(output.text_embeds)
    scores = torch.cat(texts) @ torch.cat(images).T  # (captions, pictures)
    right = scores.gather(1, torch.tensor(owners)[:, None])
    ranks = (scores >= right).sum(dim=1)
    model.train()
    return 100 * (ranks == 1).float().mean().item()


def train(args: Arguments) -> None:
    """Train, report and save."""
    set_seed(args.seed)
    torch.set_num_threads(args.threads)
    world = build_tiny_world(train=0, seed=args.seed)
    scenes = sample_scenes(train=0, validation=len(world["validation"]), test=len(world["test"]), seed=args.seed)
    held_out = {scene.signature for split in scenes.values() for scene in split}
    rng, stream = random.Random(args.seed), scene_stream(f"{args.seed}/tokenizer")
    tokenizer = train_tokenizer([describe(next(stream), "en", rng)[0][1] for _ in range(20_000)], args.vocabulary)
    processor = CLIPProcessor(make_image_processor(), tokenizer)
    model = make_model(args, tokenizer)
    head = nn.Linear(PROJECTION, len(FACTS))

    parameters = [*model.named_parameters(), *head.named_parameters()]
    groups = [
        {"params": [p for _, p in parameters if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for _, p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=args.learning_rate, betas=(0.9, 0.98), fused=True)
    schedule = get_cosine_schedule_with_warmup(optimiser, args.steps // 20, args.steps)
    # One worker draws the pictures while the model trains; the order stays the same.
    data = iter(DataLoader(NewScenes(args, tokenizer, held_out), batch_size=None, num_workers=1, prefetch_factor=4))
    model.train()
    for step in (bar := tqdm(range(1, args.steps + 1), desc="tiny CLIP", file=sys.stderr, mininterval=5)):
        inputs, seen, told = next(data)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            output = model(**inputs, return_loss=True)
        scale = head.in_features**0.5  # embeddings have length 1, a linear layer expects entries of size 1
        fact_loss = functional.binary_cross_entropy_with_logits(head(output.image_embeds.float() * scale), seen)
        fact_loss = fact_loss + functional.binary_cross_entropy_with_logits(
            head(output.text_embeds.float() * scale), told
        )
        # Summed over facts, as one picture holds only a few of them.
        loss = output.loss.float() + args.fact_weight * 0.1 * len(FACTS) * fact_loss
        loss.backward()
        nn.utils.clip_grad_norm_([p for _, p in parameters], 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(max=np.log(100.0))
        bar.set_postfix(contrast=f"{output.loss.item():.2f}", facts=f"{fact_loss.item():.4f}", refresh=False)
        if step % args.eval_every == 0:
            tqdm.write(f"step {step}: validation R@1 {recall_at_1(model, processor, world['validation']):.1f}")

    # Half of the size; `from_pretrained(..., dtype=torch.float32)` computes in full precision.
    model.half().save_pretrained(args.output_dir)
    processor.image_processor.save_pretrained(args.output_dir)
    processor.tokenizer.save_pretrained(args.output_dir)
    saved = CLIPModel.from_pretrained(args.output_dir, dtype=torch.float32)
    saved_processor = CLIPProcessor.from_pretrained(args.output_dir)
    tqdm.write(f"English text-to-image R@1 on {len(world['test'])} test pictures: "
               f"{recall_at_1(saved, saved_processor, world['test']):.1f}")  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parser = HfArgumentParser(Arguments)  # type: ignore[arg-type]
    train(parser.parse_args_into_dataclasses()[0])
