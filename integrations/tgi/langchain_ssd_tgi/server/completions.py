"""``/v1/completions``: OpenAI's older interface. Its prompt is read as a user message."""

from __future__ import annotations

from collections.abc import Iterator

from langchain_ssd.events import Event, Finished, Token

from .answering import JSON, answer, stream
from .asking import Asked, ask_completion, prompt_of
from .connection import Connection
from .openai_bodies import CompletionBody
from .service import Service
from .transcript import Transcript, logprob, openai_head


async def completions(service: Service, connection: Connection) -> None:
    """``POST /v1/completions``."""
    config = service.config
    body = await connection.read(CompletionBody, config.max_body_bytes, config.body_timeout)
    asked = ask_completion(config, body, connection.asks_for_telemetry)
    writer = CompletionWriter(config.model_name, body, asked)
    await (stream if body.stream else answer)(service, connection, asked, writer)


class CompletionWriter:
    """Writes answers as OpenAI's completions interface does; a refusal ends with ``content_filter``.

    Args:
        model: what clients see.
        body: what was asked.
        asked: what the answer is to hold.
    """

    ends_with_done = True

    def __init__(self, model: str, body: CompletionBody, asked: Asked) -> None:
        self._echo = prompt_of(body) if body.echo else ""
        self._logprobs = body.logprobs is not None
        self._usage = body.wants_usage
        self._head = {"object": "text_completion", **openai_head("cmpl", model)}
        self._begun = False
        self.transcript = Transcript.of(asked)

    def frames(self, event: Event) -> Iterator[JSON]:
        """One chunk for what is seen; with telemetry, one chunk an event."""
        text = self.transcript.add(event)
        last = isinstance(event, Finished)
        if (text or last) and not self._begun:
            self._begun = True
            text = self._echo + text
        if text or last:
            tokens = [event] if isinstance(event, Token) else []
            reason = self.transcript.openai_reason if last else None
            yield self._chunk([self._choice(text, tokens, reason)], event)
        elif self.transcript.tells:
            yield self._chunk([], event)
        if last and self._usage:
            yield {**self._chunk([]), "usage": self.transcript.usage()}

    def _chunk(self, choices: list[JSON], event: Event | None = None) -> JSON:
        told = {} if event is None else self.transcript.told(event)
        return {**self._head, "choices": choices, **told}

    def _choice(self, text: str, tokens: list[Token], reason: str | None) -> JSON:
        return {"index": 0, "text": text, "logprobs": self._logprobs_of(tokens), "finish_reason": reason}

    def _logprobs_of(self, tokens: list[Token]) -> JSON | None:
        if not self._logprobs or not tokens:
            return None
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [logprob(token) for token in tokens],
            "top_logprobs": None,
            "text_offset": None,
        }

    def whole(self) -> JSON:
        """One completion with one choice."""
        script = self.transcript
        tokens = [] if script.refused else [token for token in script.tokens if not token.thinking]
        choice = self._choice(self._echo + script.text, tokens, script.openai_reason)
        return {**self._head, "choices": [choice], "usage": script.usage(), **script.told_whole()}

    def headers(self) -> dict[str, str]:
        """Telemetry, if it was asked for."""
        return self.transcript.headers()
