"""The server as an ASGI application: `create_app(engine, gallery)`, to be run by uvicorn or inside another application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ccr_adapters import __version__
from ccr_adapters.serving.engine import Engine
from ccr_adapters.serving.gallery import Gallery
from ccr_adapters.serving.guard import Guard
from ccr_adapters.serving.limits import Limits
from ccr_adapters.serving.metrics import Metrics
from ccr_adapters.serving.problems import tell_problems
from ccr_adapters.serving.routes import Service, embedding, searching
from ccr_adapters.serving.web import Depends, FastAPI, HTTPBearer

_ABOUT = """Captions in many languages and pictures, as vectors of one space; and a collection of pictures to search.

Every error is `{"error": kind, "message": what to do}`."""


def create_app(
    engine: Engine, gallery: Gallery | None = None, *, limits: Limits | None = None, key: str | None = None
) -> FastAPI:
    """Put an engine behind HTTP.

    Args:
        engine: What encodes. It is closed when the application shuts down.
        gallery: What is searched; without one there are no routes to search. Closed likewise.
        limits: How much a request and a client may; default `Limits()`.
        key: Key that clients have to send (`Authorization: Bearer KEY`); default none.

    Returns:
        The application.

    Raises:
        MissingExtraError: If the libraries of the server are not installed.
    """
    limits = limits or Limits()
    metrics = Metrics(engine, gallery)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        # by now every request has its answer
        for part in (engine, gallery):
            if part is not None:
                await asyncio.to_thread(part.close)

    app = FastAPI(
        title="ccr-adapters",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        # shows the lock in the documentation; `Guard` compares
        dependencies=[Depends(HTTPBearer(auto_error=False))] if key else [],
    )
    app.state.service = Service(engine, gallery, limits, metrics)
    app.include_router(embedding)
    if gallery is not None:
        app.include_router(searching)
    tell_problems(app, metrics)
    app.add_middleware(Guard, limits=limits, metrics=metrics, key=key)
    return app
