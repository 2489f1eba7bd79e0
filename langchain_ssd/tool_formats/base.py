"""What every format of tool calls can do, and the pieces that its parser takes an answer apart into."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

Mark = Callable[[str], str]
"""Writes a marker as a grammar expression: a string, or a control token by its id."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as a conversation holds it.

    Attributes:
        name: of the tool.
        arguments: a mapping; a text if they were no JSON.
        id: what its result refers to.
    """

    name: str
    arguments: Mapping[str, Any] | str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A part of the answer's own text."""

    text: str


@dataclass(frozen=True, slots=True)
class CallOpened:
    """A call has begun; its name is empty if the model wrote none."""

    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next slice of a call's arguments, as JSON text."""

    text: str


@dataclass(frozen=True, slots=True)
class CallClosed:
    """A call has ended; ``complete``: its arguments are a JSON object."""

    complete: bool


Piece = Text | CallOpened | CallArguments | CallClosed


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a call is told from text by itself.

    Attributes:
        regex: matches the answer up to the point where it is a call; no free text begins so.
        rest: the grammar of everything behind it; ``None`` if such a call is not legal here.
    """

    regex: str
    rest: str | None


class CallParser(Protocol):
    """Reads one answer as it grows. However the text is cut, the pieces join to the same text and calls."""

    @property
    def holding(self) -> str:
        """Text that has been read and may still turn out to be part of a call."""

    @property
    def inside(self) -> bool:
        """Whether what comes next belongs to a call, or may."""

    def push(self, text: str) -> list[Piece]:
        """Read more of the answer."""

    def flush(self) -> list[Piece]:
        """The answer is over: what was held is text, and a call that is still open is not complete."""


class ToolFormat(ABC):
    """One way to write calls.

    Attributes:
        name: in the registry and in ``ModelSpec(tool_format=...)``.
        opener: the text in front of a call; ``None`` if a call is told from text by its own beginning.
        markers: texts that some tokenizers hold as control tokens; they are kept when calls are read.
    """

    name: ClassVar[str]
    opener: ClassVar[str | None] = None
    markers: ClassVar[tuple[str, ...]] = ()

    # Prompts

    @abstractmethod
    def recognises(self, template: str) -> bool:
        """Whether a chat template that knows tools writes calls like this."""

    @abstractmethod
    def how_to_call(self) -> str:
        """Tells a model how to write a call, for prompts of templates that know no tools."""

    @abstractmethod
    def render_calls(self, calls: Sequence[Call]) -> str:
        """Earlier calls, as the model would have written them."""

    def render_result(self, name: str, content: str, call_id: str) -> str:
        """A tool's result, for templates that know no tools.

        It is JSON in which ``</`` is escaped: what a tool returned cannot end the element that holds it.
        """
        body = {"name": name, "content": content} if name else {"content": content}
        return f"<tool_response>\n{element_json(body)}\n</tool_response>"

    def instruction(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """The section of a system prompt that lists the tools, for templates that know none."""
        listed = "\n".join(element_json(tool) for tool in tools)
        return (
            "# Tools\n\nYou may call functions to help with the user's request. "
            "Their signatures are within <tools></tools>:\n"
            f"<tools>\n{listed}\n</tools>\n\n{self.how_to_call()}"
        )

    def native_message(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message as this format's own templates want it."""
        return message

    # Answers

    @abstractmethod
    def parser(self, names: Collection[str]) -> CallParser:
        """A parser for one answer.

        Args:
            names: of the tools that were offered.
        """

    # Grammars, in llguidance's Lark dialect

    @abstractmethod
    def call_grammar(self, name: str, arguments: str, mark: Mark) -> str:
        """One call of one tool.

        Args:
            name: of the tool.
            arguments: the rule of its arguments.
            mark: writes markers.
        """

    @abstractmethod
    def calls_grammar(self, call: str, parallel: bool, mark: Mark) -> str:
        """One or several calls, from behind the first opener to the end of the answer.

        Args:
            call: the rule of any one call.
            parallel: whether several are legal.
            mark: writes markers.
        """

    def beginnings(self, name: str, arguments: str, call: str, parallel: bool) -> list[Beginning]:
        """Where there is no opener: how an answer begins with a call of one tool, and what must follow.

        Args:
            name: of the tool.
            arguments: the rule of its arguments.
            call: the rule of any one call.
            parallel: whether several are legal.
        """
        raise NotImplementedError(f"{self.name} has an opener")

    def call_schema(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Where there is no opener: one call as a JSON Schema, for grammars that hold other JSON beside it.

        Args:
            name: of the tool.
            arguments: their schema.
        """
        raise NotImplementedError(f"{self.name} has an opener")


def json_text(value: Any) -> str:
    """JSON as chat templates write it: with spaces, and without escapes for letters."""
    return json.dumps(value, ensure_ascii=False)


def element_json(value: Any) -> str:
    r"""JSON inside an element: ``</`` becomes ``<\/``, the same text to every JSON reader."""
    return json_text(value).replace("</", "<\\/")


def object_rule(name: str, arguments: str) -> str:
    """A call as an object with a name and arguments, of which ``arguments`` is the rule."""
    return f'{quote(f"""{{"name": {json_text(name)}, "arguments": """)} {arguments} {quote("}")}'


def quote(text: str) -> str:
    """A text as a string of the grammar, where ``%json`` would begin a schema."""
    return json_text(text).replace("%", "\\u0025")
