"""How models write calls to tools: one class a format, chosen by the target's chat template.

A format recognises itself in a template, says in a system prompt how to call, writes earlier calls and
results where a template cannot, reads calls out of growing text, and gives the grammar of a call.  Pure
Python: no torch and no LangChain.  Formats of your own: see docs/tools.md.
"""

from .base import (
    Beginning,
    Call,
    CallArguments,
    CallClosed,
    CallOpened,
    CallParser,
    Piece,
    Text,
    ToolFormat,
)
from .registry import DEFAULT, ENTRY_POINT_GROUP, get_format, native_format, register

__all__ = [
    "DEFAULT",
    "ENTRY_POINT_GROUP",
    "Beginning",
    "Call",
    "CallArguments",
    "CallClosed",
    "CallOpened",
    "CallParser",
    "Piece",
    "Text",
    "ToolFormat",
    "get_format",
    "native_format",
    "register",
]
