"""What tests do in another process: hold an index open, fill one until killed, or be killed at every step."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

import numpy as np

from ccr_adapters.search import create_index, open_index

BATCH, DIM = 20, 16


def tell(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def vector_of(number):
    """The vector of a picture, so that another process knows what it should be."""
    return np.random.default_rng(number).normal(size=DIM).astype(np.float32)


def fill(address):
    """Add batches for ever, saying before and after each save how many there are."""
    index = open_index(address, writable=True)
    start = len(index)
    while True:
        numbers = range(start, start + BATCH)
        index.add(
            [f"{n}" for n in numbers], np.stack([vector_of(n) for n in numbers]), None, [f"h{n}" for n in numbers]
        )
        start += BATCH
        tell("saving", start)
        index.optimise() if start % 100 == 0 else index.save()
        tell("saved", start)


def crash(address):
    """Change an index in a child that is killed before its n-th step in the folder, for every n, each in a copy."""
    for step in range(1000):
        copy = f"{address}-{step:03d}"
        shutil.copytree(address, copy)
        child = os.fork()
        if not child:
            change_and_die(copy, step)
        if not os.waitpid(child, 0)[1]:
            return


def change_and_die(address, steps):
    """Save a change and optimise, and kill this process before a given step: opening, renaming or removing a file."""
    index = open_index(address, writable=True, exact_limit=30)
    left = [steps]

    def count(event, arguments):
        if event in ("open", "os.rename", "os.remove", "sqlite3.connect") and str(arguments[0]).startswith(address):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(count)
    index.delete(["1", "2"])
    index.add([f"{n}" for n in range(15, 40)], np.stack([vector_of(n) for n in range(15, 40)]))
    index.save()
    index.optimise()
    os._exit(0)


if __name__ == "__main__":
    action, address = sys.argv[1:]
    if action == "hold":
        index = open_index(address, writable=True)
        tell("ready")
        time.sleep(600)
    elif action == "fill":
        fill(address)
    elif action == "crash":
        crash(address)
    elif action == "create":
        create_index(address, DIM, base="b", base_sha256="0").close()
