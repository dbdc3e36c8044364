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
from ccr_adapters.pixels import BROKEN, as_rgb, open_picture

_IMAGES = ("jpg", "jpeg", "png", "webp")
_CAPTIONS = ("txt", "caption", "json")
# a sample has as many of each as it has captions; of anything else one
_OF_A_CAPTION = ("caption", "translation", "back_translation", "target_caption")


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
            ids = _Ids(several=rows.num_shards > 1)
            for row in rows.cast_column(image, Image(decode=False)):
                yield from self._of_sample(row, image, ids.of(row), problems)
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

    def _of_sample(self, row: Mapping[str, Any], image: str, image_id: str, problems: Problems) -> list[dict[str, Any]]:
        """A row for each caption of a sample."""
        where = f"sample '{row['__key__']}' of '{str(row['__url__']).rsplit('/', 1)[-1]}'"
        texts = self._texts(row)
        empty = next((own for own, lines in texts.items() if not any(lines)), None)
        if empty is not None:
            problems.report("empty captions", f"{where} has no {empty}")
            return []
        paired = {own: lines for own, lines in texts.items() if own in _OF_A_CAPTION}
        if len({len(lines) for lines in paired.values()}) > 1:
            counts = ", ".join(f"{len(lines)} of {own}" for own, lines in paired.items())
            problems.report(
                "samples with unequal captions", f"{where} has unequal lines ({counts}); line k belongs to line k"
            )
            return []
        said = {own: lines[0] for own, lines in texts.items() if own not in paired}
        captions = []
        for lines in zip(*paired.values(), strict=True):
            if all(lines):
                captions.append({**dict(zip(paired, lines, strict=True)), **said})
            elif any(lines):
                problems.report("empty captions", f"{where} has a line that is empty in one of {', '.join(paired)}")
        picture = self._picture(row, image, where, problems)
        return [] if picture is None else [{"image_id": image_id, **each, "image": picture} for each in captions]

    def _picture(self, row: Mapping[str, Any], image: str, where: str, problems: Problems) -> PILImage.Image | None:
        raw = row[image]
        content = raw and raw.get("bytes")
        if not content:
            problems.report("captions without images", f"{where} has no picture")
            return None
        try:
            with open_picture(io.BytesIO(content)) as opened:
                opened.load()
                return as_rgb(opened)
        except BROKEN as error:
            problems.report("broken pictures", f"{where} has a broken picture ({error})", error=ImageError)
            return None

    def _texts(self, row: Mapping[str, Any]) -> dict[str, list[str]]:
        """Captions and whatever else is mapped: the lines of a text, or what is at a key (`json.key`) of a sample's JSON."""
        wanted = {own: name for own, name in self.columns.items() if own != "image"}
        if "caption" not in wanted:
            wanted["caption"] = next((name for name in _CAPTIONS if row.get(name) is not None), _CAPTIONS[0])
        texts = {}
        for own, name in wanted.items():
            column, _, key = name.partition(".")
            value = row.get(name, row.get(column))
            if isinstance(value, dict):
                value = value.get(key or "caption")
                value = [value] if isinstance(value, str) else value
            elif isinstance(value, str):
                value = clean_text(value).split("\n") if own in _OF_A_CAPTION else [value]
            there = value if isinstance(value, list) else []
            texts[own] = [clean_text(text) if isinstance(text, str) else "" for text in there]
        return texts


class _Ids:
    """Ids of samples: the key, behind the shard's name where there are several, for each may count from 0."""

    def __init__(self, *, several: bool) -> None:
        self.several = several
        self._shards: dict[str, str] = {}

    def of(self, row: Mapping[str, Any]) -> str:
        key, url = str(row["__key__"]), str(row["__url__"])
        if not self.several:
            return key
        name = url.rsplit("/", 1)[-1].partition(".tar")[0]
        other = self._shards.setdefault(name, url)
        if other != url:
            raise DataError(
                f"The shards '{other}' and '{url}' have one name, which the ids of their samples begin with: rename one."
            )
        return f"{name}/{key}"


def webdataset_rows(
    urls: str | Sequence[str], *, columns: Mapping[str, str] | None = None, on_error: OnError = "raise"
) -> ShardRows:
    """Rows of WebDataset shards, streamed.

    Args:
        urls: Paths or addresses of the tars, one or many.
        columns: Where a sample has what: `{"image": "png", "caption": "json.caption", "translation": "json.de"}`. By
            default the first of jpg, jpeg, png, webp and the first of txt, caption, json (its `caption`). Each line of a text
            is a caption, as CLIP_benchmark reads them, and so is each entry of a list in JSON; line k of a translation belongs to
            line k.
        on_error: `"raise"`, or `"skip"` to leave out samples that lack something or are broken, and count them.

    Returns:
        Rows, one a caption, with `image_id` (the sample's key, of several shards behind the shard's name), `image` (RGB),
        `caption` and whatever else `columns` names. For a streamed training set:
        `IterableDataset.from_generator(lambda: iter(rows))`.

    Raises:
        DataError: While iterating: if a shard is missing or cut off, two have one name, or a sample is refused.
        ImageError: While iterating: if a picture is broken.
    """
    return ShardRows([urls] if isinstance(urls, str) else urls, columns or {}, on_error)
