"""Before any route: who asks, from where, under which name. After it: headers, one log line, a count.

Decisions rest on ``scope["path"]`` alone, never on a header.  Keys are compared in constant time, by digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
from hmac import compare_digest
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .connection import ClientLeft, Connection
from .logs import log_request, log_unforeseen
from .problems import Problem, internal
from .service import KEY, RECORD, Service
from .settings import ApiKey

OPEN_PATHS = frozenset({"/health"})  # load balancers know neither keys nor names
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Gate:
    """The outermost layer.

    Args:
        app: the routes.
        service: settings, metrics.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        config = service.config
        self._keys = [(_digest(key.key.get_secret_value().encode("ascii")), key) for key in config.keys]
        self._hosts = frozenset(host.lower() for host in config.allowed_hosts)
        self._origins = frozenset(config.cors_origins)
        self._write_timeout = config.write_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self._service, scope, send, self._origins)
        scope[RECORD] = exchange.record
        connection = Connection(scope, receive, exchange.send, self._write_timeout)
        try:
            await self._answer(scope, receive, exchange.send, connection)
        except ClientLeft:
            exchange.status = exchange.status or 499
        except Problem as problem:
            await self._refuse(connection, problem, exchange)
        except Exception as error:
            log_unforeseen(error)
            await self._refuse(connection, internal(), exchange)
        finally:
            exchange.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send, connection: Connection) -> None:
        if scope["path"] not in OPEN_PATHS:
            self._check_host(connection)
            if self._preflight(connection):
                await connection.reply_bytes(b"", b"text/plain", 204)
                return
            scope[KEY] = self._check_key(connection)
        await self._app(scope, receive, send)

    async def _refuse(self, connection: Connection, problem: Problem, exchange: _Exchange) -> None:
        exchange.record.setdefault("code", problem.code)
        self._service.metrics.failed(problem.error_type)
        connection.started = exchange.status != 0
        try:
            await connection.fail(problem)
        except ClientLeft:
            exchange.status = exchange.status or 499

    # Where from

    def _check_host(self, connection: Connection) -> None:
        """A page that has its name resolve to this machine still sends its own name."""
        host = connection.header("host").lower()
        if "*" not in self._hosts and _hostname(host) not in self._hosts:
            raise Problem(421, "unknown_host", "this server does not go by that name; see --allowed-host")
        origin = connection.header("origin")
        if origin and origin not in self._origins and urlsplit(origin).netloc.lower() != host:
            raise Problem(403, "unknown_origin", "pages of other origins may not ask; see --cors-origin")

    def _preflight(self, connection: Connection) -> bool:
        asked = connection.header("access-control-request-method")
        return connection.scope["method"] == "OPTIONS" and bool(asked and connection.header("origin"))

    # Who

    def _check_key(self, connection: Connection) -> ApiKey | None:
        """The key that was given; every key is compared, whichever fits."""
        if not self._keys:
            return None
        given = _digest(_credentials(connection.header("authorization")))
        found = [key for digest, key in self._keys if compare_digest(digest, given)]
        if not found:
            problem = Problem(401, "unauthorized", "give a valid key: Authorization: Bearer KEY")
            if connection.scope["method"] == "GET":  # browsers then ask their user; the password is the key
                problem.challenge = 'Basic realm="langchain-ssd", charset="UTF-8"'
            raise problem
        return found[0]


class _Exchange:
    """What is known of one request and its response, for the log and the metrics."""

    def __init__(self, service: Service, scope: Scope, send: Send, origins: frozenset[str]) -> None:
        self._service = service
        self._scope = scope
        self._send = send
        self._began = time.monotonic()
        self.status = 0
        self.record: dict[str, Any] = {"id": secrets.token_hex(8)}
        self._headers = [
            *_HEADERS,
            (b"x-request-id", self.record["id"].encode("ascii")),
            *_cors(scope, origins),
        ]

    async def send(self, message: Message) -> None:
        """ASGI's sink, with the headers that every response has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self._headers]}
        await self._send(message)

    def close(self) -> None:
        """Count and log it."""
        route = self._scope.get("langchain_ssd.route", "other")
        self._service.metrics.responded(route, self.status)
        key = self._scope.get(KEY)
        log_request(
            {
                **self.record,
                "method": self._scope["method"] if self._scope["method"] in _METHODS else "other",
                "route": route,
                "status": self.status,
                "seconds": round(time.monotonic() - self._began, 6),
                "key": None if key is None else key.name,
            }
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})


def _cors(scope: Scope, origins: frozenset[str]) -> list[tuple[bytes, bytes]]:
    origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
    if origin.decode("latin-1") not in origins:
        return []
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
        (b"access-control-allow-headers", b"authorization, content-type, x-ssd"),
        (b"access-control-max-age", b"600"),
        (b"vary", b"origin"),
    ]


def _hostname(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def _credentials(header: str) -> bytes:
    """The secret in an Authorization header: a bearer's token, or the password that a browser sends."""
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value.encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
