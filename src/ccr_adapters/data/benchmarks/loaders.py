"""`load_benchmark`: a benchmark by its name, from the official files in a folder or from its copy on the Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ccr_adapters.data.benchmarks.assemble import add_protocol, assemble
from ccr_adapters.data.benchmarks.definitions import check_language, find_benchmark
from ccr_adapters.data.benchmarks.entries import Entry
from ccr_adapters.data.benchmarks.hub import HubRows, commit_of, parquet_files, unpack_archive
from ccr_adapters.data.benchmarks.official import has_official, missing_file, read_official
from ccr_adapters.data.benchmarks.problems import OnError, Problems
from ccr_adapters.data.benchmarks.schema import Benchmark
from ccr_adapters.data.benchmarks.visuals import Features, FeatureVisuals, FolderVisuals, Visuals
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import DataError


def load_benchmark(
    name: str,
    language: str,
    *,
    source: str | Path | None = None,
    images: str | Path | None = None,
    features: Features | None = None,
    on_error: OnError = "raise",
) -> RetrievalSet:
    """Load one language of a benchmark.

    Args:
        name: Its name, for example `"multi30k-task1-2016"`; `BENCHMARKS` lists them.
        language: Code of the language, in any common spelling (`ja`, `jp`, `jpn-Jpan`).
        source: Folder of the official files, or of a local copy of the Hub's Parquet files. `None` for the Hub.
        images: Folder of the pictures or videos, where the captions come without.
        features: Features instead of pictures: a folder, a file, an array or a mapping; see `FeatureVisuals`.
        on_error: `"raise"` refuses the first bad row with file and line; `"skip"` leaves bad rows out and counts them in
            `facts["skipped"]`.

    Returns:
        The set. `facts` has the protocol in one sentence, the counts, the source, the licence and the known traps.

    Raises:
        DataError: If there is no such benchmark, a file is missing (which, where to get it, on which terms), line counts do
            not fit, or a row is refused.
        LanguageError: If the benchmark does not have the language.
        ImageError: If a picture is missing or broken.

    Example:
        >>> load_benchmark("xtd10", "jp", source="XTD10", images="coco")  # doctest: +SKIP
    """
    return load_languages(name, [language], source=source, images=images, features=features, on_error=on_error)[
        language
    ]


def load_languages(
    name: str,
    languages: Sequence[str],
    *,
    source: str | Path | None = None,
    images: str | Path | None = None,
    features: Features | None = None,
    on_error: OnError = "raise",
) -> dict[str, RetrievalSet]:
    """Load several languages; sets over the same gallery share its pictures, so that they are encoded once.

    Args:
        name: As for `load_benchmark`.
        languages: Codes, in order.
        source: As for `load_benchmark`.
        images: As for `load_benchmark`.
        features: As for `load_benchmark`.
        on_error: As for `load_benchmark`.

    Returns:
        Sets by the codes that were asked for. Where two galleries are equal, `pictures` (or `visual`, `videos`) is one
        object: `a.pictures is b.pictures`.

    Raises:
        DataError: As for `load_benchmark`.
        LanguageError: As for `load_benchmark`.
        ImageError: As for `load_benchmark`.
    """
    definition = find_benchmark(name)
    codes = {language: check_language(definition, language) for language in languages}
    if images is not None and features is not None:
        raise DataError(f"{definition.name}: pass images= or features=, not both.")
    folder = _folder(definition, source)
    rows = _hub_rows(definition, folder, next(iter(codes.values()), ""))
    visuals = _visuals(definition, rows, images, features)
    found: dict[str, RetrievalSet] = {}
    for language, code in codes.items():
        problems = Problems(f"{definition.name} ({code})", on_error)
        entries, origin = _entries(definition, folder, rows, code, problems)
        one = assemble(
            definition.name,
            code,
            entries,
            visuals,
            problems,
            captions_per_image=definition.captions_per_image,
            first_images=definition.first_images,
        )
        add_protocol(one, definition, code, origin)
        _share(one, found)
        found[language] = one
    return found


def _folder(definition: Benchmark, source: str | Path | None) -> Path | None:
    if source is None:
        if definition.hub is None:
            raise DataError(
                f"{definition.name} has no usable copy on the Hub: pass source= with a folder of the official files. "
                f"{definition.where_to_get()}"
            )
        return None
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(f"{definition.name}: there is no folder '{source}'. {definition.where_to_get()}")
    return folder


def _hub_rows(definition: Benchmark, folder: Path | None, language: str) -> HubRows | None:
    """The Hub copy, if the rows come from it: there, or a folder that holds its Parquet files and no official ones."""
    copy = definition.hub
    if copy is None or copy.archive is not None:
        return None
    if folder is None:
        return HubRows(definition)
    split = copy.split.replace("{language}", language)
    official = has_official(definition, folder, language)
    return HubRows(definition, folder) if not official and parquet_files(folder, split) else None


def _visuals(
    definition: Benchmark, rows: HubRows | None, images: str | Path | None, features: Features | None
) -> Visuals:
    if features is not None:
        return FeatureVisuals(features)
    if images is not None:
        return FolderVisuals(images, video=definition.visual == "video", where_to_get=definition.where_to_get())
    if rows is not None and rows.copy.image is not None:
        return rows
    what = "videos" if definition.visual == "video" else "pictures"
    raise DataError(
        f"{definition.name}: the captions come without {what}. Pass images= with their folder, or features=. "
        f"{definition.where_to_get()}"
    )


def _entries(
    definition: Benchmark, folder: Path | None, rows: HubRows | None, language: str, problems: Problems
) -> tuple[list[Entry], str]:
    """The captions, and a word on where they are from."""
    if rows is not None:
        return rows.entries(language, problems), f"{'folder' if folder else 'Hub'}: {rows.name}"
    archive = definition.hub.archive if definition.hub is not None else None
    if folder is not None and (archive is None or has_official(definition, folder, language)):
        return read_official(definition, folder, language, problems), f"official files in '{folder.name}'"
    if archive is None:
        raise missing_file(definition, definition.caption_files[language], folder or Path())
    commit = None if folder is not None else commit_of(definition)
    packed = folder / archive if folder is not None else _download(definition, archive, commit)
    if not packed.is_file():
        raise missing_file(definition, (*definition.caption_files[language], archive), folder or Path())
    with tempfile.TemporaryDirectory() as unpacked:
        unpack_archive(packed, (*definition.caption_files[language], *definition.image_files), Path(unpacked))
        entries = read_official(definition, Path(unpacked), language, problems)
    hub = definition.hub
    origin = f", Hub: {hub.repository}@{commit}" if commit is not None and hub is not None else ""
    return entries, f"official files in '{archive}'{origin}"


def _download(definition: Benchmark, archive: str, commit: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    copy = definition.hub
    if copy is None:
        raise DataError(f"{definition.name} has no copy on the Hub.")
    try:
        return Path(hf_hub_download(copy.repository, archive, repo_type="dataset", revision=commit))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DataError(
            f"{definition.name}: {copy.repository} cannot be reached ({error}). Pass source= with the official files. "
            f"{definition.where_to_get()}"
        ) from error


def _share(one: RetrievalSet, others: Mapping[str, RetrievalSet]) -> None:
    """Let sets over one gallery hold one object, which tells whoever encodes it that once is enough."""
    for other in others.values():
        if other.image_ids == one.image_ids:
            one.pictures, one.visual, one.videos = other.pictures, other.visual, other.videos
            return
