"""Grammars of calls, on the library itself: what it accepts are calls that can be made, and nothing else is.

Markers are plain text in one vocabulary and control tokens in the other, as in real families.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from functools import cache

import jsonschema
import llguidance
import pytest
from tokenizers import AddedToken

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import ModelSpec
from langchain_ssd.constraint import Constraint
from langchain_ssd.engine.rendering import Renderer
from langchain_ssd.engine.tool_constraints import arguments_schema, closed, constraint_of
from langchain_ssd.errors import InvalidRequest
from langchain_ssd.testing.byte_tokenizer import byte_tokenizer
from langchain_ssd.tool_formats import Call, get_format

from .test_tool_formats import FORMATS, read
from .tool_templates import tool

END = 256
PLACE = {
    "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"enum": ["C", "F", "</tool_call>"]},
        "at": {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
    },
    "required": ["city"],
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PLACE}}
NOTHING = tool("now", properties={})
ODD = tool('say "hi" / é', properties={"n": {"type": "boolean"}})
TOOLS = (WEATHER, NOTHING, ODD)
SCHEMAS = {t["function"]["name"]: t["function"]["parameters"] for t in TOOLS}
ANSWER = Constraint(
    "json_schema", {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
)


class Vocabulary:
    """A byte tokenizer whose control tokens include some markers, as this package and the library see it."""

    def __init__(self, markers: tuple[str, ...]) -> None:
        self.tokenizer = byte_tokenizer()
        self.tokenizer.add_tokens([AddedToken(m, special=False, normalized=False) for m in markers])
        self.markers, self.renderer = markers, Renderer(self.tokenizer, ModelSpec(name="tiny"))
        self.controls = self.renderer.control_texts
        description = json.loads(self.tokenizer.backend_tokenizer.to_str())
        for token in description["added_tokens"]:
            token["special"] = True
        self.library = llguidance.LLTokenizer(
            json.dumps(description), n_vocab=len(self.tokenizer), eos_token=END
        )

    def ids(self, text: str) -> list[int]:
        """Markers of this vocabulary as control tokens, everything else as text."""
        parts = re.split("(" + "|".join(map(re.escape, self.markers)) + ")", text) if self.markers else [text]
        return [
            i for p in parts for i in ([self.controls[p]] if p in self.markers else self.renderer.encode(p))
        ]

    def text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))

    def compiled(self, constraint: Constraint) -> llguidance.LLMatcher:
        assert constraint.kind == "lark"
        parts = [{"lark_grammar": "start: @answer"}, {"name": "answer", "lark_grammar": constraint.value}]
        return llguidance.LLMatcher(self.library, json.dumps({"grammars": parts}), log_level=0)

    def matcher(self, constraint: Constraint) -> llguidance.LLMatcher:
        matcher = self.compiled(constraint)
        assert not matcher.is_error(), matcher.get_error()
        return matcher

    def accepts(self, constraint: Constraint, text: str) -> bool:
        matcher, ids = self.matcher(constraint), self.ids(text)
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


@cache
def vocabulary(name: str, *, marked: bool) -> Vocabulary:
    return Vocabulary(get_format(name).markers if marked else ())


def grammar(name: str, vocab: Vocabulary, choice: str = "auto", tools=TOOLS, **options) -> Constraint:
    request = ChatRequest((ChatMessage("user", "q"),), tools=tuple(tools), tool_choice=choice, **options)
    constraint = constraint_of(request, get_format(name), vocab.controls)
    assert constraint is not None
    return constraint


def written(name: str, *calls: tuple[str, dict]) -> str:
    return get_format(name).render_calls([Call(n, arguments) for n, arguments in calls])


PARIS = ("get_weather", {"city": 'é\n"<|end|>', "days": 3, "at": {"x": -1.5}, "tags": ["a", "b"]})
FULL = ("get_weather", {"city": "", "unit": "</tool_call>", "at": None})
EVERY = pytest.mark.parametrize(("name", "marked"), [(n, m) for n in FORMATS for m in (False, True)])


@EVERY
def test_calls_to_offered_tools_are_accepted(name, marked):
    vocab = vocabulary(name, marked=marked)
    # As a control token the marker inside an argument could not be written at all.
    full = FULL if not marked else ("get_weather", {"city": "", "unit": "C", "at": None})
    for call in (PARIS, full, ("now", {}), ('say "hi" / é', {"n": True})):
        text = written(name, call).replace("<\\/", "</")  # history escapes what an answer need not
        for choice in ("auto", "required", call[0]):
            assert vocab.accepts(grammar(name, vocab, choice), text), (choice, call)


@EVERY
def test_several_calls_only_where_they_may_be_parallel(name, marked):
    vocab = vocabulary(name, marked=marked)
    text = written(name, ("now", {}), ("now", {}))
    several = name != "llama3"  # that family makes one call a turn
    assert vocab.accepts(grammar(name, vocab, "required"), text) is several
    assert vocab.accepts(grammar(name, vocab, "auto"), text) is several
    assert not vocab.accepts(grammar(name, vocab, "required", parallel_tool_calls=False), text)
    assert not vocab.accepts(grammar(name, vocab, "auto", parallel_tool_calls=False), text)
    assert not vocab.accepts(grammar(name, vocab, "now"), text)  # who names one tool wants one call


BAD = [
    ("unknown", {}),
    ("now", {"x": 1}),
    ("get_weather", {}),
    ("get_weather", {"city": 1}),
    ("get_weather", {"city": "thirteen chars"}),
    ("get_weather", {"city": "a", "days": 10}),
    ("get_weather", {"city": "a", "unit": "K"}),
    ("get_weather", {"city": "a", "at": {}}),
    ("get_weather", {"city": "a", "more": 1}),
]


@EVERY
@pytest.mark.parametrize("call", BAD, ids=str)
def test_calls_that_could_not_be_made_are_rejected(name, marked, call):
    vocab = vocabulary(name, marked=marked)
    assert not vocab.accepts(grammar(name, vocab, "required"), written(name, call))
    bare = get_format(name).opener is None
    if not (bare and call[0] == "unknown"):  # without a marker that is JSON like any other
        assert not vocab.accepts(grammar(name, vocab, "auto"), written(name, call))
    if call[0] != "now":
        assert not vocab.accepts(grammar(name, vocab, "now"), written(name, ("get_weather", {"city": "a"})))


@EVERY
def test_words_are_free_until_a_call_opens_and_forbidden_where_one_is_demanded(name, marked):
    vocab = vocabulary(name, marked=marked)
    auto, forced = grammar(name, vocab), grammar(name, vocab, "required")
    call = written(name, ("now", {}))
    opener = get_format(name).opener
    for text in ("", 'Hello.\n\n<b> {"a": [1]} é', '{"name": "Ada"}', '["now"]', "<tool_cal", "[TOOL"):
        assert vocab.accepts(auto, text), text
        assert not vocab.accepts(forced, text), text
    if opener is not None:
        spelled = [i for letter in f"{opener}x" for i in vocab.ids(letter)]
        matcher = vocab.matcher(auto)
        assert matcher.try_consume_tokens(spelled) < len(spelled)
        assert vocab.accepts(auto, f"Let me see.\n{call}")
        assert not vocab.accepts(auto, f"Let me see.{opener}")
        assert not vocab.accepts(auto, f"{opener} as in HTML")
        assert not vocab.accepts(forced, f"Let me see.\n{call}")
    else:
        assert not vocab.accepts(auto, call[:-1])
        assert not vocab.accepts(auto, f"{call} and so on")
    assert (auto.may_refuse, forced.may_refuse) == (False, True)


@EVERY
def test_beside_a_schema_an_answer_is_a_call_or_the_schema(name, marked):
    vocab = vocabulary(name, marked=marked)
    both = grammar(name, vocab, constraint=ANSWER)
    assert both.may_refuse
    assert grammar(name, vocab, constraint=replace(ANSWER, may_refuse=False)).may_refuse is False
    assert vocab.accepts(both, '{"ok": true}')
    for call in (("now", {}), FULL if not marked else ("get_weather", {"city": "a", "at": {"x": 1}})):
        assert vocab.accepts(both, written(name, call).replace("<\\/", "</"))
    assert not vocab.accepts(both, written(name, ("now", {"x": 1})))
    for text in ("", "Hello", '{"ok": 1}', '{"ok": true} ' + written(name, ("now", {}))):
        assert not vocab.accepts(both, text)
    forced = grammar(name, vocab, "required", constraint=ANSWER)
    assert not vocab.accepts(forced, '{"ok": true}')


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (Constraint("json_object"), '{"a": [1, "b"]}', "[1]"),
        (Constraint("choice", ["yes", 'no "way"']), 'no "way"', "no"),
        (Constraint("regex", "[a-c]+/d"), "abc/d", "abcd"),
    ],
)
def test_other_forms_beside_tools(constraint, good, bad):
    vocab = vocabulary("hermes", marked=False)
    both = grammar("hermes", vocab, constraint=constraint)
    assert vocab.accepts(both, good)
    assert vocab.accepts(both, written("hermes", ("now", {})))
    assert not vocab.accepts(both, bad)


# ── the law ──────────────────────────────────────────────────────────────────────────────────────────


def walk(vocab: Vocabulary, constraint: Constraint, seed: int, start: str = "") -> str | None:
    """A random answer that the grammar leads to its end; ``None`` if that takes too long."""
    rng, matcher = random.Random(seed), vocab.matcher(constraint)
    ids = vocab.ids(start)
    assert matcher.consume_tokens(ids)
    closers = [vocab.ids(c)[0] for c in '"}]']
    for _ in range(600):
        if matcher.is_accepting() and (matcher.is_stopped() or rng.random() < 0.5):
            return vocab.text(ids)
        mask = int.from_bytes(matcher.compute_bitmask(), "little")
        legal = [i for i in range(len(vocab.tokenizer)) if mask >> i & 1 and i != END]
        ending = [i for i in closers if i in legal]
        # Bytes above 127 only begin characters here, and would be most of the walk.
        plain = [i for i in legal if i in closers or i >= END or vocab.text([i]).isascii()] or legal
        token = rng.choice(ending) if ending and rng.random() < 0.4 else rng.choice(plain)
        assert matcher.consume_token(token)
        ids.append(token)
    return None


@EVERY
def test_whatever_the_grammar_leads_to_is_read_as_calls_whose_arguments_validate(name, marked):
    vocab = vocabulary(name, marked=marked)
    format_ = get_format(name)
    cases = [("required", ""), ("auto", "" if format_.opener is None else format_.opener), ("now", "")]
    ended = calls = 0
    for seed in range(24):
        choice, start = cases[seed % 3]
        answer = walk(vocab, grammar(name, vocab, choice), seed, start)
        if answer is None:
            continue
        ended += 1
        _, found = read(format_.parser(SCHEMAS), [answer])
        assert found or (choice == "auto" and format_.opener is None)
        for called, arguments, complete in found:
            assert complete
            jsonschema.validate(json.loads(arguments), SCHEMAS[called])
            calls += 1
        if choice == "now":
            assert [c for c, _, _ in found] == ["now"]
    assert ended >= 12
    assert calls >= 12


# ── schemas ──────────────────────────────────────────────────────────────────────────────────────────

HARD = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"]}


def test_strict_makes_an_error_of_what_cannot_be_kept_and_false_keeps_nothing():
    vocab = vocabulary("hermes", marked=False)
    hard = {"type": "function", "function": {"name": "f", "parameters": HARD}}
    text = written("hermes", ("f", {"a": 1}))
    assert vocab.accepts(grammar("hermes", vocab, "f", tools=[hard]), text)
    strict = {"type": "function", "function": {**hard["function"], "strict": True}}
    assert (
        'Unimplemented keys: ["not"]'
        in vocab.compiled(grammar("hermes", vocab, "f", tools=[strict])).get_error()
    )
    loose = {"type": "function", "function": {**WEATHER["function"], "strict": False}}
    assert vocab.accepts(
        grammar("hermes", vocab, "auto", tools=[loose]), written("hermes", ("get_weather", {"z": [1]}))
    )


def test_objects_are_closed_where_that_only_narrows():
    schema = {
        "type": "object",
        "properties": {"p": {"type": "object", "properties": {}}, "q": {"type": "object"}},
    }
    assert closed(schema) == {
        "type": "object",
        "properties": {
            "p": {"type": "object", "properties": {}, "additionalProperties": False},
            "q": {"type": "object"},
        },
        "additionalProperties": False,
    }
    for kept in (
        {**schema, "allOf": [{"required": ["p"]}]},
        {"type": "object", "properties": {}, "additionalProperties": True},
        {"type": "object", "properties": {}, "anyOf": [{"properties": {"z": {}}}]},
    ):
        assert closed(kept) == kept


@pytest.mark.parametrize("parameters", [{"type": "array"}, {"type": ["object", "null"]}, "x"])
def test_parameters_that_describe_no_object_are_refused(parameters):
    with pytest.raises(InvalidRequest, match="JSON Schema of an object"):
        arguments_schema({"name": "f", "parameters": parameters})


def test_a_tool_without_parameters_takes_none():
    vocab = vocabulary("hermes", marked=False)
    bare = {"type": "function", "function": {"name": "f"}}
    assert vocab.accepts(grammar("hermes", vocab, "f", tools=[bare]), written("hermes", ("f", {})))


def test_what_cannot_be_combined_or_names_nothing_is_refused():
    vocab = vocabulary("hermes", marked=False)
    with pytest.raises(InvalidRequest, match="cannot be combined"):
        grammar("hermes", vocab, constraint=Constraint("lark", "start: /secret/"))
    with pytest.raises(InvalidRequest, match="names no tool"):
        grammar("hermes", vocab, "secret")


def test_without_tools_or_with_the_choice_none_only_the_form_counts():
    request = ChatRequest((ChatMessage("user", "q"),), constraint=ANSWER)
    assert constraint_of(request, get_format("hermes"), {}) is ANSWER
    assert (
        constraint_of(replace(request, tools=TOOLS, tool_choice="none"), get_format("hermes"), {}) is ANSWER
    )
    assert constraint_of(replace(request, constraint=None), get_format("hermes"), {}) is None
