"""Entries and what they show to a retrieval set, with the facts that belong beside every score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ccr_adapters.data.benchmarks.entries import Entry, counted_captions, without_duplicates
from ccr_adapters.data.benchmarks.problems import Problems
from ccr_adapters.data.benchmarks.schema import Benchmark
from ccr_adapters.data.benchmarks.visuals import Visuals
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import DataError


def assemble(
    name: str,
    language: str,
    entries: Sequence[Entry],
    visuals: Visuals,
    problems: Problems,
    *,
    captions_per_image: int | None = None,
    first_images: int | None = None,
) -> RetrievalSet:
    """Apply the rules that every benchmark shares.

    Images that come twice, captions that are empty, and pictures that are missing or broken are refused, or left out and
    counted. An image that is left without captions stays in the gallery, as a distractor, and is counted.

    Args:
        name: Name of the set.
        language: Code of its language.
        entries: Images with captions, in official order.
        visuals: Where the pictures or features are.
        problems: Refuses or counts.
        captions_per_image: How many captions of an image count; `None` for all.
        first_images: The gallery is so many images; `None` for all.

    Returns:
        The set; its `facts` have the counts.

    Raises:
        DataError: If a row is refused, or nothing is left.
        ImageError: If a picture is refused.
    """
    official = [entry.image_id for entry in entries]
    unique = without_duplicates(entries, problems)[:first_images]
    gallery = visuals.gallery(counted_captions(unique, problems, captions_per_image), problems, official)
    texts: list[str] = []
    owners: list[int] = []
    for index, entry in enumerate(gallery.entries):
        texts += [caption.text for caption in entry.captions]
        owners += [index] * len(entry.captions)
    skipped = problems.facts()
    if not texts:
        raise DataError(
            f"{problems.title}: nothing is left of {len(entries):,} images. Left out: {skipped or 'nothing'}."
        )
    facts: dict[str, Any] = {
        "images": len(gallery.entries),
        "captions": len(texts),
        "images_without_captions": sum(not entry.captions for entry in gallery.entries),
        "repeated_captions": len(texts) - len(set(texts)),
        "skipped": skipped,
    }
    return RetrievalSet(
        [entry.image_id for entry in gallery.entries],
        {language: texts},
        {language: np.asarray(owners, dtype=np.int64)},
        pictures=gallery.pictures,
        visual=gallery.visual,
        videos=gallery.videos,
        name=name,
        facts=facts,
    )


def add_protocol(found: RetrievalSet, definition: Benchmark, language: str, source: str) -> None:
    """Say in the facts what was measured, from where, and where it differs from what is published."""
    images, captions = definition.published_size(language)
    found.facts |= {
        "benchmark": definition.name,
        "language": language,
        "protocol": definition.protocol,
        "captions_counted": definition.captions_counted,
        "source": source,
        "license": definition.licence,
        "homepage": definition.homepage,
        "notes": list(definition.notes),
        "known_overlaps": [
            {"training": known.training, "images": known.images, "note": known.note} for known in definition.overlaps
        ],
        "published": {"images": images, "captions": captions},
        "deviates": found.facts["images"] != images or captions not in (None, found.facts["captions"]),
    }
    if found.facts["deviates"]:
        asked = f"{captions:,}" if captions is not None else "?"
        found.facts["protocol"] += (
            f"; differs from the published set: {found.facts['images']:,} images and {found.facts['captions']:,} captions instead "
            f"of {images:,} and {asked}"
        )
