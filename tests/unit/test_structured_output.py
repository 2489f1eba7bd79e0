"""with_structured_output: values of a schema, refusals as errors of their own, and no answer in any error."""

import asyncio
import json
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.exceptions import ModelRefusalError, OutputParserException
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1

from langchain_ssd.errors import InvalidRequest, SafetyLocked
from langchain_ssd.testing import answer, refusal, tool_call

from .chat_helpers import NO, collect, model_of

MARKER = "secret-words"
METHODS = ["json_schema", "function_calling", "json_mode"]


class Joke(BaseModel):
    """A joke."""

    setup: str
    laughs: int = Field(0, ge=0)


class JokeV1(BaseModelV1):
    """A joke."""

    setup: str
    laughs: int = 0


class JokeDict(TypedDict):
    """A joke."""

    setup: Annotated[str, ..., "how it begins"]
    laughs: Annotated[int, 0, "how many"]


VALUE = {"setup": "Why, oh why", "laughs": 3}
KINDS: dict[str, tuple[Any, Any]] = {
    "pydantic": (Joke, Joke(**VALUE)),
    "pydantic v1": (JokeV1, JokeV1(**VALUE)),
    "typed dict": (JokeDict, VALUE),
    "schema": (Joke.model_json_schema(), VALUE),
}


def script(method, value, name="Joke"):
    text = value if isinstance(value, str) else json.dumps(value)
    return tool_call(name, text) if method == "function_calling" else answer(text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_values_of_every_kind_of_schema_by_every_method(method, kind):
    schema, expected = KINDS[kind]
    name = schema["title"] if isinstance(schema, dict) else schema.__name__
    model, backend = model_of(script(method, VALUE, name))
    chain = model.with_structured_output(schema, method=method)
    assert chain.invoke("q") == expected
    assert asyncio.run(chain.ainvoke("q")) == expected
    assert list(chain.stream("q"))[-1] == expected
    assert asyncio.run(collect(chain.astream("q")))[-1] == expected
    request = backend.requests[0]
    if method == "function_calling":
        assert (request.tool_choice, request.parallel_tool_calls, request.constraint) == (name, False, None)
        assert request.tools[0]["function"]["parameters"]["properties"].keys() == VALUE.keys()
    else:
        assert request.tools == ()
        assert request.constraint.kind == {"json_schema": "json_schema", "json_mode": "json_object"}[method]
        assert request.constraint.may_refuse
        if method == "json_schema":
            assert request.constraint.value["properties"].keys() == VALUE.keys()


@pytest.mark.parametrize("method", METHODS)
def test_a_growing_value_streams(method):
    model, _ = model_of(script(method, VALUE, "Joke"))
    values = list(model.with_structured_output(KINDS["schema"][0], method=method).stream("q"))
    assert values[-1] == VALUE
    assert len(values) > 2
    assert all(value.keys() <= VALUE.keys() for value in values)


def test_a_fence_around_json_is_no_matter():
    model, _ = model_of('```json\n{"setup": "a"}\n```')
    assert model.with_structured_output(Joke, method="json_mode").invoke("q") == Joke(setup="a")


def test_raw_is_given_on_request():
    model, _ = model_of(script("json_schema", VALUE))
    found = model.with_structured_output(Joke, include_raw=True).invoke("q")
    assert found.keys() == {"raw", "parsed", "parsing_error"}
    assert (found["parsed"], found["parsing_error"]) == (Joke(**VALUE), None)
    assert found["raw"].response_metadata["ssd"]["match_ratio"] == 1.0


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────

REFUSALS = {
    "template": refusal(NO, after='{"setup": "'),
    "template at once": refusal(NO),
    "own words": answer("I am sorry, but I cannot help with that."),
}


@pytest.mark.parametrize("why", REFUSALS)
@pytest.mark.parametrize("method", METHODS)
def test_a_refusal_is_an_error_of_its_own(method, why):
    model, _ = model_of(REFUSALS[why])
    chain = model.with_structured_output(Joke, method=method)
    for run in (
        lambda: chain.invoke("q"),
        lambda: asyncio.run(chain.ainvoke("q")),
        lambda: list(chain.stream("q")),
        lambda: asyncio.run(collect(chain.astream("q"))),
    ):
        with pytest.raises(ModelRefusalError) as caught:
            run()
        assert (NO in str(caught.value)) is (why != "own words")
        assert "cannot help" not in str(caught.value)
        assert caught.value.raw_message.text
    found = model.with_structured_output(Joke, method=method, include_raw=True).invoke("q")
    assert isinstance(found["parsing_error"], ModelRefusalError)
    assert found["parsed"] is None
    assert found["raw"].text


def test_what_the_worker_says_of_a_refusal_counts():
    """The grammar's refusal branch is told by the worker, also where the words look like something else."""
    model, _ = model_of("No {way}.")
    chain = model.with_structured_output(Joke)
    with pytest.raises(OutputParserException):
        chain.invoke("q")
    message = model.invoke("q")
    message.response_metadata["ssd"]["declined"] = True
    with pytest.raises(ModelRefusalError):
        chain.last.invoke(message)


# ── what does not fit ────────────────────────────────────────────────────────────────────────────────

BAD = {
    "cut off": f'{{"setup": "{MARKER}',
    "wrong value": f'{{"setup": "{MARKER}", "laughs": -1}}',
    "missing value": '{"laughs": 1}',
    "a list": f'[{{"setup": "{MARKER}"}}]',
    "broken": f'{{"setup": {MARKER}}}',
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_value_is_an_error_that_quotes_nothing(method, bad):
    model, _ = model_of(script(method, BAD[bad]))
    chain = model.with_structured_output(Joke, method=method)
    for run in (lambda: chain.invoke("q"), lambda: list(chain.stream("q"))):
        with pytest.raises(OutputParserException) as caught:
            run()
        assert MARKER not in str(caught.value)
        assert MARKER not in str(caught.value.llm_output)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    found = model.with_structured_output(Joke, method=method, include_raw=True).invoke("q")
    assert isinstance(found["parsing_error"], OutputParserException)


def test_an_answer_that_was_cut_off_says_so():
    model, _ = model_of(answer('{"setup": "a', finish_reason="length"))
    with pytest.raises(OutputParserException, match="raise max_tokens"):
        model.with_structured_output(Joke).invoke("q")


def test_nothing_at_all_is_no_refusal():
    model, _ = model_of(answer(""))
    for method in METHODS:
        with pytest.raises(OutputParserException):
            model.with_structured_output(Joke, method=method).invoke("q")


# ── arguments ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("schema", "options", "why"),
    [
        (Joke, {"method": MARKER}, "takes: json_schema, function_calling, json_mode"),
        (Joke, {"typo": MARKER}, "unknown argument 'typo'"),
        (Joke, {"method": "function_calling", "typo": MARKER}, "unknown argument 'typo'"),
        ({"type": "object", "description": MARKER}, {}, "a JSON Schema with a title"),
        (MARKER, {}, "the schema cannot be read"),
    ],
)
def test_what_is_wrong_is_named_and_not_quoted(schema, options, why):
    model, _ = model_of("x")
    with pytest.raises(InvalidRequest, match=why) as caught:
        model.with_structured_output(schema, **options)
    assert MARKER not in str(caught.value)


def test_a_lock_holds_here_too():
    model, _ = model_of("x", lock_safety=True)
    for method in METHODS:
        with pytest.raises(SafetyLocked):
            model.with_structured_output(Joke, method=method, enforce=False)


def test_options_of_a_call_pass_through():
    model, backend = model_of(script("json_schema", VALUE))
    model.with_structured_output(Joke, temperature=0.5).invoke("q")
    assert backend.requests[0].sampling.temperature == 0.5


def test_strict_false_passes_over_what_cannot_be_kept():
    model, backend = model_of(script("json_schema", VALUE))
    model.with_structured_output(Joke, strict=False).invoke("q")
    assert backend.requests[-1].constraint.value["x-guidance"] == {"lenient": True}
    for strict in (None, True):
        model.with_structured_output(Joke, strict=strict).invoke("q")
        assert "x-guidance" not in backend.requests[-1].constraint.value
