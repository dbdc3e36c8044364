"""The DASD authors' files: JSON of captions by image, lists of names, and the path file that ties them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccr_adapters.data.benchmarks.bigfile import load_array
from ccr_adapters.data.benchmarks.entries import Caption, Entry, collect, ids_of_files
from ccr_adapters.data.benchmarks.languages import codes_of, primary_language
from ccr_adapters.data.benchmarks.problems import OnError, Problems, place
from ccr_adapters.data.benchmarks.textfiles import clean_text, read_json, read_lines
from ccr_adapters.errors import DataError, LanguageError

# lists of dictionaries, as CCLM and its relatives write the same
_IMAGE_KEYS = ("image", "image_id", "img_id", "img", "img_path", "filename", "file_name", "video", "video_id", "id")
_CAPTION_KEYS = ("caption", "captions", "sentences", "sentence", "sents", "text")


def read_caption_json(path: str | Path) -> dict[str, list[str]]:
    """Captions by image name, in file order.

    Args:
        path: `{"name.jpg": ["caption", ...]}`, or a list of dictionaries with an image (`image`, `image_id`, `img_id`,
            ...) and one caption or several (`caption`, `captions`, `sentences`, ...). An image that comes again in a list
            brings further captions.

    Raises:
        DataError: If the file is neither, naming the row.
    """
    path = Path(path)
    content = read_json(path)
    if isinstance(content, dict):
        return {str(name): _texts(value, f"{place(path)}, '{name}'") for name, value in content.items()}
    if not isinstance(content, list):
        raise DataError(
            f"{place(path)} holds a {type(content).__name__}; expected captions by image, or a list of rows."
        )
    found: dict[str, list[str]] = {}
    for number, row in enumerate(content):
        where = f"{place(path)}, row {number}"
        if not isinstance(row, dict):
            raise DataError(f"{where}, is a {type(row).__name__}, not a dictionary.")
        name = _first(row, _IMAGE_KEYS, where)
        found.setdefault(str(name), []).extend(_texts(_first(row, _CAPTION_KEYS, where), where))
    return found


def read_names(path: str | Path) -> list[str]:
    """A list of image names: `.npy` of text or bytes, JSON, or one a line.

    Raises:
        DataError: If it is none of them.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no list of names at '{path}'.")
    if path.suffix == ".npy":
        array = load_array(path)
        if array.dtype.kind not in "SU" or array.ndim != 1:
            raise DataError(f"'{path}' holds {array.dtype} {array.shape}; expected names.")
        return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in array.tolist()]
    if path.suffix == ".json":
        names = read_json(path)
        if not isinstance(names, list):
            raise DataError(f"'{path}' holds a {type(names).__name__}; expected a list of names.")
        return [str(name) for name in names]
    return [line.strip() for line in read_lines(path) if line.strip()]


@dataclass(frozen=True)
class DASDFiles:
    """What the path file says of one split and language: captions, names in order, and the folder of pictures."""

    captions: Path
    names: Path
    images: Path
    language: str


def dasd_paths(path_file: str | Path, split: str, language: str, *, root: str | Path | None = None) -> DASDFiles:
    """Look a language up in a path file: `split -> {anno_file, feature, name_file, langs}`, four parallel lists.

    Args:
        path_file: The JSON file, for example `Multi30k/multi30k_4lang_path.json`.
        split: `train`, `val`, `test`, ...
        language: Code of the language.
        root: The folder that relative paths start from. By default the closest folder above the path file below which
            the captions are found.

    Raises:
        DataError: If the split is missing or the lists do not fit together.
        LanguageError: If the language is missing.
    """
    path_file = Path(path_file)
    table = read_json(path_file)
    if not isinstance(table, dict) or not isinstance(table.get(split), dict):
        there = ", ".join(table) if isinstance(table, dict) else "no splits"
        raise DataError(f"'{path_file}' has no split '{split}'; it has {there}.")
    entry: dict[str, Sequence[str]] = table[split]
    keys = ("anno_file", "name_file", "feature", "langs")
    missing = [key for key in keys if key not in entry]
    lengths = {key: len(entry[key]) for key in keys if key in entry}
    if missing or len(set(lengths.values())) > 1:
        raise DataError(
            f"'{path_file}', split '{split}': lists of {lengths} and no {missing}; expected {', '.join(keys)}."
        )
    codes = codes_of(entry["langs"], language)
    if not codes:
        raise LanguageError(f"'{path_file}', split '{split}', has no '{language}'; it has {', '.join(entry['langs'])}.")
    row = entry["langs"].index(codes[0])
    places = [Path(entry[key][row]) for key in keys[:3]]
    folder = Path(root) if root is not None else _root(path_file, places[0])
    captions, names, images = (folder / place_ for place_ in places)
    return DASDFiles(captions, names, images, primary_language(language))


def dasd_entries(captions: str | Path, names: str | Path | None = None) -> list[Entry]:
    """Images with captions, in the order of a list of names (or of the file)."""
    path = Path(captions)
    by_name = read_caption_json(path)
    # a list with a line a caption names an image as often
    order = list(dict.fromkeys(read_names(names))) if names is not None else list(by_name)
    absent = [name for name in order if name not in by_name]
    if absent:
        raise DataError(f"{place(path)} lacks {len(absent):,} of {len(order):,} names, the first is '{absent[0]}'.")
    ids = ids_of_files(order)
    files = {ids[name]: (name,) for name in order}
    pairs = ((ids[name], Caption(text, f"{place(path)}, '{name}'")) for name in order for text in by_name[name])
    return collect(pairs, files)


def dasd_rows(
    source: str | Path, translation: str | Path, names: str | Path | None = None, *, on_error: OnError = "raise"
) -> tuple[list[dict[str, str]], Mapping[str, object]]:
    """Training rows from the English captions and their translations, caption k with translation k of each image.

    Args:
        source: JSON of the English captions.
        translation: JSON of the translations.
        names: Which images; by default those of `source`.
        on_error: `"raise"`, or `"skip"` to leave out images whose captions do not pair up, and count them.

    Returns:
        Rows with `image_id`, `image`, `caption` and `translation`; and what was left out.
    """
    problems = Problems(Path(translation).name, on_error)
    english, translated = read_caption_json(source), read_caption_json(translation)
    ids = ids_of_files(read_names(names) if names is not None else english)
    rows = []
    for name, image_id in ids.items():
        pair = english.get(name), translated.get(name)
        if pair[0] is None or pair[1] is None:
            problems.report("images without captions", f"'{name}' is in one of the two files alone")
        elif len(pair[0]) != len(pair[1]):
            problems.report(
                "images with unequal captions", f"'{name}' has {len(pair[0])} captions and {len(pair[1])} translations"
            )
        else:
            for caption, text in zip(map(clean_text, pair[0]), map(clean_text, pair[1]), strict=True):
                if caption and text:
                    rows.append({"image_id": image_id, "image": name, "caption": caption, "translation": text})
                else:
                    problems.report("empty captions", f"'{name}' has an empty caption or translation")
    return rows, problems.facts()


def _texts(value: Any, where: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: expected a caption or a list of captions, got {value!r}.")
    return texts


def _first(row: Mapping[str, Any], keys: Sequence[str], where: str) -> Any:
    for key in keys:
        if key in row:
            return row[key]
    raise DataError(f"{where} has {', '.join(row) or 'nothing'}; expected one of {', '.join(keys)}.")


def _root(path_file: Path, captions: Path) -> Path:
    """Paths in that file are relative to the folder that the authors started from."""
    for folder in path_file.resolve().parents:
        if (folder / captions).is_file():
            return folder
    raise DataError(
        f"'{captions}', which '{path_file.name}' names, is below none of the folders that hold that file: move the path file "
        "into the folder that its paths start from."
    )
