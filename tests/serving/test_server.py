"""The server for real, over a socket: answers, errors in one form, and nothing served that is not in the collection."""

from __future__ import annotations

import base64
import io
import json
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPConnection
from socket import create_connection
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from ccr_adapters.search import Collection, source_of
from ccr_adapters.search.encoder import PictureEncoder

GERMAN = ["ein roter Stern", "ein gelbes Herz auf Schnee", "eine blaue Blume"]
ENGLISH = ["a red star", "a yellow heart on snow", "a blue flower and a green house"]


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def header_only(width, height):
    """A PNG that claims a size and has no pixels."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(body)) + b"IHDR" + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def refused(reply, status, error, told):
    assert (reply.status, reply.json["error"]) == (status, error), reply.content
    assert told in reply.json["message"]
    assert set(reply.json) == {"error", "message"}
    assert reply.headers["content-type"] == "application/json"


# ------------------------------------------------------------------------------------------------------------ vectors


def test_clients_at_once_get_exactly_what_the_model_gives_one_by_one(client, one_by_one):
    asked = [([caption], code) for code, captions in (("de", GERMAN), ("en", ENGLISH)) for caption in captions]
    asked += [(GERMAN + ENGLISH, ["de"] * 3 + ["en"] * 3)]
    with ThreadPoolExecutor(16) as callers:
        replies = list(callers.map(lambda each: client.text(*each), asked * 5))
    for (captions, language), reply in zip(asked * 5, replies, strict=True):
        assert reply.status == 200, reply.content
        own = language if isinstance(language, list) else [language] * len(captions)
        expected = [one_by_one.encode_text([each], code).numpy()[0] for each, code in zip(captions, own, strict=True)]
        np.testing.assert_allclose(reply.json["vectors"], expected, atol=1e-5)
        assert (reply.json["dim"], reply.json["encoding"]) == (128, "float")


def test_base64_is_the_same_vector(client):
    plain, packed = client.text(GERMAN, "de").json, client.text(GERMAN, "de", encoding="base64").json
    rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in packed["vectors"]]
    np.testing.assert_allclose(rows, plain["vectors"], atol=1e-6)


def test_pictures_are_seen_upright_and_by_their_first_frame(client, one_by_one, photos):
    upright = photos.picture(2)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(turned, "PNG", exif=exif)
    animated = io.BytesIO()
    upright.save(animated, "GIF", save_all=True, append_images=[photos.picture(5)])
    uploads = [png(upright), turned.getvalue(), animated.getvalue()]
    reply = client.form("/embed/image", *(("pictures", content) for content in uploads))
    assert reply.status == 200, reply.content
    expected = one_by_one.encode_image([upright] * 2).numpy()
    np.testing.assert_allclose(reply.json["vectors"][:2], expected, atol=1e-5)
    first = Image.open(io.BytesIO(animated.getvalue())).convert("RGB")
    np.testing.assert_allclose(reply.json["vectors"][2:], one_by_one.encode_image([first]).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("captions", "more", "status", "error", "told"),
    [
        ([], {}, 422, "RequestError", "captions"),
        ("a red star", {}, 422, "RequestError", "captions"),
        ([3], {}, 422, "RequestError", "captions.0"),
        (["a"], {"normalise": True}, 422, "RequestError", "normalise"),
        (["a"], {"encoding": "pickle"}, 422, "RequestError", "encoding"),
        (["a", "  "], {}, 422, "CaptionError", "Caption 1 is empty"),
        (["\ud800"], {}, 422, "CaptionError", "no UTF-8"),
        (["a"], {"language": "tlh"}, 422, "LanguageError", "There is no language 'tlh'. There are: de, en."),
        (["a"], {"language": ["de", "en"]}, 422, "LanguageError", "2 languages for 1 captions"),
        (["a"] * 257, {}, 413, "LimitError", "257 captions came; a request may have 256"),
        (["a", "b" * 2001], {}, 413, "LimitError", "Caption 1 has 2,001 characters"),
    ],
)
def test_captions_that_cannot_be_encoded(client, captions, more, status, error, told):
    refused(client.text(captions, **more), status, error, told)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"captions": ["a"], "captions": 3}'],
    ids=["empty", "cut", "bytes", "deep", "twice"],
)
def test_a_body_that_is_no_json(client, body):
    reply = client("POST", "/embed/text", body, content_type="application/json")
    assert reply.status in (400, 422), reply.content
    assert set(reply.json) == {"error", "message"}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b"", 422, "is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "no picture of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "no picture of a known format"),
        (header_only(20_000, 10_000), 413, "too many pixels"),
        (header_only(10_000, 10_000), 413, "10000 x 10000 pixels; expected at most 50,000,000"),
        (header_only(40, 40), 422, "cannot be read"),
        (b"P6 99999 99999 255\n", 422, "no picture of a known format"),
    ],
    ids=["empty", "svg", "postscript", "200 megapixels", "100 megapixels", "no pixels", "ppm"],
)
def test_uploads_that_are_no_pictures(client, content, status, told):
    reply = client.form("/embed/image", ("pictures", ("naïve <b>.png", content)))
    refused(reply, status, "LimitError" if status == 413 else "ImageError", told)
    assert "Picture 0 ('naïve <b>.png')" in reply.json["message"]


def test_a_picture_that_is_cut_short_fails_alone(client, photos):
    whole = png(photos.picture(0))
    with ThreadPoolExecutor(8) as callers:
        contents = [whole, whole[: len(whole) // 2]] * 8
        replies = list(callers.map(lambda content: client.form("/embed/image", ("pictures", content)), contents))
    assert [reply.status for reply in replies] == [200, 422] * 8
    refused(replies[1], 422, "ImageError", "cannot be read")


# ------------------------------------------------------------------------------------------------------------- search


def names(reply):
    assert reply.status == 200, reply.content
    return [hit["id"].rpartition("/")[2] for hit in reply.json["hits"]]


def test_search_by_words_by_a_picture_and_by_both(client, photos):
    german = client.form("/search", ("text", "ein gelbes Herz"), ("language", "de"), ("k", 3))
    assert names(german)[0] == "n2"
    assert german.json["language"] == "de"
    assert len(german.json["hits"]) == 3
    best = german.json["hits"][0]
    assert best["metadata"] == {"source": "t.csv", "year": 2022}
    seen = client.form("/search", ("image", png(photos.picture(4))), ("k", 1))
    assert (names(seen), seen.json["language"]) == (["n4"], None)
    assert seen.json["hits"][0]["score"] > 0.999
    both = ("text", "a red star"), ("language", "en"), ("image", png(photos.picture(4))), ("k", 1)
    assert names(client.form("/search", *both, ("weight", 1))) == ["n4"]
    assert names(client.form("/search", *both, ("weight", 0))) == ["n0"]


def test_search_with_a_condition(client):
    found = client.form("/search", ("text", "a red star"), ("language", "en"), ("filter", '{"year": [2021, 2022]}'))
    assert sorted(names(found)) == ["n1", "n2", "n4", "n5", "n7", "n8"]
    none = client.form("/search", ("text", "a red star"), ("filter", '{"year": "2021"}'))
    assert names(none) == []


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ([], 422, "Nothing to search for"),
        ([("text", " ")], 422, "Caption 0 is empty"),
        ([("text", "a"), ("k", 0)], 422, "k: "),
        ([("text", "a"), ("k", 101)], 413, "k is 101"),
        ([("text", "a"), ("k", "many")], 422, "k: "),
        ([("text", "a"), ("weight", 2)], 422, "weight: "),
        ([("text", "a"), ("weight", "nan")], 422, "weight: "),
        ([("text", "a"), ("language", "xx")], 422, "There is no language 'xx'"),
        ([("text", "a"), ("filter", "year=2021")], 422, "it is no JSON"),
        ([("text", "a"), ("filter", "[1]")], 422, "no object"),
        ([("text", "a"), ("filter", '{"year": {"from": 1}}')], 422, "no object"),
        ([("text", "a"), ("filter", '{"year": NaN}')], 422, "finite number"),
        ([("text", "a"), ("filter", "[" * 9_000)], 422, "no JSON"),
        ([("text", "a"), ("filter", '{"a": [' + "0," * 5_000 + "0]}")], 422, "expected at most 10,000"),
        ([("image", b"nothing")], 422, "no picture of a known format"),
    ],
)
def test_searches_that_make_no_sense(client, fields, status, told):
    reply = client.form("/search", *fields)
    assert reply.status == status, reply.content
    assert told in reply.json["message"]


def test_a_picture_is_shown_by_its_name_and_without_what_its_file_says(client, photos):
    hit = client.form("/search", ("text", "a red star"), ("language", "en"), ("k", 1)).json["hits"][0]
    assert hit["picture"] == "/picture/t.csv/n0"
    reply = client.get(f"{hit['picture']}?size=64")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg")
    assert reply.headers["x-content-type-options"] == "nosniff"
    shown = Image.open(io.BytesIO(reply.content))
    assert shown.size == (64, 64)
    assert not shown.getexif()
    wanted = np.asarray(photos.picture(0).resize((64, 64)), np.float32)
    assert np.abs(np.asarray(shown, np.float32) - wanted).mean() < 12
    assert client.get(f"{hit['picture']}?size=9").status == 422


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "//etc/passwd",
        "../../../../etc/passwd",
        "t.csv/../photos/secret.png",
        "t.csv/%2e%2e/photos/secret.png",
        "t.csv%2F..%2Fphotos%2Fsecret.png",
        "photos/secret.png",
        "t.csv/photos/secret.png",
        "t.csv/n0/../../photos/secret.png",
        "t.csv/n0%00.png",
        "%ff%fe",
        "",
        "t.csv",
        "x" * 5000,
    ],
    ids=range(14),
)
def test_nothing_outside_of_the_collection_is_shown(client, home, photos, path):
    photos.picture(3).save(home / "photos" / "secret.png")
    reply = client.get(f"/picture/{path}")
    assert reply.status == 404, (path, reply.content)
    assert str(home) not in reply.content.decode()


def test_a_picture_that_has_gone_is_missed_without_naming_its_file(serve, home, one_by_one, photos, tmp_path):
    photos.fill(tmp_path / "gone", 2)
    encoder = PictureEncoder(one_by_one)
    with Collection.open_or_create(tmp_path / "g.index", encoder) as collection:
        collection.update([source_of(tmp_path / "gone")], encoder, show_progress=False)
    (tmp_path / "gone" / photos.name(0)).unlink()
    (tmp_path / "gone" / "below" / photos.name(1)).write_bytes(b"broken")
    with serve(tmp_path / "g.index") as client:
        for name in (f"gone/{photos.name(0)}", f"gone/below/{photos.name(1)}"):
            reply = client.get(f"/picture/{quote(name)}")
            refused(reply, 404, "MissingItemError", "cannot be read any more")
            assert str(tmp_path) not in reply.content.decode()


def test_what_an_indexer_adds_is_found_without_a_new_start(serve, one_by_one, photos, tmp_path):
    photos.fill(tmp_path / "more", 3)
    encoder = PictureEncoder(one_by_one)

    def update():
        with Collection.open_or_create(tmp_path / "m.index", encoder) as collection:
            collection.update([source_of(tmp_path / "more")], encoder, show_progress=False)

    update()
    with serve(tmp_path / "m.index") as client:
        ask = ("text", "a green house"), ("language", "en"), ("k", 1)
        assert photos.name(3) not in names(client.form("/search", *ask))
        photos.fill(tmp_path / "more", 4)
        # twenty copies, as near to it as it is itself
        for number in range(20):
            photos.picture(3).save(tmp_path / "more" / f"copy {number}.png")
        update()
        hits = client.form("/search", *ask, ("k", 30)).json["hits"][:21]
        assert {hit["score"] for hit in hits} == {hits[0]["score"]}
        for hit in hits:
            assert client.get(hit["picture"]).status == 200, hit


# ---------------------------------------------------------------------------------------------------------- the server


def test_languages_and_health(client):
    told = client.get("/languages").json
    assert (told["base"], told["dim"]) == ("tiny_clip", 128)
    (german,) = told["languages"]
    assert (german["code"], german["method"], german["own_space"], german["source"]) == ("de", "DASD", False, "de")
    assert client.get("/health").json["pictures"] == 9


def test_metrics_count_what_happens(serve):
    with serve("p.index") as client:
        client.text(GERMAN, "de")
        client.text([""], "de")
        client.form("/search", ("text", "a red star"))
        client.get("/picture/photos/nothing.png")
        client.get("/no/such/path")
        lines = client.get("/metrics").content.decode().splitlines()
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    assert values['ccr_requests_total{method="POST",route="/embed/text",status="200"}'] == 1
    assert values['ccr_requests_total{method="POST",route="/embed/text",status="422"}'] == 1
    assert values['ccr_requests_total{method="GET",route="/picture/{id:path}",status="404"}'] == 1
    assert values['ccr_requests_total{method="GET",route="none",status="404"}'] == 1
    assert values['ccr_errors_total{error="CaptionError"}'] == 1
    assert values['ccr_batch_size_sum{kind="text"}'] == 4
    assert values['ccr_request_seconds_count{route="/search"}'] == 1
    assert values["ccr_languages_loaded"] == 1
    assert values["ccr_pictures"] == 9
    assert values['ccr_queue_depth{queue="engine"}'] == 0


def test_without_a_collection_there_is_nothing_to_search(serve):
    with serve() as client:
        assert client.form("/search", ("text", "a")).status == 404
        assert client.get("/picture/x").status == 404
        assert client.get("/health").json["pictures"] is None
        assert "/search" not in client.get("/openapi.json").json["paths"]


def test_a_key_opens_the_door(serve):
    with serve(key="sesame") as client:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic sesame"},
            {"authorization": "Bearer"},
        ):
            for path in ("/languages", "/metrics", "/no/such/path"):
                reply = client.get(path, **headers)
                refused(reply, 401, "KeyError", "missing or wrong")
                assert reply.headers["www-authenticate"] == "Bearer"
                assert "sesame" not in str(reply)
        assert client.get("/languages", authorization="Bearer sesame").status == 200
        assert [client.get(path).status for path in ("/health", "/openapi.json")] == [200, 200]
        assert "401" in client.get("/openapi.json").json["paths"]["/embed/text"]["post"]["responses"]


def test_a_client_that_asks_too_often_is_told_when_to_go_on(serve):
    with serve(rate=5.0, burst=3) as client:
        replies = [client.get("/languages") for _ in range(5)]
        assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
        refused(replies[-1], 429, "RateError", "5 a second")
        assert replies[-1].headers["retry-after"] == "1"
        assert client.get("/health").status == 200
        time.sleep(0.25)
        assert client.get("/languages").status == 200


def test_a_body_that_is_too_large_is_not_read(serve):
    with serve(body_bytes=10_000, upload_bytes=5_000) as client:
        refused(client.text(["a" * 1000] * 11), 413, "LimitError", "10,000 bytes")
        refused(
            client.form("/embed/image", ("pictures", b"x" * 6000)),
            413,
            "LimitError",
            "has 6,000 bytes; expected at most 5,000",
        )
        # in chunks, without saying how much will come
        with create_connection(("127.0.0.1", client.port), timeout=10) as socket:
            socket.sendall(
                b"POST /embed/text HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n" + (b"1000\r\n" + b" " * 0x1000 + b"\r\n") * 3
            )
            assert socket.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_come_is_not_waited_for(serve):
    with serve(seconds=0.3) as client, create_connection(("127.0.0.1", client.port), timeout=10) as socket:
        socket.sendall(
            b"POST /embed/text HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
        )
        assert socket.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("first", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "second"])
def test_a_head_that_does_not_come_is_not_waited_for(first, serve):
    """Not for its end, however slowly it comes, be it that of the first request of a connection or of a later one."""
    with serve(seconds=0.5) as client, create_connection(("127.0.0.1", client.port), timeout=10) as socket:
        socket.sendall(first)
        if first:
            assert socket.recv(1000).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        with suppress(OSError):
            for letter in b"GET /health HTTP/1.1\r\nHost: x" * 3:
                socket.sendall(bytes([letter]))
                time.sleep(0.05)
        assert 0.4 < time.monotonic() - began < 2
        assert client.get("/health").status == 200


def test_a_connection_lives_as_long_as_its_requests_come(serve):
    with serve(seconds=0.5) as client:
        connection = HTTPConnection("127.0.0.1", client.port, timeout=10)
        for _ in range(4):
            connection.request("GET", "/health")
            assert connection.getresponse().read()
            time.sleep(0.2)
        connection.close()


def test_no_more_requests_at_a_time_than_may_be(serve):
    with serve(requests=2) as client:
        slow = [create_connection(("127.0.0.1", client.port), timeout=10) for _ in range(2)]
        for socket in slow:
            socket.sendall(
                b"POST /embed/text HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
            )
        time.sleep(0.1)
        refused(client.get("/languages"), 503, "BusyError", "2 requests are under way")
        assert client.get("/health").status == 200
        for socket in slow:
            socket.close()
        time.sleep(0.1)
        assert client.get("/languages").status == 200


def test_a_full_queue_and_a_slow_model_are_told(serve):
    with serve(max_queue=4, max_batch=4, seconds=0.5) as client:
        gate, entered = threading.Event(), threading.Event()
        # the model's thread calls this after each pass, and waits
        client.engine.on_batch = lambda *_: entered.set() or gate.wait(10)
        try:
            taken = [client.engine.submit_text(["a"], "en")]
            entered.wait(10)
            taken += [client.engine.submit_text([word], "en") for word in "bcd"]
            refused(client.text(["e"], "en"), 504, "TimeoutError", "took too long")
            reply = client.text(["f"], "en")
            refused(reply, 503, "BusyError", "4 are waiting already, of 4")
            assert reply.headers["retry-after"] == "1"
        finally:
            gate.set()
        assert all(future.result(10).shape == (1, 128) for future in taken)
        assert client.text(["h"], "en").status == 200


def test_what_only_the_operator_can_mend_is_not_told_to_clients(serve, german, tmp_path):
    with serve() as client:
        places = client.engine.model.shelf.places
        places["de"] = replace(places["de"], name=tmp_path)
        reply = client.text(GERMAN, "de")
        refused(reply, 500, "ServerError", "its log says why")
        assert str(tmp_path) not in json.dumps(reply.json)
        assert client.text(ENGLISH, "en").status == 200


def test_other_paths_and_methods(client):
    refused(client.get("/nothing"), 404, "NotFound", "nothing at this path")
    refused(client("DELETE", "/search"), 405, "MethodNotAllowed", "another method")


def test_the_documentation_describes_every_route(client):
    told = client.get("/openapi.json").json
    for path, methods in told["paths"].items():
        for method in methods.values():
            assert method["summary"], path
            assert method["description"], path
            for code, response in method["responses"].items():
                assert code == "200" or response["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
    assert "example" in told["components"]["schemas"]["TextRequest"]
    assert client.get("/docs").status == 200
