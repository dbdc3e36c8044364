"""Errors as the client may know them: what it can mend with the reason, what only the operator can without."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

from ccr_adapters.errors import (
    BusyError,
    CaptionError,
    CCRError,
    ImageError,
    LanguageError,
    LimitError,
    MissingItemError,
)
from ccr_adapters.serving.metrics import Metrics
from ccr_adapters.serving.schema import Problem
from ccr_adapters.serving.web import FastAPI, HTTPProblem, JSONResponse, Request, RequestValidationError, Response

logger = logging.getLogger(__name__)

# Errors of a request. Messages of all others may name files of the server: those are for its log.
STATUS: dict[type[CCRError], int] = {
    CaptionError: 422,
    LanguageError: 422,
    ImageError: 422,
    LimitError: 413,
    MissingItemError: 404,
    BusyError: 503,
}
_MEANING = {
    400: "The request cannot be read.",
    401: "The key is missing or wrong.",
    404: "There is no such thing.",
    408: "The request came too slowly.",
    413: "More than the server takes.",
    422: "Something in the request is wrong; the message says what.",
    429: "Too many requests; `Retry-After` says when to go on.",
    500: "Something is wrong with the server; its log says what.",
    503: "Too busy, or shutting down; `Retry-After` says when to ask again.",
    504: "It took too long.",
}
_UNTOLD = {404: "There is nothing at this path. See /docs.", 405: "This path takes another method. See /docs."}
_NAMES = {
    401: "KeyError",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "TimeoutError",
    413: "LimitError",
    429: "RateError",
}


def responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Errors of a route, for its documentation.

    Args:
        codes: Status codes beyond those that every route may give.

    Returns:
        What FastAPI takes as `responses`.
    """
    return {
        code: {"model": Problem, "description": _MEANING[code]} for code in sorted({401, 408, 413, 429, 500, *codes})
    }


def problem(status: int, error: str, message: str, *, retry: float | None = None) -> JSONResponse:
    """An error as a response.

    Args:
        status: Its code.
        error: Its kind.
        message: What is told.
        retry: Seconds after which to try again.

    Returns:
        The response.
    """
    headers = {} if retry is None else {"Retry-After": str(max(1, math.ceil(retry)))}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": error, "message": message}, status, headers)


def tell_problems(app: FastAPI, metrics: Metrics) -> None:
    """Have every error of an application told in one form.

    Args:
        app: The application.
        metrics: Where they are counted.
    """

    def counted(status: int, error: str, message: str, retry: float | None = None) -> Response:
        metrics.error(error)
        return problem(status, error, message, retry=retry)

    async def known(request: Request, error: Exception) -> Response:
        kind = type(error)
        status = next((code for each, code in STATUS.items() if issubclass(kind, each)), None)
        if status is None:
            logger.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
            return counted(500, "ServerError", "The server cannot do this: its log says why.")
        return counted(status, kind.__name__, str(error), 1.0 if status == 503 else None)

    async def invalid(request: Request, error: Exception) -> Response:
        return counted(422, "RequestError", _wrong(error) if isinstance(error, RequestValidationError) else str(error))

    async def told(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPProblem) else 500
        message = _UNTOLD.get(status) if status in (404, 405) else None
        message = message or str(getattr(error, "detail", "")) or "Something is wrong."
        response = counted(status, _NAMES.get(status, "RequestError"), message)
        response.headers.update(getattr(error, "headers", None) or {})
        return response

    async def late(request: Request, error: Exception) -> Response:
        return counted(504, "TimeoutError", "This took too long. Ask for less at once, or later.", 1.0)

    async def unexpected(request: Request, error: Exception) -> Response:
        # whoever runs the application logs the traceback
        return counted(500, "ServerError", "Something went wrong in the server. Its log says what.")

    app.add_exception_handler(CCRError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPProblem, told)
    app.add_exception_handler(asyncio.TimeoutError, late)
    app.add_exception_handler(Exception, unexpected)


def _wrong(error: RequestValidationError) -> str:
    """What is wrong with a request, in a line."""
    first = error.errors()[0]
    if first.get("type") == "json_invalid":
        return f"The body is no JSON ({first.get('ctx', {}).get('error', 'broken')}). See /docs for an example."
    place = ".".join(str(part) for part in first.get("loc", ())[1:])
    return f"{place or 'The body'}: {first.get('msg', 'is wrong')}. See /docs for an example."
