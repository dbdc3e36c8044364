"""The libraries of the server, imported in one place, so that a missing one is told with its pip line."""

from __future__ import annotations

from ccr_adapters.errors import MissingExtraError

try:
    import python_multipart  # noqa: F401 - FastAPI asks for it when a form comes
    from fastapi import APIRouter, Depends, FastAPI, File, Form, HTTPException, Request, Response, UploadFile
    from fastapi import Path as InPath
    from fastapi import Query as InQuery
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from fastapi.security import HTTPBearer
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        ProcessCollector,
        generate_latest,
    )
    from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator
    from starlette.exceptions import HTTPException as HTTPProblem
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as error:
    raise MissingExtraError(
        f"The server needs {error.name!r}, which is not installed: pip install 'ccr-adapters[serve]'"
    ) from error

__all__ = [
    "APIRouter",
    "ASGIApp",
    "BaseModel",
    "CONTENT_TYPE_LATEST",
    "CollectorRegistry",
    "ConfigDict",
    "Counter",
    "Depends",
    "FailFast",
    "FastAPI",
    "Field",
    "File",
    "Form",
    "Gauge",
    "HTTPBearer",
    "HTTPException",
    "HTTPProblem",
    "Histogram",
    "InPath",
    "InQuery",
    "JSONResponse",
    "Message",
    "ProcessCollector",
    "Receive",
    "Request",
    "RequestValidationError",
    "Response",
    "Scope",
    "Send",
    "UploadFile",
    "generate_latest",
    "model_validator",
]
