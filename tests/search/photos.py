"""A few photographs of the tiny world, and a German adapter made by hand: each German word has the row of an English one."""

from __future__ import annotations

import os

import torch

from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.data.tiny_world import Scene, Thing, render
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.vocabulary import BOS, EOS, PAD, UNK, train_tokenizer

THINGS = [
    ("red", "star", "sky"),
    ("blue", "fish", "sand"),
    ("yellow", "heart", "night"),
    ("green", "house", "snow"),
    ("black", "moon", "grass"),
    ("white", "flower", "sea"),
    ("pink", "triangle", "wall"),
    ("purple", "square", "snow"),
    ("orange", "ring", "night"),
]
GERMAN = {
    "ein": "a",
    "eine": "a",
    "roter": "red",
    "rote": "red",
    "rotes": "red",
    "blauer": "blue",
    "gelbes": "yellow",
    "grünes": "green",
    "weiße": "white",
    "stern": "star",
    "fisch": "fish",
    "herz": "heart",
    "haus": "house",
    "blume": "flower",
    "auf": "on",
    "schnee": "snow",
}


def picture(index: int):
    """The picture of a thing; beyond the list, ones of other sizes."""
    colour, shape, background = THINGS[index % len(THINGS)]
    thing = Thing(shape, colour, "large", ("plain", "striped", "dotted", "checked")[index // len(THINGS) % 4])
    return render(Scene((thing,), (), background, index), size=96)


def name(index: int) -> str:
    return f"{'-'.join(THINGS[index % len(THINGS)][:2])}-{index:03d}.png"


def fill(folder, count=9):
    """Write pictures, half of them in a folder below."""
    (folder / "below").mkdir(parents=True, exist_ok=True)
    for index in range(count):
        picture(index).save(folder / ("below" if index % 2 else "") / name(index))
    return folder


def vectors_of(index):
    """Vectors of everything in an index, by name."""
    return index.vectors(index.ids())


def write_german(folder):
    """An adapter repository that reads German words as the English ones they translate."""
    model = CCRModel.from_base("tiny_clip")
    tokenizer = train_tokenizer(list(GERMAN), size=100, kind="word")
    english = model.processor.tokenizer
    table = find_text_encoder(model.base).token_embedding.weight.detach()
    rows = torch.zeros(len(tokenizer), table.shape[1])
    meaning = {PAD: english.pad_token, BOS: english.bos_token, EOS: english.eos_token, UNK: english.unk_token}
    for word, index in tokenizer.get_vocab().items():
        ids = english(GERMAN[word], add_special_tokens=False)["input_ids"] if word in GERMAN else []
        rows[index] = table[ids[0] if ids else english.convert_tokens_to_ids(meaning[word])]
    model.add_language("de", tokenizer=tokenizer, source=rows)
    model.save_pretrained(os.fspath(folder))
    return folder
