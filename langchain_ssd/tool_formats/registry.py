"""Which formats there are, and which one a chat template writes."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

from ..errors import ConfigError
from .bare_json import BareJsonFormat, Llama3Format
from .base import ToolFormat
from .hermes import HermesFormat
from .mistral import MistralArgsFormat, MistralFormat

ENTRY_POINT_GROUP = "langchain_ssd.tool_formats"
DEFAULT: ToolFormat = HermesFormat()
"""For templates that know no tools, or tools in a format that is not known here."""

# In the order they are asked; what recognises itself by less comes later.
_BUILT_IN: tuple[ToolFormat, ...] = (
    DEFAULT,
    MistralArgsFormat(),
    MistralFormat(),
    Llama3Format(),
    BareJsonFormat(),
)
_registered: list[ToolFormat] = []
_TOOLS = re.compile(r"\{[%{][^}]*\btools\b")


def register(format_: ToolFormat) -> None:
    """Add a format in this process; it is asked before the built-in ones.

    The worker is a process of its own: a distribution registers its formats there by an entry point of the
    group ``langchain_ssd.tool_formats`` that leads to a ``ToolFormat``.
    """
    _registered.insert(0, format_)


def get_format(name: str) -> ToolFormat:
    """The format of a name.

    Raises:
        ConfigError: there is none.
    """
    known = {format_.name: format_ for format_ in reversed(_all())}
    if name not in known:
        raise ConfigError(f"unknown tool_format '{name}'; known are: {', '.join(sorted(known))}")
    return known[name]


def native_format(template: str) -> ToolFormat | None:
    """The format that a chat template writes by itself; ``None`` if it knows no tools, or none of ours."""
    if not _TOOLS.search(template):
        return None
    return next((format_ for format_ in _all() if format_.recognises(template)), None)


def _all() -> list[ToolFormat]:
    found = []
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        loaded = entry.load()
        found.append(loaded() if isinstance(loaded, type) else loaded)
    return [*_registered, *found, *_BUILT_IN]
