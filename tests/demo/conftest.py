"""What the tests of the page share: nine pictures with captions, and languages that were taught by hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from ccr_adapters.dasd import DASDConfig, find_text_encoder
from ccr_adapters.data.tiny_world import Scene, Thing, render
from ccr_adapters.demo.captions import Caption
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.vocabulary import BOS, EOS, PAD, UNK, train_tokenizer
from ccr_adapters.search import Collection, source_of
from ccr_adapters.search.encoder import PictureEncoder

# colour, shape and background of each picture, in three languages
SCENES = (
    ("red star sky", "roter stern himmel", "rudá hvězda nebe"),
    ("blue fish sand", "blauer fisch sand", "modrá ryba písek"),
    ("yellow heart night", "gelbes herz nacht", "žluté srdce noc"),
    ("green house snow", "grünes haus schnee", "zelený dům sníh"),
    ("black moon grass", "schwarzer mond gras", "černý měsíc tráva"),
    ("white flower sea", "weiße blume meer", "bílá květina moře"),
    ("pink triangle wall", "rosa dreieck mauer", "růžový trojúhelník zeď"),
    ("purple square snow", "lila quadrat schnee", "fialový čtverec sníh"),
    ("orange ring night", "orangener ring nacht", "oranžový prsten noc"),
)


def file_of(number: int) -> str:
    """Name of a picture: `red-star.png`."""
    return "-".join(SCENES[number][0].split()[:2]) + ".png"


def teach(model: CCRModel, code: str, column: int, mode: str) -> None:
    """Add a language whose words have the rows of the English ones that they mean: no training."""
    words = {word: english for row in SCENES for word, english in zip(row[column].split(), row[0].split(), strict=True)}
    tokenizer = train_tokenizer(list(words), size=100, kind="word")
    english = model.processor.tokenizer
    table = find_text_encoder(model.base).token_embedding.weight.detach()
    marks = {PAD: english.pad_token, BOS: english.bos_token, EOS: english.eos_token, UNK: english.unk_token}
    rows = torch.zeros(len(tokenizer), table.shape[1])
    for word, index in tokenizer.get_vocab().items():
        ids = english(words[word], add_special_tokens=False)["input_ids"] if word in words else []
        rows[index] = table[ids[0] if ids else english.convert_tokens_to_ids(marks[word])]
    torch.manual_seed(column)
    model.add_language(code, DASDConfig(mode=mode, r=8), tokenizer=tokenizer, source=rows)


@pytest.fixture(scope="session")
def model() -> CCRModel:
    """The tiny CLIP with German and French, which are dynamic (the French words are Czech), and Czech, which is static."""
    model = CCRModel.from_base("tiny_clip")
    teach(model, "de", 1, "dynamic")
    teach(model, "cs", 2, "static")
    teach(model, "fr", 2, "dynamic")
    return model.eval()


@pytest.fixture(scope="session")
def captions() -> list[Caption]:
    """Two captions of each picture in German and Czech, one in English; of several styles."""
    found = []
    for number, (english, german, czech) in enumerate(SCENES):
        found.append(Caption(f"a {' '.join(english.split()[:2])}", "en", "plain", file_of(number)))
        for code, text in (("de", german), ("cs", czech), ("fr", czech)):
            short = " ".join(text.split()[:2])
            found += [Caption(text, code, "list", file_of(number)), Caption(short, code, "short", file_of(number))]
    return found


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The nine pictures."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    folder.mkdir()
    for number, (english, _, _) in enumerate(SCENES):
        colour, shape, background = english.split()
        render(Scene((Thing(shape, colour, "large"),), (), background, number), size=96).save(folder / file_of(number))
    return folder


@pytest.fixture(scope="session")
def pictures(model, folder):
    """The nine pictures as a collection."""
    index = folder.parent / "photos.index"
    encoder = PictureEncoder(model)
    with Collection.open_or_create(index, encoder, model="tiny_clip") as collection:
        collection.update([source_of(folder)], encoder, workers=1, show_progress=False)
    with Collection.open(index) as collection:
        yield collection


@dataclass
class World:
    """Texts and names of the nine pictures."""

    scenes: tuple[tuple[str, str, str], ...] = SCENES

    def id(self, number: int) -> str:
        """What the collection calls a picture."""
        return f"photos/{file_of(number)}"

    def file(self, number: int) -> str:
        """Its file."""
        return file_of(number)


@pytest.fixture(scope="session")
def world() -> World:
    """Texts and names of the nine pictures."""
    return World()
