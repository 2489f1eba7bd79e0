"""Seeing an attack while it happens, and afterwards: hooks on every path of LangChain, logs, metrics, spans.

What needs an optional library, or one that takes long to import, is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .handlers import AsyncSSDCallbackHandler, SSDCallbackHandler
from .logs import JsonlRiskLogger, LoggingRiskHandler
from .reading import RiskRun

if TYPE_CHECKING:
    from .opentelemetry import OpenTelemetryRiskHandler
    from .prometheus import PrometheusRiskHandler
    from .webhook import RiskWebhook

__all__ = [
    "AsyncSSDCallbackHandler",
    "JsonlRiskLogger",
    "LoggingRiskHandler",
    "OpenTelemetryRiskHandler",
    "PrometheusRiskHandler",
    "RiskRun",
    "RiskWebhook",
    "SSDCallbackHandler",
]

_PAGES = {
    "OpenTelemetryRiskHandler": "opentelemetry",
    "PrometheusRiskHandler": "prometheus",
    "RiskWebhook": "webhook",
}


def __getattr__(name: str) -> Any:
    if name not in _PAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_PAGES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
