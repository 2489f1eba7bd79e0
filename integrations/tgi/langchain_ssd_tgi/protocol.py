"""What server and client say to each other beyond the text-generation-inference API: the ``ssd`` field.

A request may hold ``"ssd": true``, or an object, to ask for telemetry and to change settings.  Its answer
then holds the events of :mod:`langchain_ssd.events` in fields of the same name, one a server-sent event.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from langchain_ssd.config import Settings
from langchain_ssd.constraint import Constraint, ConstraintKind

PROTOCOL = 1
ASK_HEADER = "x-ssd"
LONGEST_TIMEOUT = 86_400.0


class ConstraintBody(Settings):
    """What the answer must look like; see :class:`langchain_ssd.constraint.Constraint`."""

    kind: ConstraintKind
    value: Any = None
    may_refuse: bool = True

    def build(self) -> Constraint:
        """The engine's value."""
        return Constraint(self.kind, self.value, self.may_refuse)


class SSDExtension(Settings):
    """The ``ssd`` field of a request.

    ``safety`` and ``refusal`` hold changes to the server's own settings, by the names of ``SSDConfig`` and
    ``RefusalPolicy``; a server with locked settings refuses those that would change something.
    """

    telemetry: bool = Field(True, description="Put the events into the answer.")
    safety: dict[str, Any] = Field(default_factory=dict)
    refusal: dict[str, Any] = Field(default_factory=dict)
    include_thinking: bool = Field(False, description="Show the thinking part, as reasoning_content.")
    timeout: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT, allow_inf_nan=False)] | None = Field(
        None, description="Seconds until the request fails, queueing counted."
    )
    constraint: ConstraintBody | None = None
