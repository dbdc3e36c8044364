"""What every request passes before anything else looks at it: rate, key, size, time; and the clock that measures it."""

from __future__ import annotations

import asyncio
import hmac
import time
from dataclasses import dataclass, field

from ccr_adapters.serving.limits import Buckets, Limits
from ccr_adapters.serving.metrics import Metrics
from ccr_adapters.serving.problems import problem
from ccr_adapters.serving.web import ASGIApp, HTTPException, JSONResponse, Message, Receive, Scope, Send

# Whoever watches over the server has no key; the pages that describe it hold no secret.
OPEN = frozenset(("/health", "/docs", "/redoc", "/openapi.json"))


@dataclass
class Guard:
    """Wraps an application.

    Args:
        app: The application.
        limits: How much a request and a client may.
        metrics: Where requests are counted.
        key: Bearer key; `None` lets everybody in.
    """

    app: ASGIApp
    limits: Limits
    metrics: Metrics
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._buckets, self._busy = Buckets(self.limits.rate, self.limits.burst), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            await send(message)

        self._busy += 1
        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self.app(scope, self._bounded(receive, started), sending)
            else:
                await refusal(scope, receive, sending)
        finally:
            self._busy -= 1
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.request(route, scope["method"], status, time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """Why a request is not let through."""
        headers = dict(scope["headers"])
        if scope["path"] != "/health":
            if self._busy > self.limits.requests:
                return self._told(
                    503, "BusyError", f"{self.limits.requests} requests are under way. Ask again soon.", 1.0
                )
            wait = self._buckets.take(str((scope.get("client") or ("",))[0]))
            if wait:
                return self._told(
                    429, "RateError", f"Too many requests: {self.limits.rate:g} a second are allowed.", wait
                )
        if self.key is not None and scope["path"] not in OPEN:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self.key.encode()):
                return self._told(
                    401, "KeyError", "The key is missing or wrong. Send it as `Authorization: Bearer KEY`."
                )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:18]) > self.limits.body_bytes:
            return self._told(413, "LimitError", self._too_large())
        return None

    def _told(self, status: int, error: str, message: str, retry: float | None = None) -> JSONResponse:
        self.metrics.error(error)
        return problem(status, error, message, retry=retry)

    def _too_large(self) -> str:
        return f"A request may have {self.limits.body_bytes:,} bytes. Send less at once."

    def _bounded(self, receive: Receive, started: float) -> Receive:
        """Read a body no further than may be, and no longer."""
        size, whole = 0, False

        async def bounded() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            left = self.limits.seconds - (time.perf_counter() - started)
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except asyncio.TimeoutError as error:
                raise HTTPException(408, f"The request did not come within {self.limits.seconds:g} seconds.") from error
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > self.limits.body_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return bounded
