"""What an operator may set. Frozen, bounded, unknown names forbidden."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator

from langchain_ssd.config import RefusalPolicy, Settings, SSDConfig

NO_RAISE = "on_refusal: a server answers with the refusal; say 'raise' to ChatSSD, which does it on its side"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class ApiKey(Settings):
    """One client's key, and how much it may use."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Shown in logs and metrics.")
    key: SecretStr = Field(min_length=16, max_length=512)
    max_concurrent: int | None = Field(None, ge=1, description="Requests in flight at once.")
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1, description="Tokens of prompts and answers.")


class ServerConfig(Settings):
    """How the server behaves; where it listens is the command's business."""

    model_name: str = Field("ssd", min_length=1, max_length=256, description="What clients see.")
    safety: SSDConfig = SSDConfig()
    refusal: RefusalPolicy = RefusalPolicy()
    lock_safety: bool = Field(True, description="Refuse requests that would change a safety setting.")
    telemetry: bool = Field(True, description="Answer requests that ask for telemetry.")

    keys: tuple[ApiKey, ...] = Field((), description="Without any, everyone who can connect may ask.")
    allowed_hosts: tuple[str, ...] = Field(LOOPBACK, description="Host headers; '*' takes any.")
    cors_origins: tuple[str, ...] = Field((), description="Other web pages that may ask.")

    max_concurrent_requests: int = Field(128, ge=1, le=100_000)
    max_body_bytes: int = Field(2_000_000, ge=1000, le=64_000_000)
    max_stop_sequences: int = Field(4, ge=0, le=64)
    max_input_tokens: int | None = Field(None, ge=1, description="Longest prompt; None: what fits.")
    default_new_tokens: int = Field(100, ge=1, description="max_new_tokens of requests without it.")
    request_timeout: float | None = Field(None, gt=0, allow_inf_nan=False, description="Longest request.")

    body_timeout: float = Field(30.0, gt=0, description="Seconds until a request's body must be there.")
    write_timeout: float = Field(30.0, gt=0, description="Seconds a reader may stall.")
    keep_alive: float = Field(15.0, gt=0, description="Seconds between comments in a silent stream.")

    health_interval: float = Field(30.0, gt=0, description="How old a proof of life may be when idle.")
    health_timeout: float = Field(10.0, gt=0, description="Seconds a health check may take.")
    health_stall: float = Field(60.0, gt=0, description="Seconds without progress that count as a hang.")

    @model_validator(mode="after")
    def _answers(self) -> Self:
        if self.refusal.on_refusal == "raise":
            raise ValueError(NO_RAISE)
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [key.name for key in self.keys]
        secrets = [key.key.get_secret_value() for key in self.keys]
        if len(set(names)) < len(names) or len(set(secrets)) < len(secrets):
            raise ValueError("every key needs a name and a secret of its own")
        if not all(key.isascii() and key.isprintable() and " " not in key for key in secrets):
            raise ValueError("keys must be printable ASCII without spaces")
        return self
