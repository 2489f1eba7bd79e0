"""Patterns of a JSON Schema: what the grammar library would write wrong is refused or said in another way."""

from __future__ import annotations

import json
import re

import pytest

from langchain_ssd.engine.json_patterns import safe
from langchain_ssd.errors import UnsupportedConstraint

from .test_grammar_text import accepts, refused


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r'^[^"]$', ["a", "\\", "-", "\n"], ['"', "ab"]),
        (r"^[^\\]$", ["a", '"'], ["\\"]),
        (r"^[^-a]{2}$", ["bc", "^b"], ["-b", "ab"]),
        (r'^[^/\\"]+\.txt$', ["a b.txt"], ['a".txt', "a/b.txt", "a\\b.txt"]),
        (r"^\[\^a\]?$", ["[^a]", "[^a"], ["[", "b"]),
        (r"^[^\x00-\x1f\\]*$", ["plain", '"'], ["\\", "a\nb"]),
        (r"^\\[^\n]$", ['\\"', "\\\\"], ["\\\n", '"']),
    ],
)
def test_negated_classes_mean_what_they_say(pattern: str, good: list[str], bad: list[str]) -> None:
    schema = {"type": "string", "pattern": pattern}
    for text in good:
        assert re.search(pattern, text)
        assert accepts("json_schema", schema, json.dumps(text)), text
    for text in bad:
        assert not accepts("json_schema", schema, json.dumps(text)), text


def test_keys_by_pattern_too() -> None:
    schema = {
        "type": "object",
        "patternProperties": {'^[^"]$': {"type": "null"}},
        "additionalProperties": False,
    }
    assert accepts("json_schema", schema, '{"a": null}')
    assert not accepts("json_schema", schema, '{"\\"": null}')


@pytest.mark.parametrize(
    "pattern",
    [
        r"^a\x01b$", r"^[\x00-\x1f]$", "a\x07", r"\u0000", r"\cA", r"\v", r"^\p{Cc}$", r"^\P{P}$",
        r"^[[:cntrl:]]$", r"^[\W&&[^a]]$", r"[^]a]", r"\x7f", r"\x{1}", r"\0",
    ],
)  # fmt: skip
def test_control_characters_by_name_are_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedConstraint, match="'pattern' names control characters"):
        safe(pattern)


@pytest.mark.parametrize(
    "pattern", [r"^\d{2}-\d{2}$", r"^a--b$", r"[\s\S]", r"\t\n\r\f", r"^\p{L}+$", "é|ß", r"\\x01"]
)
def test_all_others_stay_as_they_are(pattern: str) -> None:
    assert safe(pattern) == pattern


@pytest.mark.parametrize("schema", [{"const": "a\0b"}, {"enum": [["\x7f"]]}, {"const": {"\x01": 1}}])
def test_constants_that_cannot_be_written_are_refused(schema: dict[str, object]) -> None:
    assert "control character" in refused("json_schema", schema, UnsupportedConstraint)


def test_who_asks_for_it_has_them_passed_over() -> None:
    lenient = {"x-guidance": {"lenient": True}}
    assert accepts("json_schema", {"type": "string", "pattern": r"^\x01$", **lenient}, '"a"')
    assert accepts("json_schema", {"const": "a\0b", **lenient}, '"ab"')


def test_what_can_be_written_is() -> None:
    assert accepts(
        "json_schema",
        {"const": '\t\n\r\b\f\\"/\x85\u2028'},
        json.dumps('\t\n\r\b\f\\"/\x85\u2028', ensure_ascii=False),
    )
