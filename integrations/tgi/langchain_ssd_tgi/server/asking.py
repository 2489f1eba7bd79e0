"""Checked bodies → the engine's requests: what was asked for, and the server's settings under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import Sampling
from langchain_ssd.constraint import Constraint
from langchain_ssd.plain_text import check_text
from langchain_ssd.tools import ToolUse, tool_use

from ..protocol import SSDExtension
from .bodies import Ask, GenerateBody
from .messages import conversation, question
from .openai_bodies import ChatBody, CompletionBody, OpenAIBody
from .problems import Problem, invalid
from .safety import check_decoding, safety_of
from .settings import ServerConfig

_ALIASES = frozenset({"", "tgi", "dummy"})  # what clients of text-generation-inference send


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what its answer is to hold.

    Attributes:
        request: for the backend.
        telemetry: put the events into the answer.
    """

    request: ChatRequest
    telemetry: bool


def ask_generate(config: ServerConfig, body: GenerateBody, header: bool) -> Asked:
    """``/generate`` and its streams.

    Raises:
        Problem: the request cannot be served as it is.
        SSDError: likewise.
    """
    settings, ext = body.settings, extension(body.ssd, header)
    request = _request(
        config,
        ext,
        messages=question(body.inputs),
        sampling=settings.sampling(config.default_new_tokens),
        constraint=_built(settings.grammar, "grammar"),
    )
    return _asked(config, request, ext)


def ask_completion(config: ServerConfig, body: CompletionBody, header: bool) -> Asked:
    """``/v1/completions``.

    Raises:
        Problem: the request cannot be served as it is.
        SSDError: likewise.
    """
    check_model(config, body)
    max_tokens = body.max_tokens or config.default_new_tokens
    sampling = body.sampling(max_tokens, logprobs=body.logprobs is not None)
    ext = extension(body.ssd, header)
    request = _request(config, ext, messages=question(prompt_of(body)), sampling=sampling)
    return _asked(config, request, ext)


def ask_chat(config: ServerConfig, body: ChatBody, header: bool) -> Asked:
    """``/v1/chat/completions``.

    Raises:
        Problem: the request cannot be served as it is.
        SSDError: likewise.
    """
    check_model(config, body)
    messages, prefill = conversation(body.messages)
    wanted = body.max_completion_tokens or body.max_tokens
    ext = extension(body.ssd, header)
    use = tool_use(
        {
            "tools": [tool.plain() for tool in body.tools or ()],
            "tool_choice": body.choice,
            "parallel_tool_calls": body.parallel_tool_calls,
        }
    )
    request = _request(
        config,
        ext,
        messages=messages,
        prefill=prefill,
        sampling=body.sampling(wanted, logprobs=bool(body.logprobs)),
        constraint=_built(body.response_format, "response_format"),
        use=use,
    )
    return _asked(config, request, ext)


def extension(ask: Ask, header: bool) -> SSDExtension | None:
    """The ``ssd`` field in full; ``None`` if nothing was asked."""
    if isinstance(ask, SSDExtension):
        return ask
    wanted = header if ask is None else ask
    return SSDExtension() if wanted else None


def prompt_of(body: CompletionBody) -> str:
    """The one prompt.

    Raises:
        Problem: there are several, or none.
    """
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if len(prompts) != 1:
        raise invalid("prompt: give one prompt a request")
    return prompts[0]


def check_model(config: ServerConfig, body: OpenAIBody) -> None:
    """A client must not believe that it speaks to another model.

    Raises:
        Problem: there is no model of that name.
    """
    if body.model is not None and body.model not in _ALIASES | {config.model_name}:
        raise Problem(404, "model_not_found", "there is no such model here; GET /v1/models names the one")


def _request(
    config: ServerConfig,
    ext: SSDExtension | None,
    *,
    messages: tuple[ChatMessage, ...],
    sampling: Sampling,
    constraint: Constraint | None = None,
    prefill: str = "",
    use: ToolUse | None = None,
) -> ChatRequest:
    given, tools = ext or SSDExtension(), use or ToolUse()
    safety, refusal = safety_of(config, given.safety, given.refusal)
    if given.constraint is not None:
        if constraint is not None:
            raise invalid("ssd.constraint: there is another grammar in this request; give one")
        constraint = given.constraint.build()
    check_decoding(config, sampling, constraint)
    _check_stops(config, sampling)
    return ChatRequest(
        messages=messages,
        prefill=prefill,
        tools=tools.tools,
        tool_choice=tools.tool_choice,
        parallel_tool_calls=tools.parallel_tool_calls,
        constraint=constraint,
        sampling=sampling,
        safety=safety,
        refusal=refusal,
        include_thinking=given.include_thinking,
        timeout=_shorter(given.timeout, config.request_timeout),
    )


def _asked(config: ServerConfig, request: ChatRequest, ext: SSDExtension | None) -> Asked:
    telemetry = ext is not None and ext.telemetry
    if telemetry and not config.telemetry:
        raise Problem(403, "telemetry_disabled", "this server gives no telemetry; leave out: ssd")
    return Asked(request, telemetry)


def _check_stops(config: ServerConfig, sampling: Sampling) -> None:
    if len(sampling.stop) > config.max_stop_sequences:
        raise invalid(
            f"stop: at most {config.max_stop_sequences} stop sequences; given: {len(sampling.stop)}"
        )
    for text in sampling.stop:
        check_text(text, "a stop string")


class _Form(Protocol):
    """A grammar of a body."""

    def build(self) -> Constraint | None: ...


def _built(form: _Form | None, where: str) -> Constraint | None:
    try:
        return None if form is None else form.build()
    except ValueError as error:
        raise invalid(f"{where}: {error}") from None


def _shorter(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
