"""A calibration profile: what ``langchain-ssd calibrate`` found out about one pair, as a JSON file.

``ChatSSD(ssd_profile=...)`` makes its values the base of ``ssd``; whatever is set explicitly wins. A profile
knows its models by a fingerprint, so that thresholds of another draft are never taken for this one's.
"""

from __future__ import annotations

import json
from hashlib import blake2s
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from .config import ModelSpec, Settings, SSDConfig
from .errors import ConfigError, ModelNotFound

PROFILE_NAME = "profile.json"
OFF, OWN = "none", "default"
_MAY_SET = frozenset(
    {"monitor", "sequential", "common_tokens", "alpha_utility", "alpha_floor", "alpha_safety", "block_size"}
)
_GREATEST = 1_000_000  # bytes
_SAMPLES, _SAMPLE = 16, 4096  # of each weight file


class ProfiledModel(Settings):
    """A model as a profile remembers it."""

    title: str = Field(min_length=1, max_length=256)
    fingerprint: str | None = Field(None, max_length=64, description="Of a local folder's files.")


class Profile(Settings):
    """Settings measured on one pair. ``ssd`` holds only what calibration sets."""

    format: Literal[1] = 1
    target: ProfiledModel
    draft: ProfiledModel
    ssd: SSDConfig
    measured: dict[str, Any] = Field(default_factory=dict, description="Figures behind the settings.")

    @model_validator(mode="after")
    def _no_more_than_measured(self) -> Profile:
        if not self.ssd.model_fields_set <= _MAY_SET:
            raise ValueError(f"a profile sets nothing but {', '.join(sorted(_MAY_SET))}")
        return self

    @classmethod
    def read(cls, path: Path) -> Profile:
        """Read a profile.

        Raises:
            ConfigError: it cannot be read, or is none.
        """
        try:
            text = path.read_text(encoding="utf-8") if path.stat().st_size <= _GREATEST else ""
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"the profile {path.name} cannot be read; check its name") from None
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            raise ConfigError(
                f"{path.name} is no calibration profile; write one: langchain-ssd calibrate"
            ) from None

    def to_json(self) -> str:
        """The file's text; settings that calibration did not touch are left out."""
        values = {"format": self.format, **self.model_dump(mode="json", exclude_unset=True)}
        return json.dumps(values, indent=2) + "\n"

    def settings(self) -> dict[str, Any]:
        """The profile as plain JSON without its figures."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"measured"})

    def apply(self, given: SSDConfig) -> SSDConfig:
        """A user's settings over the profile's.

        The monitor counts as calibrated only while everything its numbers rest on is the profile's.

        Raises:
            ValueError: the two contradict each other, as thresholds in the wrong order do.
        """
        merged = SSDConfig.model_validate(_merged(self._set(self.ssd), self._set(given)))
        if "calibrated" in given.sequential.model_fields_set:
            return merged
        calibrated = self.ssd.sequential.calibrated and _basis(merged) == _basis(self.ssd)
        sequential = merged.sequential.model_copy(update={"calibrated": calibrated})
        return merged.model_copy(update={"sequential": sequential})

    @staticmethod
    def _set(config: SSDConfig) -> dict[str, Any]:
        return config.model_dump(exclude_unset=True)

    def check(self, target: ModelSpec | None, draft: ModelSpec | None) -> None:
        """Refuse weights that the profile was not made for, as far as both can be told.

        Raises:
            ConfigError: names the model.
        """
        for role, known, spec in (("target", self.target, target), ("draft", self.draft, draft)):
            found = fingerprint(spec) if spec is not None and known.fingerprint else None
            if found is not None and found != known.fingerprint:
                raise ConfigError(
                    f"the profile was made for another {role}; calibrate this pair, or set ssd_profile='none'"
                )


def find_profile(
    given: Profile | str | Path | None, target: ModelSpec | None, draft: ModelSpec | None
) -> Profile | None:
    """The profile that a ``ChatSSD`` uses.

    Args:
        given: a profile, its file, "default" (the one in the draft's folder, which must be there), "none",
            or ``None`` (the one in the draft's folder, if there is one).
        target: the target; ``None`` if it is not known here.
        draft: the draft.

    Raises:
        ConfigError: the profile cannot be read, is missing, or was made for other weights.
    """
    if given == OFF:
        return None
    if isinstance(given, Profile):
        profile = given
    elif given is None or given == OWN:
        path = _own(draft)
        if path is None and given is None:
            return None
        if path is None:
            raise ModelNotFound("this draft has no profile; write one: langchain-ssd calibrate")
        profile = Profile.read(path)
    else:
        profile = Profile.read(Path(given))
    profile.check(target, draft)
    return profile


def model_folder(spec: ModelSpec | None) -> Path | None:
    """The local folder that makes a model what it is: its adapter's, else its own."""
    for name in (spec.adapter, spec.name) if spec is not None else ():
        if name and Path(name).is_dir():
            return Path(name)
    return None


def fingerprint(spec: ModelSpec) -> str | None:
    """What tells a local model's weights from others: names, sizes and samples of its files.

    ``None`` for models that are not local. Reads at most 64 kB of a file.
    """
    folder = model_folder(spec)
    if folder is None:
        return None
    digest = blake2s(f"{spec.gguf_file}/{spec.chat_template}/{spec.system_prompt}".encode(), digest_size=16)
    # Not config.json: another version of transformers writes other words into it for the same weights.
    patterns = ("*.safetensors", "*.gguf", "adapter_config.json")
    for path in sorted(p for pattern in patterns for p in folder.glob(pattern)):
        size = path.stat().st_size
        digest.update(f"{path.name}/{size}".encode())
        with path.open("rb") as file:
            for i in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE) * i // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _own(draft: ModelSpec | None) -> Path | None:
    folder = model_folder(draft)
    path = folder / PROFILE_NAME if folder is not None else None
    return path if path is not None and path.is_file() else None


def _basis(config: SSDConfig) -> tuple[Any, ...]:
    """What the thresholds rest on."""
    s = config.sequential
    return s.h_safety, s.h_release, s.h_refuse, s.evidence, config.common_tokens, config.alpha_utility


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Nested settings, one by one."""
    both = {name for name in base.keys() & over.keys() if isinstance(over[name], dict)}
    return {**base, **over, **{name: _merged(base[name], over[name]) for name in both}}
