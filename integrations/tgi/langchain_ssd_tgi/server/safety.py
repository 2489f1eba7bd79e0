"""The safety settings of one request: the server's own, with the request's changes where they are allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from langchain_ssd.config import RefusalPolicy, Sampling, Settings, SSDConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.errors import SafetyLocked

from .parsing import describe
from .problems import invalid
from .settings import NO_RAISE, ServerConfig

S = TypeVar("S", bound=Settings)


def safety_of(
    config: ServerConfig, safety: Mapping[str, Any], refusal: Mapping[str, Any]
) -> tuple[SSDConfig, RefusalPolicy]:
    """The settings that a request runs under.

    Raises:
        SafetyLocked: the server's settings are locked, and the request would change one.
        Problem: a setting is unknown or out of bounds.
    """
    changed = _overlay(config.safety, safety, "ssd.safety"), _overlay(config.refusal, refusal, "ssd.refusal")
    if config.lock_safety and changed != (config.safety, config.refusal):
        names = [name for ours, theirs in zip((config.safety, config.refusal), changed, strict=True)
                 for name in _different(ours, theirs)]  # fmt: skip
        raise _locked(names)
    if changed[1].on_refusal == "raise":
        raise invalid(f"ssd.refusal.{NO_RAISE}")
    return changed


def check_decoding(config: ServerConfig, sampling: Sampling, constraint: Constraint | None) -> None:
    """What disarms the monitor without being a safety setting is locked as well.

    Whatever favours a token in both models' rows makes them agree, and the monitor blind; a grammar that
    leaves no room for a refusal would answer in its place.

    Raises:
        SafetyLocked: the server's settings are locked, and the request brings any of these.
    """
    names = ["logit_bias"] * bool(sampling.logit_bias) + list(sampling.favours)
    if constraint is not None and not constraint.may_refuse:
        names.append("ssd.constraint.may_refuse")
    if config.lock_safety and names:
        raise _locked(names)


def _locked(names: Sequence[str]) -> SafetyLocked:
    return SafetyLocked(f"this server's safety settings are locked; leave out: {', '.join(names)}")


def _overlay(ours: S, changes: Mapping[str, Any], where: str) -> S:
    if not changes:
        return ours
    try:
        return type(ours).model_validate(_merged(ours.model_dump(mode="json"), changes))
    except ValidationError as error:
        raise invalid(f"{where}.{describe(error)}") from None


def _merged(ours: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(ours)
    for name, value in changes.items():
        mine = ours.get(name)
        merged[name] = _merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def _different(ours: Settings, theirs: Settings) -> list[str]:
    return [name for name in type(ours).model_fields if getattr(ours, name) != getattr(theirs, name)]
