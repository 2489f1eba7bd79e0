"""``/v1/chat/completions``: OpenAI's chat interface."""

from __future__ import annotations

from collections.abc import Iterator

from langchain_ssd.events import Event, Finished, Refused, Token

from .answering import JSON, answer, stream
from .asking import Asked, ask_chat
from .connection import Connection
from .openai_bodies import ChatBody
from .service import Service
from .transcript import Transcript, logprob, openai_head


async def chat_completions(service: Service, connection: Connection) -> None:
    """``POST /v1/chat/completions``."""
    config = service.config
    body = await connection.read(ChatBody, config.max_body_bytes, config.body_timeout)
    asked = ask_chat(config, body, connection.asks_for_telemetry)
    writer = ChatWriter(config.model_name, body, asked)
    await (stream if body.stream else answer)(service, connection, asked, writer)


class ChatWriter:
    """Writes answers as OpenAI's chat interface does.

    A refusal ends with ``content_filter``; its words are both content, for those who print content, and
    ``refusal``, for those who look there.

    Args:
        model: what clients see.
        body: what was asked.
        asked: what the answer is to hold.
    """

    ends_with_done = True

    def __init__(self, model: str, body: ChatBody, asked: Asked) -> None:
        self._logprobs = bool(body.logprobs)
        self._usage = body.wants_usage
        self._head = openai_head("chatcmpl", model)
        self._begun = False
        self.transcript = Transcript.of(asked)

    def frames(self, event: Event) -> Iterator[JSON]:
        """One chunk for what is seen; with telemetry, one chunk an event."""
        text = self.transcript.add(event)
        delta, logprobs = self._delta(event, text), self._logprobs_of(event)
        if isinstance(event, Finished):
            yield self._chunk([self._choice(delta, None, self.transcript.openai_reason)], event)
            if self._usage:
                yield {**self._chunk([]), "usage": self.transcript.usage()}
        elif delta or logprobs:
            yield self._chunk([self._choice(delta, logprobs, None)], event)
        elif self.transcript.tells:
            yield self._chunk([], event)

    def _delta(self, event: Event, text: str) -> JSON:
        delta: JSON = {"content": text} if text else {}
        if isinstance(event, Token) and event.thinking and event.text:
            delta["reasoning_content"] = event.text
        if isinstance(event, Refused) and event.enforced:
            delta["refusal"] = event.text
        if self.transcript.parts:
            delta["tool_calls"] = self.transcript.parts
        if (delta or isinstance(event, Finished)) and not self._begun:
            self._begun = True
            delta = {"role": "assistant", "content": "", **delta}
        return delta

    def _choice(self, delta: JSON, logprobs: list[JSON] | None, reason: str | None) -> JSON:
        content = {"content": logprobs} if logprobs else None
        return {"index": 0, "delta": delta, "logprobs": content, "finish_reason": reason}

    def _chunk(self, choices: list[JSON], event: Event | None = None) -> JSON:
        told = {} if event is None else self.transcript.told(event)
        return {"object": "chat.completion.chunk", **self._head, "choices": choices, **told}

    def _logprobs_of(self, event: Event) -> list[JSON] | None:
        if not self._logprobs or not isinstance(event, Token) or event.thinking:
            return None
        return [_logprob(event)]

    def whole(self) -> JSON:
        """One completion with one choice."""
        script = self.transcript
        message: JSON = {"role": "assistant", "content": script.text}
        if script.thinking and any(script.thinking) and script.refused is None:
            message["reasoning_content"] = "".join(script.thinking)
        if script.refused is not None:
            message["refusal"] = script.refused.text
        calls = script.calls.whole()
        if calls:
            message.update(tool_calls=calls, content=script.text or None)
        logprobs = None
        if self._logprobs and script.refused is None:  # they spell out the words that a refusal replaces
            logprobs = {"content": [_logprob(t) for t in script.tokens if not t.thinking]}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": script.openai_reason}
        head = {"object": "chat.completion", **self._head}
        return {**head, "choices": [choice], "usage": script.usage(), **script.told_whole()}

    def headers(self) -> dict[str, str]:
        """Telemetry, if it was asked for."""
        return self.transcript.headers()


def _logprob(token: Token) -> JSON:
    return {
        "token": token.text,
        "logprob": logprob(token),
        "bytes": list(token.text.encode("utf-8")),
        "top_logprobs": [],
    }
