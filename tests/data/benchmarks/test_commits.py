"""Copies of which no commit is pinned: the newest is asked for once, over HTTP, and named with the scores."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from ccr_adapters.data.benchmarks import BENCHMARKS, load_benchmark
from ccr_adapters.data.benchmarks.hub import HubRows, commit_of
from ccr_adapters.errors import DataError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ASKED = "/api/datasets/royokong/flickr30k_test/revision/main"
ARCHIVE = "coco-cn-version1805v1.1.tar.gz"


class Hub(BaseHTTPRequestHandler):
    """What the client asks about a data set: which commit is the newest, and a file of that commit."""

    files: dict[str, bytes]
    asked: list[str]

    def log_message(self, *_):
        """Say nothing."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        self.asked.append(self.path)
        if self.path.startswith("/api/datasets/") and "/revision/main" in self.path:
            content = json.dumps({"id": "some/set", "sha": COMMIT}).encode()
        else:
            content = self.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("ETag", f'"{len(content or b"")}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content or b"")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The server, which is the only one that the client knows."""
    handler = type("Handler", (Hub,), {"files": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", place)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", place + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    close_session()
    yield handler
    server.shutdown()
    server.server_close()
    close_session()


def test_the_newest_commit_is_asked_for_once_and_named(hub):
    rows = HubRows(BENCHMARKS["flickr30k"])
    assert rows.name == f"royokong/flickr30k_test@{COMMIT}"
    pinned = BENCHMARKS["xm3600@all"]
    assert commit_of(pinned) == pinned.hub.revision
    assert HubRows(pinned).name == f"mteb/xm3600@{pinned.hub.revision}"
    # what else the client asks for is its own affair
    assert [path for path in hub.asked if "/datasets/" in path] == [ASKED]


def test_an_archive_is_of_the_commit_that_the_facts_name(hub, pictures):
    packed = io.BytesIO()
    files = {"coco-cn_test.txt": "COCO_val2014_1\n", "imageid.human-written-caption.txt": "COCO_val2014_1#0\t一只狗\n"}
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"coco-cn/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    hub.files[f"/datasets/AIMClab-RUC/COCO-CN/resolve/{COMMIT}/{ARCHIVE}"] = packed.getvalue()
    found = load_benchmark("coco-cn", "zh", images=pictures("COCO_val2014_1.jpg"))
    assert found.captions["zh"] == ["一只狗"]
    assert found.facts["source"] == f"official files in '{ARCHIVE}', Hub: AIMClab-RUC/COCO-CN@{COMMIT}"


def test_without_the_hub_no_commit_is_guessed():
    with pytest.raises(DataError, match=r"no commit of royokong/flickr30k_test is pinned.*source="):
        load_benchmark("flickr30k", "en")
