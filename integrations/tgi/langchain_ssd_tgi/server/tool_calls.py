"""Calls to tools out of events, in OpenAI's shape, by the rules that ``ChatSSD`` has for LangChain's.

Clients read the arguments of streamed calls leniently: they close what was left open. A call that was cut
off, or whose answer was refused after it had been shown, would then be made all the same. So such a call gets
a last slice that no reader can mend, as it does in ``ChatSSD``.
"""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCallChunk

from langchain_ssd.call_chunks import Call, CallChunks, unmendable
from langchain_ssd.events import Event, Refused, ToolCallPart

JSON = dict[str, Any]


class Calls:
    """The calls of one answer, as they come in."""

    def __init__(self) -> None:
        self._chunks = CallChunks()

    def deltas(self, event: Event) -> list[JSON]:
        """What an event adds to a stream, in the shape of ``delta.tool_calls``.

        Raises:
            ProtocolError: the event is a part of a call that has not begun, or is over.
        """
        message: AIMessageChunk | None = None
        if isinstance(event, ToolCallPart):
            message = self._chunks.part(event)
        elif isinstance(event, Refused) and event.enforced:
            message = self._chunks.withdraw()
        return [] if message is None else [_delta(chunk) for chunk in message.tool_call_chunks]

    def whole(self) -> list[JSON]:
        """All calls; none if the answer was refused.

        Readers of a whole answer are strict. So a broken call keeps the text that the model wrote, unless it
        can be read as an object: then it gets the end that no reader can mend, as in a stream.
        """
        return [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call)},
            }
            for call in self._chunks.calls
        ]


def _delta(chunk: ToolCallChunk) -> JSON:
    """A name and an id stand on the first delta of a call."""
    if chunk["id"] is None:
        return {"index": chunk["index"], "function": {"arguments": chunk["args"]}}
    function = {"name": chunk["name"], "arguments": chunk["args"]}
    return {"index": chunk["index"], "id": chunk["id"], "type": "function", "function": function}


def _arguments(call: Call) -> str:
    if call.state == "complete" or not _reads_as_object(call.arguments):
        return call.arguments
    return call.arguments + unmendable(call.arguments)


def _reads_as_object(text: str) -> bool:
    """Whether some reader takes it for one: laxer than the rule by which a call is complete."""
    try:
        return isinstance(json.loads(text, strict=False), dict)
    except ValueError:
        return False
    except RecursionError:  # nested too deeply for this reader, though perhaps not for another one
        return True
