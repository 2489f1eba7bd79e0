"""What can go wrong on the way to a server and there → typed errors, one line, without text of a request."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

import huggingface_hub.errors as hub

from langchain_ssd.errors import (
    ConfigError,
    ContextOverflow,
    GenerationFailed,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    RequestTimeout,
    SSDError,
    TemplateError,
    WorkerDied,
    WorkerUnavailable,
    from_wire,
)

_BY_TYPE: dict[str, type[SSDError]] = {
    "validation": InvalidRequest,
    "template_error": TemplateError,
    "overloaded": Overloaded,
    "generation": GenerationFailed,
    "incomplete_generation": ProtocolError,
    "unhealthy": WorkerUnavailable,
}
_TRANSPORTS = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "h11"})
_HINTS = {
    401: "the server wants a valid key; set api_key or LANGCHAIN_SSD_API_KEY",
    403: "the server refuses this request",
    404: "there is no such route or model; check base_url",
    413: "the request is too large for the server; send less text",
}


def unreachable() -> WorkerDied:
    """No connection came about; nothing was accepted."""
    return WorkerDied("the server cannot be reached; check base_url, and that it runs")


def silent(seconds: float) -> WorkerDied:
    """The connection broke, or nothing came for too long."""
    return WorkerDied(f"the server broke off, or was silent for {seconds:g} s; try again")


def failure_of(error: BaseException, silence: float) -> SSDError:
    """The typed error for whatever huggingface_hub raised."""
    if isinstance(error, SSDError):
        return error
    if isinstance(error, hub.InferenceTimeoutError):
        return silent(silence)
    if isinstance(error, hub.HfHubHTTPError):
        return error_of_response(error.response)
    if isinstance(error, hub.TextGenerationError):  # an error event within a stream
        return _of_event(error)
    if "Connect" in type(error).__name__:
        return unreachable()
    if type(error).__module__.partition(".")[0] in _TRANSPORTS or isinstance(error, OSError):
        return silent(silence)
    if isinstance(error, ValueError):  # no JSON
        return ProtocolError("the server sent something that is not understood; check base_url")
    return ProtocolError(f"the answer could not be read ({type(error).__name__}); report it")


def error_of_response(response: Any) -> SSDError:
    """The typed error for a response that is none of the 200s."""
    try:
        body = response.json()
        message, code = str(body["error"]), str(body.get("code") or "")
        kind = str(body.get("error_type") or "")
    except Exception:  # a proxy's page, perhaps
        message = code = kind = ""
    error = error_of(response.status_code, message, code, kind)
    if response.status_code in (429, 503):
        error.retry_after = retry_after(response.headers.get("retry-after", ""), time.time())
    return error


def retry_after(header: str, now: float) -> float | None:
    """Seconds to wait, out of a ``Retry-After`` header: a number or a date; ``None`` if it is neither."""
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def error_of(status: int, message: str, code: str, error_type: str) -> SSDError:
    """The typed error for an error body and its status."""
    known = from_wire(code, message)
    if type(known) is not SSDError:
        return known
    if error_type in _BY_TYPE:
        kind = _BY_TYPE[error_type]
        if kind is InvalidRequest and "must be <=" in message:
            kind = ContextOverflow
        return kind(message)
    if status in (429, 503):
        return Overloaded(message or "the server is busy; try again later")
    if status in (401, 404):
        return ConfigError(_HINTS[status])
    if status in _HINTS or status == 422:
        return InvalidRequest(message or _HINTS.get(status, "the server refuses this request"))
    return GenerationFailed(message or f"the server failed with status {status}")


def _of_event(error: hub.TextGenerationError) -> SSDError:
    message = str(error.args[0]) if error.args else "the server failed"
    for kind, ours in (
        (hub.ValidationError, InvalidRequest),
        (hub.OverloadedError, Overloaded),
        (hub.IncompleteGenerationError, ProtocolError),
    ):
        if isinstance(error, kind):
            return ours(message)
    if "deadline" in message:
        return RequestTimeout(message)
    return GenerationFailed(message)
