"""The tiny world as a data set: pictures, English captions, translations and human captions in a target language."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from typing import Any

from datasets import Dataset, DatasetDict, Features, Image, Value

from ccr_adapters.errors import ConfigError, LanguageError

from .grammars import LANGUAGES, SOURCE_LANGUAGE, STYLES, Voice, grammar_for
from .message import Message, sample_message
from .renderer import render
from .scenes import Scene, scene_stream
from .translation import translate

CAPTIONS_PER_TEST_IMAGE = 2


def build_tiny_world(
    language: str = "de",
    *,
    train: int = 8000,
    validation: int = 500,
    test: int = 1000,
    noise: float = 0.1,
    seed: int = 0,
    image_size: int = 64,
) -> DatasetDict:
    """Render the tiny world with English captions and their counterparts in one target language.

    Pictures and English captions depend on the sizes and the seed alone, not on the language. No scene of `train` or
    `validation` has the content of a scene of `test`.

    Args:
        language: one of `LANGUAGES`.
        train: number of training pictures.
        validation: number of validation pictures.
        test: number of test pictures.
        noise: share of words that go wrong in a translation, from 0 to 1.
        seed: seed of everything.
        image_size: width and height of the pictures in pixels.

    Returns:
        Splits train, validation and test, all with the columns `image_id` (str), `image`, `language`, `caption` and
        `translation`. In train, `caption` is one English caption in any style, `translation` its machine translation, and
        `back_translation` what comes back into English, with as many words gone wrong again. In validation and test
        caption and translation are lists of two, in different styles, and `target_caption` is a list of two captions
        that a speaker of the language wrote about the picture, translations of nothing.

    Raises:
        LanguageError: if the tiny world has no such target language.
        ConfigError: if a size is negative or `noise` is not a share.
    """
    if language not in LANGUAGES:
        hint = " English is the source language of every row." if language == SOURCE_LANGUAGE else ""
        raise LanguageError(
            f"The tiny world has no target language {language!r}. It has: {', '.join(LANGUAGES)}.{hint}"
        )
    if not 0 <= noise <= 1:
        raise ConfigError(f"noise={noise!r} is not a share of words. Give a number from 0 to 1.")
    scenes = sample_scenes(train=train, validation=validation, test=test, seed=seed)
    return DatasetDict(
        {
            split: _build_split(split, rows, language, noise=noise, seed=seed, image_size=image_size)
            for split, rows in scenes.items()
        }
    )


def sample_scenes(*, train: int, validation: int, test: int, seed: int = 0) -> dict[str, list[Scene]]:
    """Draw the scenes of all splits, held out from each other by what a caption can tell.

    Args:
        train: number of training scenes; a content may come more than once.
        validation: number of validation scenes, of different contents, none of them in `test`.
        test: number of test scenes, of different contents; the first n are the same whatever the sizes.
        seed: seed of everything.

    Returns:
        The scenes of 'train', 'validation' and 'test'.

    Raises:
        ConfigError: if a size is negative.
    """
    for name, size in (("train", train), ("validation", validation), ("test", test)):
        if size < 0:
            raise ConfigError(f"{name}={size!r} is not a number of pictures. Give 0 or more.")
    taken: set[tuple[object, ...]] = set()
    scenes: dict[str, list[Scene]] = {"train": [], "validation": [], "test": []}
    for split, size in (("test", test), ("validation", validation)):
        scenes[split] = _take(scene_stream(f"{seed}/{split}"), size, taken, unique=True)
    scenes["train"] = _take(scene_stream(f"{seed}/train"), train, taken, unique=False)
    return scenes


def describe(scene: Scene, language: str, rng: random.Random, *, number: int = 1) -> list[tuple[Message, str]]:
    """Write captions as different people would.

    Args:
        scene: what to describe.
        language: 'en' or one of `LANGUAGES`.
        rng: the source of all randomness.
        number: how many captions, in as many different styles.

    Returns:
        For each caption its content and its text.
    """
    grammar = grammar_for(language)
    captions = []
    for style in rng.sample(STYLES, number):
        message = sample_message(scene, rng)
        captions.append((message, grammar.caption(message, style, Voice(rng))))
    return captions


def _take(stream: Iterator[Scene], size: int, taken: set[tuple[object, ...]], *, unique: bool) -> list[Scene]:
    """Take scenes whose signature is not taken; if `unique`, also note the signatures of those taken now."""
    scenes: list[Scene] = []
    while len(scenes) < size:
        scene = next(stream)
        if scene.signature not in taken:
            scenes.append(scene)
            if unique:
                taken.add(scene.signature)
    return scenes


def _build_split(
    split: str, scenes: Sequence[Scene], language: str, *, noise: float, seed: int, image_size: int
) -> Dataset:
    held_out = split != "train"
    text = [Value("string")] if held_out else Value("string")
    schema: dict[str, Any] = {
        "image_id": Value("string"),
        "image": Image(),
        "language": Value("string"),
        "caption": text,
        "translation": text,
    }
    schema["target_caption" if held_out else "back_translation"] = text
    columns: dict[str, list[Any]] = {name: [] for name in schema}
    number = CAPTIONS_PER_TEST_IMAGE if held_out else 1
    for index, scene in enumerate(scenes):
        # One source of randomness for each row and purpose: no language, size or noise rate moves another's draws.
        name = f"{seed}/{split}/{index}"
        english = describe(scene, SOURCE_LANGUAGE, random.Random(f"{name}/en"), number=number)
        captions = [caption for _, caption in english]
        translations = [
            translate(message, language, noise=noise, seed=f"{name}/noise/{language}/{position}")
            for position, (message, _) in enumerate(english)
        ]
        columns["image_id"].append(f"tiny-{split}-{index:05d}")
        columns["image"].append({"bytes": _png(scene, image_size), "path": None})
        columns["language"].append(language)
        columns["caption"].append(captions if held_out else captions[0])
        columns["translation"].append(translations if held_out else translations[0])
        if held_out:
            human = describe(scene, language, random.Random(f"{name}/{language}"), number=number)
            columns["target_caption"].append([caption for _, caption in human])
        else:
            back = translate(english[0][0], SOURCE_LANGUAGE, noise=noise, seed=f"{name}/back/{language}")
            columns["back_translation"].append(back)
    return Dataset.from_dict(columns, features=Features(schema))


def _png(scene: Scene, size: int) -> bytes:
    buffer = io.BytesIO()
    # Level 1 is three times as fast as the default for files one tenth larger.
    render(scene, size=size).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
