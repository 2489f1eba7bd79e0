"""Grammars made to hurt: each is refused or fails its own request, in bounded time; the others go on."""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from langchain_ssd.constraint import Constraint
from langchain_ssd.engine import grammar_library, requests
from langchain_ssd.engine.grammar_library import Grammars
from langchain_ssd.errors import ConfigError, InvalidRequest, UnsupportedConstraint
from langchain_ssd.events import Failed, Finished

from .engine_helpers import answer, drain, ended, failed, request, token_ids
from .grammar_helpers import GRAMMARS, LIKELY, PAIR, engine, formed, ids, shown

SECONDS = 5.0  # of this process, for compiling and forty tokens; what was measured is a tenth of it


@pytest.fixture(autouse=True)
def _short_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the context would stop most of these before the library sees them."""
    monkeypatch.setattr(requests, "offer_of", lambda *_: None)


Schema = dict[str, Any]
INTEGER: Schema = {"type": "integer"}
STRING: Schema = {"type": "string"}


def array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def record(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


def ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def defined(**definitions: Schema) -> Schema:
    """A schema that is the first of its definitions."""
    return {**ref(next(iter(definitions))), "$defs": definitions}


def nested(wrap: Callable[[Schema], Schema], depth: int) -> Schema:
    schema = STRING
    for _ in range(depth):
        schema = wrap(schema)
    return schema


def doubled(wrap: Callable[[Schema], Schema], depth: int) -> Schema:
    return defined(**{f"d{i}": wrap(ref(f"d{i + 1}")) for i in range(depth)}, **{f"d{depth}": STRING})


def either(i: int) -> Schema:
    return {"anyOf": [record(**{f"a{i}": INTEGER}), record(**{f"b{i}": STRING})]}


def lark(*rules: str) -> str:
    return "\n".join(rules) + "\n"


ENDLESS = defined(a=array(ref("a"), minItems=1))
SCHEMAS: dict[str, Schema] = {
    "2^24 alternatives": {"allOf": [either(i) for i in range(24)]},
    "2^60 leaves": doubled(lambda r: record(l=r, r=r), 60),
    "2^30 intersections": doubled(lambda r: {"allOf": [r, r]}, 30),
    "deep arrays": nested(array, 900),
    "deep objects": nested(lambda inner: record(a=inner), 300),
    "deeper than Python": nested(array, 100_000),
    "references in a circle": defined(a=ref("b"), b=ref("a")),
    "an endless value": ENDLESS,
    "itself and more": defined(a={"allOf": [ref("a"), {"type": "object"}]}),
    "a huge enumeration": {"enum": [f"value {i * 7919 % 1_000_003}" for i in range(2500)]},
    "alternatives without number": {"anyOf": [{"const": {"k": i}} for i in range(2500)]},
    "many properties": record(**{f"p{i}": STRING for i in range(2000)}),
    "many ranges": {
        "anyOf": [{"type": "number", "minimum": i + 0.123, "maximum": 1e15 + i} for i in range(700)]
    },
    "a billion items": array(INTEGER, minItems=10**9),
    "a billion characters": {"type": "string", "minLength": 10**9},
    "a large prime": {"type": "integer", "multipleOf": 999_999_937, "minimum": 3, "maximum": 10**18},
    "nested repetitions in a schema": text("^(((a{1,100}){1,100}){1,100}){1,100}$"),
    "2^1000 states": text("^.*a.{1000}$"),
    "a long pattern": text("(a|b|c)?" * 2000),
    "2^40 patterns at once": {"allOf": [text(f"x{i}") for i in range(40)]},
    "the same by reference": doubled(lambda r: {"allOf": [r, text("x"), r]}, 8),
    "the same one by one": nested(lambda inner: {"anyOf": [inner, INTEGER], **text("x+")}, 40),
    "the same in a place": {"allOf": [array(array(text(f"x{i}"))) for i in range(40)]},
    "the same hidden": {"$ref": "#/hidden/0", "hidden": [{"allOf": [text(f"x{i}") for i in range(40)]}]},
}
REGEXES = {
    "nested repetitions": "(((a{1,100}){1,100}){1,100}){1,100}",
    "nested quantifiers": "((a+)+)+((b*)*)*(a|aa)+$",
    "a long expression": "(a|b|c)?" * 2000,
    "every letter": r"(\w|\d|\p{L}){1,2000}",
}
LARKS = {
    "2^500 intersections": lark("start: A", "A: " + " & ".join(f"/.*{i}.*/" for i in range(500))),
    "negations": lark("start: A", "A: ~/(?s:.*)(a|b){40}(?s:.*)/ & ~/.*c.{30}d.*/"),
    "ambiguity": lark("start: e", 'e: e e e | e e | "a" | /a+/ | ""'),
    "2^40 symbols": lark("start: r0", *(f"r{i}: r{i + 1} r{i + 1}" for i in range(40)), 'r40: "a"'),
    "2^40 characters": lark("start: T0", *(f"T{i}: T{i + 1} T{i + 1}" for i in range(40)), 'T40: "a"'),
    "many optional parts": lark("start: " + ' ("a"|"b")?' * 1400),
}
INLINE = [
    f"start: a\na: %json {json.dumps(SCHEMAS[name])}" for name in ("2^40 patterns at once", "deep arrays")
]
HOSTILE: dict[str, tuple[str, Any]] = {
    **{name: ("json_schema", schema) for name, schema in SCHEMAS.items()},
    **{name: ("regex", regex) for name, regex in REGEXES.items()},
    **{name: ("lark", grammar) for name, grammar in LARKS.items()},
    **{f"inline {number}": ("lark", grammar) for number, grammar in enumerate(INLINE)},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_grammar_hurts_nobody_else(name: str) -> None:
    """Beside it a request decodes as ever; the engine then serves the next."""
    kind, value = HOSTILE[name]
    asked = formed(kind, value, text="hostile", max_tokens=40, temperature=1.0, seed=1, logit_bias=LIKELY)
    worker, began = engine(), time.process_time()
    worker.submit("other", request("other", max_tokens=40), 0.0)
    refusal = ""
    try:
        worker.submit("hostile", asked, 0.0)
    except InvalidRequest as error:
        refusal = error.message
    assert len(refusal) < 160
    assert "\n" not in refusal
    events = drain(worker)
    assert time.process_time() - began < SECONDS
    assert ("hostile" in events) is not bool(refusal)
    if "hostile" in events:
        end = events["hostile"][-1]
        assert isinstance(end, Finished) or (isinstance(end, Failed) and end.code == "grammar_failed"), end
    assert token_ids(events["other"]) == token_ids(answer(engine(), request("other", max_tokens=40)))
    assert not worker.busy


def test_a_grammar_that_breaks_along_the_answer_fails_in_our_own_words() -> None:
    events = answer(engine(), formed("json_schema", ENDLESS, max_tokens=40))
    end = failed(events)
    assert (end.code, end.message) == (
        "grammar_failed",
        "the grammar became too complex along the answer; simplify it",
    )


def test_a_megabyte_of_schema_is_not_even_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Grammars, "_compile", lambda *_: pytest.fail("it was compiled"))
    for value in ({"enum": ["x" * 100] * 10_000}, {"title": "é" * 500_000}):
        with pytest.raises(InvalidRequest, match="larger than 65536 bytes"):
            engine().submit("x", formed("json_schema", value), 0.0)


def test_the_limit_is_the_users_to_set() -> None:
    schema = {"enum": ["x" * 200, "y"]}
    with pytest.raises(InvalidRequest, match="larger than 100 bytes"):
        engine(max_grammar_bytes=100).submit("x", formed("json_schema", schema), 0.0)
    assert shown(answer(engine(max_grammar_bytes=400), formed("json_schema", schema, max_tokens=400)))


def test_compiled_grammars_are_kept_and_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    grammars, compiled = Grammars(PAIR), []
    compile_ = Grammars._compile
    monkeypatch.setattr(
        Grammars, "_compile", lambda self, kind, text: (compiled.append(text), compile_(self, kind, text))[1]
    )
    for value in [0, 0, 0]:
        grammars.start(Constraint("json_schema", {"const": value}, may_refuse=False))
    assert len(compiled) == 1
    for value in range(grammar_library._KEPT):
        grammars.start(Constraint("json_schema", {"const": value}, may_refuse=False))
    grammars.start(Constraint("json_schema", {"const": 0}, may_refuse=False))  # it has just been used
    assert len(compiled) == grammar_library._KEPT
    for value in ["new", 1]:  # 1 was the one unused for longest
        grammars.start(Constraint("json_schema", {"const": value}, may_refuse=False))
    assert len(compiled) == grammar_library._KEPT + 2
    assert len(grammars._compiled) == grammar_library._KEPT


def test_large_grammars_do_not_pile_up() -> None:
    grammars = Grammars(PAIR)
    for i in range(12):
        grammars.start(Constraint("choice", [f"{i}" * 20_000], may_refuse=False))
        assert sum(map(len, grammars._compiled)) <= grammar_library._KEPT_BYTES
    assert len(grammars._compiled) > 5


def test_with_and_without_a_refusal_are_two_grammars() -> None:
    for may_refuse, legal in ((True, True), (False, False)):
        state = GRAMMARS.start(Constraint("json_object", may_refuse=may_refuse))
        assert (ids("I")[0] in state.front) is legal
        assert (state.front.only is None) is may_refuse


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "llguidance":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    worker = engine()
    with pytest.raises(ConfigError, match="pip install"):
        worker.submit("x", formed("json_object"), 0.0)
    assert ended(answer(worker, request())).finish_reason == "length"  # nobody else needs it


def test_a_tokenizer_the_library_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = PAIR.target.renderer.tokenizer
    monkeypatch.setattr(type(tokenizer), "backend_tokenizer", None)
    with pytest.raises(ConfigError, match="fast tokenizer"):
        Grammars(PAIR).start(Constraint("json_object"))


def test_a_panic_of_the_library_is_a_failed_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rust code that panics raises what no ``except Exception`` catches; the worker would be gone."""

    class PanicException(BaseException):
        pass

    class Panics:
        def is_stopped(self) -> bool:
            return False

        def compute_bitmask(self) -> bytes:
            raise PanicException("the text of the schema")

    worker = engine()
    worker.submit("victim", formed("json_object", max_tokens=20), 0.0)
    worker.submit("other", request("other", max_tokens=20), 0.0)
    worker._scheduler.waiting[0].form._answer._matcher = Panics()  # type: ignore[attr-defined]
    events = drain(worker)
    assert failed(events["victim"]).code == "grammar_failed"
    assert "schema" not in failed(events["victim"]).message
    assert token_ids(events["other"]) == token_ids(answer(engine(), request("other", max_tokens=20)))


def test_unsupported_is_an_invalid_request() -> None:
    assert issubclass(UnsupportedConstraint, InvalidRequest)
