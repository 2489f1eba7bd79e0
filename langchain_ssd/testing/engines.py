"""A scripted engine for the real worker process: fault tests without models and without torch.

Give ``engine="langchain_ssd.testing.engines:build_scripted"`` to a
:class:`~langchain_ssd.worker.client.LocalBackend`.  The last user message then says what happens; words
that are no directive are ignored:

==================== ===============================================================================
directive            effect
==================== ===============================================================================
``echo N``           the answer has N tokens, "w0 w1 w2 ..." (3 unless told)
``slow S``           every step takes S seconds while this request runs
``invalid``          the request is refused before anything is computed
``fail after K``     after K tokens this request fails
``refuse after K``   after K tokens the answer becomes a refusal
``raise after K``    after K tokens the engine as a whole raises, quoting the prompt
``hang after K``     after K tokens the engine makes no further step, while the heartbeat goes on
``exit after K``     after K tokens the process ends with exit status 7
``crash after K``    after K tokens the process is killed
==================== ===============================================================================

The target's name says how loading goes: ``missing`` (a configuration error), ``broken`` (an exception),
``stuck`` (it never ends), ``dead`` (the process ends), ``slow`` (a second, with progress), ``noisy`` (it
prints to standard output and reads standard input); any other name loads at once.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ..backend import ChatMessage, ChatRequest, TextToken
from ..config import EngineConfig, ModelSpec
from ..engine.scheduler import Scheduler
from ..errors import InvalidRequest, ModelNotFound, NonFiniteLogits
from ..events import Event, Failed, Finished, FinishReason, Queued, Refused, Summary, Token

_DIRECTIVE = re.compile(r"\b(echo|slow|(?:fail|refuse|raise|hang|exit|crash) after) (\d+(?:\.\d+)?)")
_FOR_EVER = 3600.0


def build_scripted(
    target: ModelSpec, draft: ModelSpec, config: EngineConfig, progress: Callable[[str, float], None]
) -> ScriptedEngine:
    """Build the engine, or fail as the target's name says.

    Raises:
        ModelNotFound: the target is called ``missing``.
    """
    match target.name:
        case "missing":
            raise ModelNotFound("there is no model called missing; name one that exists")
        case "broken":
            raise RuntimeError(f"loading failed in {os.getcwd()}")
        case "stuck":
            time.sleep(_FOR_EVER)
        case "dead":
            os._exit(9)
        case "noisy":
            os.write(1, b"printed by a library")
            sys.stdout.write("printed again" * 1000 + sys.stdin.read())
        case "slow":
            for part in range(4):
                progress("target", part / 4)
                time.sleep(0.25)
    progress("done", 1.0)
    return ScriptedEngine(target.name, draft.name, config)


@dataclass(slots=True)
class _Script:
    """One request in flight, and what its last user message asks for."""

    request_id: str
    request: ChatRequest
    prompt: str
    directives: dict[str, float]
    deadline: float | None
    emitted: int = 0

    @property
    def length(self) -> int:
        """Tokens of the whole answer."""
        wanted = int(self.directives.get("echo", 3))
        return min(wanted, self.request.sampling.max_tokens or wanted)

    def due(self, directive: str) -> bool:
        """Whether the moment of a directive has come."""
        return self.directives.get(f"{directive} after") == self.emitted


class ScriptedEngine:
    """Satisfies the engine's interface; one token for every running request a step."""

    def __init__(self, target: str, draft: str, config: EngineConfig) -> None:
        self._names = {"target": {"name": target}, "draft": {"name": draft}}
        self._scheduler: Scheduler[_Script] = Scheduler(config.max_batch, config.max_queue)
        self.steps = 0

    @property
    def busy(self) -> bool:
        """Whether a step would do something."""
        return bool(self._scheduler.running or self._scheduler.waiting)

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._scheduler.running)

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._scheduler.waiting)

    def submit(self, request_id: str, request: ChatRequest, now: float) -> Queued:
        """Queue a request.

        Raises:
            InvalidRequest: it asks to be refused.
            Overloaded: the queue is full.
        """
        prompt = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        if re.search(r"\binvalid\b", prompt):
            raise InvalidRequest("the request asked to be refused")
        directives = {name: float(value) for name, value in _DIRECTIVE.findall(prompt)}
        deadline = None if request.timeout is None else now + request.timeout
        self._scheduler.submit(_Script(request_id, request, prompt, directives, deadline))
        words = len(prompt.split())
        return Queued(words, words)

    def cancel(self, request_id: str) -> None:
        """Forget a request; unknown ones are ignored."""
        if not self._scheduler.drop_waiting(request_id):
            for script in [s for s in self._scheduler.running if s.request_id == request_id]:
                self._scheduler.retire(script)

    def step(self, now: float) -> list[tuple[str, Event]]:
        """One token for everyone who runs."""
        out: list[tuple[str, Event]] = []
        for script, error in self._scheduler.expired(now):
            out.append((script.request_id, Failed(error.code, error.message)))
            if script in self._scheduler.running:
                self._scheduler.retire(script)
        self._scheduler.admit()
        time.sleep(max((s.directives.get("slow", 0.0) for s in self._scheduler.running), default=0.0))
        for script in list(self._scheduler.running):
            out += [(script.request_id, event) for event in self._advance(script)]
        self.steps += 1
        return out

    def token_ids(self, text: str) -> list[int]:
        """The bytes of the text."""
        return list(text.encode("utf-8"))

    def tokenize(self, source: str | Sequence[ChatMessage]) -> list[TextToken]:
        """One token a character; a conversation is its messages, one a line."""
        text = source if isinstance(source, str) else "\n".join(f"{m.role}: {m.content}" for m in source)
        return [TextToken(ord(character), character) for character in text]

    def info(self) -> dict[str, Any]:
        """The names of the two models."""
        return {**self._names, "scripted": True}

    def close(self) -> None:
        """There is nothing to release."""

    def _advance(self, script: _Script) -> list[Event]:
        _misbehave(script)
        index = script.emitted
        if script.due("fail"):
            error = NonFiniteLogits("the request asked to fail")
            return self._last(script, Failed(error.code, error.message))
        if script.due("refuse"):
            refused = Refused(index, text="No.")
            return [refused, *self._last(script, _finished(script, "refusal"))]
        if index >= script.length:
            full = script.request.sampling.max_tokens == script.length
            return self._last(script, _finished(script, "length" if full else "stop"))
        script.emitted += 1
        return [Token(index, index, f"w{index} ")]

    def _last(self, script: _Script, event: Event) -> list[Event]:
        self._scheduler.retire(script)
        return [event]


def _finished(script: _Script, reason: FinishReason) -> Finished:
    words = len(script.prompt.split())
    return Finished(reason, words, script.emitted, summary=Summary(emitted=script.emitted))


def _misbehave(script: _Script) -> None:
    """What takes the whole engine down."""
    if script.due("raise"):
        raise RuntimeError(f"the engine broke while answering {script.prompt!r}")
    if script.due("hang"):
        time.sleep(_FOR_EVER)
    if script.due("exit"):
        os._exit(7)
    if script.due("crash"):
        _die()


def _die() -> NoReturn:
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(9)
