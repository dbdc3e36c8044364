"""What the tests of the server share: a German adapter, an indexed folder of pictures, and a server on a port of its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from ccr_adapters.modeling import CCRModel
from ccr_adapters.search import Collection, source_of
from ccr_adapters.search.encoder import PictureEncoder
from ccr_adapters.serving.app import create_app
from ccr_adapters.serving.engine import Engine
from ccr_adapters.serving.gallery import Gallery
from ccr_adapters.serving.limits import Limits
from ccr_adapters.serving.web import FastAPI

BOUNDARY = "----pictures"
# Most tests are of one client, which asks quickly.
PLENTY = {"rate": 0.0}


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


def multipart(fields: list[tuple[str, Any]]) -> tuple[bytes, str]:
    """A form; a value in bytes is an upload, which may come with its name."""
    parts = []
    for name, value in fields:
        file, content = value if isinstance(value, tuple) else ("upload", value)
        named = f'; filename="{file}"' if isinstance(content, bytes) else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
        parts.append(head.encode() + (content if isinstance(content, bytes) else str(content).encode()) + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}"


class Client:
    """Speaks HTTP to one port, a connection a request."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return Reply(reply.status, found, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self("GET", path, **headers)

    def text(self, captions: Any, language: Any = None, **more: Any) -> Reply:
        asked = {"captions": captions, "language": language, **more}
        return self("POST", "/embed/text", json.dumps(asked).encode(), content_type="application/json")

    def form(self, path: str, *fields: tuple[str, Any], **headers: str) -> Reply:
        body, kind = multipart(list(fields))
        return self("POST", path, body, content_type=kind, **headers)


@contextmanager
def listening(app: FastAPI, patience: float = 10.0) -> Iterator[Client]:
    """The application on a free port, run by uvicorn in a thread, until the block ends."""
    from ccr_adapters.serving.run import listen, server_of

    with listen("127.0.0.1", 0) as socket:
        server = server_of(app, patience=patience, log_level="critical")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        try:
            yield Client(socket.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def german(german_adapter) -> str:
    """Folder of a German adapter, as the command line names it."""
    return str(german_adapter)


@pytest.fixture(scope="session")
def one_by_one(german) -> CCRModel:
    """The same model by itself, to compare with."""
    return CCRModel.from_pretrained(german).eval()


@pytest.fixture(scope="session")
def home(photos, one_by_one, tmp_path_factory) -> Path:
    """A folder with nine pictures, `p.index` of them, and `t.index` of a table that has their years."""
    home = tmp_path_factory.mktemp("home")
    photos.fill(home / "photos")
    lines = [f"photos/{'below/' if n % 2 else ''}{photos.name(n)},{2020 + n % 3},n{n}" for n in range(9)]
    (home / "t.csv").write_text("image,year,id\n" + "\n".join(lines) + "\n")
    encoder = PictureEncoder(one_by_one)
    for place, index in (("photos", "p.index"), ("t.csv", "t.index")):
        with Collection.open_or_create(home / index, encoder, model="tiny_clip") as collection:
            collection.update([source_of(home / place)], encoder, show_progress=False)
    return home


@pytest.fixture
def serve(german, home):
    """Function that starts a server with the German adapter; each takes limits, an index and a key."""

    @contextmanager
    def started(index: str | None = None, key: str | None = None, **options: Any) -> Iterator[Client]:
        limits = {name: options.pop(name) for name in list(options) if name in Limits.__dataclass_fields__}
        engine = Engine.load(["tiny_clip", german], "cpu", **options)
        gallery = None if index is None else Gallery(Collection.open(home / index), refresh_seconds=0.0)
        app = create_app(engine, gallery, limits=Limits(**{**PLENTY, **limits}), key=key)
        with listening(app, patience=limits.get("seconds", 10.0)) as client:
            client.engine = engine
            yield client

    return started


@pytest.fixture(scope="module")
def client(german, home) -> Iterator[Client]:
    """A server that the tests of a file share, over the table."""
    engine = Engine.load(["tiny_clip", german], "cpu")
    gallery = Gallery(Collection.open(home / "t.index"))
    with listening(create_app(engine, gallery, limits=Limits(**PLENTY))) as client:
        yield client
