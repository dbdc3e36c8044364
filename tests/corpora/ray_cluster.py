"""What the tests of Ray do in another process: a cluster of two cores, whose workers are killed while they encode."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import ray

from ccr_adapters.cli.encode import load_for_encoding
from ccr_adapters.corpora import Settings, choose_columns, encode_on_ray, find_inputs


def below(pid):
    """Processes that a process has started, and those that they have."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(pid, []))
    for child in found:
        found.extend(children.get(child, []))
    return found


def kill_workers(output, killed):
    """As soon as some more shards are there, kill every actor that encodes: Ray has to start it again."""
    before = len(list(output.glob("part-*")))
    while len(list(output.glob("part-*"))) < before + 3:
        time.sleep(0.01)
    for pid in below(os.getpid()):
        with suppress(OSError):
            if b"ShardWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                killed.append(len(list(output.glob("part-*"))))


def main(text, output):
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False)
    killed = []
    thread = threading.Thread(target=kill_workers, args=(Path(output), killed), daemon=True)
    thread.start()
    files = find_inputs([text])
    summary = encode_on_ray(
        files,
        choose_columns(files),
        output,
        partial(load_for_encoding, "tiny_clip", "cpu", "float32"),
        name="tiny_clip",
        settings=Settings(shard_rows=10),
        num_workers=1,
        show_progress=False,
    )
    thread.join()
    # Ray writes to standard output as well
    Path(f"{output}.json").write_text(json.dumps({**asdict(summary), "killed": killed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
