"""What the server costs: clients at once over HTTP, against the same model in a plain batched loop.

    python benchmarks/serving.py                          # 64 clients, requests of 1, 16 and 64 captions
    python benchmarks/serving.py --seconds 60 --captions 1 64 --write docs/serving.md

The loop encodes all captions with `encode_text`, 64 a pass, in this process and with nothing else running. The server is
`ccr-adapters serve` in a process of its own, on as many threads; its clients run in this process, keep their connections, and
each sends its next request when it has the answer to its last. All of them share the machine: with few cores the clients
take time that the loop had for itself, and where others use it too, wall-clock figures of a few seconds say little. The last
column compares processor time a caption, of the loop and of the whole server.

Captions are those of the packaged tiny CLIP's world, the least work that a model can be: the share of HTTP shrinks with a
larger one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any
from urllib.request import urlopen

import numpy as np
import torch
from tqdm import tqdm
from transformers.utils import logging

from ccr_adapters.data import build_tiny_world
from ccr_adapters.modeling import CCRModel
from measure import machine, machine_line
from writing import Rows, add_outputs, tell, verdict

TARGETS = {"throughput": 0.8, "p99": 5.0}
BATCH = 64


def captions_of(count: int) -> list[str]:
    """English captions of the tiny world."""
    return list(build_tiny_world("de", train=count, validation=0, test=0, image_size=8)["train"]["caption"])


def plain_loop(name: str, captions: Sequence[str], seconds: float) -> tuple[float, float]:
    """Captions a second of `encode_text` in batches, and a second of processor time."""
    model = CCRModel.from_base(name).eval()
    model.encode_text(captions[:BATCH], None)
    done, start, busy = 0, time.perf_counter(), time.process_time()
    for first in itertools.cycle(range(0, len(captions), BATCH)):
        model.encode_text(captions[first : first + BATCH], None, batch_size=BATCH)
        done += len(captions[first : first + BATCH])
        if time.perf_counter() - start >= seconds:
            break
    return done / (time.perf_counter() - start), done / (time.process_time() - busy)


def started(name: str, threads: int, wait_ms: float) -> tuple[subprocess.Popen[str], int]:
    """A server, and its port."""
    options = ["--port", "0", "--rate", "0", "--threads", str(threads), "--max-wait-ms", str(wait_ms)]
    command = [sys.executable, "-m", "ccr_adapters", "serve", "--model", name, "--max-batch", str(BATCH), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    line = server.stdout.readline() if server.stdout else ""
    found = re.search(r":(\d+),", line)
    if found is None:
        server.kill()
        raise SystemExit(f"The server did not start: {line!r}")
    return server, int(found[1])


def request_of(captions: Sequence[str], encoding: str) -> bytes:
    """One request, as bytes."""
    body = json.dumps({"captions": list(captions), "language": "en", "encoding": encoding}).encode()
    head = (
        f"POST /embed/text HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def processor_time(port: int) -> float:
    """Seconds of processor time that the server has used."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        found = re.search(rb"^process_cpu_seconds_total (\S+)", reply.read(), flags=re.MULTILINE)
    return float(found[1]) if found else float("nan")


async def client(port: int, requests: Sequence[bytes], start: float, end: float) -> tuple[list[float], int, int]:
    """Ask until the end; seconds of each answer that came between start and end, how many came at all, how many failed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took: list[float] = []
    failed = number = 0
    while (began := time.perf_counter()) < end:
        writer.write(requests[number % len(requests)])
        number += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, flags=re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            failed += not head.startswith(b"HTTP/1.1 200")
        except (asyncio.IncompleteReadError, OSError):
            failed += 1
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if start <= (now := time.perf_counter()) < end:
            took.append(now - began)
    writer.close()
    return took, number, failed


async def load(
    port: int, clients: int, captions: Sequence[str], size: int, seconds: float, encoding: str
) -> dict[str, Any]:
    """All clients at once; the first third of the time warms up."""
    requests = [
        request_of(captions[first : first + size], encoding) for first in range(0, len(captions) - size + 1, size)
    ]
    busy = processor_time(port)
    start = time.perf_counter() + seconds / 3
    asked = [client(port, requests[at % len(requests) :] + requests, start, start + seconds) for at in range(clients)]
    found = await asyncio.gather(*asked)
    took = np.concatenate([np.asarray(times) for times, _, _ in found])
    if not len(took):
        raise SystemExit("No answer came in time. Measure for more seconds.")
    return {
        "requests": len(took),
        "failed": sum(failed for *_, failed in found),
        "captions a second": len(took) * size / seconds,
        "captions a processor second": sum(number for _, number, _ in found) * size / (processor_time(port) - busy),
        "p50": float(np.percentile(took, 50)),
        "p99": float(np.percentile(took, 99)),
    }


def tables(before: float, after: float, measured: dict[int, dict[str, Any]], clients: int) -> list[Rows]:
    """The loop and the server, and the targets."""
    loop = f"{(before + after) / 2:.0f} ({before:.0f}, {after:.0f})"
    rows: Rows = [{"": "plain loop, before and after", "captions a second": loop}]
    for size, row in measured.items():
        rows.append(
            {
                "": f"{clients} clients, {size} a request",
                "captions a second": f"{row['captions a second']:.0f}",
                "against loop": f"{row['throughput']:.2f}x",
                "requests": f"{row['requests']:,}",
                "failed": f"{row['failed']}",
                "p50 ms": f"{1e3 * row['p50']:.0f}",
                "p99 ms": f"{1e3 * row['p99']:.0f}",
                "p99 / p50": f"{row['p99 / p50']:.1f}",
                "by processor time": f"{row['processor time']:.2f}x",
            }
        )
    found = list(measured.values())
    reached = [
        verdict("requests that failed", sum(row["failed"] for row in found), "at most", 0),
        verdict("against loop", min(row["throughput"] for row in found), "at least", TARGETS["throughput"], ".2f"),
        verdict("p99 / p50", max(row["p99 / p50"] for row in found), "at most", TARGETS["p99"], ".1f"),
    ]
    return [rows, reached]


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny_clip", help="base to serve")
    parser.add_argument("--clients", type=int, default=64, help="clients at once")
    parser.add_argument("--captions", type=int, nargs="+", default=[1, 16, 64], help="captions a request")
    parser.add_argument("--encoding", choices=("float", "base64"), default="base64", help="of the vectors")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--threads", type=int, default=1, help="of a forward pass, in the loop and in the server")
    parser.add_argument("--max-wait-ms", type=float, default=3.0, help="of the server")
    add_outputs(parser, "serving")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    args = parsed(argv)
    torch.set_num_threads(args.threads)
    captions = captions_of(1024)
    measured: dict[int, dict[str, Any]] = {}
    with tqdm(total=2 + len(args.captions), unit="measurement", disable=None) as bar:
        before = plain_loop(args.model, captions, args.seconds / 2)
        bar.update()
        server, port = started(args.model, args.threads, args.max_wait_ms)
        try:
            for size in args.captions:
                asked = load(port, args.clients, captions, size, args.seconds, args.encoding)
                measured[size] = asyncio.run(asked)
                bar.update()
        finally:
            server.terminate()
            server.wait()
        # before and after: on a shared machine the two may differ a lot
        after = plain_loop(args.model, captions, args.seconds / 2)
        bar.update()
    loop, alone = ((one + other) / 2 for one, other in zip(before, after, strict=True))
    for row in measured.values():
        row["throughput"], row["p99 / p50"] = row["captions a second"] / loop, row["p99"] / row["p50"]
        row["processor time"] = row["captions a processor second"] / alone
    facts = machine()
    note = machine_line(facts, f"{args.model}, {args.seconds:g} seconds each, clients on the same machine")
    figures = {
        "machine": facts,
        "loop": {"before": before[0], "after": after[0], "a processor second": alone},
        "server": {str(size): row for size, row in measured.items()},
        "clients": args.clients,
        "load": os.getloadavg()[0],
        "exit": server.returncode,
    }
    tell(args, "serving", tables(before[0], after[0], measured, args.clients), note, figures)
    return 0


if __name__ == "__main__":
    logging.disable_progress_bar()  # one bar is enough
    sys.exit(main())
