"""A WebDataset tar as a source: pictures read from where they lie, text and JSON of the same sample as metadata."""

from __future__ import annotations

import json
import math
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.pixels import PICTURES
from ccr_adapters.search.interface import Metadata, Scalar
from ccr_adapters.search.sources import MAX_BYTES, RESERVED, Entry, Item, Skipped, file_stamp, spelled

_TEXTS = (".txt", ".caption")
_MOST_TEXT = 2**16


class TarSource:
    """Pictures in a tar that is not packed; see `Source`."""

    kind = "tar"

    def __init__(self, location: Path, name: str) -> None:
        """Name a tar.

        Args:
            location: The file.
            name: First part of the names.

        Raises:
            SearchIndexError: If it is no tar, or packed.
        """
        self.location, self.name = location, name
        self.options: dict[str, Any] = {}
        self._samples: list[list[tarfile.TarInfo]] | None = None
        self._broken = ""
        try:
            tarfile.open(location, "r:").close()
        except (OSError, tarfile.TarError) as error:
            raise SearchIndexError(
                f"'{location}' is no tar that can be read in place ({error}). Unpack .gz files."
            ) from error

    def __len__(self) -> int:
        return sum(_is_picture(member) for sample in self._listed() for member in sample)

    def entries(self) -> Iterator[Entry]:
        """Pictures in the order of the tar."""
        stamp = file_stamp(self.location)
        for sample in self._listed():
            pictures = [member for member in sample if _is_picture(member)]
            if not pictures:
                continue
            metadata = {**self._metadata([member for member in sample if member not in pictures]), "source": self.name}
            for member in pictures:
                name = f"{self.name}/{spelled(member.name)}"
                if member.size > MAX_BYTES:
                    yield Skipped(name, f"larger than {MAX_BYTES >> 20} MiB")
                else:
                    yield Item(name, f"{stamp}:{member.offset_data}", partial(self._bytes, member), metadata)
        if self._broken:
            yield Skipped(f"{self.name}/", f"the tar breaks off ({self._broken})", stays=True)

    def read(self, id: str, metadata: Metadata) -> bytes | Image.Image:  # noqa: A002
        """See `Source.read`."""
        wanted = id.removeprefix(f"{self.name}/")
        for sample in self._listed():
            for member in sample:
                if _is_picture(member) and spelled(member.name) == wanted:
                    return self._bytes(member)
        raise SearchIndexError(f"'{self.location}' has no {wanted!r:.80} any more. Index again.")

    def path(self, id: str, metadata: Metadata) -> Path | None:  # noqa: A002
        """See `Source.path`."""
        return None

    def _listed(self) -> list[list[tarfile.TarInfo]]:
        """Members by sample: what shares a name up to the first dot, one after the other. Only headers are read."""
        if self._samples is None:
            samples: list[list[tarfile.TarInfo]] = []
            last = None
            try:
                with tarfile.open(self.location, "r:") as archive:
                    for member in archive:
                        if not member.isfile():
                            continue
                        key = _key(member.name)
                        if key != last:
                            samples.append([])
                        samples[-1].append(member)
                        last = key
            except (OSError, tarfile.TarError) as error:
                self._broken = str(error)
            self._samples = samples
        return self._samples

    def _metadata(self, members: list[tarfile.TarInfo]) -> dict[str, Scalar]:
        found: dict[str, Scalar] = {}
        for member in members:
            ending = Path(member.name).suffix.lower()
            if member.size > _MOST_TEXT or ending not in (*_TEXTS, ".json"):
                continue
            text = self._bytes(member).decode("utf-8", "replace")
            if ending != ".json":
                found["caption"] = text.strip()
                continue
            try:
                values = json.loads(text)
            except (ValueError, RecursionError):
                continue
            for key, value in values.items() if isinstance(values, dict) else ():
                finite = not isinstance(value, float) or math.isfinite(value)
                if (value is None or isinstance(value, str | int | float)) and finite:
                    found[f"{key}_" if key in RESERVED else key] = value
        return found

    def _bytes(self, member: tarfile.TarInfo) -> bytes:
        # opened each time: several threads read at once, and never share a position
        with self.location.open("rb") as file:
            file.seek(member.offset_data)
            return file.read(member.size)


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _is_picture(member: tarfile.TarInfo) -> bool:
    # WebDataset writes also "0001.left.png"; hidden files are those of the system that packed it
    file = member.name.rpartition("/")[2]
    return Path(file).suffix.lower() in PICTURES and not file.startswith(".")
