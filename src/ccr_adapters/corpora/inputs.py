"""From what a user names to the files of a corpus: which kind each is, and which column is encoded."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ccr_adapters.corpora.lines import LINES, PROBLEM, LineReader
from ccr_adapters.corpora.parquet import ParquetReader
from ccr_adapters.corpora.rows import Columns, Reader, named
from ccr_adapters.corpora.tars import TarReader
from ccr_adapters.errors import DataError
from ccr_adapters.pixels import FOREIGN, PICTURES

KINDS = (*LINES, ".parquet", ".tar")
# the names that people's files use, tried in order
CAPTION_COLUMNS = ("caption", "text", "sentence")
IMAGE_COLUMNS = ("image", "file_name", "filename", "image_path", "img_path", "filepath", "path", "img")
ID_COLUMNS = ("id", "image_id", "key")
_TAR_PICTURES = ("jpg", "jpeg", "png", "webp")
# of the names in a file, how many a message has, and how many letters of each
_MOST, _LONGEST = 20, 40
# what the output has of its own
_TAKEN = ("id", "vector")


@dataclass(frozen=True)
class InputFile:
    """A file of a corpus.

    Attributes:
        path: The file; for a folder of pictures a list of them, written beside the output.
        root: The folder of pictures, of which the file is the list.
        stamp: What tells without reading that nothing has changed.
    """

    path: str
    root: str | None = None
    stamp: str = ""

    @property
    def kind(self) -> str:
        """Its ending, in lower case as `KINDS` are."""
        return Path(self.path).suffix.lower()

    def reader(self) -> Reader:
        """What reads it."""
        path = Path(self.path)
        if self.kind == ".parquet":
            return ParquetReader(path)
        if self.kind == ".tar":
            return TarReader(path)
        return LineReader(path, None if self.root is None else Path(self.root))


def find_inputs(places: Sequence[str | Path]) -> list[InputFile]:
    """Find the files that a user means.

    Args:
        places: Files, or folders: one with Parquet tables or tars at its top is those, any other the pictures below it.

    Returns:
        The files, in the order given and by name inside a folder; a folder of pictures as its own path.

    Raises:
        DataError: If there is nothing there, files are of different kinds, or one is named twice.
    """
    found: list[InputFile] = []
    for place in places:
        path = Path(place).absolute()
        if path.is_dir():
            found.extend(_of_folder(path))
        elif not path.exists():
            raise DataError(f"There is nothing at '{place}'. Check the path.")
        else:
            found.append(InputFile(str(path)))
    kinds = sorted({"a folder of pictures" if each.root else each.kind for each in found})
    unknown = [each.path for each in found if not each.root and each.kind not in KINDS]
    if unknown:
        raise DataError(f"'{unknown[0]}' is none of {', '.join(KINDS)}. Pictures are named by their folder.")
    if len(kinds) != 1:
        raise DataError(
            f"The input is {', '.join(kinds) or 'empty'}; expected files of one kind, or folders of pictures."
        )
    name, times = Counter(each.path for each in found).most_common(1)[0]
    if times > 1:
        raise DataError(f"'{name}' is named {times} times.")
    return found


def _of_folder(folder: Path) -> list[InputFile]:
    endings = (".parquet", ".tar")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in endings and path.name[0] != ".")
    kinds = {path.suffix.lower() for path in files}
    if len(kinds) > 1:
        raise DataError(f"'{folder}' has both .parquet and .tar files. Name those that you mean: '{folder}'/*.tar")
    return [InputFile(str(path)) for path in files] or [InputFile(str(folder), str(folder))]


def list_pictures(folder: Path, target: Path) -> InputFile:
    """Write down the pictures of a folder and of those below, so that every process has them in one order.

    Links to folders are followed; what cannot be read or looked into becomes a row that says so.

    Args:
        folder: The folder.
        target: The list, one JSON object a line.

    Returns:
        The list as an input.

    Raises:
        DataError: If there are none.
    """
    digest, count = hashlib.sha256(), 0
    with target.open("w", encoding="ascii") as file:
        for each in _walk(str(folder), set()):
            relative = os.path.relpath(each.path, folder)
            digest.update(f"{relative}:{each.stamp or each.problem}\n".encode("utf-8", "surrogateescape"))
            # ASCII: a name that is no UTF-8 comes back as it was
            file.write(json.dumps({"image": relative, **({PROBLEM: each.problem} if each.problem else {})}) + "\n")
            count += not each.problem
    if not count:
        raise DataError(f"'{folder}' has no pictures ({', '.join(sorted(PICTURES))}), and no .parquet or .tar files.")
    return InputFile(str(target), str(folder), digest.hexdigest())


class _Listed(NamedTuple):
    """A picture of a folder, or what is none and why."""

    path: str
    stamp: str = ""
    problem: str = ""


def _walk(folder: str, visited: set[tuple[int, int]]) -> Iterator[_Listed]:
    """Pictures by name, those below after those beside, and what cannot be looked at; in memory is one folder at a time."""
    try:
        status = Path(folder).stat()
        # a folder that links lead to twice is one, and so loops end
        if (status.st_dev, status.st_ino) in visited:
            return
        visited.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        yield _Listed(folder, problem=f"a folder that cannot be looked into ({error.strerror})")
        return
    folders = []
    for entry in entries:
        if _is_folder(entry):
            folders.append(entry.path)
        elif listed := _listed(entry):
            yield listed
    for path in folders:
        yield from _walk(path, visited)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # a link in a circle, or to where one may not look
        return False


def _listed(entry: os.DirEntry[str]) -> _Listed | None:
    """A picture, or what looks like one; a link that leads nowhere may have been one to a folder."""
    ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - many times
    try:
        status = entry.stat()
    except OSError as error:
        if ending in PICTURES:
            # a row as any other: where none of them is there, the drive that they lead to is away
            return _Listed(entry.path, stamp=str(error.strerror))
        return None if error.errno == errno.ELOOP else _Listed(entry.path, problem="a link that leads nowhere")
    if ending in FOREIGN:
        return _Listed(entry.path, problem=f"{FOREIGN[ending]} cannot be read here: convert it to JPEG")
    if ending not in PICTURES:
        return None
    if not stat.S_ISREG(status.st_mode):
        return _Listed(entry.path, problem="is no file")
    return _Listed(entry.path, f"{status.st_size}:{status.st_mtime_ns}")


def stamped(file: InputFile) -> InputFile:
    """A file with its size and the time of its last change."""
    status = Path(file.path).stat()
    return InputFile(file.path, file.root, f"{status.st_size}:{status.st_mtime_ns}")


# ------------------------------------------------------------------------------------------- columns


def choose_columns(
    files: Sequence[InputFile],
    *,
    captions: str | None = None,
    pictures: str | None = None,
    id: str | None = None,  # noqa: A002
    keep: Sequence[str] = (),
) -> Columns:
    """Decide what is encoded, by what the user says and by the columns of the first file that has rows.

    Args:
        files: The files.
        captions: Column of captions; of a tar an ending (`txt`), or a key of the JSON (`json.caption`).
        pictures: Column of pictures, by path or inside.
        id: Column of names.
        keep: Columns to write beside the vectors.

    Returns:
        The columns.

    Raises:
        DataError: If there are no rows, a column is missing, or it is not clear what is meant.
    """
    if captions and pictures:
        raise DataError("Captions and pictures were both named; one run encodes one of them.")
    if files[0].root is not None:
        if captions or id or keep:
            raise DataError("A folder of pictures has no columns; they are for tables and tars.")
        return Columns("pictures", "image")
    names = next((names for names in (file.reader().names() for file in files) if names), [])
    if not names:
        raise DataError(f"'{named(files[0].path)}' has no rows." if len(files) == 1 else "No file has any rows.")
    what, content = _content(files[0], names, captions, pictures)
    wrong = [name for name in keep if name in _TAKEN]
    if wrong:
        raise DataError(f"A column cannot be kept as {wrong[0]!r}, which the output has of its own. Rename it.")
    if id is None and files[0].kind != ".tar":
        id = next((name for name in ID_COLUMNS if name in names), None)  # noqa: A001
    found = Columns(what, content, id, tuple(dict.fromkeys(keep)))
    if files[0].kind == ".tar":
        _check_parts(files, found, names)
    else:
        for file in files:
            _check_columns(file, found)
    return found


def _content(file: InputFile, names: list[str], captions: str | None, pictures: str | None) -> tuple[str, str]:
    if captions:
        return "captions", captions
    if pictures:
        return "pictures", pictures
    if file.kind == ".tar":
        return "pictures", "|".join(_TAR_PICTURES)
    text = next((name for name in CAPTION_COLUMNS if name in names), None)
    image = next((name for name in IMAGE_COLUMNS if name in names), None)
    if (text is None) == (image is None):
        both = "no column of a known name" if text is None else f"captions ({text!r}) and pictures ({image!r})"
        raise DataError(
            f"'{named(file.path)}' has {both}; its columns are {_quoted(names)}. Say which to encode: --captions NAME or "
            "--pictures NAME."
        )
    return ("captions", text) if text is not None else ("pictures", str(image))


def _wanted(columns: Columns) -> list[str]:
    return [columns.content, *([columns.id] if columns.id else []), *columns.keep]


def _check_columns(file: InputFile, columns: Columns) -> None:
    """Refuse a file that has rows, and not a column that is asked for."""
    names = file.reader().names()
    missing = [name for name in _wanted(columns) if names and name not in names]
    if missing:
        raise DataError(f"'{named(file.path)}' has no column {missing[0]!r}; it has {_quoted(names)}.")


def _check_parts(files: Sequence[InputFile], columns: Columns, names: list[str]) -> None:
    """Refuse what the first samples of no tar have: a name that is misspelt would become a column of nothing."""
    missing = _wanted(columns)
    for file in files:
        missing = TarReader(Path(file.path)).lacking(missing)
        if not missing:
            return
    where = f"'{named(files[0].path)}'" if len(files) == 1 else f"any of {len(files):,} tars"
    raise DataError(f"None of the first samples of {where} has {missing[0]!r}; the first one has {_quoted(names)}.")


def _quoted(names: Sequence[str]) -> str:
    """Names that a file gives, for a message: what is no text shows as such, and is cut."""
    shown = ", ".join(repr(name)[1:-1][:_LONGEST] for name in names[:_MOST])
    return shown if len(names) <= _MOST else f"{shown} and {len(names) - _MOST:,} more"
