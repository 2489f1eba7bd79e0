"""The fields of ``ChatSSD``: what can be set, what identifies a model, what a dump of it holds.

Everything that must not change under a running worker, or behind a safety lock, is frozen.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, cast

from langchain_core.language_models import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.load import dumpd
from langchain_core.utils import secret_from_env
from pydantic import AliasChoices, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, model_validator

from .backend import Backend
from .chunks import PROVIDER
from .config import EngineConfig, ModelSpec, RefusalPolicy, Sampling, SSDConfig
from .errors import InvalidRequest, SafetyLocked
from .holding import BackendHold
from .pairs import model_name, plain, profile_of
from .profile import OFF, Profile
from .settings import SAMPLING_NAMES, CallSettings, problem
from .telemetry.custom_events import with_custom_events

KEY_VARIABLE = "LANGCHAIN_SSD_API_KEY"
LOCKED_FIELDS = frozenset(
    {"target", "draft", "base_url", "allow_unprotected", "backend"}
    | {"ssd", "ssd_profile", "refusal", "enforce", "lock_safety"}
)
"""What ``lock_safety`` keeps from being copied over or made configurable."""


class ChatFields(BaseChatModel):
    """The settings of :class:`~langchain_ssd.chat_model.ChatSSD`, without the calls."""

    # Error messages must not quote keys, stop strings or prompts.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    target: str | ModelSpec = Field("default", frozen=True)
    """The model to protect: a hub name, a folder, a ``ModelSpec``, or "default" (the embedded pair)."""
    draft: str | ModelSpec = Field("default", frozen=True)
    """The small safe model that proposes tokens; it must share the target's vocabulary."""

    temperature: float = 0.0
    """0 decodes greedily."""
    top_p: float = 1.0
    """Sample from the most probable tokens that together have this mass."""
    top_k: int | None = None
    """Sample from at most this many tokens."""
    max_tokens: int | None = None
    """Most tokens of an answer; ``None``: as far as both contexts reach."""
    stop: list[str] | None = Field(None, validation_alias=AliasChoices("stop", "stop_sequences"))
    """Texts that end an answer and are not part of it (also accepted as ``stop_sequences``)."""
    seed: int | None = None
    """Makes sampling repeatable, whatever else runs in the batch."""
    logprobs: bool = False
    """Report the log probability of every token, under the composite of both models."""
    repetition_penalty: float = 1.0
    """Above 1, repeats become less likely."""
    presence_penalty: float = 0.0
    """Above 0, tokens that have appeared become less likely."""
    frequency_penalty: float = 0.0
    """Above 0, tokens become less likely with every appearance."""
    logit_bias: dict[int, float] = Field(default_factory=dict)
    """Added to the logits of these token ids, in both models."""

    timeout: float | None = None
    """Seconds for a whole call; ``None`` waits for ever."""
    max_retries: int = Field(2, ge=0, le=100)
    """How often a request that was turned away is tried again. What was accepted is never repeated."""
    include_thinking: bool = False
    """Show the thinking part of reasoning models, as ``additional_kwargs["reasoning_content"]``."""
    streaming: bool | None = None
    """LangChain's switch: ``True`` streams inside ``invoke`` as well, ``False`` never streams."""

    ssd: SSDConfig = Field(default_factory=SSDConfig, frozen=True)
    """The algorithm's settings. What is set here wins over the profile."""
    ssd_profile: Profile | str | Path | None = Field(None, frozen=True)
    """A calibration profile or its file: the base of ``ssd``. "default": the one in the draft's folder;
    ``None``: the same if it is there; "none": no profile. (A file given as ``profile`` is taken too.)"""
    refusal: RefusalPolicy = Field(default_factory=RefusalPolicy, frozen=True)
    """When an answer becomes a refusal, and what the user then reads."""
    enforce: bool | None = Field(None, frozen=True)
    """Overrides ``ssd.enforce``; ``False`` is shadow mode: observe everything, change nothing."""
    lock_safety: bool = Field(False, frozen=True)
    """Refuse every call, binding, copy and configurable field that would change a safety setting."""
    engine: EngineConfig = Field(default_factory=EngineConfig, frozen=True)
    """How the worker runs."""

    base_url: str | None = Field(None, frozen=True)
    """A remote server in place of a local worker (needs the distribution ``langchain-ssd-tgi``)."""
    api_key: SecretStr | None = Field(
        default_factory=secret_from_env(KEY_VARIABLE, default=None), frozen=True
    )
    """The remote server's key; read from ``LANGCHAIN_SSD_API_KEY`` if not given."""
    allow_unprotected: bool = Field(False, frozen=True)
    """Also take a server at ``base_url`` that no SSD protects. Its answers say so in their metadata."""
    backend: Backend | None = Field(None, exclude=True, repr=False, frozen=True)
    """Used in place of a worker, and never closed by this model. For tests and backends of your own."""

    _hold: BackendHold = PrivateAttr(default_factory=BackendHold)
    _calibration: Profile | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _two_profiles(cls, values: Any) -> Any:
        """LangChain's ``profile`` is a dictionary of abilities; anything else means a calibration profile."""
        if isinstance(values, dict) and isinstance(values.get("profile"), str | Path | Profile):
            if values.get("ssd_profile") is not None:
                raise ValueError("give the calibration profile once, as ssd_profile")
            rest = {name: value for name, value in values.items() if name != "profile"}
            return {**rest, "ssd_profile": values["profile"]}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.callbacks = with_custom_events(self.callbacks)
        self._calibrate()
        try:
            self._settings()
        except InvalidRequest as error:
            raise ValueError(error.message) from None
        return self

    def _calibrate(self) -> None:
        given = self.ssd_profile
        # Another backend than the worker holds a pair of its own; the default draft's profile is not for it.
        elsewhere = self.base_url is not None or (
            self.backend is not None and "draft" not in self.model_fields_set
        )
        self._calibration = profile_of(OFF if given is None and elsewhere else given, self.target, self.draft)

    @property
    def _base(self) -> SSDConfig:
        """The profile's settings with ``ssd`` over them."""
        return self.ssd if self._calibration is None else self._calibration.apply(self.ssd)

    def _settings(self) -> CallSettings:
        """What a call without arguments of its own asks for.

        Raises:
            InvalidRequest: a field was set to a bad value after construction.
        """
        sampling = {name: getattr(self, name) for name in SAMPLING_NAMES}
        try:
            ssd = self._base
            enforce = ssd.enforce if self.enforce is None else self.enforce
            return CallSettings(
                sampling=Sampling(**{**sampling, "stop": tuple(self.stop or ())}),
                safety=ssd.model_copy(update={"enforce": enforce}),
                profile=self._calibration,
                refusal=self.refusal,
                include_thinking=self.include_thinking,
                timeout=self.timeout,
            )
        except ValidationError as error:
            raise InvalidRequest(problem(error)) from None

    # Copies

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._hold = BackendHold()  # noqa: SLF001 - an object of this very class
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        memo[id(self.backend)] = self.backend  # a handle on something outside, not a value: copies share it
        return super().__deepcopy__(memo)

    def model_copy(self, *, update: Any = None, deep: bool = False) -> Self:
        """A copy with a hold of its own on the worker.

        Raises:
            SafetyLocked: this model is locked, and ``update`` names a safety setting.
        """
        self._refuse_if_locked(update or ())
        copied = super().model_copy(update=update, deep=deep)
        if not {"target", "draft", "ssd_profile"}.isdisjoint(update or ()):
            copied._calibrate()  # noqa: SLF001 - an object of this very class
        return copied

    def _refuse_if_locked(self, names: Iterable[str]) -> None:
        if self.lock_safety and not LOCKED_FIELDS.isdisjoint(names):
            raise SafetyLocked(
                "this model's safety settings are locked; build another ChatSSD to change them"
            )

    # Serialisation

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """``dumpd`` and ``load`` work; keys and tokens never leave with a dump."""
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Where ``load`` finds the key."""
        return {"api_key": KEY_VARIABLE}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """Nested settings as plain JSON; otherwise a dump, and the cache key made of it, would lose them."""
        names = ("target", "draft", "refusal", "engine")
        values = {name: plain(getattr(self, name)) for name in names}
        values["ssd"] = self.ssd.model_dump(mode="json", exclude_unset=True)  # what is unset is the profile's
        # The profile itself: a file's name would lead nowhere on another machine.
        values["ssd_profile"] = OFF if self._calibration is None else self._calibration.settings()
        if self.logit_bias:  # JSON has no integer keys
            values["logit_bias"] = {str(token): bias for token, bias in self.logit_bias.items()}
        return values

    @property
    def _serialized(self) -> dict[str, Any]:
        """Computed anew each time: LangChain's cached one would give a changed model old cache entries."""
        return cast("dict[str, Any]", dumpd(self))

    # What LangChain asks about the model

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    @property
    def _identifying_params(self) -> dict[str, Any]:
        settings = self._settings()
        return {
            "model_name": model_name(self.target),
            **self.lc_attributes,
            "ssd": plain(settings.safety),
            **settings.sampling.model_dump(mode="json"),
            "include_thinking": self.include_thinking,
            "lock_safety": self.lock_safety,
            "base_url": self.base_url,
            "allow_unprotected": self.allow_unprotected,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = PROVIDER
        params.setdefault("ls_model_name", model_name(self.target))
        return params

    def _resolve_model_profile(self) -> ModelProfile:
        return ModelProfile(
            text_inputs=True,
            text_outputs=True,
            image_inputs=False,
            tool_calling=True,
            tool_choice=True,
            tool_call_streaming=True,
            structured_output=True,
        )
