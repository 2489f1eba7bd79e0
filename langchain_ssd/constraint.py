"""What an answer must look like, as plain data: the seam between those who ask for it and the engine.

No torch, no LangChain, no grammar library.  The worker compiles a constraint once and applies it to both
models' rows, so that an answer is valid by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

ConstraintKind = Literal["json_schema", "json_object", "regex", "choice", "lark"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """One grammar for a whole answer.

    Attributes:
        kind: how ``value`` is read.
        value: a JSON Schema, nothing (any JSON object), a regular expression, a list of texts, or Lark text.
        may_refuse: a refusal in plain words is legal in place of what the grammar describes.
    """

    kind: ConstraintKind
    value: Any = None
    may_refuse: bool = True
