"""llguidance against xgrammar: time for masks, compiling, rollback; what each refuses and what it needs."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoTokenizer

from langchain_ssd.drafts.default_pair import default_target

from .common import show

SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "role": {"enum": ["reader", "reviewer", "writer"]},
        },
        "required": ["name", "age", "role"],
        "additionalProperties": False,
    },
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "label": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["label", "children"],
                "additionalProperties": False,
            }
        },
    },
    "pattern": {
        "type": "array",
        "items": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4,8}(-[a-z]+)*$"},
        "minItems": 5,
    },
    "300 properties": {
        "type": "object",
        "properties": {f"property_{i}": {"type": "string"} for i in range(300)},
    },
}
IGNORED = {
    "uniqueItems": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    "not": {"type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"]},
    "contains": {"type": "array", "contains": {"type": "integer"}},
    "if/then": {"if": {"type": "string"}, "then": {"maxLength": 3}},
    "oneOf": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
}
TOKENS = 150


class LLGuidance:
    """The library the worker uses."""

    def __init__(self, tokenizer: Any, vocab: int) -> None:
        self._lib = importlib.import_module("llguidance")
        text = tokenizer.backend_tokenizer.to_str()
        self._tokenizer = self._lib.LLTokenizer(text, n_vocab=vocab, eos_token=[tokenizer.eos_token_id])

    def compile(self, schema: dict[str, Any]) -> Any:
        """Raises ValueError if the schema is refused."""
        schema = {**schema, "x-guidance": {"whitespace_flexible": False}}
        grammar = self._lib.LLMatcher.grammar_from_json_schema(schema)
        compiled = self._lib.LLMatcher(self._tokenizer, grammar, log_level=0)
        if compiled.is_error():
            raise ValueError
        return compiled

    def start(self, compiled: Any) -> Any:
        """A matcher of its own for one answer."""
        return compiled.deep_copy()

    def mask(self, matcher: Any) -> bytes:
        """One bit per token."""
        return bytes(matcher.compute_bitmask())

    def accept(self, matcher: Any, token: int) -> bool:
        """Go on."""
        return bool(matcher.consume_token(token))

    def ended(self, matcher: Any) -> bool:
        """Whether nothing may follow."""
        return bool(matcher.is_stopped())


class XGrammar:
    """The other."""

    def __init__(self, tokenizer: Any, vocab: int) -> None:
        self._lib = importlib.import_module("xgrammar")
        info = self._lib.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocab)
        self._compiler = self._lib.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self._bits = self._lib.allocate_token_bitmask(1, vocab)

    def compile(self, schema: dict[str, Any]) -> Any:
        """Raises RuntimeError if the schema is refused."""
        return self._compiler.compile_json_schema(json.dumps(schema), any_whitespace=False)

    def start(self, compiled: Any) -> Any:
        """A matcher of its own for one answer."""
        return self._lib.GrammarMatcher(compiled)

    def mask(self, matcher: Any) -> bytes:
        """One bit per token."""
        if not matcher.fill_next_token_bitmask(self._bits):
            return b"\xff" * self._bits.numel() * 4
        return self._bits.numpy().tobytes()

    def accept(self, matcher: Any, token: int) -> bool:
        """Go on."""
        return bool(matcher.accept_token(token))

    def ended(self, matcher: Any) -> bool:
        """Whether nothing may follow."""
        return bool(matcher.is_terminated())


def main() -> None:
    """Random walks through each schema, the same seeds for both."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(default_target().name)
    rows = []
    for kind in (LLGuidance, XGrammar):
        began = time.perf_counter()
        library = kind(tokenizer, len(tokenizer))
        ready = time.perf_counter() - began
        for name, schema in SCHEMAS.items():
            rows.append(
                {
                    "library": kind.__name__,
                    "schema": name,
                    **_measure(library, schema),
                    "ready, ms": ready * 1e3,
                }
            )
    refused = {kind.__name__: _refused(kind(tokenizer, len(tokenizer))) for kind in (LLGuidance, XGrammar)}
    note = "; ".join(
        f"{name} {importlib.metadata.version(name.lower())} needs {_needs(name.lower())} and refuses "
        f"{', '.join(found) or 'none'} of {', '.join(IGNORED)}"
        for name, found in refused.items()
    )
    show("grammar_libraries", f"Grammar libraries, {TOKENS} tokens at random, one thread", rows, note)


@dataclass
class Walk:
    """A random answer, with the time of every call."""

    library: Any
    compiled: Any
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def run(self, tokens: int) -> None:
        """Go on from mask to mask; every fourth token takes the last four back, as a rejected block does."""
        rng, matcher, since = random.Random(0), self.library.start(self.compiled), 0
        for _ in range(tokens):
            bits = self._timed("mask", self.library.mask, matcher)
            legal = [8 * i + j for i, byte in enumerate(bits) if byte for j in range(8) if byte >> j & 1]
            accepted = self._timed("accept", self.library.accept, matcher, rng.choice(legal))
            if not accepted or self.library.ended(matcher):
                matcher, since = self.library.start(self.compiled), 0
            elif since == 3:
                self._timed("rollback of 4", matcher.rollback, 4)
                since = 0
            else:
                since += 1

    def _timed(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        began = time.perf_counter()
        out = call(*args)
        self.times[name].append(time.perf_counter() - began)
        return out


def _measure(library: Any, schema: dict[str, Any]) -> dict[str, float]:
    began = time.perf_counter()
    walk = Walk(library, library.compile(schema))
    compiled = time.perf_counter() - began
    walk.run(TOKENS)
    medians = {f"{name}, us": statistics.median(times) * 1e6 for name, times in walk.times.items()}
    return {"compile, ms": compiled * 1e3, **medians, "slowest mask, us": max(walk.times["mask"]) * 1e6}


def _refused(library: Any) -> list[str]:
    found = []
    for name, schema in IGNORED.items():
        try:
            library.compile(schema)
        except (ValueError, RuntimeError):
            found.append(name)
    return found


def _needs(package: str) -> str:
    wanted = [
        r.split(";")[0].strip() for r in importlib.metadata.requires(package) or () if "extra ==" not in r
    ]
    return ", ".join(wanted) or "nothing"


if __name__ == "__main__":
    main()
