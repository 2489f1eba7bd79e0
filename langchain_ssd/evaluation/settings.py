"""What an evaluation run is asked for: bounded and frozen, and written beside its answers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..config import Settings

OURS = ("target", "draft", "paper", "sequential", "shadow", "speculative", "safedecoding", "reminder")
FAMILIES = ("plain", "prefill", "wrapper", "turns", "adaptive", "agent", "benign")


class EvaluationSettings(Settings):
    """Everything that decides which answers are given; a change of it starts another folder."""

    systems: tuple[str, ...] = Field(OURS, min_length=1, description="Which of ours, in order.")
    families: tuple[str, ...] = Field(FAMILIES, description="Which of the shipped suites.")
    suites: tuple[str, ...] = Field((), description="Only these suites; empty: all of the families.")
    limit: int = Field(0, ge=0, description="At most so many cases of each suite; 0 is all.")
    attacks: int = Field(30, ge=1, description="Unsafe requests for each disguise, depth and trick.")
    tokens: int = Field(64, ge=1, le=100_000, description="Tokens of an answer.")
    batch: int = Field(16, ge=1, le=1024, description="Answers decoded together.")
    split: Literal["all", "tune", "held"] = Field("all", description="Which half of the goals in files.")
    part: Literal["all", "evaluation"] = Field(
        "all", description="'evaluation': only those benign prompts of files that train-draft left out."
    )
    cost_prompts: int = Field(2, ge=0, description="Prompts of each suite that are timed alone; 0: none.")
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"
    seed: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _known(self) -> EvaluationSettings:
        for given, known, what in ((self.systems, OURS, "system"), (self.families, FAMILIES, "family")):
            unknown = sorted(set(given) - set(known))
            if unknown:
                raise ValueError(f"unknown {what} '{unknown[0]}'; known: {', '.join(known)}")
        return self
