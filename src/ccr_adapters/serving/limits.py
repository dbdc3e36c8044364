"""How much one caller may ask for, at once and in a second."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ccr_adapters.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Limits of requests.

    Args:
        captions: Captions a request.
        characters: Characters a caption.
        pictures: Pictures a request.
        upload_bytes: Bytes of a picture.
        pixels: Pixels of a picture, by its header.
        body_bytes: Bytes of a request.
        k: Results of a search.
        rate: Requests a second of one client, in the long run; 0 is without end.
        burst: Requests that it may send at once; default twice the rate.
        seconds: How long each part of a request may take: its head, its body, its answer.
        requests: Requests of all clients at the same time.
    """

    captions: int = 256
    characters: int = 2000
    pictures: int = 16
    upload_bytes: int = 10 * 2**20
    pixels: int = 50_000_000
    body_bytes: int = 32 * 2**20
    k: int = 100
    rate: float = 50.0
    burst: int | None = None
    seconds: float = 30.0
    requests: int = 1024

    def __post_init__(self) -> None:
        counts = ("captions", "characters", "pictures", "upload_bytes", "pixels", "body_bytes", "k", "requests")
        for name in counts:
            if getattr(self, name) < 1:
                raise ConfigError(f"The limit `{name}` is {getattr(self, name)}; expected 1 or more.")
        if self.rate < 0 or self.seconds <= 0 or (self.burst is not None and self.burst < 1):
            raise ConfigError(
                f"A rate of {self.rate}, bursts of {self.burst} and {self.seconds} seconds; expected a rate of 0 or more, and "
                "bursts and seconds above 0."
            )


class Buckets:
    """A token bucket for each client: it fills at a rate, and a request takes one out.

    Args:
        rate: Requests a second; 0 lets everything pass.
        burst: Size of a bucket; default twice the rate, at least 1.
        most: Clients to remember; of those beyond, the one seen last longest ago starts anew.
        clock: Seconds.
    """

    def __init__(
        self, rate: float, burst: int | None = None, *, most: int = 65_536, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._size = rate, float(burst or max(1.0, 2 * rate))
        self._most, self._clock = most, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Let a request pass, or not.

        Args:
            client: Whose it is.

        Returns:
            0 if it may pass, otherwise the seconds until the next one may.
        """
        if not self._rate:
            return 0.0
        now = self._clock()
        level, then = self._buckets.get(client, (self._size, now))
        level = min(self._size, level + (now - then) * self._rate)
        wait = 0.0 if level >= 1 else (1 - level) / self._rate
        self._buckets[client] = (level if wait else level - 1, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return wait
