"""What a user may set of the guard for agents. Pydantic, frozen, unknown names forbidden."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..config import Fraction, Settings

StopPolicy = Literal["end", "raise", "ask"]
CallPolicy = Literal["allow", "ask", "block"]
ResultPolicy = Literal["off", "flag", "block", "ask"]


class GuardSettings(Settings):
    """When the guard of an agent steps in, and how.

    "end" ends the run with an answer that says so, "raise" raises a ``GuardStopped``, and "ask" asks a
    human through a LangGraph interrupt, which needs a checkpointer.
    """

    on_refusal: StopPolicy = Field("end", description="The model's answer is a refusal.")
    refusal_text: str | None = Field(
        None, min_length=1, description="Said in place of the refusal; None: its own words."
    )
    on_risky_tool_call: CallPolicy = Field("block", description="A tool call was decoded in safety mode.")
    tool_policies: dict[str, CallPolicy] = Field(
        default_factory=dict, description="The same for single tools, by name; wins over the general one."
    )
    on_injection: ResultPolicy = Field("off", description="A tool's result alarms the pair; needs a scorer.")
    injection_threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="Statistic from which a result alarms; None: the pair's own h_safety."
    )
    max_conversation_risk: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="Limit of the conversation's risk; None: it is only kept."
    )
    decay: Fraction = Field(0.8, description="Weight of the risk so far against the newest answer's.")
    on_conversation_risk: StopPolicy = Field("end", description="The limit has been passed.")
    risk_text: str = Field(
        "This conversation has been ended for safety reasons. Please start a new one.",
        min_length=1,
        description="Said in place of the answer that passed the limit, and of all after it.",
    )
    require_ssd: bool = Field(True, description="An answer without SSD's metadata is an error.")

    def policy_of(self, tool: str) -> CallPolicy:
        """What happens to a risky call of a tool."""
        return self.tool_policies.get(tool, self.on_risky_tool_call)
