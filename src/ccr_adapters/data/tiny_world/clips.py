"""The moving tiny world as video files with captions that need the motion: real MP4, written by PyAV."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Value
from PIL import Image

from ccr_adapters.errors import ConfigError, DataError, LanguageError
from ccr_adapters.extras import require

from .grammars import LANGUAGES, SOURCE_LANGUAGE
from .motion import FRAMES, MovingScene, moving_scene_stream, render_clip
from .motion_captions import describe_motion, translate_motion

CAPTIONS_PER_TEST_CLIP = 2
# the first that the installed FFmpeg has
ENCODERS = ("libx264", "mpeg4")


def write_video(path: str | Path, pictures: Sequence[Image.Image], *, rate: int = 8) -> str:
    """Write pictures as a video file.

    Args:
        path: Where to; its ending says the container, `.mp4` for example.
        pictures: RGB pictures of one size, of an even width and height.
        rate: Pictures a second.

    Returns:
        The name of the encoder.

    Raises:
        DataError: If there are no pictures, or they cannot be encoded.
    """
    av: Any = require("av", extra="video")
    sizes = {picture.size for picture in pictures}
    if len(sizes) != 1 or any(length % 2 for size in sizes for length in size):
        raise DataError(f"A video needs pictures of one size, even in both directions; got {sorted(sizes) or 'none'}.")
    codec = next((name for name in ENCODERS if name in av.codecs_available), None)
    if codec is None:
        raise DataError(f"The installed PyAV has no encoder of {', '.join(ENCODERS)}.")
    try:
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate)
            stream.width, stream.height = sizes.pop()
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": "12"} if codec == "libx264" else {"qmin": "2", "qmax": "2"}
            for number, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB")), format="rgb24")
                # left to the encoder, the conversion does not always give the same values
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise DataError(f"The video '{path}' cannot be written: {error}.") from error
    return codec


def sample_moving_scenes(*, train: int, validation: int, test: int, seed: int = 0) -> dict[str, list[MovingScene]]:
    """Draw the scenes of all splits in pairs that differ by their direction alone, held out from each other.

    Args:
        train: number of training clips; a content may come again.
        validation: number of validation clips, of different contents but for the pairs, none of them in `test`.
        test: number of test clips.
        seed: seed of everything.

    Returns:
        The scenes of 'train', 'validation' and 'test'; the second of each pair is the first one backwards.

    Raises:
        ConfigError: if a size is negative.
    """
    for name, size in (("train", train), ("validation", validation), ("test", test)):
        if size < 0:
            raise ConfigError(f"{name}={size!r} is not a number of clips. Give 0 or more.")
    taken: set[tuple[object, ...]] = set()
    found: dict[str, list[MovingScene]] = {"train": [], "validation": [], "test": []}
    for split, size in (("test", test), ("validation", validation), ("train", train)):
        stream = moving_scene_stream(f"{seed}/moving/{split}")
        while len(found[split]) < size:
            pair = list(islice(stream, 2))
            if pair[0].signature not in taken:
                found[split] += pair[: size - len(found[split])]
                if split != "train":
                    taken.add(pair[0].signature)
    return found


def build_moving_world(
    folder: str | Path,
    language: str = "de",
    *,
    train: int = 400,
    validation: int = 50,
    test: int = 100,
    noise: float = 0.1,
    seed: int = 0,
    image_size: int = 64,
    frames: int = FRAMES,
) -> DatasetDict:
    """Write clips of moving things with English captions and their counterparts in one target language.

    `folder` gets the clips, one folder a split, and `train.jsonl`, `validation.jsonl` and `test.jsonl` with their captions.
    Clips and English captions depend on the sizes and the seed alone, not on the language.

    Args:
        folder: Where to.
        language: one of `LANGUAGES`.
        train: number of training clips.
        validation: number of validation clips.
        test: number of test clips.
        noise: share of words that go wrong in a translation, from 0 to 1.
        seed: seed of everything.
        image_size: width and height in pixels, even.
        frames: pictures of a clip, eight a second.

    Returns:
        Splits train, validation and test with the columns `image_id` (of the clip), `video` (path of the file),
        `direction`, `language`, `caption` and `translation`; in train `back_translation` too. In validation and test
        captions are lists of two, and `target_caption` is what speakers of the language wrote.

    Raises:
        LanguageError: if the tiny world has no such target language.
        ConfigError: if a size is negative or odd, or `noise` is not a share.
    """
    if language not in LANGUAGES:
        raise LanguageError(f"The tiny world has no target language {language!r}. It has: {', '.join(LANGUAGES)}.")
    if not 0 <= noise <= 1:
        raise ConfigError(f"noise={noise!r} is not a share of words. Give a number from 0 to 1.")
    if image_size < 2 or image_size % 2 or frames < 1:
        raise ConfigError(
            f"image_size={image_size!r}, frames={frames!r}: give an even number of pixels, and 1 or more."
        )
    scenes = sample_moving_scenes(train=train, validation=validation, test=test, seed=seed)
    found = {}
    for split, clips in scenes.items():
        place = Path(folder) / split
        place.mkdir(parents=True, exist_ok=True)
        rows = [_row(split, index, scene, language, noise, seed) for index, scene in enumerate(clips)]
        for row, scene in zip(rows, clips, strict=True):
            write_video(Path(folder) / row["video"], render_clip(scene, size=image_size, frames=frames))
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        place.with_suffix(".jsonl").write_text("".join(lines), encoding="utf-8")
        for row in rows:
            row["video"] = str(Path(folder) / row["video"])
        schema = _schema(split)
        found[split] = Dataset.from_dict({name: [row[name] for row in rows] for name in schema}, features=schema)
    return DatasetDict(found)


def _schema(split: str) -> Features:
    held_out = split != "train"
    text = [Value("string")] if held_out else Value("string")
    words = ("image_id", "video", "direction", "language")
    texts = ("caption", "translation", "target_caption" if held_out else "back_translation")
    return Features({name: Value("string") for name in words} | dict.fromkeys(texts, text))


def _row(split: str, index: int, scene: MovingScene, language: str, noise: float, seed: int) -> dict[str, Any]:
    """A clip's file name and captions; the path is relative to the folder."""
    held_out = split != "train"
    number = CAPTIONS_PER_TEST_CLIP if held_out else 1
    name = f"{seed}/moving/{split}/{index}"
    english = describe_motion(scene, SOURCE_LANGUAGE, random.Random(f"{name}/en"), number=number)
    captions = [caption for _, caption in english]

    def translated(to: str, kind: str) -> list[str]:
        return [
            translate_motion(message, scene.direction, to, noise=noise, seed=f"{name}/{kind}/{language}/{position}")
            for position, (message, _) in enumerate(english)
        ]

    translations = translated(language, "noise")
    image_id = f"moving-{split}-{index:05d}"
    row: dict[str, Any] = {
        "image_id": image_id,
        "video": f"{split}/{image_id}.mp4",
        "direction": scene.direction,
        "language": language,
        "caption": captions if held_out else captions[0],
        "translation": translations if held_out else translations[0],
    }
    if held_out:
        human = describe_motion(scene, language, random.Random(f"{name}/{language}"), number=number)
        row["target_caption"] = [caption for _, caption in human]
    else:
        row["back_translation"] = translated(SOURCE_LANGUAGE, "back")[0]
    return row
