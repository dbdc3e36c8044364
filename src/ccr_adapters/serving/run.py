"""Running the application: a socket that is ours or an error that says so, and an end that leaves nobody without an answer."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from ccr_adapters.errors import ConfigError
from ccr_adapters.extras import require

if TYPE_CHECKING:
    from fastapi import FastAPI


def is_public(host: str) -> bool:
    """Whether other machines can reach an address.

    Args:
        host: Name or number.

    Returns:
        False for this machine's own.
    """
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Take a port.

    Args:
        host: Address; `0.0.0.0` or `::` for all.
        port: Port; 0 for any that is free.

    Returns:
        The socket.

    Raises:
        ConfigError: If it cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"Port {port} of {host} cannot be used ({reason}). Choose another with --port or --host."
        ) from error


class HeadClock:
    """Closes connections whose request does not come; mixed into a protocol of uvicorn (`hurried`).

    Uvicorn waits for ever for the rest of a request's head, and each connection takes one of the descriptors that the
    process has: a few hundred that say nothing would keep everybody else out. `Guard` has the clock from there on.
    """

    head_seconds: float
    _clock: asyncio.TimerHandle | None = None
    # of uvicorn's protocols
    cycle: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)  # type: ignore[misc]
        self._look()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a head, from its first byte: more of it gives no more time."""
        super().data_received(data)  # type: ignore[misc]
        self._look()

    def connection_lost(self, error: Exception | None) -> None:
        """Wait no more."""
        self._stop()
        super().connection_lost(error)  # type: ignore[misc]

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        if self._answering():
            self._stop()
        elif self._clock is None:
            self._clock = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _give_up(self) -> None:
        self._clock = None
        if not self._answering():
            self.transport.close()


def hurried(protocol: type[asyncio.Protocol], seconds: float) -> type[asyncio.Protocol]:
    """A protocol of uvicorn with a clock for the heads of requests.

    Args:
        protocol: What uvicorn would use.
        seconds: From the connection, or from the first byte of a later request, to the end of the head.

    Returns:
        The protocol.
    """
    return type("Hurried", (HeadClock, protocol), {"head_seconds": seconds})


def server_of(app: FastAPI, *, patience: float = 30.0, behind: str | None = None, log_level: str = "warning") -> Any:
    """The server of an application, of uvicorn; arguments as for `run`.

    Raises:
        MissingExtraError: If uvicorn is not installed.
    """
    uvicorn = require("uvicorn", extra="serve")
    automatic = require("uvicorn.protocols.http.auto", extra="serve").AutoHTTPProtocol
    config = uvicorn.Config(
        app,
        http=hurried(automatic, patience),
        ws="none",
        log_level=log_level,
        access_log=False,  # questions are nobody's business; /metrics counts them
        server_header=False,
        proxy_headers=behind is not None,
        forwarded_allow_ips=behind,
        timeout_graceful_shutdown=max(1, round(patience)),
    )
    return uvicorn.Server(config)


def run(
    app: FastAPI,
    listening: socket.socket,
    *,
    patience: float = 30.0,
    behind: str | None = None,
    log_level: str = "warning",
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT; requests that have come by then are answered.

    Args:
        app: The application.
        listening: Where clients come.
        patience: Seconds that the head of a request may take to come, and that requests may still take at the end.
        behind: Addresses of proxies that may say who the client is, with commas; `*` believes everybody.
        log_level: Of uvicorn.
        ready: Called when a signal ends all in good order, just before the first request is taken.

    Raises:
        MissingExtraError: If uvicorn is not installed.
    """
    server = server_of(app, patience=patience, behind=behind, log_level=log_level)

    def end(number: int, frame: FrameType | None) -> None:
        # uvicorn raises the signal again when all is done: without this the process would end as if it had failed
        server.should_exit = True

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
    ready()
    server.run(sockets=[listening])
