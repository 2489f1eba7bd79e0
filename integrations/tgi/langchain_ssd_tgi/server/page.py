"""The page at ``/``: three files of this package, without a build step and without anything from outside."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from .connection import Connection
from .service import Service

_POLICY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


@cache
def _file(name: str) -> bytes:
    return (files(__package__) / "static" / name).read_bytes()


async def index(service: Service, connection: Connection) -> None:
    """``GET /``."""
    await connection.reply_bytes(_file("index.html"), b"text/html; charset=utf-8", headers=_POLICY)


async def script(service: Service, connection: Connection) -> None:
    """``GET /page.js``."""
    await connection.reply_bytes(_file("page.js"), b"text/javascript; charset=utf-8")


async def style(service: Service, connection: Connection) -> None:
    """``GET /page.css``."""
    await connection.reply_bytes(_file("page.css"), b"text/css; charset=utf-8")
