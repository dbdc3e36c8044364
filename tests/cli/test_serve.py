"""`ccr-adapters serve` for real: what it refuses, what it says, and an end at which everybody has an answer."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ccr_adapters.cli.main import app

HERE = Path(__file__).parent
KEY = "a key that nobody should read"


def refused(*arguments, key=None):
    environment = {"CCR_ADAPTERS_KEY": key} if key is not None else {}
    found = CliRunner().invoke(app, ["serve", *map(str, arguments)], env={"CCR_ADAPTERS_KEY": None, **environment})
    assert found.exit_code == 1, found.output
    return found.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_a_public_address_needs_a_key(host):
    assert "Set a key in CCR_ADAPTERS_KEY, or say --no-key" in refused("--model", "tiny_clip", "--host", host)


def test_an_empty_key_is_none():
    assert "The key is empty" in refused("--model", "tiny_clip", key=" ")
    assert "beside --no-key" in refused("--model", "tiny_clip", "--no-key", key=KEY)


def test_a_server_without_a_model_has_nothing_to_serve():
    assert "for example tiny_clip" in refused()


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Port {port} of 127.0.0.1 cannot be used" in refused("--model", "tiny_clip", "--port", port)


def test_an_index_of_another_base_is_refused(home, bases):
    told = refused("--model", bases["clip"], "--index", home / "p.index", "--port", 0)
    assert "was made with the base 'tiny_clip'" in told


@pytest.fixture
def server(home):
    """Function that starts the command in a process, and gives it and its port."""
    running = []

    def start(*options, key=None):
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src"), "PYTHONUNBUFFERED": "1"}
        environment.pop("CCR_ADAPTERS_KEY", None)
        environment |= {} if key is None else {"CCR_ADAPTERS_KEY": key}
        command = [sys.executable, "-m", "ccr_adapters", "serve", "--port", "0", *map(str, options)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, env=environment, cwd=home, **pipes))
        line = running[-1].stdout.readline()
        assert "Serving" in line, running[-1].stderr.read()
        return running[-1], int(re.search(r":(\d+),", line)[1]), line

    yield start
    for each in running:
        if each.poll() is None:
            each.kill()
        each.communicate()


def ask(port, caption, key=None):
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json", **({} if key is None else {"Authorization": f"Bearer {key}"})}
    try:
        connection.request("POST", "/embed/text", json.dumps({"captions": [caption], "language": "en"}), headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def test_the_end_answers_what_has_come(server):
    # a batch that waits for others is still waiting when the signal comes
    process, port, line = server("--index", "p.index", "--max-wait-ms", 2000, "--host", "127.0.0.1", key=KEY)
    assert "tiny_clip (en, 9 pictures)" in line
    assert ask(port, "x")[0] == 401
    replies = []
    callers = [threading.Thread(target=lambda: replies.append(ask(port, "a red star", KEY))) for _ in range(8)]
    for caller in callers:
        caller.start()
    deadline = time.monotonic() + 20
    while waiting(port) < 8:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    for caller in callers:
        caller.join(20)
    output, errors = process.communicate(timeout=20)
    assert [status for status, _ in replies] == [200] * 8
    assert all(reply["dim"] == 128 for _, reply in replies)
    assert process.returncode == 0, errors
    assert KEY not in line + output + errors
    with pytest.raises(OSError, match="refused"):
        ask(port, "x", KEY)


def waiting(port):
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/health")
        return json.loads(connection.getresponse().read())["waiting"]
    finally:
        connection.close()


def test_the_model_of_the_index_is_the_default(server):
    process, _, line = server("--index", "p.index")
    assert line.startswith("Serving tiny_clip")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert "Traceback" not in process.stderr.read()
