"""Work done ahead by threads: decoded pictures wait for the encoder, not the encoder for pictures."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

# Pillow, torch and the tokenizers let go of the interpreter while they work
WORKERS = min(4, os.cpu_count() or 1)


def ahead(function: Callable[[In], Out], items: Iterable[In], *, workers: int = WORKERS) -> Iterator[Out]:
    """Apply a function to each item, in threads, a little ahead of whoever takes the results.

    Args:
        function: What is done; its errors are raised where its result would have come.
        items: Taken as they are needed, so that there may be more than fit in memory.
        workers: Threads; twice as many results wait at most.

    Yields:
        The results, in the order of the items.
    """
    source = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:
        waiting: deque[Future[Out]] = deque(pool.submit(function, item) for item in islice(source, 2 * workers))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(source, 1))
        finally:  # whoever stops early, or an error, does not wait for what nobody takes
            for future in waiting:
                future.cancel()
