"""Speculative Safety-Aware Decoding for LangChain.

The door: these names and no others.  Errors, telemetry, the backend seam and test doubles have public
pages of their own: ``langchain_ssd.errors``, ``.events``, ``.backend`` and ``.testing``.  Names are
loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chat_model import ChatSSD
    from .config import EngineConfig, ModelSpec, RefusalPolicy, SequentialConfig, SSDConfig
    from .errors import SSDError

__version__ = "0.1.0"

__all__ = [
    "ChatSSD",
    "EngineConfig",
    "ModelSpec",
    "RefusalPolicy",
    "SSDConfig",
    "SSDError",
    "SequentialConfig",
]

_PAGES = {"ChatSSD": "chat_model", "SSDError": "errors"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_PAGES.get(name, 'config')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
