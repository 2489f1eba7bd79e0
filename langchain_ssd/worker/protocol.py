"""What crosses the pipe between parent and worker: length-prefixed JSON frames. No pickle, no torch.

A frame is a 4-byte big-endian length and that many bytes of ASCII JSON: one object with a ``type``.
Every frame is checked against the tables below, field by field, before anything looks inside; whatever
does not fit is a :class:`~langchain_ssd.errors.ProtocolError` and closes the channel.

=============== ========= ======================================================================
type            direction meaning
=============== ========= ======================================================================
hello           to child  first frame: the two models, the engine's settings, the protocol version
submit          to child  a request, with the seconds since its caller submitted it
cancel          to child  nobody waits for this request any more
token_ids       both      tokenize plain text / the ids
tokens          both      tokenize plain text, or a conversation if there is one / the ids and their texts
close           to child  finish politely
progress        to parent loading goes on: stage and fraction
ready           to parent the pair is loaded: the engine's description of it
failed          to parent last frame: the pair cannot be loaded, or the engine broke down
beat            to parent sign of life, with counters
events          to parent what one step did for one request
call_failed     to parent a call for token_ids or tokens failed
=============== ========= ======================================================================

Text travels as ASCII with JSON escapes, so lone surrogates survive (two lone halves side by side become
the character they denote).  Infinities and NaN are written as Python's ``json`` writes them: both ends
are this module.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from ..errors import ProtocolError

VERSION = 1
FRAME_LIMIT = 64 * 1024 * 1024

Frame = dict[str, Any]
Kinds = Mapping[str, Mapping[str, type]]

TO_WORKER: Kinds = {
    "hello": {"version": int, "target": dict, "draft": dict, "config": dict},
    "submit": {"id": int, "age": float, "request": dict},
    "cancel": {"id": int},
    "token_ids": {"id": int, "text": str},
    "tokens": {"id": int, "text": str, "messages": list},
    "close": {},
}
TO_PARENT: Kinds = {
    "progress": {"stage": str, "fraction": float},
    "ready": {"info": dict},
    "failed": {"code": str, "message": str},
    "beat": {"steps": int, "busy": bool, "running": int, "queued": int},
    "events": {"id": int, "events": list},
    "token_ids": {"id": int, "ids": list},
    "tokens": {"id": int, "ids": list, "texts": list},
    "call_failed": {"id": int, "code": str, "message": str},
}

_HEADER = struct.Struct(">I")
_CHUNK = 1024 * 1024


class TruncatedFrame(ProtocolError):
    """The channel ended in the middle of a frame: most often because the other side died."""


class FrameTooLarge(ProtocolError):
    """A frame to be sent is above ``FRAME_LIMIT``."""


class Source(Protocol):
    """An unbuffered binary stream to read from."""

    def read(self, size: int, /) -> bytes | None:
        """Up to ``size`` bytes; none at the end."""


class Sink(Protocol):
    """An unbuffered binary stream to write to; it may take less than it is given."""

    def write(self, data: memoryview, /) -> int | None:
        """Write the start of ``data``; how much was taken."""


def encode(frame: Mapping[str, Any]) -> bytes:
    """One frame as bytes.

    Raises:
        ProtocolError: the frame holds something that is not JSON, or is too large.
    """
    return pack(to_json(frame))


def decode(body: bytes | bytearray, known: Kinds) -> Frame:
    """The frame in ``body``.

    Raises:
        ProtocolError: it is not a JSON object, or not one of the ``known`` frames.
    """
    try:
        frame = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ProtocolError("a frame is not valid JSON; the channel is closed") from None
    if not isinstance(frame, dict):
        raise ProtocolError("a frame is not a JSON object; the channel is closed")
    kind = frame.get("type")
    wanted = known.get(kind) if isinstance(kind, str) else None
    if wanted is None:
        raise ProtocolError("a frame has an unknown type; the channel is closed")
    if frame.keys() - {"type"} != wanted.keys() or not all(fits(frame[n], t) for n, t in wanted.items()):
        raise ProtocolError(f"a frame of type {kind} has wrong fields; the channel is closed")
    return frame


def read_frame(source: Source, known: Kinds) -> Frame | None:
    """The next frame; ``None`` when the channel ended between two frames.

    Raises:
        ProtocolError: see :func:`decode`; also for a length above ``FRAME_LIMIT`` and a cut frame.
    """
    header = _read(source, _HEADER.size)
    if not header:
        return None
    if len(header) < _HEADER.size:
        raise TruncatedFrame("the channel ended inside a frame")
    (length,) = _HEADER.unpack(header)
    if length > FRAME_LIMIT:
        raise ProtocolError("a frame is larger than the limit; the channel is closed")
    body = _read(source, length)
    if len(body) < length:
        raise TruncatedFrame("the channel ended inside a frame")
    return decode(body, known)


class FrameWriter:
    """Writes whole frames from several threads."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lock = threading.Lock()

    def send(self, frame: Mapping[str, Any]) -> None:
        """Encode and write one frame; blocks while the pipe is full."""
        self.write(encode(frame))

    def write(self, data: bytes) -> None:
        """Write one encoded frame."""
        with self._lock:
            rest = memoryview(data)
            while rest:
                rest = rest[self._sink.write(rest) or 0 :]


def to_json(value: object) -> bytes:
    """A value as ASCII JSON.

    Raises:
        ProtocolError: it is not made of plain JSON values.
    """
    try:
        return json.dumps(value, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        # Without its cause, whose text may quote what was to be sent.
        raise ProtocolError("only plain JSON values can be sent") from None


def pack(body: bytes) -> bytes:
    """One frame around JSON text.

    Raises:
        FrameTooLarge: it is above the limit.
    """
    if len(body) > FRAME_LIMIT:
        raise FrameTooLarge("a frame would be larger than the limit")
    return _HEADER.pack(len(body)) + body


def _read(source: Source, size: int) -> bytearray:
    """Up to ``size`` bytes: fewer only where the stream ends. Never allocates on a mere announcement."""
    data = bytearray()
    while len(data) < size:
        piece = source.read(min(size - len(data), _CHUNK))
        if not piece:
            break
        data += piece
    return data


def fits(value: object, wanted: type) -> bool:
    """Whether a JSON value has the wanted type; a bool is not a number, an int will do for a float."""
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, (int, float) if wanted is float else wanted)
