"""Seeing an attack while it happens, and afterwards: hooks on every path of LangChain, and logs."""

from __future__ import annotations

from .handlers import AsyncSSDCallbackHandler, SSDCallbackHandler
from .logs import JsonlRiskLogger, LoggingRiskHandler
from .reading import RiskRun

__all__ = [
    "AsyncSSDCallbackHandler",
    "JsonlRiskLogger",
    "LoggingRiskHandler",
    "RiskRun",
    "SSDCallbackHandler",
]
