"""What Prometheus reads: requests, errors, latencies, batches, queues, languages in memory, and the process."""

from __future__ import annotations

from ccr_adapters.serving.engine import Engine
from ccr_adapters.serving.gallery import Gallery
from ccr_adapters.serving.web import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_METHODS = frozenset(("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"))


class Metrics:
    """Counters of one server, in a registry of their own: two servers in a process do not mix.

    Args:
        engine: Whose batches, queue and languages are watched.
        gallery: Whose queue is watched.
    """

    def __init__(self, engine: Engine, gallery: Gallery | None) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # its memory, processor time and open files
        self._requests = Counter(
            "ccr_requests_total", "Requests by route and status.", ("route", "method", "status"), registry=self.registry
        )
        self._errors = Counter("ccr_errors_total", "Errors by kind.", ("error",), registry=self.registry)
        self._seconds = Histogram(
            "ccr_request_seconds", "Time of a request.", ("route",), buckets=_SECONDS, registry=self.registry
        )
        self._sizes = Histogram(
            "ccr_batch_size", "Captions or pictures a forward pass.", ("kind",), buckets=_SIZES, registry=self.registry
        )
        self._passes = Histogram(
            "ccr_batch_seconds", "Time of a forward pass.", ("kind",), buckets=_SECONDS, registry=self.registry
        )
        waiting = Gauge("ccr_queue_depth", "What waits.", ("queue",), registry=self.registry)
        waiting.labels("engine").set_function(lambda: engine.depth)
        loaded = Gauge("ccr_languages_loaded", "Languages in memory.", registry=self.registry)
        loaded.set_function(lambda: len(engine.languages.loaded))
        if gallery is not None:
            waiting.labels("gallery").set_function(lambda: gallery.depth)
            pictures = Gauge("ccr_pictures", "Pictures that can be searched.", registry=self.registry)
            pictures.set_function(lambda: len(gallery))
        engine.on_batch = self.batch

    def batch(self, kind: str, count: int, seconds: float) -> None:
        """Count a forward pass.

        Args:
            kind: `text` or `image`.
            count: How many were encoded.
            seconds: How long it took.
        """
        self._sizes.labels(kind).observe(count)
        self._passes.labels(kind).observe(seconds)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: Template of its path, never the path itself, of which there is no end.
            method: Its method.
            status: Of the response.
            seconds: How long it took.
        """
        self._requests.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def error(self, kind: str) -> None:
        """Count an error.

        Args:
            kind: Its kind, as the client is told.
        """
        self._errors.labels(kind).inc()

    def text(self) -> bytes:
        """Everything, in the format of Prometheus."""
        return generate_latest(self.registry)
