"""What a user may set. Pydantic models: frozen, bounded, unknown names forbidden."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0.0, le=8.0, allow_inf_nan=False)]
OnRefusal = Literal["replace", "append", "raise"]
HoldBack = Literal["verdict", "none", "response"] | Annotated[int, Field(ge=0, le=100_000)]


class Settings(BaseModel):
    """Base of all settings: a frozen value that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), defer_build=True)


class ModelSpec(Settings):
    """One causal language model: where it is, and how to hold it.

    ``name`` is a hub name, a local folder, or (with ``gguf_file``) a folder that holds a GGUF file.
    """

    name: str = Field(min_length=1, description="Hub name or local folder.")
    revision: str | None = Field(None, description="Hub branch, tag or commit.")
    token: SecretStr | None = Field(None, description="Hub token, for gated models.")
    cache_dir: str | None = Field(None, description="Hub cache folder.")
    gguf_file: str | None = Field(None, description="A GGUF file inside the folder or repository.")
    device: str | None = Field(None, description="'cpu', 'cuda', 'cuda:1', 'mps' or 'auto' (spread).")
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = "auto"
    quantization: dict[str, Any] | None = Field(
        None, description="Keyword arguments of a transformers quantisation config; 'quant_method' names it."
    )
    adapter: str | None = Field(None, description="A peft adapter (safetensors) over these weights.")
    base: ModelSpec | None = Field(
        None, description="For a draft that train-draft made: the model it differs from; draft.json names it."
    )
    chat_template: str | None = Field(
        None, description="A Jinja chat template, or 'plain' for the documented default of base models."
    )
    tool_format: str | None = Field(
        None, description="How the target writes calls to tools; None: what its chat template writes."
    )
    system_prompt: str | None = Field(
        None, description="Text put before the system message in this model's rendering only."
    )

    @field_serializer("token", when_used="json")
    def _reveal(self, token: SecretStr | None) -> str | None:
        """The worker needs the real token; ``repr`` and ``str`` stay masked."""
        return token.get_secret_value() if token else None


class EvidenceWeights(Settings):
    """Log-odds of *attack* against *benign* for one position: a linear model over row features.

    The defaults are a hand-set, conservative guess; ``langchain-ssd calibrate`` fits real ones.
    """

    bias: float = Field(-1.0, allow_inf_nan=False)
    disagreement: float = Field(0.5, allow_inf_nan=False, description="1 if the argmaxes differ.")
    kl: float = Field(1.0, allow_inf_nan=False, description="KL(draft || target) in nats.")
    total_variation: float = Field(0.0, allow_inf_nan=False)
    entropy_target: float = Field(0.0, allow_inf_nan=False)
    entropy_draft: float = Field(0.0, allow_inf_nan=False)
    log_position: float = Field(0.0, allow_inf_nan=False, description="log(1 + position).")
    refusal_gain: float = Field(
        0.0, allow_inf_nan=False, description="Mass that the draft moves to words that open a refusal."
    )
    clip: float = Field(4.0, gt=0, allow_inf_nan=False, description="One position moves at most this far.")


class SequentialConfig(Settings):
    """Thresholds of the sequential monitor (a one-sided cumulative sum over evidence)."""

    h_safety: float = Field(4.0, gt=0, allow_inf_nan=False)
    h_release: float = Field(1.0, ge=0, allow_inf_nan=False)
    h_refuse: float = Field(24.0, gt=0, allow_inf_nan=False)
    evidence: EvidenceWeights = EvidenceWeights()
    calibrated: bool = Field(False, description="Set by a profile that calibration wrote.")

    @model_validator(mode="after")
    def _ordered(self) -> SequentialConfig:
        if not self.h_release < self.h_safety <= self.h_refuse:
            raise ValueError("thresholds must satisfy h_release < h_safety <= h_refuse")
        return self


class SSDConfig(Settings):
    """The algorithm's settings (algorithm page, sections 1 to 3; published values are the defaults)."""

    monitor: Literal["paper", "sequential"] = "paper"
    enforce: bool = Field(True, description="False is shadow mode: observe everything, change nothing.")
    common_tokens: int = Field(10, ge=1, le=4096, description="c: size of the shared sample space.")
    bin_size: int = Field(7, ge=1, le=4096, description="b: emitted tokens per verdict.")
    block_size: int = Field(3, ge=1, le=64, description="g: proposals per block.")
    theta: Fraction = Field(0.6, description="theta_0: a bin below this share goes to safety.")
    theta_decay: Fraction = 0.1
    alpha_utility: Weight = 0.3
    alpha_floor: Weight = 0.3
    alpha_decay: Weight = 0.15
    alpha_safety: Weight = 0.8
    sequential: SequentialConfig = SequentialConfig()
    hold_back: HoldBack = "verdict"

    @model_validator(mode="after")
    def _floor_below_start(self) -> SSDConfig:
        if self.alpha_floor > self.alpha_utility:
            raise ValueError("alpha_floor must not be above alpha_utility")
        return self


class RefusalPolicy(Settings):
    """When an answer becomes a refusal, and what the user then reads."""

    patience: int = Field(2, ge=1, le=1000, description="Consecutive low bins in safety (paper monitor).")
    refuse_below: Fraction = Field(0.3, description="Match ratio under which such a bin counts.")
    enabled: bool = Field(True, description="False: never replace an answer (the modes still switch).")
    language: str = Field("auto", description="'auto' follows the conversation; or a code such as 'de'.")
    templates: dict[str, str] = Field(
        default_factory=dict,
        description="Overrides by 'language' or 'language:reason'; 'default' is the last resort.",
    )
    category: str = "suspected_jailbreak"
    on_refusal: OnRefusal = Field(
        "replace",
        description="'replace': a call returns the refusal alone; 'append': behind what had been released; "
        "'raise': RequestRefused. What a stream has released stays released in any case.",
    )


class EngineConfig(Settings):
    """How the worker runs. Part of a worker's identity: other values, another process."""

    max_batch: int = Field(8, ge=1, le=1024, description="Sequences decoded together.")
    max_queue: int = Field(64, ge=1, le=100_000, description="Requests that may wait; more are refused.")
    prefill_chunk: int = Field(512, ge=1, le=65_536, description="Prompt tokens per step and sequence.")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads for torch.")
    prepack: bool = Field(
        True, description="Order bfloat16 weights for the CPU's kernels once, at loading: faster passes."
    )
    max_context: int | None = Field(None, ge=8, description="Upper bound on both contexts.")
    max_grammar_bytes: int = Field(
        65_536, ge=0, le=2**24, description="Of a schema; a quarter for Lark and regex."
    )
    start_timeout: float = Field(900.0, gt=0, description="Seconds until the pair must be loaded.")
    heartbeat_timeout: float = Field(30.0, gt=0, description="Seconds of silence until a worker is replaced.")
    stall_timeout: float = Field(300.0, gt=0, description="Seconds without a step while requests run.")
    max_restarts: int = Field(3, ge=0, le=100, description="Crashes in a row before giving up.")


class Sampling(Settings):
    """How tokens are drawn from the composite; the same processing is applied to both models."""

    temperature: float = Field(0.0, ge=0.0, le=100.0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0.0, le=1.0, allow_inf_nan=False)
    top_k: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1, description="None: as far as both contexts reach.")
    stop: tuple[str, ...] = Field((), max_length=64)
    seed: int | None = Field(None, ge=0, lt=2**64)
    repetition_penalty: float = Field(1.0, gt=0.0, le=10.0, allow_inf_nan=False)
    presence_penalty: float = Field(0.0, ge=-2.0, le=2.0, allow_inf_nan=False)
    frequency_penalty: float = Field(0.0, ge=-2.0, le=2.0, allow_inf_nan=False)
    logit_bias: dict[int, float] = Field(default_factory=dict, max_length=4096)
    logprobs: bool = False

    @model_validator(mode="after")
    def _sane(self) -> Sampling:
        if any(not s for s in self.stop) or any(len(s) > 1024 for s in self.stop):
            raise ValueError("stop strings must have 1 to 1024 characters")
        for token, bias in self.logit_bias.items():
            if token < 0 or not math.isfinite(bias) or abs(bias) > 100:
                raise ValueError("logit_bias maps token ids to values from -100 to 100")
        return self

    @property
    def favours(self) -> dict[str, float]:
        """Penalties that are rewards: they lift the same tokens in both models' rows, as a bias does."""
        neutral = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
        return {name: value for name in neutral if (value := getattr(self, name)) < neutral[name]}
