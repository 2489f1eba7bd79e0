"""The two models of a ``ChatSSD``: what its fields mean, what they are called, where the pair runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, SecretStr

from .backend import Backend, ChatMessage, ChatRequest, EventStream, Health, TextToken, load_backend
from .config import EngineConfig, ModelSpec
from .draft_folder import with_base
from .errors import ModelNotFound
from .profile import Profile, find_profile

DEFAULT = "default"
SHIPPED = (DEFAULT, "whole", "slim")
"""Drafts that need no name of a hub and no folder."""
Named = str | ModelSpec


def model_name(model: Named) -> str:
    """What answers and traces call a model: never a folder of this machine, only its last part."""
    if model == DEFAULT:
        from .drafts.default_pair import SMOLLM2

        return SMOLLM2.title
    name = model if isinstance(model, str) else model.name
    is_folder = name.startswith(("/", ".", "~")) or "\\" in name or name.count("/") > 1
    return PurePath(name.replace("\\", "/")).name if is_folder else name


def plain(value: Any) -> Any:
    """A setting as plain JSON, without tokens."""
    if isinstance(value, ModelSpec):
        return value.model_dump(mode="json", exclude={"token": True, "base": {"token"}})
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def target_spec(target: Named) -> ModelSpec:
    """The target to load.

    Raises:
        ModelNotFound: the default pair is asked for and not set up.
    """
    if target == DEFAULT:
        from .drafts.default_pair import default_target

        return default_target()
    return _with_base(target)


def draft_spec(draft: Named) -> ModelSpec:
    """The draft to load: "default", "whole" and "slim" ship with the package.

    Raises:
        ModelNotFound: the default pair is asked for and not set up.
    """
    if isinstance(draft, str) and draft in SHIPPED:
        from .drafts.default_pair import DEFAULT_DRAFT, default_draft

        return default_draft(DEFAULT_DRAFT if draft == DEFAULT else draft)
    return _with_base(draft)


def _with_base(model: Named) -> ModelSpec:
    """A model's spec; a draft that is stored as differences gets the base that its folder names."""
    spec = ModelSpec(name=model) if isinstance(model, str) else model
    return with_base(spec, _known(target_spec, DEFAULT))


def profile_of(given: Profile | str | Path | None, target: Named, draft: Named) -> Profile | None:
    """The calibration profile of a pair, as a ``ChatSSD`` is asked for it.

    Raises:
        ConfigError: it cannot be read, is missing, or was made for other weights.
    """
    return find_profile(given, _known(target_spec, target), _known(draft_spec, draft))


def _known(spec: Callable[[Named], ModelSpec], model: Named) -> ModelSpec | None:
    """A model's spec; ``None`` for the default pair before it is set up."""
    try:
        return spec(model)
    except ModelNotFound:
        return None


def local(target: Named, draft: Named, engine: EngineConfig) -> Backend:
    """A hold on the worker of this pair; it starts nothing yet.

    Raises:
        ConfigError: the default pair is not set up, or a setting is not a plain value.
    """
    from .worker.registry import shared_backend

    return shared_backend(target_spec(target), draft_spec(draft), engine)


def remote(base_url: str, api_key: SecretStr | None, *, allow_unprotected: bool = False) -> Backend:
    """A backend for a remote server.

    Raises:
        BackendNotInstalled: the distribution that can talk to such servers is missing.
    """
    key = api_key.get_secret_value() if api_key else None
    return load_backend("tgi", base_url=base_url, api_key=key, allow_unprotected=allow_unprotected)


def context_length(health: Health) -> int | None:
    """The smaller context of the two loaded models, if the backend tells it."""
    sides = [health.info.get(side) for side in ("target", "draft")]
    lengths = [side.get("context") for side in sides if isinstance(side, dict)]
    return min((length for length in lengths if isinstance(length, int)), default=None)


class Borrowed(Backend):
    """Another model's backend, for the short-lived models that LangChain derives from it.

    A configurable model is built anew for every call; without this, its worker would be, too.
    """

    def __init__(self, lend: Callable[[], Backend]) -> None:
        self._lend = lend

    def submit(self, request: ChatRequest) -> EventStream:
        """Hand the request to the lender's backend."""
        return self._lend().submit(request)

    def token_ids(self, text: str) -> list[int]:
        """Ask the lender's backend."""
        return self._lend().token_ids(text)

    def tokenize(self, source: str | Sequence[ChatMessage]) -> list[TextToken]:
        """Ask the lender's backend."""
        return self._lend().tokenize(source)

    def warm_up(self) -> Health:
        """Warm the lender's backend up."""
        return self._lend().warm_up()

    def health(self) -> Health:
        """The health of the lender's backend."""
        return self._lend().health()

    def close(self) -> None:
        """Nothing: it belongs to the lender."""
