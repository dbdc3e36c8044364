"""The tiny world as something to search: pictures in a folder, captions that people of several languages would write, questions."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from ccr_adapters.data.tiny_world import LANGUAGES, SOURCE_LANGUAGE, Scene, render, sample_scenes
from ccr_adapters.data.tiny_world.grammars import PLAIN, STYLES, Voice, grammar_for
from ccr_adapters.data.tiny_world.message import Clause, Mention, Message, sample_message
from ccr_adapters.demo.captions import Caption

PICTURES = 500
_PIXELS = 256  # the tower looks at 64 of them, people at all


def world_scenes(number: int = PICTURES) -> list[Scene]:
    """The scenes of the pictures: the first test scenes, whose like is in no training.

    Args:
        number: How many.

    Returns:
        The scenes.
    """
    return sample_scenes(train=0, validation=0, test=number)["test"]


def picture_name(index: int) -> str:
    """The file of a picture."""
    return f"scene-{index:03d}.png"


def write_pictures(folder: Path, number: int = PICTURES) -> Path:
    """Render the pictures, unless they are there.

    Args:
        folder: Where to: written aside and renamed, so that it is whole if it is there.
        number: How many.

    Returns:
        The folder.
    """
    if folder.is_dir():
        return folder
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        for index, scene in enumerate(world_scenes(number)):
            render(scene, size=_PIXELS).save(aside / picture_name(index))
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same pictures
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def world_captions(languages: Sequence[str], number: int = PICTURES) -> list[Caption]:
    """One caption a picture and language, in one of the six styles.

    Args:
        languages: Codes; those that the tiny world does not speak are left out.
        number: How many pictures.

    Returns:
        Captions. Those of one picture say the same in all languages, in one style.
    """
    found = []
    for index, scene in enumerate(world_scenes(number)):
        draw = random.Random(f"demo/{index}")
        message, style = sample_message(scene, draw), draw.choice(STYLES)
        for code in (SOURCE_LANGUAGE, *spoken_here(languages)):
            text = grammar_for(code).caption(message, style, Voice(random.Random(f"demo/{index}/{code}")))
            found.append(Caption(text, code, style, picture_name(index)))
    return found


def world_questions(languages: Sequence[str]) -> dict[str, list[str]]:
    """Questions that one can click, the same in each language.

    Args:
        languages: Codes; those that the tiny world does not speak are left out.

    Returns:
        Questions by language, English last.
    """
    messages = (  # there is one picture of each
        Message((Mention("house", "blue", "large"),), (Clause(0),), "night"),
        Message((Mention("fish", "black", "small", None, 3),), (Clause(0),), "sand"),
        Message((Mention("ring", "pink"),), (Clause(0),), "wall"),
    )
    codes = (*spoken_here(languages), SOURCE_LANGUAGE)
    return {code: [grammar_for(code).caption(each, PLAIN).rstrip(".。") for each in messages] for code in codes}


def spoken_here(languages: Sequence[str]) -> list[str]:
    """Those of some languages that the tiny world speaks, English left out."""
    return [code for code in languages if code in LANGUAGES]
