"""What the tests of corpora do in another process: children that are killed at one step after the other, and a full disk."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path

import torch

from ccr_adapters.corpora import Settings, choose_columns, encode_corpus, find_inputs
from ccr_adapters.corpora.shards import finished_shards
from ccr_adapters.errors import DataError
from ccr_adapters.modeling import CCRModel

STRIDE = 3


def encode(model, text, output):
    files = find_inputs([text])
    options = {"settings": Settings(shard_rows=4), "batch_size": 3, "show_progress": False}
    return encode_corpus(files, choose_columns(files), output, model, **options)


def die_at(step, folder):
    """Kill this process before a given step in the folder: opening, renaming or removing a file."""
    left = [step]

    def count(event, arguments):
        if event in ("open", "os.rename", "os.remove", "os.listdir", "os.scandir") and str(arguments[0]).startswith(
            folder
        ):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(count)


def killed(model, text, home):
    """For every few steps: what was finished when the process was killed, and what the next run did."""
    for step in range(0, 10_000, STRIDE):
        folder = Path(f"{home}-{step:04d}")
        child = os.fork()
        if not child:
            die_at(step, str(folder))
            encode(model, text, folder)
            os._exit(0)
        if not os.waitpid(child, 0)[1]:
            return
        before = {}
        if folder.is_dir():
            before = {number: (folder / f"part-{number:05d}.parquet").stat() for number in finished_shards(folder)}
        summary = encode(model, text, folder)
        again = [
            number
            for number, status in before.items()
            if (folder / f"part-{number:05d}.parquet").stat().st_mtime_ns != status.st_mtime_ns
        ]
        safe = sum(min(4, 23 - 4 * number) for number in before)
        told = {"folder": str(folder), "safe": safe, "encoded": summary.encoded, "rows": summary.rows, "again": again}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def full(model, text, output):
    """Run into a limit of the size of files in the second shard, then go on without it."""
    from ccr_adapters.corpora import work

    whole = work.write_shard

    def limited(folder, number, *arguments, **options):
        size = 1000 if number else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        whole(folder, number, *arguments, **options)

    work.write_shard = limited
    said = {"error": ""}
    try:
        encode(model, text, output)
    except DataError as error:
        said["error"] = str(error)
    said["parts"] = sorted(path.name for path in Path(output).glob("*part-*"))
    work.write_shard = whole
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    said["encoded"] = encode(model, text, output).encoded
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def main(text, home):
    torch.set_num_threads(1)
    model = CCRModel.from_base("tiny_clip").eval()
    full(model, text, f"{home}/full")
    killed(model, text, f"{home}/killed")


if __name__ == "__main__":
    main(*sys.argv[1:])
