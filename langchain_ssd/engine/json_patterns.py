"""Regular expressions of a JSON Schema, made safe for how the grammar library writes JSON texts.

Control characters without a short escape cannot be written: the library leaves them out in silence. And a
class that holds them is taken for one that holds a quote and a backslash, too. So such characters are refused
where a pattern names them, and taken out of negated classes, where they are never meant.
"""

from __future__ import annotations

import re

from ..errors import UnsupportedConstraint

UNWRITABLE = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")
"""Characters that JSON can only write as ``\\u....``, or that the library drops."""
_ESCAPE = r"\\."
_NEGATED = r"\[\^(?:\\.|[^\]\\])*\]"
_NAMED = re.compile(
    r"\\x[01]|\\x7[fF]|\\[xuU]\{|\\u00[01]|\\u007[fF]|\\U0000|\\[0acev]|\\p\{?C|\\P", flags=re.DOTALL
)
_SETS = re.compile(r"\[:|\[[^\]]*(&&|--|~~)|\[\^\]")


def safe(pattern: str) -> str:
    """The same pattern for the library; what it means for texts that can be written has not changed.

    Raises:
        UnsupportedConstraint: it names characters that cannot be written, or sets that hide them.
    """
    # Without negated classes, and without backslashes that stand for themselves.
    outside = re.sub(rf"\\\\|{_ESCAPE}|{_NEGATED}", _escape_only, pattern, flags=re.DOTALL)
    if UNWRITABLE.search(pattern) or _NAMED.search(outside) or _SETS.search(pattern):
        raise UnsupportedConstraint(
            "the schema is refused: a 'pattern' names control characters or sets of classes; leave them out"
        )
    return re.sub(rf"{_ESCAPE}|\[\^-?", _without_nul, pattern, flags=re.DOTALL)


def _without_nul(found: re.Match[str]) -> str:
    """The beginning of a negated class leaves NUL out as well; a hyphen stays one."""
    if found[0][0] == "\\":
        return found[0]
    return r"[^\x00" + (r"\-" if found[0].endswith("-") else "")


def _escape_only(found: re.Match[str]) -> str:
    return found[0] if found[0][0] == "\\" != found[0][1] else ""
