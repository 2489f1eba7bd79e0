"""A constraint becomes a grammar: every kind, what is refused and in which words, and no way around."""

from __future__ import annotations

import json
from typing import Any

import pytest

from langchain_ssd.constraint import Constraint
from langchain_ssd.engine.grammar_text import _KEYWORDS, json_rule, what_is_wrong
from langchain_ssd.engine.json_schemas import prepared
from langchain_ssd.errors import InvalidRequest, SSDError, UnsupportedConstraint

from .grammar_helpers import END, GRAMMARS, ids

SECRET = "zanzibar"


def accepts(kind: Any, value: Any, text: str, **options: Any) -> bool:
    """Whether a text is a whole answer of a form; told token by token, by the masks."""
    state = GRAMMARS.start(Constraint(kind, value, may_refuse=False), **options)
    for token in ids(text):
        if token not in state.front:
            return False
        state.settle(token)
    return state.over or END in state.front


def refused(kind: Any, value: Any, error: type[SSDError] = InvalidRequest) -> str:
    with pytest.raises(error) as raised:
        GRAMMARS.start(Constraint(kind, value, may_refuse=False))
    assert SECRET not in raised.value.message
    assert "\n" not in raised.value.message
    return raised.value.message


def test_a_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert accepts("json_schema", schema, '{"a": -12}')
    for text in ('{"a": "x"}', "{}", '{"a": 1, "b": 2}', '{"a": 1} ', "1"):
        assert not accepts("json_schema", schema, text)


def test_any_object() -> None:
    assert accepts("json_object", None, '{"a": [1, {"b": null}], "c": "\\n\\"é"}')
    assert not accepts("json_object", None, "[1]")


@pytest.mark.parametrize("regex", ["a/b", r"a\/b", 'say "(yes|no)"', r"\d{2}:\d{2}", "^x$", "ß+|日本"])
def test_a_regex_is_about_the_whole_answer(regex: str) -> None:
    good = {"a/b": "a/b", r"a\/b": "a/b", 'say "(yes|no)"': 'say "no"', r"\d{2}:\d{2}": "12:34", "^x$": "x"}
    text = good.get(regex, "日本")
    assert accepts("regex", regex, text)
    assert not accepts("regex", regex, text + "!")


def test_a_choice_is_taken_letter_by_letter() -> None:
    texts = ["I can", "I can't swim", 'a "b"\\', "{é}\n", "", "/x/i"]
    for text in texts:
        assert accepts("choice", texts, text)
    assert not accepts("choice", texts, "I can't")


def test_lark_with_a_schema_inside() -> None:
    lark = 'start: "call " NAME "(" arguments ")"\nNAME: /[a-z]+/\narguments: ' + json_rule({"enum": [1, 2]})
    assert accepts("lark", lark, "call f(2)")
    assert not accepts("lark", lark, "call f(3)")


def test_inline_schemas_are_held_to_the_same() -> None:
    hidden = json.dumps({"type": "object", "minProperties": 2, "title": SECRET})
    assert "minProperties" in refused("lark", f"start: a\na: %json {hidden}", UnsupportedConstraint)
    assert refused("lark", f'start: "%json {SECRET}"').startswith("the value of a lark constraint must be")
    spelled = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert not accepts("lark", f"start: %json\n {json.dumps(spelled)}", '{"\\u0061": "x"}')
    one, two = (json.dumps({"const": value}) for value in ("a & ~b", 2))
    both = f"start: one | two\none: %json {one}\ntwo: %json {two}"
    assert accepts("lark", both, '"a & ~b"')
    assert accepts("lark", both, "2")


def test_the_workers_own_rules_may_use_every_operator() -> None:
    lark = "start: A\nA: /[a-z]*/ & ~/(?s:.*)no(?s:.*)/"
    assert accepts("lark", lark, "yes", trusted=True)
    assert not accepts("lark", lark, "none", trusted=True)


def test_inline_schemas_are_in_the_same_style() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    lark = "start: " + json_rule(schema)
    for text, fits in (("[1, 2]", True), ("[1,2]", False), ("[ 1, 2]", False)):
        assert accepts("lark", lark, text) is fits
        assert accepts("json_schema", schema, text) is fits


# ── no way around ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    ['{"\\u0061": "x"}', '{"a": "x"}', '{"b": "x", "a": 1}', '{"a": 1, "a": 2}', '{"\\u0062": "\\u0041"}'],
)
def test_a_key_has_one_spelling(text: str) -> None:
    """With \\u0061 for a letter, a value would escape the schema of its key."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "additionalProperties": {"type": "string"},
    }
    assert not accepts("json_schema", schema, text)
    assert accepts("json_schema", schema, '{"a": 1, "b": "x\\n"}')


def test_a_schema_cannot_change_the_style() -> None:
    wishes = {"whitespace_flexible": True, "json_allowed_escapes": "u", "item_separator": ";", "lenient": 1}
    schema = {"type": "array", "items": {"type": "integer"}, "x-guidance": wishes}
    assert accepts("json_schema", schema, "[1, 2]")
    assert not accepts("json_schema", schema, "[1;2]")
    assert "uniqueItems" in refused("json_schema", {**schema, "uniqueItems": True}, UnsupportedConstraint)


def test_who_asks_for_it_gets_what_can_be_enforced_of_a_schema() -> None:
    schema = {
        "type": "array",
        "items": {"type": "integer"},
        "uniqueItems": True,
        "x-guidance": {"lenient": True},
    }
    assert accepts("json_schema", schema, "[1, 1]")
    assert not accepts("json_schema", schema, '["a"]')


@pytest.mark.parametrize(
    ("least", "required", "fits"), [(0, [], True), (1, [], True), (2, ["a", "b"], True), (2, ["a"], False)]
)
def test_a_least_number_of_keys_could_be_met_by_one_key_twice(
    least: int, required: list[str], fits: bool
) -> None:
    properties = {name: {"type": "integer"} for name in required}
    schema = {
        "type": "array",
        "items": {"type": "object", "properties": properties, "required": required, "minProperties": least},
    }
    if fits:
        assert accepts("json_schema", schema, "[]")
    else:
        assert "minProperties" in refused("json_schema", schema, UnsupportedConstraint)


@pytest.mark.parametrize("place", ["#/hidden", "#/a~1b/0", "#/properties/x/const", "#/%24defs/q"])
def test_what_is_referred_to_is_looked_at_wherever_it_is(place: str) -> None:
    counted = {"type": "object", "minProperties": 3}
    schema = {
        "properties": {"x": {"const": counted}, "y": {"$ref": place}},
        "hidden": counted,
        "a/b": [counted],
        "$defs": {"q": counted},
    }
    assert "minProperties" in refused("json_schema", schema, UnsupportedConstraint)


def test_inside_a_schema_with_its_own_name_references_would_mean_other_places() -> None:
    named = {"$id": "https://x.example/y", "$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}
    assert accepts("json_schema", named, "7")
    inside = {"properties": {"w": named}, "$defs": {"n": {"type": "null"}}}
    assert "'$id'" in refused("json_schema", inside, UnsupportedConstraint)
    assert accepts(
        "json_schema", {"properties": {"id": {"const": 1}, "$id": {"const": 2}}}, '{"id": 1, "$id": 2}'
    )


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        ({"allOf": [{"pattern": "a"}] * 8}, True),
        ({"allOf": [{"pattern": "a"}] * 9}, False),
        ({"properties": {f"p{i}": {"pattern": "a", "format": "date"} for i in range(50)}}, True),
        ({"anyOf": [{"pattern": "a", "minLength": 1} for i in range(50)]}, True),
        (
            {"allOf": [{"properties": {f"p{i}": {"pattern": "a"}}} for i in range(9)]},
            False,
        ),  # they might be one
        ({"allOf": [{"$ref": "#/$defs/a"}] * 3, "$defs": {"a": {"allOf": [{"pattern": "x"}] * 3}}}, False),
        ({"$ref": "#/$defs/t", "$defs": {"t": {"items": {"$ref": "#/$defs/t"}, "pattern": "a"}}}, True),
    ],
)
def test_how_much_a_text_must_satisfy_at_once(schema: dict[str, Any], fits: bool) -> None:
    if fits:
        prepared(schema)
    else:
        with pytest.raises(UnsupportedConstraint, match="at once"):
            prepared(schema)


def test_unknown_formats_are_notes_and_known_ones_are_kept() -> None:
    assert accepts("json_schema", {"type": "string", "format": "my-own"}, '"anything"')
    assert accepts("json_schema", {"type": "string", "format": "date"}, '"2024-02-29"')
    assert not accepts("json_schema", {"type": "string", "format": "date"}, '"tomorrow"')


def test_what_only_looks_like_a_keyword_is_left_alone() -> None:
    value = {"format": "mine", "minProperties": 7}
    assert accepts("json_schema", {"const": value}, json.dumps(value))
    schema = {
        "type": "object",
        "properties": {"format": {"const": 1}, "minProperties": {"const": 9}},
        "required": ["format"],
    }
    assert accepts("json_schema", schema, '{"format": 1, "minProperties": 9}')


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────

ILL_FORMED: list[tuple[str, Any]] = [
    ("json_schema", None),
    ("json_schema", [SECRET]),
    ("json_schema", SECRET),
    ("json_schema", {"const": float("nan"), "title": SECRET}),
    ("json_schema", {"const": {SECRET}}),
    ("json_object", {"type": SECRET}),
    ("regex", 7),
    ("regex", None),
    ("choice", []),
    ("choice", SECRET),
    ("choice", [SECRET, 7]),
    ("choice", {SECRET: 1}),
    ("lark", [SECRET]),
    ("lark", SECRET + "\ud800"),
]


@pytest.mark.parametrize(("kind", "value"), ILL_FORMED)
def test_a_value_of_the_wrong_kind(kind: str, value: Any) -> None:
    assert refused(kind, value).startswith(f"the value of a {kind} constraint must be ")


UNSUPPORTED: list[tuple[str, Any, str]] = [
    ("json_schema", {"not": {"const": SECRET}}, "'not'"),
    ("json_schema", {"type": "array", "contains": {"const": SECRET}}, "'contains'"),
    ("json_schema", {"oneOf": [{"type": "integer"}, {"type": "number", "title": SECRET}]}, "'oneOf'"),
    ("json_schema", {"$ref": f"https://{SECRET}.example/schema.json"}, "local references"),
    ("json_schema", {"$ref": f"file:///etc/{SECRET}"}, "local references"),
    ("json_schema", {"$ref": f"#/$defs/{SECRET}"}, "check its references"),
    ("json_schema", {"$ref": f"#{SECRET}", "$defs": {"a": {"$anchor": SECRET}}}, "local references"),
    ("lark", f"start: /a/ & /{SECRET}/", "'&' or '~'"),
    ("lark", f"start: A\nA: ~/{SECRET}/", "'&' or '~'"),
    ("lark", f'start: "{SECRET}" "~"', "'&' or '~'"),
    (
        "json_schema",
        {"allOf": [{"type": "string"}, {"type": "integer", "title": SECRET}]},
        "nothing can satisfy",
    ),
    ("json_schema", {"type": SECRET}, "not valid"),
    ("json_schema", {"enum": [], "title": SECRET}, "nothing can satisfy"),
    ("json_schema", {"type": "string", "pattern": f"(?={SECRET})"}, "not"),
    ("regex", f"({SECRET}", "not valid"),
    ("regex", f"(?<!{SECRET})x", "not"),
    ("lark", f'start: "{SECRET}', "not valid"),
    ("lark", f'begin: "{SECRET}"', "not valid"),
    ("lark", f"start: {SECRET}", "not valid"),
    ("lark", f"start: x\nx[max_tokens=3]: /{SECRET}*/", "'max_tokens'"),
    ("lark", f'start: x "y"\nx[capture, stop="{SECRET}"]: /.*/', "'stop'"),
]


@pytest.mark.parametrize(("kind", "value", "why"), UNSUPPORTED)
def test_what_cannot_be_enforced_is_refused_in_our_own_words(kind: str, value: Any, why: str) -> None:
    message = refused(kind, value, UnsupportedConstraint)
    assert why in message
    assert "constraint is refused: " in message or "schema is refused: " in message


def test_a_large_grammar_is_refused_before_it_is_read() -> None:
    big = SECRET * 10_000
    for kind, value in (
        ("regex", big),
        ("lark", f'start: "{big}"'),
        ("choice", [big]),
        ("json_schema", {"const": big}),
    ):
        assert "larger than 65536 bytes" in refused(kind, value)
    half = SECRET * 4000  # more than rules of somebody else's may have
    assert accepts("lark", f'start: "{half}" | "x"', "x", trusted=True)
    for lark in (f'start: "{big}"', "start: a\na: " + json_rule({"type": "string", "pattern": half})):
        with pytest.raises(InvalidRequest, match="larger than"):
            GRAMMARS.start(Constraint("lark", lark, may_refuse=False), trusted=True)


def test_a_schema_may_hold_what_begins_an_inline_schema() -> None:
    schema = {"type": "object", "properties": {"%json {": {"const": "%json"}}, "required": ["%json {"]}
    assert accepts("lark", "start: " + json_rule(schema), '{"%json {": "%json"}', trusted=True)


def test_of_what_means_much_less_is_taken() -> None:
    pattern = "(a|b)?" * 4000
    for kind, value in (
        ("regex", pattern),
        ("lark", f"start: /{pattern}/"),
        ("json_schema", {"type": "array", "items": {"type": "string", "pattern": pattern}}),
        ("json_schema", {"type": "object", "patternProperties": {pattern: {}}}),
    ):
        assert "larger than 16384 bytes" in refused(kind, value)
    text = "a text " * 4000
    for kind, value in (
        ("choice", [text]),
        ("json_schema", {"const": text}),
        ("json_schema", {"enum": [{"pattern": text}]}),
    ):
        GRAMMARS.start(Constraint(kind, value, may_refuse=False))


def test_words_for_the_librarys_messages_name_keywords_only() -> None:
    for keyword in _KEYWORDS:
        assert f"'{keyword}'" in what_is_wrong(f'Unimplemented keys: ["{keyword}"]\n {SECRET}')
    for message in (
        SECRET,
        f"Unimplemented keys: [{SECRET}]",
        f"too big: {SECRET}",
        f"{SECRET} limit",
        f"NoExtension {SECRET}",
    ):
        assert SECRET not in what_is_wrong(message)


def test_thinking_comes_before_the_answer() -> None:
    """The byte tokenizer has no tags, so they are text; the answer's form begins after them."""
    for text, opened, fits in [
        ("yes", False, True),
        ("<think>hm, no</think>yes", False, True),
        ("hm, no</think>yes", False, False),
        ("hm, no</think>yes", True, True),
        ("yes", True, False),
        ("</think>yes", True, True),
        ("hm</think>hm</think>yes", True, False),  # it ends at the first closing tag
    ]:
        assert accepts("choice", ["yes"], text, thinks=True, opened=opened) is fits, text
