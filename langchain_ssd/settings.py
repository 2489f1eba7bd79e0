"""What one call asks for: the constructor's settings with a call's keyword arguments laid over them.

Every name is checked against an explicit list, for a typo in a safety setting must not pass silently,
and a locked model refuses any change of its safety settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from .config import RefusalPolicy, Sampling, Settings, SSDConfig
from .constraint import Constraint
from .errors import InvalidRequest, SafetyLocked
from .profile import Profile

SAMPLING_NAMES = frozenset(Sampling.model_fields)
SAFETY_NAMES = frozenset({"ssd", "refusal", "enforce", "hold_back"})
TOOL_NAMES = frozenset({"tools", "tool_choice", "parallel_tool_calls", "response_format"})
CALL_NAMES = SAMPLING_NAMES | SAFETY_NAMES | TOOL_NAMES | {"include_thinking", "timeout"}
# LangChain passes these on to every model; they do not concern decoding.
_NOT_OURS = frozenset({"stream", "ls_structured_output_format", "structured_output_format"})


class CallSettings(Settings):
    """Everything about a request except its messages."""

    sampling: Sampling = Sampling()
    safety: SSDConfig = SSDConfig()
    refusal: RefusalPolicy = RefusalPolicy()
    include_thinking: bool = False
    timeout: float | None = Field(None, gt=0, allow_inf_nan=False)
    profile: Profile | None = None

    def override(self, options: Mapping[str, Any], *, locked: bool) -> CallSettings:
        """These settings with a call's own laid over them; ``None`` means "not given".

        Raises:
            InvalidRequest: an unknown name or a bad value.
            SafetyLocked: ``locked``, and a safety setting would change.
        """
        unknown = sorted(options.keys() - CALL_NAMES - _NOT_OURS)
        if unknown:
            raise InvalidRequest(
                f"unknown argument '{unknown[0]}'; a call takes: {', '.join(sorted(CALL_NAMES))}"
            )
        given = {name: value for name, value in options.items() if value is not None}
        changed = self._merged(given)
        form = given.get("response_format")
        mute = isinstance(form, Constraint) and not form.may_refuse  # a form that leaves no way to refuse
        if locked and (mute or changed._locked() != self._locked()):  # noqa: SLF001 - of this class
            raise SafetyLocked(
                "this model's safety settings are locked; build another ChatSSD to use other settings"
            )
        return changed

    def _locked(self) -> tuple[object, ...]:
        """What a lock protects; what favours a token in both models' rows makes them agree, and blinds."""
        return self.safety, self.refusal, self.sampling.logit_bias, self.sampling.favours

    def _merged(self, given: Mapping[str, Any]) -> CallSettings:
        sampling = {name: value for name, value in given.items() if name in SAMPLING_NAMES}
        try:
            safety = self._ssd(given["ssd"]) if "ssd" in given else self.safety
            changes = {name: given[name] for name in ("enforce", "hold_back") if name in given}
            return CallSettings(
                sampling=Sampling(**{**self.sampling.model_dump(), **sampling}),
                safety=SSDConfig(**{**safety.model_dump(), **changes}),
                refusal=RefusalPolicy.model_validate(given.get("refusal", self.refusal)),
                include_thinking=given.get("include_thinking", self.include_thinking),
                timeout=given.get("timeout", self.timeout),
                profile=self.profile,
            )
        except ValidationError as error:
            raise InvalidRequest(problem(error)) from None

    def _ssd(self, given: Any) -> SSDConfig:
        """A call's own settings replace the constructor's; a profile stays under both."""
        ssd = SSDConfig.model_validate(given)
        return ssd if self.profile is None else self.profile.apply(ssd)


def problem(error: ValidationError) -> str:
    """The first problem of a validation error in one line, without the value that caused it."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
