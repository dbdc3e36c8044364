"""The routes: each reads a request, asks the engine or the gallery, and writes the answer."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import numpy as np
from PIL import Image

from ccr_adapters import __version__
from ccr_adapters.errors import ImageError, LimitError, MissingItemError, SearchIndexError
from ccr_adapters.search import Hit, Where, combine
from ccr_adapters.search.checks import terms_of
from ccr_adapters.search.interface import Vectors as Array
from ccr_adapters.serving import schema
from ccr_adapters.serving.engine import Engine
from ccr_adapters.serving.gallery import Gallery
from ccr_adapters.serving.limits import Limits
from ccr_adapters.serving.metrics import Metrics
from ccr_adapters.serving.problems import responses
from ccr_adapters.serving.uploads import open_upload
from ccr_adapters.serving.web import (
    CONTENT_TYPE_LATEST,
    APIRouter,
    Depends,
    File,
    Form,
    HTTPException,
    InPath,
    InQuery,
    Request,
    Response,
    UploadFile,
)

embedding, searching = APIRouter(), APIRouter()
# Written by a table, and relative to a folder that is nobody's business.
_PRIVATE = frozenset(("path",))


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    engine: Engine
    gallery: Gallery | None
    limits: Limits
    metrics: Metrics


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _gallery(request: Request) -> Gallery:
    gallery: Gallery = request.app.state.service.gallery
    return gallery


Served = Annotated[Service, Depends(_service)]
Searched = Annotated[Gallery, Depends(_gallery)]


# ------------------------------------------------------------------------------------------------------------ vectors


@embedding.post(
    "/embed/text",
    response_model=schema.Vectors,
    responses=responses(400, 422, 503, 504),
    summary="Encode captions",
    tags=["vectors"],
)
async def embed_text(service: Served, asked: schema.TextRequest) -> Response:
    """Captions of one language or of several as vectors, in one space unless a language has its own."""
    _check_captions(asked.captions, service.limits)
    found = await service.engine.text(asked.captions, asked.language, timeout=service.limits.seconds)
    return _written(found, asked.encoding)


@embedding.post(
    "/embed/image",
    response_model=schema.Vectors,
    responses=responses(400, 422, 503, 504),
    summary="Encode pictures",
    tags=["vectors"],
)
async def embed_image(
    service: Served,
    pictures: Annotated[
        list[UploadFile], File(description="JPEG, PNG, WebP, GIF (its first frame), AVIF, BMP or TIFF.")
    ],
    encoding: Annotated[Literal["float", "base64"], Form(description="As of `/embed/text`.")] = "float",
) -> Response:
    """Pictures as vectors, turned as their EXIF says. They do not depend on any language."""
    if len(pictures) > service.limits.pictures:
        raise LimitError(f"{len(pictures)} pictures came; a request may have {service.limits.pictures}.")
    readers = [_reader(each, at, service.limits) for at, each in enumerate(pictures)]
    found = await service.engine.image(readers, timeout=service.limits.seconds)
    return _written(found, encoding)


# ------------------------------------------------------------------------------------------------------------- search


@searching.post(
    "/search", response_model=schema.Answer, responses=responses(400, 422, 503, 504), summary="Search", tags=["search"]
)
async def search(
    request: Request,
    service: Served,
    gallery: Searched,
    text: Annotated[str | None, Form(description="What to look for.", examples=["ein roter Stern"])] = None,
    image: Annotated[UploadFile | None, File(description="A picture to look for, alone or beside words.")] = None,
    language: Annotated[str | None, Form(description="Of the words. Default: the only one there is.")] = None,
    k: Annotated[int, Form(ge=1, description="How many to find.")] = 10,
    weight: Annotated[float, Form(ge=0, le=1, description="Share of the picture beside words.")] = 0.5,
    where: Annotated[
        str | None,
        Form(alias="filter", description='Condition on metadata, as JSON: `{"year": [2020, 2021]}`.'),
    ] = None,
) -> schema.Answer:
    """The nearest pictures of the collection, to words, to a picture, or to both."""
    limits = service.limits
    if text is None and image is None:
        raise HTTPException(422, "Nothing to search for: send `text`, `image`, or both.")
    if k > limits.k:
        raise LimitError(f"k is {k}; a search gives at most {limits.k}.")
    condition = _condition(where)
    reader = None if image is None else _reader(image, 0, limits)
    waiting = []
    code = None
    if text is not None:
        _check_captions([text], limits)
        (code,) = service.engine.codes(1, language)
        gallery.check(service.engine.languages, code)
        waiting.append(service.engine.text([text], [code or "en"], timeout=limits.seconds))
    if reader is not None:
        waiting.append(service.engine.image([reader], timeout=limits.seconds))
    vectors = await asyncio.gather(*waiting)
    try:
        question = combine(vectors[0], vectors[1], weight)[0] if len(vectors) == 2 else vectors[0][0]  # (d,)
    except SearchIndexError as error:
        raise HTTPException(422, str(error)) from error
    hits = await asyncio.wait_for(asyncio.wrap_future(gallery.submit(question, k, condition)), limits.seconds)
    spoken = None if text is None else code or "en"
    return schema.Answer(language=spoken, hits=[_found(hit, str(request.scope.get("root_path", ""))) for hit in hits])


@searching.get(
    "/picture/{id:path}",
    response_class=Response,
    responses={**responses(404, 422, 503, 504), 200: {"content": {"image/jpeg": {}}, "description": "The picture."}},
    summary="A picture of the collection",
    tags=["search"],
)
async def picture(
    service: Served,
    gallery: Searched,
    name: Annotated[str, InPath(alias="id", description="Its name, as `/search` gives it.")],
    size: Annotated[int, InQuery(ge=16, le=2048, description="Pixels of its longer side.")] = 512,
) -> Response:
    """A picture of the collection as a new JPEG. Names are looked up in the index; they are never a path."""
    hits = await asyncio.wait_for(asyncio.wrap_future(gallery.find(name)), service.limits.seconds)
    if not hits:
        raise MissingItemError(f"The collection has no picture {name!r:.80}.")
    content = await asyncio.wait_for(asyncio.to_thread(gallery.jpeg, hits[0], size), service.limits.seconds)
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


# ---------------------------------------------------------------------------------------------------------- the server


@embedding.get(
    "/languages", response_model=schema.Languages, responses=responses(), summary="Languages", tags=["server"]
)
async def languages(service: Served) -> schema.Languages:
    """The base, and the languages that can be asked for."""
    engine, loaded = service.engine, set(service.engine.languages.loaded)
    spoken = [
        schema.Spoken(
            code=each.code,
            loaded=each.code in loaded,
            method=each.method,
            own_space=each.own_space,
            source=_public(each.place),
        )
        for each in engine.languages.known.values()
    ]
    base = _public(engine.model.config.base_model_name_or_path) or "unnamed"
    return schema.Languages(base=base, dim=engine.dim, languages=spoken)


@embedding.get("/health", response_model=schema.Health, summary="Health", tags=["server"])
async def health(service: Served) -> schema.Health:
    """That the server is there. Needs no key."""
    pictures = None if service.gallery is None else len(service.gallery)
    return schema.Health(version=__version__, waiting=service.engine.depth, pictures=pictures)


@embedding.get(
    "/metrics",
    response_class=Response,
    responses={**responses(), 200: {"content": {"text/plain": {}}, "description": "In the format of Prometheus."}},
    summary="Metrics",
    tags=["server"],
)
async def metrics(service: Served) -> Response:
    """Requests, errors, latencies, batch sizes, queues and languages in memory."""
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


# ------------------------------------------------------------------------------------------------------------- helpers


def _check_captions(captions: Sequence[str], limits: Limits) -> None:
    """Refuse more than a request may have; what a caption must be, the engine knows."""
    if len(captions) > limits.captions:
        raise LimitError(f"{len(captions)} captions came; a request may have {limits.captions}. Send several requests.")
    long = next((row for row, caption in enumerate(captions) if len(caption) > limits.characters), None)
    if long is not None:
        raise LimitError(
            f"Caption {long} has {len(captions[long]):,} characters; at most {limits.characters:,} are taken. Shorten it."
        )


def _reader(upload: UploadFile, at: int, limits: Limits) -> Callable[[], Image.Image]:
    """A function that decodes an upload. It lies on disk until then, if it is large, and not in memory."""
    name = f"Picture {at} ({upload.filename or 'unnamed'!r:.60})"
    size = upload.size or 0
    if size > limits.upload_bytes:
        raise LimitError(f"{name} has {size:,} bytes; expected at most {limits.upload_bytes:,}. Make it smaller.")
    if not size:
        raise ImageError(f"{name} is empty. Choose a picture.")
    return lambda: open_upload(upload.file.read(), name, limits.pixels)


def _written(vectors: Array, encoding: str) -> Response:
    """Vectors as JSON. Written here, since a check of every number would cost more than the model."""
    if encoding == "base64":
        rows: list[str] | list[list[float]] = [
            base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors
        ]
    else:
        # eight decimals are what float32 has at this length
        rows = np.round(vectors.astype(np.float64), 8).tolist()
    content = json.dumps({"dim": int(vectors.shape[1]), "encoding": encoding, "vectors": rows}, separators=(",", ":"))
    return Response(content, media_type="application/json")


_LONGEST_FILTER = 10_000


def _condition(text: str | None) -> Where | None:
    """A filter from JSON."""
    if text is None:
        return None
    if len(text) > _LONGEST_FILTER:
        # every value of it is hashed while others wait
        raise HTTPException(422, f"`filter` has {len(text):,} characters; expected at most {_LONGEST_FILTER:,}.")
    try:
        where = json.loads(text)
        if not isinstance(where, dict) or not all(_is_plain(value) for value in where.values()):
            raise SearchIndexError(f"{text!r:.80} is no object of values and lists of values")
        terms_of(where)
    except (ValueError, RecursionError) as error:
        told = str(error).rstrip(".") if isinstance(error, SearchIndexError) else "it is no JSON"
        raise HTTPException(422, f'`filter`: {told}. Write for example {{"year": [2020, 2021]}}.') from error
    return where


def _is_plain(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(each is None or isinstance(each, str | int | float) for each in values)


def _found(hit: Hit, root: str) -> schema.Found:
    # JSON has no word for what is not finite
    metadata = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in hit.metadata.items()
        if key not in _PRIVATE
    }
    # clients resolve dots in a path before they send it
    plain = not any(part in ("", ".", "..") for part in hit.id.split("/"))
    address = f"{root}/picture/{quote(hit.id, safe='/' if plain else '')}"
    return schema.Found(id=hit.id, score=round(hit.score, 6), picture=address, metadata=metadata)


def _public(place: str | None) -> str | None:
    """A model by its name: of a folder only the last part, also where an adapter names it by a path of its own."""
    if place is None:
        return None
    path = Path(place)
    return path.name if path.is_dir() or path.is_absolute() or path.parts[:1] in (("..",), (".",)) else place
