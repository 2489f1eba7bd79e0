"""Tools, their choice and the form of an answer through LangChain: what the request holds."""

import json
from typing import TypedDict

import pytest
from langchain_core.runnables import RunnableBinding, RunnableLambda

from langchain_ssd.constraint import Constraint
from langchain_ssd.errors import InvalidRequest, SafetyLocked
from langchain_ssd.tools import constraint_from

from .chat_helpers import Add, get_weather, model_of

MARKER = "secret-words"


class Move(TypedDict):
    """Move somewhere."""

    to: str


def greet(name: str) -> str:
    """Greet somebody.

    Args:
        name: whom.
    """
    return name


OPENAI = {
    "type": "function",
    "function": {"name": "ring", "description": "Ring.", "parameters": {"type": "object"}},
}
FLAT = {"type": "function", "name": "ring2", "parameters": {"type": "object"}}
ANTHROPIC = {"name": "look", "description": "Look.", "input_schema": {"type": "object", "properties": {}}}
EVERY_KIND = [get_weather, Add, Move, greet, OPENAI, FLAT, ANTHROPIC]


def asked(model, backend, text="hi", **kwargs):
    model.invoke(text, **kwargs)
    return backend.requests[-1]


@pytest.mark.filterwarnings("ignore:.*in beta")  # runnables as tools are
def test_every_kind_of_tool_becomes_a_function_in_openais_shape():
    model, backend = model_of("x")
    song = RunnableLambda(lambda x: x["topic"])
    runnable = song.as_tool(name="sing", description="Sing.", arg_types={"topic": str})
    request = asked(model.bind_tools([*EVERY_KIND, runnable]), backend)
    functions = [t["function"] for t in request.tools]
    assert [f["name"] for f in functions] == [
        "get_weather",
        "Add",
        "Move",
        "greet",
        "ring",
        "ring2",
        "look",
        "sing",
    ]
    assert all(
        t["type"] == "function" and f["parameters"]["type"] == "object"
        for t, f in zip(request.tools, functions, strict=True)
    )
    assert functions[1]["parameters"]["properties"]["b"]["description"] == "the other"
    assert functions[3]["parameters"]["properties"]["name"]["description"] == "whom."
    assert json.loads(json.dumps(request.tools)) == list(request.tools)
    assert (request.tool_choice, request.parallel_tool_calls, request.constraint) == ("auto", True, None)


@pytest.mark.parametrize(
    ("choice", "word"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("none", "none"),
        ("any", "required"),
        ("required", "required"),
        (True, "required"),
        (False, "none"),
        ("Add", "Add"),
        ({"type": "function", "function": {"name": "Add"}}, "Add"),
        ({"type": "tool", "name": "Add"}, "Add"),
    ],
)
def test_choices(choice, word):
    model, backend = model_of("x")
    bound = model.bind_tools([get_weather, Add], tool_choice=choice)
    assert isinstance(bound, RunnableBinding)
    assert asked(bound, backend).tool_choice == word
    assert asked(model, backend, tools=[get_weather, Add], tool_choice=choice).tool_choice == word


def test_more_options():
    model, backend = model_of("x")
    request = asked(model.bind_tools([Add], parallel_tool_calls=False, strict=True, temperature=0.5), backend)
    assert (request.parallel_tool_calls, request.sampling.temperature) == (False, 0.5)
    assert request.tools[0]["function"]["strict"] is True
    assert "strict" not in asked(model.bind_tools([Add]), backend).tools[0]["function"]


@pytest.mark.parametrize(
    ("tools", "options", "why"),
    [
        ([Add], {"nonsense": MARKER}, "unknown argument 'nonsense'"),
        ([Add], {"tool_choice": MARKER}, "names no tool"),
        ([Add], {"tool_choice": {"type": MARKER}}, "must name a function"),
        ([Add], {"tool_choice": 3.5}, "must be a text"),
        ([], {"tool_choice": "any"}, "there are no tools"),
        (MARKER, {}, "must be a list"),
        ([MARKER], {}, "tool 1 cannot be read"),
        ([Add, {"type": "web_search", "x": MARKER}], {}, "tool 2 is not a function"),
        ([Add, {"title": MARKER, "type": "string"}, 7], {}, "tool 3 cannot be read"),
        ([Add, {"name": "Add", "description": MARKER}], {}, "has the name of another"),
        ([{"name": "required", "description": MARKER}], {}, "a word of tool_choice"),
        ([{"name": " ", "description": MARKER}], {}, "not a function"),
        ([{"name": "f", "description": f"{MARKER}\x00"}], {}, "tool 1 holds a NUL"),
        ([{"name": "f", "parameters": {"properties": {"\ud800": MARKER}}}], {}, "lone surrogate"),
        ([Add], {"temperature": -1}, "temperature"),
        ([Add], {"response_format": {"type": MARKER}}, "response_format is not understood"),
    ],
)
def test_what_is_wrong_is_named_and_not_quoted(tools, options, why):
    model, backend = model_of("x")
    with pytest.raises(InvalidRequest, match=why) as caught:
        model.bind_tools(tools, **options).invoke("hi")
    assert MARKER not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert backend.requests == []


def test_a_bad_binding_fails_where_it_is_made():
    model, _ = model_of("x")
    for make in (lambda: model.bind_tools([1]), lambda: model.bind_tools([Add], typo=1)):
        with pytest.raises(InvalidRequest):
            make()


def test_tools_do_not_unlock_what_is_locked():
    model, backend = model_of("x", lock_safety=True)
    with pytest.raises(SafetyLocked):
        model.bind_tools([Add], enforce=False)
    assert asked(model.bind_tools([Add], temperature=1.0), backend).tools


def test_tools_are_part_of_a_cache_entrys_identity():
    model, _ = model_of("x")
    plain, bound = model._get_llm_string(), model._get_llm_string(**model.bind_tools([Add]).kwargs)
    assert plain != bound != model._get_llm_string(**model.bind_tools([get_weather]).kwargs)


@pytest.mark.parametrize(
    ("form", "constraint"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, Constraint("json_object")),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"a": 1}}},
            Constraint("json_schema", {"a": 1}),
        ),
        ({"type": "object", "title": "x"}, Constraint("json_schema", {"type": "object", "title": "x"})),
        ({"type": "regex", "value": "a+"}, Constraint("regex", "a+")),
        ({"type": "choice", "value": ["a"]}, Constraint("choice", ["a"])),
        (
            Constraint("lark", "start: /a/", may_refuse=False),
            Constraint("lark", "start: /a/", may_refuse=False),
        ),
    ],
)
def test_forms(form, constraint):
    assert constraint_from(form) == constraint


def test_a_class_is_a_form_too():
    assert constraint_from(Add).value["properties"].keys() == {"a", "b"}
