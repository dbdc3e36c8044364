"""Running the application: a socket that is ours or an error that says so, and an end that leaves nobody without an answer."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

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
        patience: Seconds that requests may still take at the end.
        behind: Addresses of proxies that may say who the client is, with commas; `*` believes everybody.
        log_level: Of uvicorn.
        ready: Called when a signal ends all in good order, just before the first request is taken.

    Raises:
        MissingExtraError: If uvicorn is not installed.
    """
    uvicorn = require("uvicorn", extra="serve")
    config = uvicorn.Config(
        app,
        log_level=log_level,
        access_log=False,  # questions are nobody's business; /metrics counts them
        server_header=False,
        proxy_headers=behind is not None,
        forwarded_allow_ips=behind,
        timeout_graceful_shutdown=max(1, round(patience)),
    )
    server = uvicorn.Server(config)

    def end(number: int, frame: FrameType | None) -> None:
        # uvicorn raises the signal again when all is done: without this the process would end as if it had failed
        server.should_exit = True

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
    ready()
    server.run(sockets=[listening])
