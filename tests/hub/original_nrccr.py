"""What the NRCCR authors' code leaves, with random values, and its forward pass written from the equations.

The state dicts have the names that their code gives them, and so has what stands around them.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from original_dasd import WIDTH, plain_norm, stirred, under_openais_names
from transformers import BertConfig, BertModel, BertTokenizer, CLIPModel

HEADS, QUERIES, TEXT, FRAMES, FEATURES, SPACE, POSITIONS = 4, 16, 24, 40, 10, 12, 30
WORDS = ["hund", "katze", "##n", "schlaft", "rennt", "im", "schnee", "die", "ein", "dog", "the", "sleeps", "a", "runs"]
NRCCR_GERMAN = ["Ein Hund rennt im Schnee", "die Katze schläft", "Katzen"]
NRCCR_ENGLISH = ["A dog runs", "the Dog sleeps", "the dog"]


def save_mbert(folder: Path) -> Path:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "Hund", "Katze", "Ein", "A", "Dog"]
    names += [*letters, *(f"##{letter}" for letter in letters)]
    config = BertConfig(
        vocab_size=len(names), hidden_size=32, intermediate_size=40, num_attention_heads=4, num_hidden_layers=3
    )
    torch.manual_seed(3)
    stirred(BertModel(config)).save_pretrained(folder)
    vocabulary = {name: index for index, name in enumerate(names)}
    BertTokenizer(vocab=vocabulary, do_lower_case=False).save_pretrained(folder)
    return folder


def encoder_state(entry: int, hidden: int, positions: int) -> dict[str, torch.Tensor]:
    """What follows BERT, or the frames, under the authors' names."""
    shapes = {
        "input_proj_layer.LayerNorm": (entry,),
        "input_proj_layer.net.1": (hidden, entry),
        "pos_embed_layer.LayerNorm": (hidden,),
        "encoder_layer.self.query": (QUERIES, hidden),
        "encoder_layer.self.key": (QUERIES, hidden),
        "encoder_layer.self.value": (hidden, hidden),
        "encoder_layer.output.dense": (hidden, hidden),
        "encoder_layer.output.LayerNorm": (hidden,),
    }
    found = {"pos_embed_layer.position_embeddings.weight": torch.randn(positions, hidden)}
    for name, shape in shapes.items():
        found |= {f"{name}.weight": torch.randn(shape), f"{name}.bias": torch.randn(shape[0])}
    return found


def map_state(entry: int) -> dict[str, torch.Tensor]:
    return {
        "mapping.fc1.weight": torch.randn(SPACE, entry) / 4,
        "mapping.fc1.bias": torch.randn(SPACE),
        "mapping.bn_1.weight": torch.randn(SPACE),
        "mapping.bn_1.bias": torch.randn(SPACE),
        "mapping.bn_1.running_mean": torch.randn(SPACE),
        "mapping.bn_1.running_var": torch.rand(SPACE) + 0.3,
        "mapping.bn_1.num_batches_tracked": torch.tensor(9),
    }


def nrccr_checkpoint(kind: str, bert: BertModel, clip: CLIPModel, **options) -> dict:
    """What the authors' trainer saves: five state dicts, two of them from `DataParallel`, and the options of the run."""
    torch.manual_seed(13)
    width = {"clip": 2 * FEATURES, "features": FEATURES, "video": FRAMES}[kind]
    visual = {"proj.weight": torch.randn(width, WIDTH if kind == "clip" else FEATURES), "proj.bias": torch.randn(width)}
    if kind == "clip":
        visual |= {f"encoder.{name}": value for name, value in under_openais_names(clip).items()}
    elif kind == "video":
        visual = encoder_state(FEATURES, FRAMES, 80)
    text = encoder_state(32, TEXT, POSITIONS)
    text |= {f"text_bert.text_bert.{name}": value for name, value in bert.state_dict().items()}
    text["text_bert.text_bert.embeddings.position_ids"] = torch.arange(512)[None]
    parallel = [{f"module.{name}": value for name, value in part.items()} for part in (visual, text)]
    adversary = {"discriminator.model.0.weight": torch.randn(5, 32)}
    opt = argparse.Namespace(text_num_attention=HEADS, video_num_attention=HEADS, layer_list=["layer.2"], **options)
    return {
        "epoch": 7,
        "model": [*parallel, map_state(width), map_state(TEXT), adversary],
        "best_rsum": 200.5,
        "opt": opt,
        "Eiters": 99,
    }


def fine_tuned(mbert: Path, *blocks: int, embeddings: bool = False) -> BertModel:
    bert = BertModel.from_pretrained(mbert)
    torch.manual_seed(17)
    for index in blocks:
        stirred(bert.encoder.layer[index], 0.2)
    if embeddings:
        stirred(bert.embeddings, 0.2)
    return bert


def plain_attend(states, state, mask):
    """The authors' layer over a padded batch: what is padding attends to everything, what is not to what is not."""
    name, hidden = "encoder_layer.self", states.shape[-1]
    q, k, v = (
        states @ state[f"{name}.{part}.weight"].T + state[f"{name}.{part}.bias"] for part in ("query", "key", "value")
    )
    heads, narrow, wide = [], QUERIES // HEADS, hidden // HEADS
    for head in range(HEADS):
        mine, own = slice(head * narrow, (head + 1) * narrow), slice(head * wide, (head + 1) * wide)
        scores = q[..., mine] @ k[..., mine].transpose(1, 2) / math.sqrt(wide)
        scores = scores - 1e4 * (1 - mask[:, :, None] * mask[:, None, :])
        heads.append(scores.softmax(dim=-1) @ v[..., own])
    out = "encoder_layer.output"
    attended = torch.cat(heads, dim=-1) @ state[f"{out}.dense.weight"].T + state[f"{out}.dense.bias"]
    return plain_norm(attended + states, state, f"{out}.LayerNorm")


def plain_encoder(states, state, mask):
    """Entry, positions, attention, and the mean over all positions. (B, L, e) -> (B, h)"""
    entry = plain_norm(states, state, "input_proj_layer.LayerNorm")
    entry = torch.relu(entry @ state["input_proj_layer.net.1.weight"].T + state["input_proj_layer.net.1.bias"])
    placed = entry + state["pos_embed_layer.position_embeddings.weight"][: states.shape[1]]
    return plain_attend(plain_norm(placed, state, "pos_embed_layer.LayerNorm"), state, mask.float()).mean(dim=1)


def plain_map(pooled, state):
    mapped = pooled @ state["mapping.fc1.weight"].T + state["mapping.fc1.bias"]
    scale = torch.sqrt(state["mapping.bn_1.running_var"] + 1e-5)
    mapped = (mapped - state["mapping.bn_1.running_mean"]) / scale
    mapped = mapped * state["mapping.bn_1.weight"] + state["mapping.bn_1.bias"]
    return mapped / mapped.norm(dim=-1, keepdim=True)


def plain_parts(checkpoint):
    return [{name.removeprefix("module."): value for name, value in part.items()} for part in checkpoint["model"]]


def plain_captions(captions, checkpoint, bert, mbert):
    """Captions of one batch. -> (N, d')"""
    tokenizer = BertTokenizer.from_pretrained(mbert, do_lower_case=True)
    batch = tokenizer(captions, return_tensors="pt", padding=True)
    with torch.no_grad():
        states = bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    _, text, _, mapping, _ = plain_parts(checkpoint)
    return plain_map(plain_encoder(states, text, batch["attention_mask"]), mapping)
