"""The grammar library (llguidance), held at arm's length: compiled grammars of one pair, within bounds.

Its messages may quote a grammar, and it may be missing; neither leaves this page. Compiling runs in the
engine's own thread: the limits below bound it, so that others wait for a fraction of a second at worst.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..constraint import Constraint
from ..errors import ConfigError, InvalidRequest, UnsupportedConstraint
from .constraints import GrammarState, bits_of
from .grammar_branch import calmly
from .grammar_text import Thinking, grammar_text, refusal_text, what_is_wrong
from .pair import Pair

MAX_BYTES = 65_536
_KEPT, _KEPT_BYTES = 64, 262_144  # compiled grammars, and all their texts; some take 2 kB a byte
_TAGS = ("<think>", "</think>")
_LIMITS = {
    "initial_lexer_fuel": 500_000,
    "step_lexer_fuel": 200_000,  # work for one mask; about 15 ms
    "step_max_items": 20_000,
    "max_lexer_states": 50_000,  # up to 2 kB each
    "max_grammar_size": 200_000,
    "precompute_large_lexemes": False,
    "verbose_errors": False,
}


class Grammars:
    """Compiles constraints, and keeps the last ones: a schema that comes again costs nothing.

    Args:
        pair: whose tokens they are about.
        limit: bytes of a constraint that came with a request.
    """

    def __init__(self, pair: Pair, limit: int = MAX_BYTES) -> None:
        self._pair, self._limit = pair, limit
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._tokenizer: Any = None

    def start(
        self,
        constraint: Constraint,
        given: Sequence[int] = (),
        *,
        trusted: bool = False,
        thinks: bool = False,
        opened: bool = False,
    ) -> GrammarState:
        """A grammar at the beginning of an answer.

        Args:
            constraint: what the answer must look like.
            given: a prefill; the grammar is about the whole answer, so it must be a beginning of one.
            trusted: the worker itself wrote it: control tokens it names are legal.
            thinks: the model may think before the answer.
            opened: the prompt has opened that part already.

        Raises:
            InvalidRequest: it is no grammar, or the prefill does not begin an answer of this form.
            UnsupportedConstraint: it cannot be compiled, or not be enforced.
            ConfigError: the grammar library is not installed, or cannot read this pair's tokenizer.
        """
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self._pair)
        thinking, tags = self._thinking(opened) if thinks or opened else (None, frozenset())
        text = grammar_text(constraint, self._limit, thinking, trusted=trusted)
        never = self._ends | (frozenset() if trusted else self._control_ids - tags)
        writable = (1 << self._pair.vocab_size) - 1 & ~bits_of(never)
        answer = self._kept(constraint.kind, text)
        refusal = self._kept("refusal", refusal_text(thinking)) if constraint.may_refuse else None
        # A model that thinks first has made up its mind by the time it may refuse.
        state = GrammarState(answer, refusal, writable, self._ends, asks=thinking is None)
        if not state.begin(given):
            raise InvalidRequest("the prefilled answer does not begin an answer of this form; leave it out")
        return state

    def check(self, constraint: Constraint, *, trusted: bool = False) -> None:
        """Find out what is wrong with a constraint without compiling it.

        Raises:
            InvalidRequest: it is no grammar, or too large.
            UnsupportedConstraint: it asks for what cannot be enforced.
            ConfigError: the grammar library is not installed.
        """
        library()
        grammar_text(constraint, self._limit, trusted=trusted)

    def _kept(self, kind: str, text: str) -> Any:
        """A compiled grammar, from those that are kept if it is among them."""
        compiled = self._compiled.pop(text, None) or self._compile(kind, text)
        self._compiled[text] = compiled
        while len(self._compiled) > _KEPT or sum(map(len, self._compiled)) > max(_KEPT_BYTES, len(text)):
            self._compiled.popitem(last=False)
        return compiled

    @property
    def _control_ids(self) -> frozenset[int]:
        return self._pair.target.renderer.control_ids

    @property
    def _ends(self) -> frozenset[int]:
        return frozenset(i for i in self._pair.end_ids if i < self._pair.vocab_size)

    def _thinking(self, opened: bool) -> tuple[Thinking, frozenset[int]]:
        """The tags around thinking, and those of them that are control tokens of this model."""
        found = [self._pair.target.renderer.tokenizer.convert_tokens_to_ids(tag) for tag in _TAGS]
        control = self._control_ids.intersection(found)
        first, last = (
            f"<[{i}]>" if i in control else json.dumps(tag) for i, tag in zip(found, _TAGS, strict=True)
        )
        return Thinking(first, last, opened), control

    def _compile(self, kind: str, text: str) -> Any:
        limits = library().LLParserLimits(**_LIMITS)
        matcher = calmly(partial(library().LLMatcher, self._tokenizer, text, log_level=0, limits=limits))
        if not matcher.is_error():
            calmly(matcher.compute_bitmask)  # some show only here that nothing satisfies them
        if matcher.is_error():
            raise UnsupportedConstraint(
                f"the {kind} constraint is refused: {what_is_wrong(matcher.get_error())}"
            )
        return matcher


def library() -> Any:
    """The library's module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import llguidance
    except ImportError:
        raise ConfigError("grammars need llguidance: pip install 'llguidance>=1.9'") from None
    return llguidance


def _tokenizer(pair: Pair) -> Any:
    """The target's tokenizer as the library reads it; every control token is one, flagged special or not."""
    backend = getattr(pair.target.renderer.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError("grammars need a model with a fast tokenizer (tokenizer.json); use another model")
    description = json.loads(backend.to_str())
    description.update(truncation=None, padding=None)
    for token in description["added_tokens"]:
        token["special"] = token["special"] or token["id"] in pair.target.renderer.control_ids
    ends = sorted(i for i in pair.end_ids if i < pair.vocab_size)
    try:
        return library().LLTokenizer(json.dumps(description), n_vocab=pair.vocab_size, eos_token=ends or None)
    except ValueError:
        raise ConfigError(
            "the grammar library cannot read this model's tokenizer; use another model"
        ) from None
