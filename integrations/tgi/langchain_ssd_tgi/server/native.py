"""``/generate``, ``/generate_stream`` and ``/``: text-generation-inference's own interface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from langchain_ssd.events import Event, Finished, Refused, Token

from .answering import JSON, answer, stream
from .asking import Asked, ask_generate
from .bodies import CompatBody, GenerateBody
from .connection import Connection
from .service import Service
from .transcript import Transcript, logprob

B = TypeVar("B", bound=GenerateBody)


async def generate(service: Service, connection: Connection) -> None:
    """``POST /generate``."""
    body = await _read(service, connection, GenerateBody)
    asked = _ask(service, connection, body)
    await answer(service, connection, asked, NativeWriter(body, asked))


async def generate_stream(service: Service, connection: Connection) -> None:
    """``POST /generate_stream``."""
    body = await _read(service, connection, GenerateBody)
    asked = _ask(service, connection, body)
    await stream(service, connection, asked, NativeWriter(body, asked))


async def compat_generate(service: Service, connection: Connection) -> None:
    """``POST /``: a stream if the body says so, else a list with one answer."""
    body = await _read(service, connection, CompatBody)
    asked = _ask(service, connection, body)
    writer = NativeWriter(body, asked, in_list=True)
    await (stream if body.stream else answer)(service, connection, asked, writer)


async def _read(service: Service, connection: Connection, model: type[B]) -> B:
    return await connection.read(model, service.config.max_body_bytes, service.config.body_timeout)


def _ask(service: Service, connection: Connection, body: GenerateBody) -> Asked:
    return ask_generate(service.config, body, connection.asks_for_telemetry)


class NativeWriter:
    """Writes answers as text-generation-inference does.

    A refusal keeps to its closed set of finish reasons, since old clients raise on any other; the field
    ``refusal`` in the details marks it.

    Args:
        body: what was asked.
        asked: what the answer is to hold.
        in_list: the whole answer stands in a list.
    """

    ends_with_done = False

    def __init__(self, body: GenerateBody, asked: Asked, *, in_list: bool = False) -> None:
        self._body = body
        self._details = bool(body.settings.details)
        self._in_list = in_list
        self._index = 0
        self.transcript = Transcript.of(asked)

    def frames(self, event: Event) -> Iterator[JSON]:
        """One frame a token, and a last one without a token that holds the whole text."""
        text = self.transcript.add(event)
        if isinstance(event, Token):
            yield self._frame(event, _token(event, text))
        elif isinstance(event, Refused) and event.enforced:
            yield self._frame(event, {"id": 0, "text": text, "logprob": 0.0, "special": False})
        elif isinstance(event, Finished):
            yield self._last(event)
        elif self.transcript.tells:
            yield self._frame(event, dict(_NO_TOKEN))

    def _frame(self, event: Event, token: JSON) -> JSON:
        self._index += 1
        frame: JSON = {"index": self._index, "token": token, "generated_text": None, "details": None}
        return {**frame, **self.transcript.told(event)}

    def _last(self, event: Event) -> JSON:
        frame = self._frame(event, dict(_NO_TOKEN))
        frame["generated_text"] = self._full(self.transcript.streamed)
        if self._details:
            frame["details"] = {**self._common(), "input_length": self.transcript.end.prompt_tokens}
        return frame

    def whole(self) -> Any:
        """``generated_text``, and details if they were asked for."""
        result: JSON = {"generated_text": self._full(self.transcript.text)}
        if self._details:
            tokens = [] if self.transcript.refused else [_token(t, t.text) for t in self.transcript.tokens]
            result["details"] = {**self._common(), "prefill": [], "tokens": tokens}
        result.update(self.transcript.told_whole())
        return [result] if self._in_list else result

    def headers(self) -> dict[str, str]:
        """Times in milliseconds and counts, as text-generation-inference has them."""
        end, summary = self.transcript.end, self.transcript.end.summary
        total, queued = summary.seconds or 0.0, summary.queue_seconds or 0.0
        per_token = (total - queued) / end.completion_tokens if end.completion_tokens else 0.0
        headers = {
            "x-total-time": _ms(total),
            "x-queue-time": _ms(queued),
            "x-inference-time": _ms(total - queued),
            "x-time-per-token": _ms(per_token),
            "x-prompt-tokens": str(end.prompt_tokens),
            "x-generated-tokens": str(end.completion_tokens),
        }
        return {**headers, **self.transcript.headers()}

    def _full(self, text: str) -> str:
        return self._body.inputs + text if self._body.settings.return_full_text else text

    def _common(self) -> JSON:
        end = self.transcript.end
        details: JSON = {
            "finish_reason": self.transcript.native_reason,
            "generated_tokens": end.completion_tokens,
            "seed": end.summary.seed if self._body.settings.samples else None,
        }
        if self.transcript.refused is not None:
            details["refusal"] = self.transcript.refused.text
        return details


_NO_TOKEN: JSON = {"id": 0, "text": "", "logprob": 0.0, "special": True}


def _token(token: Token, text: str) -> JSON:
    return {"id": token.token_id, "text": text, "logprob": logprob(token), "special": False}


def _ms(seconds: float) -> str:
    return str(round(1000 * max(0.0, seconds)))
