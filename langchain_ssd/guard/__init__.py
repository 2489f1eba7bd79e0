"""Guards around an SSD model: a middleware for agents, a Runnable for chains, a score for texts.

Only the middleware needs LangChain's agents (the extra ``agents``); names are loaded when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .middleware import SSDGuardMiddleware
    from .runnable import GuardedModel, guard
    from .scoring import TextScore, ascore_text, score_text
    from .settings import GuardSettings

__all__ = [
    "GuardSettings",
    "GuardedModel",
    "SSDGuardMiddleware",
    "TextScore",
    "ascore_text",
    "guard",
    "score_text",
]

_PAGES = {
    "GuardSettings": "settings",
    "GuardedModel": "runnable",
    "SSDGuardMiddleware": "middleware",
    "TextScore": "scoring",
    "ascore_text": "scoring",
    "guard": "runnable",
    "score_text": "scoring",
}


def __getattr__(name: str) -> Any:
    if name not in _PAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_PAGES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
