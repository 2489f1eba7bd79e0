"""Answers → values of a schema, for ``with_structured_output``. A refusal is an error of its own.

What LangChain's own parsers say when something does not fit quotes the answer; what is raised here does not.
The answer is in ``include_raw=True``'s "raw", and in a refusal's ``raw_message``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Literal, get_args

from langchain_core.exceptions import ModelRefusalError, OutputParserException
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.json import parse_partial_json
from langchain_core.utils.pydantic import is_basemodel_subclass

from .errors import InvalidRequest

Method = Literal["json_schema", "function_calling", "json_mode"]
_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*?)(?:```|$)", re.DOTALL)
METHODS: tuple[Method, ...] = get_args(Method)


class SchemaParser(BaseCumulativeTransformOutputParser[Any]):
    """Reads one value out of an answer, also while it streams.

    Attributes:
        schema_class: a pydantic class to make, or ``None`` for plain dictionaries.
        tool: the tool whose arguments are the value; ``None`` if the answer's text is.
    """

    schema_class: type[Any] | None = None
    tool: str | None = None

    def parse(self, text: str) -> Any:
        """Read a text that is JSON."""
        return self.parse_result([Generation(text=text)])

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """The value; ``None`` while too little of it has come.

        Raises:
            ModelRefusalError: the answer is a refusal.
            OutputParserException: the answer is over, and is no value of the schema.
        """
        generation = result[0]
        message = generation.message if isinstance(generation, ChatGeneration) else None
        over = not partial
        if message is not None:
            over |= "finish_reason" in message.response_metadata
            if over:
                _check_refusal(message, self.tool)
        data = self._call(message) if self.tool and message is not None else _json(generation.text, over)
        if isinstance(data, dict):
            return self._value(data, message, over=over)
        if over:
            raise OutputParserException(_problem(message, "holds no value of the schema"))
        return None

    def _call(self, message: BaseMessage) -> Any:
        calls = message.tool_calls if isinstance(message, AIMessage) else []
        return next((call["args"] for call in calls if call["name"] == self.tool), None)

    def _value(self, data: dict[str, Any], message: BaseMessage | None, *, over: bool) -> Any:
        if self.schema_class is None:
            return data
        make = getattr(self.schema_class, "model_validate", None) or self.schema_class.parse_obj
        try:
            return make(data)
        except ValueError:  # pydantic's own, which quotes the answer
            if over:
                raise OutputParserException(_problem(message, "does not fit the schema")) from None
            return None


def structured(
    model: Runnable[Any, AIMessage], schema: Any, tool: str | None, *, include_raw: bool
) -> Runnable[Any, Any]:
    """A bound model with its parser behind it.

    Args:
        model: bound to what makes it answer in the schema.
        schema: the class, or the description, to read.
        tool: the tool whose arguments are the value; ``None`` for the answer's text.
        include_raw: also give the message, and errors of the parser as values.
    """
    made = schema if isinstance(schema, type) and is_basemodel_subclass(schema) else None
    parser = SchemaParser(schema_class=made, tool=tool)
    if not include_raw:
        return model | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def check_method(method: str) -> None:
    """Refuse an unknown method.

    Raises:
        InvalidRequest: it is none of :data:`METHODS`.
    """
    if method not in METHODS:
        raise InvalidRequest(f"unknown method; with_structured_output takes: {', '.join(METHODS)}")


def _json(text: str, over: bool) -> Any:
    """The object in a text; its beginning, while the text grows."""
    fenced = _FENCE.search(text)
    body = fenced[1] if fenced else text
    try:
        return json.loads(body) if over else parse_partial_json(body)
    except (ValueError, RecursionError):
        return None


def _check_refusal(message: BaseMessage, tool: str | None) -> None:
    metadata = message.response_metadata
    for block in message.content if isinstance(message.content, list) else []:
        if isinstance(block, dict) and block.get("type") == "refusal":
            raise ModelRefusalError.from_refusal(block, raw_message=message)  # type: ignore[arg-type]
    if metadata.get("finish_reason") == "refusal":
        raise ModelRefusalError(raw_message=message)
    if _declined(message, tool):
        raise ModelRefusalError("Model answered in its own words instead of the schema", raw_message=message)


def _declined(message: BaseMessage, tool: str | None) -> bool:
    """Whether the model took the way out that a grammar leaves it: words, where a value was asked for."""
    metadata = message.response_metadata
    ssd = metadata.get("ssd")
    if isinstance(ssd, Mapping) and ssd.get("declined"):
        return True
    if metadata.get("finish_reason") != "stop" or not message.text.strip():
        return False
    called = isinstance(message, AIMessage) and (message.tool_calls or message.invalid_tool_calls)
    return not called if tool else "{" not in message.text


def _problem(message: BaseMessage | None, what: str) -> str:
    cut = message is not None and message.response_metadata.get("finish_reason") == "length"
    return f"the answer {what}" + ("; it was cut off, raise max_tokens" if cut else "")
