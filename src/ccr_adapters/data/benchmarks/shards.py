"""WebDataset shards as rows, streamed: nothing but the row at hand is in memory, and what is skipped is counted."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datasets import Image, load_dataset
from datasets.exceptions import DatasetsError
from PIL import Image as PILImage

from ccr_adapters.data.benchmarks.problems import OnError, Problems
from ccr_adapters.data.benchmarks.textfiles import clean_text
from ccr_adapters.errors import DataError, ImageError
from ccr_adapters.pixels import BROKEN, as_rgb

_IMAGES = ("jpg", "jpeg", "png", "webp")
_CAPTIONS = ("txt", "caption", "json")


class ShardRows:
    """Rows of shards; iterate as often as you like, each time from the start.

    `skipped` has what the last iteration left out, by kind, with examples.
    """

    def __init__(self, urls: Sequence[str], columns: Mapping[str, str], on_error: OnError) -> None:
        self.urls = list(urls)
        self.columns = dict(columns)
        self.on_error = on_error
        Problems("WebDataset", on_error)  # an unknown choice shows here and not at the first row
        self.skipped: dict[str, Any] = {}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        problems = Problems("WebDataset", self.on_error)
        rows = None
        try:
            rows = load_dataset("webdataset", data_files={"train": self.urls}, split="train", streaming=True)
            image = self._image_column(rows.features)
            for row in rows.cast_column(image, Image(decode=False)):
                found = self._row(row, image, problems)
                if found is not None:
                    yield found
        except (DatasetsError, tarfile.TarError, OSError, EOFError, ValueError) as error:
            if isinstance(error, (DataError, ImageError)):
                raise
            raise DataError(f"The shards {', '.join(self.urls[:3])} cannot be read: {error}") from error
        self.skipped = problems.facts()

    def _image_column(self, features: Mapping[str, Any]) -> str:
        wanted = (self.columns["image"],) if "image" in self.columns else _IMAGES
        found = next((name for name in wanted if name in features), None)
        if found is None:
            raise DataError(
                f"The shards have {', '.join(features)}, and no picture ({', '.join(wanted)}). Pass columns=."
            )
        return found

    def _row(self, row: Mapping[str, Any], image: str, problems: Problems) -> dict[str, Any] | None:
        where = f"sample '{row['__key__']}' of '{str(row['__url__']).rsplit('/', 1)[-1]}'"
        found: dict[str, Any] = {"image_id": row["__key__"]}
        for own, text in self._texts(row).items():
            if not text:
                problems.report("empty captions", f"{where} has no {own}")
                return None
            found[own] = text
        raw = row[image]
        content = raw and raw.get("bytes")
        if not content:
            problems.report("captions without images", f"{where} has no picture")
            return None
        try:
            with PILImage.open(io.BytesIO(content)) as opened:
                opened.load()
                found["image"] = as_rgb(opened)
        except BROKEN as error:
            problems.report("broken pictures", f"{where} has a broken picture ({error})", error=ImageError)
            return None
        return found

    def _texts(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Caption and whatever else is mapped; `json.key` is a key of a sample's JSON."""
        wanted = {own: name for own, name in self.columns.items() if own != "image"}
        if "caption" not in wanted:
            wanted["caption"] = next((name for name in _CAPTIONS if row.get(name) is not None), _CAPTIONS[0])
        texts = {}
        for own, name in wanted.items():
            column, _, key = name.partition(".")
            value = row.get(column)
            if isinstance(value, dict):
                value = value.get(key or "caption")
            texts[own] = clean_text(value) if isinstance(value, str) else ""
        return texts


def webdataset_rows(
    urls: str | Sequence[str], *, columns: Mapping[str, str] | None = None, on_error: OnError = "raise"
) -> ShardRows:
    """Rows of WebDataset shards, streamed.

    Args:
        urls: Paths or addresses of the tars, one or many.
        columns: Where a sample has what: `{"image": "png", "caption": "json.caption", "translation": "json.de"}`. By
            default the first of jpg, jpeg, png, webp and the first of txt, caption, json (its `caption`).
        on_error: `"raise"`, or `"skip"` to leave out samples that lack something or are broken, and count them.

    Returns:
        Rows with `image_id` (the sample's key), `image` (RGB), `caption` and whatever else `columns` names. For a
        streamed training set: `IterableDataset.from_generator(lambda: iter(rows))`.

    Raises:
        DataError: While iterating: if a shard is missing or cut off, or a sample is refused.
        ImageError: While iterating: if a picture is broken.
    """
    return ShardRows([urls] if isinstance(urls, str) else urls, columns or {}, on_error)
