"""What every benchmark of speed shares: rounds in turns, peak memory, and a line about the machine."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm
from transformers import TrainerCallback

from ccr_adapters.modeling.packing import training_parts

T = TypeVar("T")


def wait_for(device: str) -> None:
    """Wait until a device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def alternating(rows: Mapping[str, Callable[[], Any]], rounds: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of each row in each round, measured in turns after a warm-up, so that a slow minute meets all rows."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    with tqdm(total=(rounds + 1) * len(rows), unit="run", leave=False, disable=None) as bar:
        for turn in range(rounds + 1):
            for name, run in rows.items():
                wait_for(device)
                start = time.perf_counter()
                kept = run()
                wait_for(device)
                if turn:
                    seconds[name].append(time.perf_counter() - start)
                del kept  # to free what was made is no part of making it
                bar.update()
    return seconds


def medians(rows: Mapping[str, Callable[[], Any]], rounds: int, device: str = "cpu") -> dict[str, float]:
    """Median seconds of each row, measured as `alternating` does."""
    return {name: statistics.median(own) for name, own in alternating(rows, rounds, device).items()}


def against(seconds: Mapping[str, list[float]], reference: str) -> dict[str, float]:
    """Median over the rounds of each row's time, divided by the reference's of the same round."""
    base = seconds[reference]
    return {
        name: statistics.median(one / other for one, other in zip(own, base, strict=True))
        for name, own in seconds.items()
    }


def _resident(field: str) -> float:
    """A line of what Linux says of this process, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(f"{field}:"))


class Peak:
    """Most memory from here on: of a CUDA device, or of this process beyond what it holds already.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: str) -> None:
        self.cuda, self.linux = device.startswith("cuda"), sys.platform == "linux"
        self.before = 0.0
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        elif self.linux:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak so far
            self.before = _resident("VmRSS")
        else:
            self.before = self.megabytes()

    def megabytes(self) -> float:
        """The peak."""
        if self.cuda:
            return torch.cuda.max_memory_allocated() / 1e6
        if self.linux:
            return _resident("VmHWM") - self.before
        # bytes on macOS, and no way to forget an earlier peak
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6 - self.before


def exact_memory() -> dict[str, str]:
    """Environment of a process whose memory is measured: glibc gives back what is freed, at once.

    Left alone it keeps freed blocks of up to 32 MB, and its holes count as memory of the program.
    """
    return {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}


class Clock(TrainerCallback):
    """Seconds of training from the end of the first step, which is the slowest."""

    def __init__(self) -> None:
        self.start = self.seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start after the first step, and look at the clock after every other."""
        if state.global_step == 1:
            self.start = time.perf_counter()
        self.seconds = time.perf_counter() - self.start


class Bar(TrainerCallback):
    """A bar over the steps of some trainings.

    Args:
        total: Steps of all of them.
    """

    def __init__(self, total: int) -> None:
        self.bar = tqdm(total=total, unit="step", leave=False, disable=None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One more."""
        self.bar.update()


def places_of(lengths: Sequence[int], device: str) -> int:
    """Tokens that a training step computes: those of its captions, and what its parts of like length are padded with."""
    parts = training_parts(lengths, torch.device(device))
    return sum(len(part) * max(lengths[index] for index in part) for part in parts)


@contextmanager
def precision(device: str, bf16: bool) -> Iterator[None]:
    """Compute in bfloat16 where that is asked for."""
    with torch.autocast(device.partition(":")[0], dtype=torch.bfloat16, enabled=bf16):
        yield


def precise(run: Callable[[], T], device: str, bf16: bool) -> Callable[[], T]:
    """A call that computes in bfloat16 where that is asked for.

    Each has an autocast of its own: one around many keeps the casts of trained weights, which are other weights after a step.
    """

    def once() -> T:
        with precision(device, bf16):
            return run()

    return once


def machine(device: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """What the figures were measured on.

    Args:
        device: `cpu` or `cuda`.
        threads: Of what was measured, where they are not torch's in this process.
    """
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "threads": threads or torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def counted(count: int, noun: str) -> str:
    """A number and its noun: `1 round`, `5 rounds`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def machine_line(facts: Mapping[str, Any], what: str) -> str:
    """The line beside a table: what `machine` found, and what was measured.

    Args:
        facts: From `machine`.
        what: For example `128 captions, medians of 5 rounds`.
    """
    cores, threads = counted(facts["cores"], "core"), counted(facts["threads"], "thread")
    return f"{facts['device']}, {cores}, {threads}, torch {facts['torch']}: {what}."
