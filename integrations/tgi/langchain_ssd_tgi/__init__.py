"""One SSD pair for many processes: a server that speaks the text-generation-inference API, and its client.

The door: ``create_app`` makes the ASGI application, ``ServerConfig`` says how it behaves, and
``RemoteBackend`` is what ``ChatSSD(base_url=...)`` uses.  Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client.backend import RemoteBackend
    from .server.app import create_app
    from .server.settings import ApiKey, ServerConfig

__version__ = "0.1.0"

__all__ = ["ApiKey", "RemoteBackend", "ServerConfig", "create_app"]

_PAGES = {"RemoteBackend": "client.backend", "create_app": "server.app"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_PAGES.get(name, 'server.settings')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
