"""Readers of the benchmarks' official files: a folder in, images with their captions in official order out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ccr_adapters.data.benchmarks.dasd_files import read_names
from ccr_adapters.data.benchmarks.entries import Caption, Entry, collect, stem
from ccr_adapters.data.benchmarks.nrccr import nrccr_entries, nrccr_tag
from ccr_adapters.data.benchmarks.problems import Problems, place
from ccr_adapters.data.benchmarks.schema import Benchmark
from ccr_adapters.data.benchmarks.textfiles import find_file, read_json, read_json_lines, read_lines
from ccr_adapters.errors import DataError

Reader = Callable[[Benchmark, Path, str, Problems], list[Entry]]


def read_official(definition: Benchmark, folder: Path, language: str, problems: Problems) -> list[Entry]:
    """Read a language's captions from the official files, or from the NRCCR authors' copy of them.

    Args:
        definition: The benchmark.
        folder: Where the files are, however deep they were unpacked.
        language: Code of the language.
        problems: Where bad rows are reported.

    Raises:
        DataError: If a file is missing (which, where to get it, on which terms) or does not fit together.
    """
    copies = _nrccr_names(definition, language)
    copy = find_file(folder, copies) if copies else None
    if copy is not None and find_file(folder, definition.caption_files[language]) is None:
        return nrccr_entries(copy)
    try:
        return READERS[definition.reader](definition, folder, language, problems)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{definition.name}: the files in '{folder}' are not of the published form ({type(error).__name__}: {error}). "
            f"{definition.where_to_get()}"
        ) from error


def has_official(definition: Benchmark, folder: Path, language: str) -> bool:
    """Whether a folder has a caption file of the language."""
    names = (*definition.caption_files[language], *_nrccr_names(definition, language))
    return find_file(folder, names, language) is not None


def missing_file(definition: Benchmark, names: tuple[str, ...], folder: Path) -> DataError:
    """Which file is missing, where to get it, on which terms."""
    return DataError(f"{definition.name}: '{folder}' lacks {' or '.join(names)}. {definition.where_to_get()}")


def _nrccr_names(definition: Benchmark, language: str) -> tuple[str, ...]:
    names = [name.replace("{language}", nrccr_tag(language)) for name in definition.nrccr_files]
    return tuple(f"{folder}{name}" for name in names for folder in ("TextData/", ""))


def _found(definition: Benchmark, names: tuple[str, ...], folder: Path, keep: str = "") -> Path:
    path = find_file(folder, names, keep)
    if path is None:
        raise missing_file(definition, names, folder)
    return path


def read_aligned(definition: Benchmark, folder: Path, language: str, problems: Problems) -> list[Entry]:
    """Caption files whose line i belongs to line i of the list of images (Multi30K, XTD10).

    Line counts that differ are refused whatever `on_error` says: nobody knows from which line on the captions are wrong.
    """
    images = _found(definition, definition.image_files, folder)
    # some lists of images have `name#0`, one line a caption
    names = [line.strip().partition("#")[0] for line in read_lines(images)]
    entries = [
        Entry(stem(name), [], place(images, number), (name,)) for number, name in enumerate(names, start=1) if name
    ]
    if len(entries) != len(names):
        raise DataError(f"{definition.name}: {place(images, names.index('') + 1)}, names no image.")
    for pattern in definition.caption_files[language]:
        path = _found(definition, (pattern,), folder)
        lines = read_lines(path)
        if len(lines) != len(entries):
            raise DataError(
                f"{definition.name}: {place(path)} has {len(lines):,} lines and {place(images)} {len(entries):,}. Line i "
                f"of both belongs together: download both again. {definition.where_to_get()}"
            )
        for number, (entry, line) in enumerate(zip(entries, lines, strict=True), start=1):
            entry.captions.append(Caption(line, place(path, number)))
    return entries


def read_karpathy(definition: Benchmark, folder: Path, language: str, problems: Problems) -> list[Entry]:
    """Karpathy's JSON, or the test split that CLIP_benchmark cuts from it (JSON as COCO's, or `image,caption` lines)."""
    path = _found(definition, definition.caption_files[language], folder)
    if path.suffix != ".json":
        return _image_comma_caption(path)
    content = read_json(path)
    rows = content.get("images") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{definition.name}: {place(path)} has no list 'images'.")
    if "annotations" in content:
        return _coco_json(path, content, problems)
    return [
        Entry(
            stem(row["filename"]),
            [Caption(sentence["raw"], f"{place(path)}, {row['filename']}") for sentence in row["sentences"]],
            f"{place(path)}, image {number}",
            (row["filename"], f"{row.get('filepath', '')}/{row['filename']}".lstrip("/")),
        )
        for number, row in enumerate(rows)
        if row["split"] == "test"
    ]


def _image_comma_caption(path: Path) -> list[Entry]:
    """Captions have commas too, and are not quoted: the first comma after the picture's ending divides."""
    pairs: list[tuple[str, Caption]] = []
    files: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        head, dot, text = line.partition(".jpg,")
        if not dot:
            if number > 1 and line.strip():  # the first line is a heading
                raise DataError(f"{place(path, number)}: expected 'name.jpg,caption'.")
            continue
        image_id = stem(head + ".jpg")
        files[image_id] = (head + ".jpg",)
        pairs.append((image_id, Caption(text, place(path, number))))
    return collect(pairs, files)


def _coco_json(path: Path, content: Mapping[str, Any], problems: Problems) -> list[Entry]:
    """COCO's own form: images, and annotations that name them by id."""
    entries = {
        row["id"]: Entry(
            stem(str(row.get("file_name", row["id"]))), [], place(path), (str(row.get("file_name", row["id"])),)
        )
        for row in content["images"]
    }
    for annotation in content["annotations"]:
        entry = entries.get(annotation["image_id"])
        where = f"{place(path)}, annotation {annotation.get('id')}"
        if entry is None:
            problems.report("captions without images", f"{where}: there is no image {annotation['image_id']}")
            continue
        entry.captions.append(Caption(annotation["caption"], where))
    return list(entries.values())


def read_coco_cn(definition: Benchmark, folder: Path, language: str, problems: Problems) -> list[Entry]:
    """COCO-CN: a list of test images, and `image#k<TAB>caption` lines of all splits."""
    images = _found(definition, definition.image_files, folder)
    path = _found(definition, definition.caption_files[language], folder)
    entries = []
    for number, line in enumerate(read_lines(images), start=1):
        name = stem(line.strip())
        if name:
            entries.append(Entry(name, [], place(images, number), (f"{name}.jpg",)))
    by_id: dict[str, Entry] = {}
    for entry in entries:
        by_id.setdefault(entry.image_id, entry)
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        name, _, text = line.partition("\t") if "\t" in line else line.partition(" ")
        image_id, hash_, _ = name.partition("#")
        if not hash_:
            raise DataError(f"{definition.name}: {place(path, number)}: expected 'image#number<TAB>caption'.")
        if image_id in by_id:
            by_id[image_id].captions.append(Caption(text, place(path, number)))
    return entries


def read_stair(definition: Benchmark, folder: Path, language: str, problems: Problems) -> list[Entry]:
    """STAIR's COCO-like JSON, joined with Karpathy's test images (or a list of ids) by COCO's number."""
    path = _found(definition, definition.caption_files[language], folder)
    listed = _found(definition, definition.image_files, folder)
    content = read_json(path)
    captions: dict[int, list[Caption]] = {}
    for annotation in content["annotations"]:
        where = f"{place(path)}, annotation {annotation.get('id')}"
        captions.setdefault(int(annotation["image_id"]), []).append(Caption(annotation["caption"], where))
    if listed.suffix == ".json":
        rows = read_json(listed)["images"]
        names = [(int(row["cocoid"]), row["filename"]) for row in rows if row["split"] == "test"]
    else:
        names = [(_coco_number(name, listed), name) for name in read_names(listed)]
    entries = []
    for number, name in names:
        if number not in captions:
            problems.report("images without captions", f"{place(path)} has no caption of image {number} ('{name}')")
            continue
        file = name if "." in name else f"COCO_val2014_{number:012d}.jpg"
        entries.append(Entry(stem(file), captions[number], place(listed), (file,)))
    return entries


def _coco_number(name: str, path: Path) -> int:
    digits = stem(name).rsplit("_", 1)[-1]
    if not digits.isdigit():
        raise DataError(f"{place(path)}: '{name}' is no COCO id.")
    return int(digits)


def read_xm3600(definition: Benchmark, folder: Path, language: str, problems: Problems) -> list[Entry]:
    """Crossmodal-3600: one line an image, all languages in it."""
    path = _found(definition, definition.caption_files[language], folder)
    entries = []
    for number, row in read_json_lines(path):
        where = place(path, number)
        if "image/key" not in row:
            raise DataError(f"{definition.name}: {where}, has no 'image/key'; it has {', '.join(row)}.")
        key = str(row["image/key"])
        texts = (row.get(language) or {}).get("caption") or []
        entries.append(Entry(key, [Caption(text, where) for text in texts], where, (f"{key}.jpg",)))
    return entries


def read_iglue(definition: Benchmark, folder: Path, language: str, problems: Problems) -> list[Entry]:
    """IGLUE's JSON lines: xFlickr&CO has one image a line, WIT one caption a line."""
    path = _found(definition, definition.caption_files[language], folder, language)
    entries: list[Entry] = []
    by_id: dict[str, Entry] = {}
    for number, row in read_json_lines(path):
        where = place(path, number)
        if "sentences" in row:
            file = str(row["img_path"])
            # ids are numbers for COCO alone, and say less than the file name
            entries.append(Entry(stem(file), [Caption(text, where) for text in row["sentences"]], where, (file,)))
        elif "caption_reference_description" in row:
            image_id = str(row["wit_ix"])
            if image_id not in by_id:
                ending = Path(str(row.get("image_url", ""))).suffix or ".jpg"
                name = str(row.get("image_url", "")).rsplit("/", 1)[-1]
                by_id[image_id] = Entry(image_id, [], where, (f"{image_id}{ending}", f"{image_id}.jpg", name))
                entries.append(by_id[image_id])
            by_id[image_id].captions.append(Caption(str(row["caption_reference_description"]), where))
        else:
            raise DataError(f"{definition.name}: {where}, has neither 'sentences' nor 'caption_reference_description'.")
    return entries


def read_vatex(definition: Benchmark, folder: Path, language: str, problems: Problems) -> list[Entry]:
    """VATEX' JSON, `enCap` and `chCap`; the list of test videos, if there is one, chooses and orders."""
    path = _found(definition, definition.caption_files[language], folder)
    column = {"en": "enCap", "zh": "chCap"}[language]
    by_id: dict[str, Entry] = {}
    for number, row in enumerate(read_json(path)):
        where = f"{place(path)}, row {number}"
        if column not in row:
            raise DataError(f"{definition.name}: {where}, has no '{column}'; the public test file is English alone.")
        video = str(row["videoID"])
        captions = [Caption(text, where) for text in row[column]]
        if video in by_id:
            problems.report("duplicate images", f"{where}: video '{video}' was there before, at {by_id[video].where}")
            continue
        by_id[video] = Entry(video, captions, where, tuple(f"{video}{end}" for end in (".mp4", ".mkv", ".webm")))
    listed = find_file(folder, definition.image_files)
    if listed is None:
        return list(by_id.values())
    names = [stem(name) for name in read_names(listed)]
    absent = [name for name in names if name not in by_id]
    if absent:
        raise DataError(
            f"{definition.name}: {place(path)} lacks {len(absent):,} videos of {place(listed)}: '{absent[0]}'."
        )
    return [by_id[name] for name in names]


def read_nrccr_test(definition: Benchmark, folder: Path, language: str, problems: Problems) -> list[Entry]:
    """A test file of the NRCCR authors (MSR-VTT-CN)."""
    names = definition.caption_files[language]
    return nrccr_entries(
        _found(definition, (*names, f"TextData/msrvtt*test*_{nrccr_tag(language)}.caption.txt"), folder)
    )


READERS: Mapping[str, Reader] = {
    "aligned": read_aligned,
    "karpathy": read_karpathy,
    "coco_cn": read_coco_cn,
    "stair": read_stair,
    "xm3600": read_xm3600,
    "iglue": read_iglue,
    "vatex": read_vatex,
    "nrccr": read_nrccr_test,
}
