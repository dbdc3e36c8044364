"""A folder of pictures as something that a page can search: indexed once, and brought up to date at every start."""

from __future__ import annotations

from pathlib import Path

from ccr_adapters.demo.world import PICTURES, write_pictures
from ccr_adapters.modeling import CCRModel
from ccr_adapters.search import Collection, source_of
from ccr_adapters.search.encoder import PictureEncoder

# another process that starts at the same moment indexes the same pictures
_WAIT = 120.0


def open_world(model: CCRModel, home: Path, number: int = PICTURES) -> Collection:
    """The pictures of the tiny world, rendered and indexed unless they are.

    Args:
        model: Whose base encodes them; each base has an index of its own.
        home: Where pictures and indexes are kept.
        number: How many pictures.

    Returns:
        The collection.

    Raises:
        SearchIndexError: If the folder cannot be written, or the model sees no pictures.
        MissingExtraError: If there is no FAISS.
    """
    pictures = write_pictures(home / f"tiny_world_{number}", number)
    encoder = PictureEncoder(model)
    index = home / f"tiny_world_{number}_{encoder.base_sha256[:12]}.index"
    with Collection.open_or_create(index, encoder, model=encoder.base, wait=_WAIT) as collection:
        # under its own name it may have moved, with the folder that holds both
        known = [record for record in collection.notes.sources if Path(record.location) == pictures.absolute()]
        collection.update([source_of(pictures, known, name=pictures.name)], encoder)
    return Collection.open(index)
