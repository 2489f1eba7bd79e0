"""Requests in a given form, over a tiny pair with one end token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from langchain_ssd.config import EngineConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.grammar_library import Grammars
from langchain_ssd.events import Event, Token
from langchain_ssd.testing.tiny_pair import tiny_pair

from .engine_helpers import request

END = 256
PAIR = tiny_pair(end_ids=frozenset({END}), context=700)
GRAMMARS = Grammars(PAIR)


def formed(kind: Any, value: Any = None, may_refuse: bool = False, **options: Any) -> Any:
    """A request for an answer of a form; other options as of ``request``."""
    return replace(request(**options), constraint=Constraint(kind, value, may_refuse))


def engine(**config: Any) -> Engine:
    return Engine(PAIR, EngineConfig(**config))


def ids(text: str) -> list[int]:
    return PAIR.target.renderer.encode(text)


def bias(**of_texts: float) -> dict[int, float]:
    """The logit bias of single characters; ``END`` by that name."""
    return {END if text == "END" else ids(text)[0]: value for text, value in of_texts.items()}


LIKELY = bias(**{'"': 3.0, "}": 3.0, "]": 3.0})  # so that random models come to an end


def shown(events: Sequence[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Token))
