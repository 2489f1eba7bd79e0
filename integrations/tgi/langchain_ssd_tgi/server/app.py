"""The application: which route does what, and the life of what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from langchain_ssd.backend import Backend
from langchain_ssd.errors import SSDError

from . import chat, completions, describing, native, openapi, page
from .connection import Connection
from .gate import Gate
from .problems import Problem, problem_of
from .service import Service
from .settings import ServerConfig

Handler = Callable[[Service, Connection], Awaitable[None]]

ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/"): page.index,
    ("GET", "/page.js"): page.script,
    ("GET", "/page.css"): page.style,
    ("POST", "/"): native.compat_generate,
    ("POST", "/generate"): native.generate,
    ("POST", "/generate_stream"): native.generate_stream,
    ("POST", "/v1/chat/completions"): chat.chat_completions,
    ("POST", "/v1/completions"): completions.completions,
    ("GET", "/v1/models"): describing.models,
    ("GET", "/info"): describing.info,
    ("GET", "/health"): describing.health,
    ("GET", "/metrics"): describing.metrics,
    ("POST", "/tokenize"): describing.tokenize,
    ("POST", "/chat_tokenize"): describing.chat_tokenize,
    ("GET", "/openapi.json"): openapi.describe,
}


class _Endpoint:
    """One path: a handler for each of its methods."""

    def __init__(self, service: Service, path: str, handlers: dict[str, Handler]) -> None:
        self._service = service
        self._path = path
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["langchain_ssd.route"] = self._path
        connection = Connection(scope, receive, send, self._service.config.write_timeout)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]  # the body is left out further below
        handler = self._handlers.get(method)
        if handler is None:
            allowed = ", ".join(sorted(self._handlers))
            await connection.reply(
                Problem(405, "method_not_allowed", f"this route takes: {allowed}").body(),
                405,
                {"allow": allowed},
            )
            return
        try:
            await handler(self._service, connection)
        except SSDError as error:
            raise problem_of(error) from None


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise Problem(404, "not_found", "there is no such route; GET /openapi.json names them")


def create_app(backend: Backend, config: ServerConfig | None = None) -> ASGIApp:
    """An ASGI application that serves a backend.

    Args:
        backend: what answers; it stays its maker's to close.
        config: how the server behaves.
    """
    return build(Service(backend, config or ServerConfig()))


def build(service: Service) -> ASGIApp:
    """The application around a service."""

    @asynccontextmanager
    async def lifespan(_: Router) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await service.close()

    paths: dict[str, dict[str, Handler]] = {}
    for (method, path), handler in ROUTES.items():
        paths.setdefault(path, {})[method] = handler
    routes = [Route(path, _Endpoint(service, path, handlers)) for path, handlers in paths.items()]
    # Not the whole of Starlette: its own layer for errors answers before ours, and raises what it caught.
    app = Router(routes, default=_not_found, lifespan=lifespan, redirect_slashes=False)
    return Gate(app, service)
