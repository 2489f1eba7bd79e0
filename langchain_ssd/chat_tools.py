"""Tools and structured output of ``ChatSSD``: what is bound to a model before it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable

from .chat_fields import ChatFields
from .structured_output import Method, check_method, structured
from .tools import (
    ToolChoice,
    ToolLike,
    constraint_from,
    json_schema_of,
    plain_choice,
    plain_tools,
    response_format,
)


class ChatTools(ChatFields):
    """The binding half of :class:`~langchain_ssd.chat_model.ChatSSD`."""

    def bind_tools(
        self,
        tools: Sequence[ToolLike],
        *,
        tool_choice: ToolChoice = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model.

        Args:
            tools: functions, pydantic classes, dictionaries, or LangChain's own tools.
            tool_choice: "auto" (also ``None``), "none", "any" or "required" or ``True``, a tool's name, or
                OpenAI's dictionary that names one.
            parallel_tool_calls: whether one answer may hold several calls; by default it may, unless calls
                are demanded.
            strict: ``True`` makes an error of a schema that the grammar cannot keep to the letter, ``False``
                takes any JSON object as arguments.
            kwargs: more arguments of a call, such as ``temperature`` or ``response_format``.

        Raises:
            InvalidRequest: a tool cannot be read, a choice names none, or an argument is unknown.
            SafetyLocked: an argument would change locked safety settings.
        """
        plain = plain_tools(tools, strict=strict)
        given = {"tool_choice": plain_choice(tool_choice, plain), "parallel_tool_calls": parallel_tool_calls}
        kwargs |= {name: value for name, value in given.items() if value is not None}
        self._settings().override(kwargs, locked=self.lock_safety)
        constraint_from(kwargs.get("response_format"))
        return self.bind(tools=list(plain), **kwargs)

    def with_structured_output(
        self,
        schema: Mapping[str, Any] | type,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """A model whose answers are values of a schema.

        Args:
            schema: a pydantic class (answers are its instances), or a TypedDict or a JSON Schema
                (answers are dictionaries).
            method: "json_schema" holds the answer to the schema, "function_calling" asks for a call with the
                value as arguments, "json_mode" holds the answer to JSON and leaves the schema to your prompt.
            include_raw: give a dictionary with "raw", "parsed" and "parsing_error" instead.
            strict: ``False`` passes over what the grammar cannot hold an answer to, which is an error
                otherwise; for "function_calling" as in :meth:`bind_tools`.
            kwargs: more arguments of a call.

        Raises:
            InvalidRequest: the schema or the method is not understood, or an argument is unknown.
            SafetyLocked: an argument would change locked safety settings.
        """
        check_method(method)
        described = json_schema_of(schema)
        seen = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
        kwargs["ls_structured_output_format"] = seen
        if method == "function_calling":
            (tool,) = plain_tools([schema])
            name = tool["function"]["name"]
            calling = self.bind_tools(
                [tool], tool_choice=name, parallel_tool_calls=False, strict=strict, **kwargs
            )
            return structured(calling, schema, name, include_raw=include_raw)
        form = response_format(described if method == "json_schema" else None, strict)
        self._settings().override(kwargs, locked=self.lock_safety)
        return structured(self.bind(response_format=form, **kwargs), schema, None, include_raw=include_raw)
