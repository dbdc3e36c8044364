"""What the tests of collections do in another process: index in children that are killed at one step after the other."""

from __future__ import annotations

import json
import os
import signal
import sys
from mmap import mmap
from pathlib import Path

import torch

from ccr_adapters.modeling import CCRModel
from ccr_adapters.search import Collection, FaissIndex, source_of
from ccr_adapters.search import update as updating
from ccr_adapters.search.encoder import PictureEncoder

STRIDE = 11


class Counting(PictureEncoder):
    """Counts pictures as they are encoded, where a child that is killed leaves the number to its parent."""

    count: mmap

    def encode(self, prepared):
        vectors = super().encode(prepared)
        self.count[0] += len(prepared)
        return vectors


def update(address, folder, encoder):
    with Collection.open_or_create(address, encoder, model="tiny_clip") as collection:
        sources = [source_of(folder, collection.notes.sources)]
        return collection.update(sources, encoder, batch_size=2, workers=2, show_progress=False)


def die_at(step, address):
    """Kill this process before a given step in the folder: opening, renaming or removing a file."""
    left = [step]

    def count(event, arguments):
        if event in ("open", "os.rename", "os.remove", "sqlite3.connect") and str(arguments[0]).startswith(address):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(count)


def main(folder, home):
    """For every few steps: what was encoded and safe when the process was killed, and what the next run encoded."""
    torch.set_num_threads(1)
    # every batch is saved, however long that takes
    updating._COST_SHARE = 0.0
    encoder = Counting(CCRModel.from_base("tiny_clip"))
    for step in range(0, 10_000, STRIDE):
        address = f"{home}/killed-{step:04d}"
        encoder.count = mmap(-1, 8)
        child = os.fork()
        if not child:
            die_at(step, address)
            update(address, folder, encoder)
            os._exit(0)
        if not os.waitpid(child, 0)[1]:
            return
        before, encoder.count[0] = encoder.count[0], 0
        safe = 0
        if Path(address, "current.json").exists():
            with FaissIndex.open(address) as index:
                safe = len(index)
        summary = update(address, folder, encoder)
        again = {"encoded": summary.encoded, "counted": encoder.count[0], "total": summary.total}
        line = json.dumps({"address": address, "before": before, "safe": safe, **again})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
