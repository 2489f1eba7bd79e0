"""The values inside the frames: settings, requests and events to JSON objects and back. No torch.

Nothing is rebuilt on trust: every field's type is checked, and what does not fit is a
:class:`~langchain_ssd.errors.ProtocolError` that quotes nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, get_args

from ..backend import ChatMessage, ChatRequest, Role, TextToken
from ..config import EngineConfig, ModelSpec, RefusalPolicy, Sampling, Settings, SSDConfig
from ..constraint import Constraint, ConstraintKind
from ..errors import ConfigError, InvalidRequest, ProtocolError
from ..events import KINDS, Event, Failed, Finished, Summary, event_from_wire
from .protocol import FRAME_LIMIT, VERSION, Frame, encode, fits, pack, to_json

_ENVELOPE = 1024  # room for what surrounds a request inside its frame

# --- hello --------------------------------------------------------------------------------------------


def hello(target: ModelSpec, draft: ModelSpec, config: EngineConfig) -> Frame:
    """The first frame.

    Raises:
        ConfigError: the settings hold something that is not plain JSON.
    """
    try:
        parts = {
            "target": target.model_dump(mode="json"),
            "draft": draft.model_dump(mode="json"),
            "config": config.model_dump(mode="json"),
        }
        frame = {"type": "hello", "version": VERSION, **parts}
        encode(frame)
    except (ValueError, ProtocolError):
        raise ConfigError("model settings must be plain JSON values (see ModelSpec.quantization)") from None
    return frame


def hello_from_wire(frame: Frame) -> tuple[ModelSpec, ModelSpec, EngineConfig]:
    """The pair and the settings that a hello frame describes.

    Raises:
        ProtocolError: it was written by another version, or describes nothing.
    """
    if frame["version"] != VERSION:
        raise ProtocolError("langchain-ssd was upgraded while running; restart this process")
    try:
        target, draft = (ModelSpec.model_validate(frame[name]) for name in ("target", "draft"))
        return target, draft, EngineConfig.model_validate(frame["config"])
    except ValueError:
        raise ProtocolError("a hello frame does not describe a pair") from None


# --- requests -----------------------------------------------------------------------------------------

_SETTINGS: dict[str, type[Settings]] = {"sampling": Sampling, "safety": SSDConfig, "refusal": RefusalPolicy}
_MESSAGE_FIELDS = tuple(f.name for f in fields(ChatMessage))
_CONSTRAINT_FIELDS = tuple(f.name for f in fields(Constraint))
_REQUEST_FIELDS = tuple(f.name for f in fields(ChatRequest))


def request_to_wire(request: ChatRequest) -> Frame:
    """A request as a JSON object."""
    wire = {name: getattr(request, name) for name in _REQUEST_FIELDS}
    constraint = request.constraint
    wire["constraint"] = constraint and {name: getattr(constraint, name) for name in _CONSTRAINT_FIELDS}
    wire["messages"] = messages_to_wire(request.messages)
    for name in _SETTINGS:
        wire[name] = wire[name].model_dump(mode="json")
    return wire


def messages_to_wire(messages: Sequence[ChatMessage]) -> list[Frame]:
    """A conversation as JSON objects."""
    return [{name: getattr(message, name) for name in _MESSAGE_FIELDS} for message in messages]


def messages_from_wire(wire: Any) -> tuple[ChatMessage, ...]:
    """Rebuild a conversation from :func:`messages_to_wire`.

    Raises:
        ProtocolError: the objects are no messages.
    """
    try:
        return tuple(_message_from_wire(message) for message in _objects(wire))
    except (KeyError, TypeError, ValueError):
        raise ProtocolError("a frame holds something that is no message") from None


def request_from_wire(wire: Frame) -> ChatRequest:
    """Rebuild a request from :func:`request_to_wire`.

    Raises:
        ProtocolError: the object does not describe a request.
    """
    try:
        values: dict[str, Any] = {name: model.model_validate(wire[name]) for name, model in _SETTINGS.items()}
        values["messages"] = messages_from_wire(wire["messages"])
        values["tools"] = _objects(wire["tools"])
        values["tool_choice"] = _checked(wire["tool_choice"], str)
        values["parallel_tool_calls"] = _checked(wire["parallel_tool_calls"], bool)
        values["constraint"] = _constraint_from_wire(wire["constraint"])
        values["prefill"] = _checked(wire["prefill"], str)
        values["include_thinking"] = _checked(wire["include_thinking"], bool)
        values["timeout"] = None if wire["timeout"] is None else float(_checked(wire["timeout"], float))
        if wire.keys() != values.keys():
            raise KeyError("unknown field")
    except (KeyError, TypeError, ValueError, ProtocolError):
        raise ProtocolError("a submit frame does not describe a request") from None
    return ChatRequest(**values)


def request_body(request: ChatRequest) -> bytes:
    """A request as JSON text, made in the submitting thread so that later changes cannot reach it.

    Raises:
        InvalidRequest: its tools or tool calls are not plain JSON, or it is too large.
    """
    try:
        body = to_json(request_to_wire(request))
    except (ValueError, ProtocolError):
        raise InvalidRequest("tools, tool calls and settings must be plain JSON values") from None
    if len(body) > FRAME_LIMIT - _ENVELOPE:
        raise InvalidRequest(f"the request is larger than {FRAME_LIMIT // 2**20} MiB; send less text")
    return body


def encode_submit(request_id: int, body: bytes, submitted: float) -> bytes:
    """A submit frame around :func:`request_body`; its age is taken now, when it is about to be written."""
    age = time.monotonic() - submitted
    head = f'{{"type":"submit","id":{request_id},"age":{age:.6f},"request":'
    return pack(head.encode("ascii") + body + b"}")


def _constraint_from_wire(wire: Frame | None) -> Constraint | None:
    if wire is None:
        return None
    constraint = Constraint(**wire)
    if constraint.kind not in get_args(ConstraintKind):
        raise KeyError("unknown kind")
    _checked(constraint.may_refuse, bool)
    return constraint


def _message_from_wire(wire: Frame) -> ChatMessage:
    message = ChatMessage(**{**wire, "tool_calls": _objects(wire["tool_calls"])})
    _checked(message.content, str)
    for optional in (message.name, message.tool_call_id):
        if optional is not None:
            _checked(optional, str)
    if message.role not in get_args(Role):
        raise ValueError("unknown role")
    return message


def _checked(value: Any, wanted: type) -> Any:
    if not fits(value, wanted):
        raise TypeError("wrong type")
    return value


def _objects(value: Any) -> tuple[dict[str, Any], ...]:
    return tuple(_checked(item, dict) for item in _checked(value, list))


# --- tokens -------------------------------------------------------------------------------------------


def tokens_call(source: str | Sequence[ChatMessage]) -> Frame:
    """A tokens frame to the worker, without its number."""
    text, messages = (source, ()) if isinstance(source, str) else ("", source)
    return {"type": "tokens", "text": text, "messages": messages_to_wire(messages)}


def tokens_frame(request_id: int, tokens: Sequence[TextToken]) -> Frame:
    """Tokens and their texts, as one frame."""
    ids, texts = [token.id for token in tokens], [token.text for token in tokens]
    return {"type": "tokens", "id": request_id, "ids": ids, "texts": texts}


def tokens_from_wire(frame: Frame) -> list[int] | list[TextToken] | None:
    """The ids of a token_ids frame, the tokens of a tokens frame; ``None`` for any other.

    Raises:
        ProtocolError: ids are no integers, or texts are no texts.
    """
    if "ids" not in frame:
        return None
    ids, texts = frame["ids"], frame.get("texts")
    if not all(type(token) is int for token in ids):
        raise ProtocolError("token ids are not integers; the channel is closed")
    if texts is None:
        return list(ids)
    if len(texts) != len(ids) or not all(isinstance(text, str) for text in texts):
        raise ProtocolError("the texts of tokens are no texts; the channel is closed")
    return [TextToken(token, text) for token, text in zip(ids, texts, strict=True)]


# --- events -------------------------------------------------------------------------------------------


def is_terminal(event: Event) -> bool:
    """Whether a response ends with this event."""
    return isinstance(event, (Finished, Failed))


def events_frame(request_id: int, events: Sequence[Event]) -> Frame:
    """What one step did for one request, as one frame."""
    return {"type": "events", "id": request_id, "events": [event.to_wire() for event in events]}


def events_from_wire(wires: Sequence[Any]) -> list[Event]:
    """The events of an events frame.

    Raises:
        ProtocolError: one of them is none of ours, or a field has the wrong type.
    """
    try:
        return [_event(_checked(wire, dict)) for wire in wires]
    except (KeyError, TypeError):
        raise ProtocolError(
            "an events frame holds something that is no event; the channel is closed"
        ) from None


def _event(wire: Frame) -> Event:
    if _checked(wire["kind"], str) == Finished.kind:
        _check_fields(_checked(wire["summary"], dict), _DEFAULTS[Summary])
    _check_fields(wire, _DEFAULTS[KINDS[wire["kind"]]])
    return event_from_wire(wire)


def _check_fields(wire: Frame, defaults: Mapping[str, object]) -> None:
    """Every field must look like the schema's default; where that is None, a number or an object will do."""
    for name, default in defaults.items():
        if default is not None:
            _checked(wire[name], type(default))
        elif isinstance(wire[name], (str, list)):
            raise TypeError("wrong type")


def _default(of: Field[Any]) -> object:
    return of.default_factory() if of.default_factory is not MISSING else of.default


_DEFAULTS: dict[type, dict[str, object]] = {
    schema: {f.name: _default(f) for f in fields(schema) if f.name != "summary"}
    for schema in (*KINDS.values(), Summary)
}
