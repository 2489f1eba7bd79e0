"""What a calibration run is asked for."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from ..config import Settings, SSDConfig
from .signals import SIGNALS
from .thresholds import LEAST_RESPONSES, WANTED_RESPONSES


class CalibrationSettings(Settings):
    """Bounded and frozen, like all settings."""

    length: int = Field(256, ge=8, le=100_000, description="Tokens of a benign response.")
    unsafe_length: int = Field(64, ge=8, le=100_000, description="Tokens of an unsafe response.")
    false_safety: float = Field(0.05, gt=0, lt=1, description="Benign responses that may be in safety mode.")
    false_refusals: float = Field(0.01, gt=0, lt=1, description="Benign responses that may be refused.")
    responses: int = Field(WANTED_RESPONSES, ge=1, description="Benign responses, at most.")
    unsafe_responses: int = Field(WANTED_RESPONSES, ge=1, description="Unsafe responses, at most.")
    least: int = Field(LEAST_RESPONSES, ge=4, description="Fewer benign responses than this are refused.")
    prefilled: float = Field(0.25, ge=0, le=1, description="Benign answers that begin inside themselves.")
    seed: int = Field(1, ge=0)
    batch: int = Field(32, ge=1, le=1024, description="Answers decoded together.")
    budget: int = Field(2048, ge=1, description="Positions of one reading pass.")
    ssd: SSDConfig = Field(SSDConfig(), description="Weights and the shared sample space.")
    fit_alpha: bool = Field(False, description="Choose alpha_utility by the text that it leaves alone.")
    kept: float = Field(0.95, gt=0, le=1, description="Benign tokens that a chosen alpha must leave alone.")
    signal: str | None = Field(None, description="Use this signal; None: the one that catches most.")
    measure_speed: bool = Field(True, description="Choose block_size by measured passes.")

    @field_validator("signal")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in SIGNALS:
            raise ValueError("signal must be one of: " + ", ".join(SIGNALS))
        return name

    @model_validator(mode="after")
    def _ordered(self) -> CalibrationSettings:
        if self.false_refusals > self.false_safety:
            raise ValueError("false_refusals must not be above false_safety")
        return self
