"""LangChain's tools, their choice, and the form of an answer → the plain values of a request.

Errors name a tool or an argument, and never quote a description or a schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool

from .constraint import Constraint, ConstraintKind
from .errors import InvalidRequest
from .plain_text import check_text, texts

ToolLike = Mapping[str, Any] | type | Callable[..., Any] | BaseTool
ToolChoice = str | bool | Mapping[str, Any] | None

_CHOICES = {"auto": "auto", "none": "none", "any": "required", "required": "required"}
_NO_ARGUMENTS = {"type": "object", "properties": {}}
_FORMS = "type 'json_schema', 'json_object' or 'text', or a Constraint"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What a call asks of tools and of the form of the answer, as a ``ChatRequest`` holds it."""

    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    constraint: Constraint | None = None


def tool_use(options: Mapping[str, Any]) -> ToolUse:
    """What a call's arguments say about tools; ``None`` means "not given".

    Raises:
        InvalidRequest: a tool cannot be read, two have one name, a choice names none, or a form is unknown.
    """
    tools = plain_tools(options.get("tools") or ())
    names = [tool["function"]["name"] for tool in tools]
    for number, name in enumerate(names, 1):
        if names.count(name) > 1:
            raise InvalidRequest(f"tool {number} has the name of another tool; rename one of them")
    parallel = options.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        raise InvalidRequest("parallel_tool_calls must be true or false")
    choice = plain_choice(options.get("tool_choice"), tools)
    return ToolUse(
        tools=tools,
        tool_choice=choice,
        # Small models that must call something call it again and again; who wants several can say so.
        parallel_tool_calls=choice == "auto" if parallel is None else parallel,
        constraint=constraint_from(options.get("response_format")),
    )


def plain_tools(tools: Sequence[ToolLike], *, strict: bool | None = None) -> tuple[dict[str, Any], ...]:
    """Tools of any kind that LangChain knows, in OpenAI's shape.

    Args:
        tools: functions, pydantic classes, dictionaries, or LangChain's own tools.
        strict: set for all of them, unless ``None``.

    Raises:
        InvalidRequest: one of them cannot be read, or has a name that means something else.
    """
    if not isinstance(tools, list | tuple):
        raise InvalidRequest("tools must be a list of tools")
    return tuple(_plain(tool, f"tool {number}", strict) for number, tool in enumerate(tools, 1))


def plain_choice(choice: ToolChoice, tools: Sequence[Mapping[str, Any]]) -> str:
    """The choice of a tool as one word: "auto", "none", "required", or a name.

    Raises:
        InvalidRequest: it names none of the tools, or demands a call where there are none.
    """
    word = _word(choice)
    names = [tool["function"]["name"] for tool in tools]
    if word not in ("auto", "none", "required") and word not in names:
        raise InvalidRequest("tool_choice names no tool of this request; give auto, none, any, or a name")
    if word == "required" and not names:
        raise InvalidRequest("tool_choice demands a call, but there are no tools; bind some")
    return word


def constraint_from(form: Any) -> Constraint | None:
    """What ``response_format`` asks for: OpenAI's shapes, a class or a JSON Schema, or a ``Constraint``.

    Raises:
        InvalidRequest: it is none of these.
    """
    if form is None or isinstance(form, Constraint):
        return form
    if isinstance(form, type):
        return Constraint("json_schema", json_schema_of(form))
    kind = form.get("type") if isinstance(form, Mapping) else None
    match kind:
        case "text":
            return None
        case "json_object":
            return Constraint("json_object")
        case "json_schema":
            inner = form.get("json_schema")
            inner = inner if isinstance(inner, Mapping) else {}
            lenient = {"x-guidance": {"lenient": True}} if inner.get("strict") is False else {}
            return Constraint("json_schema", {**_checked_schema(inner.get("schema")), **lenient})
        case "object":
            return Constraint("json_schema", _checked_schema(form))
        case "regex" | "choice" | "lark" if "value" in form:
            return Constraint(_kind(kind), form["value"])
    raise InvalidRequest(f"response_format is not understood; give {_FORMS}")


def response_format(schema: Mapping[str, Any] | None, strict: bool | None) -> dict[str, Any]:
    """The argument that asks for JSON: of a schema with a title, or of any."""
    if schema is None:
        return {"type": "json_object"}
    inner = {"name": schema["title"], "schema": dict(schema)}
    return {"type": "json_schema", "json_schema": inner if strict is None else {**inner, "strict": strict}}


def json_schema_of(schema: Mapping[str, Any] | type) -> dict[str, Any]:
    """The JSON Schema of a pydantic class, a TypedDict, a function's description, or itself.

    Raises:
        InvalidRequest: it cannot be read.
    """
    try:
        return convert_to_json_schema(dict(schema) if isinstance(schema, Mapping) else schema)
    except Exception:  # the message of LangChain's own error quotes what it was given
        raise InvalidRequest(
            "the schema cannot be read; give a pydantic class, a TypedDict, or a JSON Schema with a title"
        ) from None


def _plain(tool: ToolLike, where: str, strict: bool | None) -> dict[str, Any]:
    try:
        converted = convert_to_openai_tool(dict(tool) if isinstance(tool, Mapping) else tool)
    except Exception:  # whatever a tool's author wrote there
        raise InvalidRequest(
            f"{where} cannot be read; give a function with type hints, a pydantic class, a dictionary in "
            "OpenAI's shape, or a LangChain tool"
        ) from None
    function = converted.get("function", converted)  # newer interfaces of OpenAI have no inner object
    name = function.get("name") if isinstance(function, Mapping) else None
    if converted.get("type") != "function" or not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"{where} is not a function; this model calls functions only")
    if name in _CHOICES:
        raise InvalidRequest(f"{where} is called '{name}', a word of tool_choice; rename it")
    kept = {key: function[key] for key in ("name", "description", "parameters", "strict") if key in function}
    plain = {"parameters": _NO_ARGUMENTS, **kept, **({} if strict is None else {"strict": strict})}
    for text in texts(plain):
        check_text(text, where)
    return {"type": "function", "function": {**kept, **plain}}


def _word(choice: ToolChoice) -> str:
    if isinstance(choice, Mapping):
        function = choice.get("function", choice)
        choice = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(choice, str) or not choice:
            raise InvalidRequest("tool_choice as a dictionary must name a function")
        return choice
    if choice is None:
        return "auto"
    if isinstance(choice, bool):
        return "required" if choice else "none"
    if isinstance(choice, str):
        return _CHOICES.get(choice, choice)
    raise InvalidRequest("tool_choice must be a text, true or false, or a dictionary that names a function")


def _checked_schema(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        raise InvalidRequest("response_format has no JSON Schema; put it under json_schema.schema")
    for text in texts(schema):
        check_text(text, "the schema of response_format")
    return dict(schema)


def _kind(name: str) -> ConstraintKind:
    kinds: tuple[ConstraintKind, ...] = get_args(ConstraintKind)
    return next(kind for kind in kinds if kind == name)
