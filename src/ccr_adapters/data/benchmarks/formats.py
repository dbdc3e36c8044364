"""Retrieval sets from the files that the NRCCR and DASD authors hand out, as people have them on disk."""

from __future__ import annotations

from pathlib import Path

from ccr_adapters.data.benchmarks.assemble import assemble
from ccr_adapters.data.benchmarks.dasd_files import dasd_entries, dasd_paths
from ccr_adapters.data.benchmarks.languages import primary_language
from ccr_adapters.data.benchmarks.nrccr import nrccr_entries
from ccr_adapters.data.benchmarks.problems import OnError, Problems
from ccr_adapters.data.benchmarks.visuals import Features, FeatureVisuals, FolderVisuals
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import DataError


def load_nrccr(
    captions: str | Path,
    language: str,
    *,
    images: str | Path | None = None,
    features: Features | None = None,
    video: bool = False,
    on_error: OnError = "raise",
) -> RetrievalSet:
    """An evaluation set from one `TextData/*.caption.txt`, over pictures or a `FeatureData/*` folder.

    Args:
        captions: The caption file, for example `TextData/multi30ktest_de_2016.caption.txt`.
        language: Code of its language.
        images: Folder of the pictures (`flickr30k-images`) or videos.
        features: Features instead: a BigFile folder, for example `FeatureData/i3d_kinetics`.
        video: Whether `images` holds videos.
        on_error: `"raise"` or `"skip"`.

    Returns:
        The set, with the protocol and the counts in `facts`.

    Raises:
        DataError: If a file is missing, or a row is refused.
    """
    path = Path(captions)
    if not path.is_file():
        raise DataError(f"There is no caption file '{path}'.")
    code = primary_language(language)
    problems = Problems(path.name, on_error)
    visuals = _visuals(images, features, video=video)
    found = assemble(path.name.removesuffix(".caption.txt"), code, nrccr_entries(path), visuals, problems)
    found.facts |= {
        "language": code,
        "source": f"NRCCR file '{path.name}'",
        "protocol": "the images that the caption file names, with all of its captions, both ways",
    }
    return found


def load_dasd(
    path_file: str | Path,
    split: str,
    language: str,
    *,
    root: str | Path | None = None,
    images: str | Path | None = None,
    features: Features | None = None,
    on_error: OnError = "raise",
) -> RetrievalSet:
    """An evaluation set from a path file of the DASD authors, for example `Multi30k/multi30k_4lang_path.json`.

    Args:
        path_file: The path file.
        split: `val`, `test`, ...
        language: Code of the language.
        root: The folder that its relative paths start from; found by itself where the captions lie below a parent folder.
        images: Another folder of pictures than the one that the file names.
        features: Features instead of pictures.
        on_error: `"raise"` or `"skip"`.

    Returns:
        The set, with the protocol and the counts in `facts`.

    Raises:
        DataError: If a file is missing or of another form, or a row is refused.
        LanguageError: If the path file does not have the language.
        ImageError: If a picture is missing or broken.
    """
    files = dasd_paths(path_file, split, language, root=root)
    problems = Problems(f"{Path(path_file).name} ({split}, {files.language})", on_error)
    visuals = _visuals(images if images is not None or features is not None else files.images, features, video=False)
    name = f"{Path(path_file).stem}-{split}"
    found = assemble(name, files.language, dasd_entries(files.captions, files.names), visuals, problems)
    found.facts |= {
        "language": files.language,
        "source": f"DASD files of '{Path(path_file).name}'",
        "protocol": f"the images of '{files.names.name}' with all captions of '{files.captions.name}', both ways",
    }
    return found


def _visuals(images: str | Path | None, features: Features | None, *, video: bool) -> FeatureVisuals | FolderVisuals:
    if (images is None) == (features is None):
        raise DataError("Captions need something to look at: pass either images= (a folder) or features=.")
    return FeatureVisuals(features) if features is not None else FolderVisuals(str(images), video=video)
