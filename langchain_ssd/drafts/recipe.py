"""What a training run is: every choice that changes its result, with its default."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..config import Settings


class DraftRecipe(Settings):
    """Settings of ``langchain-ssd train-draft``; written into the draft's card.

    The draft starts as the target itself (``layers`` unset), as the target with only so many of its layers,
    or as another model that shares the tokenizer (``init``).
    """

    init: str | None = Field(None, description="A small model with the target's tokenizer to start from.")
    adapter: str | None = Field(
        None, description="A folder of this command with an adapter of the same rank to go on from."
    )
    layers: int | None = Field(None, ge=1, description="How many of the target's layers the draft keeps.")
    layer_ids: tuple[int, ...] = Field((), description="Which ones; empty: a short measured search decides.")
    search_tokens: int = Field(
        40_000, ge=0, description="Tokens each candidate is trained for in that search."
    )
    method: Literal["lora", "full"] = Field("lora", description="Low-rank adapters, or all weights.")
    rank: int = Field(16, ge=1, le=1024, description="Rank of the adapters.")
    tokens: int = Field(2_000_000, ge=1, description="Tokens to train on, prompts counted, padding not.")
    recover: float = Field(
        0.0, ge=0.0, lt=1.0, description="Leading share of the tokens that only distils: for a pruned draft."
    )
    step_tokens: int = Field(4096, ge=64, description="Tokens of one optimiser step.")
    micro_tokens: int = Field(2048, ge=64, description="Positions of one forward pass.")
    refusal_share: float = Field(0.4, ge=0.0, le=0.9, description="Share of tokens in refusal examples.")
    special_share: float = Field(
        0.4, ge=0.0, le=1.0, description="Share of benign examples that sound unsafe or are of a rare kind."
    )
    refusal_weight: float = Field(1.0, gt=0.0, description="Weight of the refusals' mean loss.")
    opening_weight: float = Field(
        8.0,
        ge=1.0,
        description="Weight of a benign answer's first four tokens: they decide whether it refuses.",
    )
    depth: int = Field(100, ge=1, description="Longest harmful beginning before a refusal, in tokens.")
    wrapped: float = Field(0.4, ge=0.0, le=1.0, description="Share of unsafe requests put into a wrapper.")
    learning_rate: float = Field(7e-4, gt=0.0)
    weight_decay: float = Field(0.0, ge=0.0)
    warmup: float = Field(0.05, ge=0.0, lt=1.0, description="Share of the run in which the rate rises.")
    top: int = Field(8, ge=1, le=32, description="Teacher tokens per row that the loss looks at.")
    drawn: int = Field(1024, ge=1, description="Other tokens drawn for the softmax of every pass.")
    answer_tokens: int = Field(160, ge=8, description="Longest benign answer that is distilled.")
    asked_tokens: int = Field(
        112, ge=8, description="The same where the target has to be asked for the answer."
    )
    begun: float = Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="Share of unsafe requests without an attacker's opening that are begun.",
    )
    synthesise: int = Field(2000, ge=0, description="Benign prompts the target writes if too few are given.")
    benign: int = Field(0, ge=0, description="At most so many of the given benign prompts; 0 is all.")
    own_texts: float = Field(
        1.0, ge=0.0, le=1.0, description="Share that is used of the texts that ship with the package."
    )
    wrapped_benign: int = Field(300, ge=0, description="Benign prompts put into the wrappers of jailbreaks.")
    opened_benign: int = Field(
        300, ge=0, description="Benign prompts whose answer is begun by somebody else."
    )
    passages: int = Field(300, ge=0, description="Benign tasks about passages of the target's answers.")
    chained: int = Field(300, ge=0, description="Benign requests after other exchanges.")
    records: int = Field(
        300, ge=0, description="Benign tasks about made-up records full of names and numbers."
    )
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="Compile the layers: half as fast again, after half a minute; auto: on long runs."
    )
    seed: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _one_start(self) -> DraftRecipe:
        if self.init and (self.layers or self.layer_ids):
            raise ValueError("give init or layers, not both")
        if self.adapter and (self.init or self.layers or self.layer_ids or self.method != "lora"):
            raise ValueError(
                "adapter goes on from one over the whole target; give no init, layers or other method"
            )
        if self.layer_ids and self.layers not in (None, len(self.layer_ids)):
            raise ValueError("layers and layer_ids disagree")
        if list(self.layer_ids) != sorted(set(self.layer_ids)):
            raise ValueError("layer_ids must ascend without repeats")
        return self
