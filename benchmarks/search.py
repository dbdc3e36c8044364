"""What a search costs: exact against raw FAISS, the approximate default, opening, and kills in the middle of indexing.

    python benchmarks/search.py                                   # 1,000,000 x 512: 2 GB of vectors, and the graph takes its time
    python benchmarks/search.py --count 100000 1000000 --write docs/search.md
    python benchmarks/search.py --count 200000 --kinds exact      # smaller, exact only
    python benchmarks/search.py --kills 20 --pictures 20000 --write docs/search.md      # kill -9 at random moments of indexing

Vectors are random, with variances that fall as 1/rank, as those of encoders do; questions are other vectors of the same kind.
Rounds alternate between the rows; the figures are medians. The index is written to a temporary folder and opened again, as
`ccr-adapters search` does, so its vectors are mapped from the file.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from tqdm import tqdm

from ccr_adapters.data.tiny_world import render, sample_scenes
from ccr_adapters.errors import CCRError
from ccr_adapters.search import Collection, FaissIndex
from measure import counted, machine, machine_line, medians
from writing import Rows, add_outputs, tell

BATCH, K = 64, 10


def made(count: int, width: int, seed: int) -> np.ndarray:
    """Unit vectors whose variances fall as 1/rank. (N, d)"""
    draw = np.random.default_rng(seed)
    found = draw.standard_normal((count, width), dtype=np.float32) / np.sqrt(np.arange(1, width + 1, dtype=np.float32))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def fill(folder: Path, vectors: np.ndarray, *, exact: bool) -> tuple[str, float]:
    """An index of vectors, arranged for search; its kind, and the seconds that took."""
    start = time.perf_counter()
    limit = len(vectors) if exact else len(vectors) - 1
    with FaissIndex.create(folder, vectors.shape[1], base="made up", base_sha256="0" * 64, exact_limit=limit) as index:
        for first in range(0, len(vectors), 50_000):
            part = vectors[first : first + 50_000]
            index.add([f"{first + row}" for row in range(len(part))], part)
        index.save()
        kind = index.optimise()
    return kind, time.perf_counter() - start


def raw_truth(vectors: np.ndarray, questions: np.ndarray) -> tuple[Any, np.ndarray]:
    """FAISS itself on the same vectors, and the right answers. (Q, K)"""
    raw = faiss.IndexFlatIP(vectors.shape[1])
    raw.add(vectors)
    return raw, raw.search(questions, K)[1]


def of_kind(kind: str, vectors: np.ndarray, questions: np.ndarray, rounds: int, home: Path) -> dict[str, Any]:
    """Figures of one kind of index."""
    raw, truth = raw_truth(vectors, questions)
    made_kind, built = fill(home / kind, vectors, exact=kind == "exact")
    start = time.perf_counter()
    with FaissIndex.open(home / kind) as index:
        first = index.search(questions[:1], K)
        opened = time.perf_counter() - start
        found = medians(
            {
                "raw": lambda: raw.search(questions, K),
                "batch": lambda: index.search(questions, K),
                "one": lambda: [index.search(question[None], K) for question in questions[:16]],
            },
            rounds,
        )
        answers = index.search(questions, K)
    shares = [
        len({int(hit.id) for hit in row} & set(right.tolist())) / K for row, right in zip(answers, truth, strict=True)
    ]
    return {
        "kind": made_kind,
        "vectors": len(vectors),
        "built in s": built,
        "open and first answer, s": opened,
        "raw FAISS, ms a batch": 1000 * found["raw"],
        "ms a batch": 1000 * found["batch"],
        "ms a question": 1000 * found["one"] / 16,
        "exact / raw FAISS": found["batch"] / found["raw"],
        "recall@10": float(np.mean(shares)),
        "first": first[0][0].id,
    }


def kill_often(kills: int, pictures: int, home: Path, seed: int) -> dict[str, Any]:
    """Index pictures while the process is killed at random moments: whether the index opened each time."""
    draw = random.Random(seed)
    folder, address = home / "pictures", home / "photos.index"
    folder.mkdir()
    scenes = sample_scenes(train=0, validation=0, test=200)["test"]
    for number, scene in enumerate(scenes):
        render(scene, size=32).save(folder / f"{number}.png")
    originals = sorted(folder.iterdir())
    for number in range(len(originals), pictures):  # copies with a byte behind the end: other files, other content
        data = originals[number % len(originals)].read_bytes() + str(number).encode()
        (folder / f"{number}.png").write_bytes(data)
    command = [
        sys.executable,
        "-m",
        "ccr_adapters",
        "index",
        str(folder),
        "--index",
        str(address),
        "--model",
        "tiny_clip",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    opened, fewer, sizes = 0, 0, [0]
    for turn in tqdm(range(kills), unit="kill", leave=False, disable=None):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(3, 8))
        finished = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (address / "current.json").exists():
            try:
                with Collection.open(address) as collection:
                    sizes.append(len(collection.index))
                opened += 1
            except CCRError as error:
                print(f"after kill {turn + 1}: {error}")
        else:
            opened += 1  # nothing was saved yet, so there is nothing to open
        fewer += sizes[-1] < sizes[-2:][0]
        if finished:  # all of it: once more from the beginning
            shutil.rmtree(address)
            sizes.append(0)
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with Collection.open(address) as collection:
        whole = len(collection.index)
    return {
        "kills": kills,
        "opened after": opened,
        "pictures after each": sizes[1:],
        "fewer than before": fewer,
        "in the end": whole,
        "last run, s": time.perf_counter() - start,
    }


def table(found: Rows) -> Rows:
    """What is shown of each index, an index a column."""
    shown = {
        f"{BATCH} questions at once, against FAISS alone (exact)": ("exact / raw FAISS", "{:.2f}x"),
        "a question, ms": ("ms a question", "{:.3g}"),
        f"recall@{K}": (f"recall@{K}", "{:.3f}"),
        "open the index and answer first, s": ("open and first answer, s", "{:.2g}"),
        "built in, s": ("built in s", "{:.3g}"),
    }
    rows: Rows = [{"": what} for what in shown]
    for each in found:
        column = f"{each['vectors']:,} {each['kind']}"
        for row, (key, form) in zip(rows, shown.values(), strict=True):
            # approximate answers are no match for FAISS's exact ones
            fair = key != "exact / raw FAISS" or each["kind"] == "exact"
            row[column] = form.format(each[key]) if fair else None
    return rows


def kills_table(found: dict[str, Any]) -> Rows:
    """What is shown of the kills."""
    return [
        {"": "kills at random moments", "index": f"{found['kills']}"},
        {"": "after which it could be opened", "index": f"{found['opened after']}"},
        {"": "after which it had fewer pictures than before", "index": f"{found['fewer than before']}"},
        {"": "pictures in the end", "index": f"{found['in the end']:,}"},
    ]


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, nargs="+", default=[1_000_000], help="vectors")
    parser.add_argument("--dim", type=int, default=512, help="their width")
    parser.add_argument("--kinds", nargs="+", default=["exact", "hnsw"], choices=["exact", "hnsw"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of FAISS; 0: all cores")
    parser.add_argument("--kills", type=int, default=0, help="instead: kill -9 so often while indexing")
    parser.add_argument("--pictures", type=int, default=20_000, help="for --kills")
    parser.add_argument("--folder", type=Path, help="where to work; default a temporary folder")
    parser.add_argument("--seed", type=int, default=0)
    add_outputs(parser, "search", "kills")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    args = parsed(argv)
    if args.threads:
        faiss.omp_set_num_threads(args.threads)
    facts = machine(threads=faiss.omp_get_max_threads())
    home = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        if args.kills:
            killed = kill_often(args.kills, args.pictures, home, args.seed)
            note = machine_line(facts, f"{args.pictures:,} pictures, 64 a batch")
            tell(args, "kills", [kills_table(killed)], note, {"machine": facts, "rows": [killed]})
            return 0
        found = []
        with tqdm([(count, kind) for count in args.count for kind in args.kinds], unit="index", disable=None) as bar:
            for count, kind in bar:
                bar.set_postfix_str(f"{count:,} {kind}")
                vectors, questions = made(count, args.dim, args.seed), made(BATCH, args.dim, args.seed + 1)
                found.append(of_kind(kind, vectors, questions, args.rounds, home / f"{count}"))
                shutil.rmtree(home / f"{count}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    note = machine_line(facts, f"vectors of width {args.dim}, medians of {counted(args.rounds, 'round')}")
    tell(args, "search", [table(found)], note, {"machine": facts, "rows": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
