"""The order of the training rows: captions of like length together, however many processes share it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class LengthBucketSampler(Sampler[int]):
    """Shuffles rows so that the captions of one global batch have similar lengths.

    Padding is most of the work on a batch of mixed lengths. Rows are shuffled, cut into chunks of several batches,
    sorted by length inside each chunk, and the batches are shuffled again. The order depends on the seed, the epoch
    and the size of the *global* batch alone: two processes that take turns over it see what one would.

    Args:
        lengths: Length of each row, in any unit.
        global_batch: Rows a step, over all processes.
        seed: Seed of the order.
        chunk: Batches that are sorted together; more of them save padding and mix less.
        weights: How far to trust each row, from 0 to 1: the share of the epochs in which it comes. An epoch has as many
            rows as the weights add up to.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        global_batch: int,
        *,
        seed: int = 0,
        chunk: int = 16,
        weights: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.weights = None if weights is None else np.asarray(weights, dtype=np.float64)
        self.global_batch = global_batch
        self.seed = seed
        self.chunk = chunk
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Accelerate calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) if self.weights is None else max(1, int(self.weights.sum()))

    def _drawn(self, generator: np.random.Generator) -> np.ndarray:
        """The rows of an epoch, shuffled."""
        if self.weights is None:
            return generator.permutation(len(self.lengths))
        # systematic sampling: equal steps along the weights of the shuffled rows, so a row comes as often as its weight says,
        # and never twice, for a step is no shorter than the largest weight
        order = generator.permutation(len(self.weights))
        ends = np.cumsum(self.weights[order])
        step = ends[-1] / len(self)
        points = (generator.random() + np.arange(len(self))) * step
        return generator.permutation(order[np.searchsorted(ends, points, side="right").clip(max=len(order) - 1)])

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = self._drawn(generator)
        span = self.global_batch * self.chunk
        # what fills no batch is left over before rows are sorted: later it would be the longest captions, in every epoch
        full = len(order) - len(order) % self.global_batch
        batches: list[np.ndarray] = []
        for start in range(0, full, span):
            part = order[start : min(start + span, full)]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += np.split(part, len(part) // self.global_batch)
        for index in generator.permutation(len(batches)):
            yield from batches[index].tolist()
        # the short batch goes last, where `drop_last` finds it
        yield from order[full:].tolist()
