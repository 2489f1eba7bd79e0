"""Chat models by import path: to be compared with ours, or to judge answers."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def load_model(path: str) -> BaseChatModel:
    """A chat model from ``module:name``; the name may be a model, or a function that makes one.

    Args:
        path: ``mypackage.models:judge``; modules of the current folder are found, too.

    Raises:
        ConfigError: there is no such thing, or it is no chat model.
    """
    from langchain_core.language_models import BaseChatModel

    module, _, name = path.partition(":")
    if not module or not name:
        raise ConfigError(f"'{path}' is no import path; write it as module:name")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise ConfigError(f"'{path}' cannot be imported; check the module and the name") from None
    model = found if isinstance(found, BaseChatModel) else found() if callable(found) else None
    if not isinstance(model, BaseChatModel):
        raise ConfigError(
            f"'{path}' is no chat model; it must be a BaseChatModel or a function that makes one"
        )
    return model


def named_models(given: list[str]) -> dict[str, BaseChatModel]:
    """``name=module:attribute`` or ``module:attribute`` → models by name.

    Raises:
        ConfigError: as :func:`load_model`, and for a name that is given twice.
    """
    models: dict[str, BaseChatModel] = {}
    for text in given:
        name, separator, path = text.rpartition("=")
        name = name if separator else path.rpartition(":")[2]
        if name in models:
            raise ConfigError(f"the name '{name}' is given twice")
        models[name] = load_model(path)
    return models
