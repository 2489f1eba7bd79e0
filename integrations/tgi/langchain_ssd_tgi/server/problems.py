"""How a request can fail over HTTP: one table from typed errors to status codes and error bodies.

Every error body is ``{"error", "error_type", "code"}``: the first two as text-generation-inference has
them, the third a class of :mod:`langchain_ssd.errors`, where there is one.
"""

from __future__ import annotations

from langchain_ssd.errors import (
    ConfigError,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    QueueTimeout,
    SafetyLocked,
    SSDError,
    TemplateError,
    WorkerDied,
    WorkerError,
)

# The first class that fits decides.
_TABLE: tuple[tuple[type[SSDError], int, str], ...] = (
    (InvalidRequest, 422, "validation"),
    (TemplateError, 422, "template_error"),
    (SafetyLocked, 403, "safety_locked"),
    (Overloaded, 429, "overloaded"),
    (QueueTimeout, 429, "overloaded"),
    (ProtocolError, 500, "incomplete_generation"),
    (WorkerDied, 424, "generation"),
    (WorkerError, 503, "unhealthy"),
    (ConfigError, 503, "unhealthy"),
    (SSDError, 424, "generation"),
)
_RETRY_AFTER = {429: 1, 503: 5}


class Problem(Exception):
    """An answer that is an error.

    Attributes:
        status: HTTP status code.
        error_type: as text-generation-inference names it.
        message: one line that says what to do, without text of the request.
        code: for machines.
        retry_after: seconds to wait before the next attempt, where one makes sense.
        challenge: how to authenticate, with status 401.
    """

    challenge = "Bearer"

    def __init__(
        self, status: int, error_type: str, message: str, *, code: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message
        self.code = code or error_type
        self.retry_after = _RETRY_AFTER.get(status) if retry_after is None else retry_after

    def body(self) -> dict[str, str]:
        """The error as JSON."""
        return {"error": self.message, "error_type": self.error_type, "code": self.code}


def problem_of(error: SSDError) -> Problem:
    """How an error looks over HTTP."""
    status, error_type = next((s, t) for kind, s, t in _TABLE if isinstance(error, kind))
    return Problem(status, error_type, error.message, code=error.code)


def invalid(message: str) -> Problem:
    """A request that cannot be served as it is."""
    return Problem(422, "validation", f"Input validation error: {message}", code=InvalidRequest.code)


def shutting_down() -> Problem:
    """For requests that come, or are still running, when the server ends."""
    return Problem(503, "shutdown", "the server is shutting down; try again later", code=Overloaded.code)


def internal() -> Problem:
    """Something unforeseen; what, is in the log."""
    return Problem(500, "internal", "the server failed unexpectedly; report it", code="internal")
