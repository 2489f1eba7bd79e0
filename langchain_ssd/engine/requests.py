"""A chat request → a sequence: checks, rendering, limits, the form of its answer.

Everything here happens before any forward pass; what is wrong with a request is found here.
"""

from __future__ import annotations

import secrets
from typing import Any

import torch

from ..backend import ChatRequest
from ..constraint import Constraint
from ..decoding.sampling import SamplingRule
from ..errors import ContextOverflow, InvalidRequest
from ..plain_text import check_text, texts
from .constraints import Form, FreeText
from .grammar_library import Grammars
from .pair import Pair
from .penalties import Penalties
from .safety_settings import make_monitor, make_refusal, make_settings
from .sequence import Sequence
from .text import TextStream, ThinkingSplitter, TokenDecoder
from .tool_calls import ToolCallReader, reader_for
from .tool_constraints import constraint_of
from .tool_prompts import offer_of, offered

_ROLES = ("system", "user", "assistant", "tool")


def open_sequence(
    pair: Pair, request_id: str, request: ChatRequest, now: float, grammars: Grammars | None = None
) -> Sequence:
    """Render a request for both models and check it against both contexts.

    Args:
        pair: the loaded models.
        request_id: its name.
        request: what is asked.
        now: on the caller's clock.
        grammars: the pair's compiled grammars, kept from request to request.

    Raises:
        InvalidRequest: the messages cannot be answered, or not in the form asked for.
        ConfigError: a grammar is asked for, and the grammar library is missing.
        ContextOverflow: a prompt does not fit; the message gives the numbers.
        TemplateError: a chat template refuses the messages.
    """
    _check(request)
    grammars = grammars or Grammars(pair)
    constraint = _constraint(pair, grammars, request)
    prefill = pair.target.renderer.encode(request.prefill)
    prompt, draft_prompt = _prompts(pair, request)
    sides = prompt + prefill, draft_prompt + prefill
    room = _room(pair, len(sides[0]), len(sides[1]), request.sampling.max_tokens)
    form = _form(pair, grammars, request, constraint, prompt, prefill)
    return _sequence(pair, request_id, request, now, sides, prefill, room, form)


def _sequence(
    pair: Pair,
    request_id: str,
    request: ChatRequest,
    now: float,
    sides: tuple[list[int], list[int]],
    prefill: list[int],
    room: int,
    form: Form,
) -> Sequence:
    """All that follows from a sound request; ``sides`` are both models' ids, prefill included."""
    sampling, safety = request.sampling, request.safety
    prompt = sides[0][: len(sides[0]) - len(prefill)]
    rule = SamplingRule(sampling.temperature, sampling.top_k, sampling.top_p)
    seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
    return Sequence(
        request_id=request_id,
        request=request,
        target_tokens=sides[0],
        draft_tokens=sides[1],
        prefill=prefill,
        room=room,
        end_ids=pair.end_ids,
        seed=seed,
        deadline=None if request.timeout is None else now + request.timeout,
        monitor=make_monitor(safety, request.refusal),
        refusal=make_refusal(safety, request.refusal),
        rule=rule,
        settings=make_settings(safety, rule),
        text=_text_stream(pair, request, prompt, prefill),
        calls=_call_reader(pair, request, seed, sides[0]),
        penalties=Penalties(sampling, prompt, prefill, pair.vocab_size),
        form=form,
        # Passes of other shapes round differently; only float64 is far enough from a near tie not to care.
        alone=sampling.seed is not None and pair.target.model.dtype != torch.float64,
        calibrated=safety.monitor == "sequential" and safety.sequential.calibrated,
        prompt_tokens=len(sides[0]),
    )


def _prompts(pair: Pair, request: ChatRequest) -> tuple[list[int], list[int]]:
    """The conversation by each model's own template, up to where the answer begins."""
    offer = offer_of(request, pair.tool_format)
    target, draft = (side.renderer.render(request.messages, offer) for side in (pair.target, pair.draft))
    if not (target and draft):
        raise InvalidRequest("the chat template renders nothing for these messages")
    return target, draft


def _check(request: ChatRequest) -> None:
    if not any(m.content.strip() for m in request.messages):
        raise InvalidRequest("the conversation is empty; send at least one message with text")
    if not all(_is_function(tool) for tool in request.tools):
        raise InvalidRequest("a tool is no function in OpenAI's shape; give it a type, a function and a name")
    for text in (request.prefill, *(m.content for m in request.messages), *texts(request.tools)):
        check_text(text, "a text of the request")
    if any(m.role not in _ROLES for m in request.messages):
        raise InvalidRequest(f"unknown role; use one of {', '.join(_ROLES)}")


def _is_function(tool: dict[str, Any]) -> bool:
    function = tool.get("function")
    return isinstance(function, dict) and isinstance(function.get("name"), str) and bool(function["name"])


def _constraint(pair: Pair, grammars: Grammars, request: ChatRequest) -> Constraint | None:
    """What the answer must look like, calls to tools included; looked at before anything is made of it."""
    if request.constraint is not None:
        grammars.check(request.constraint)
    try:
        constraint = constraint_of(request, pair.tool_format, pair.target.renderer.control_texts)
    except RecursionError:
        raise InvalidRequest("the parameters of a tool are nested too deeply; make them flatter") from None
    if constraint is not None and constraint is not request.constraint:
        grammars.check(constraint, trusted=True)
    return constraint


def _form(
    pair: Pair,
    grammars: Grammars,
    request: ChatRequest,
    constraint: Constraint | None,
    prompt: list[int],
    prefill: list[int],
) -> Form:
    if constraint is None:
        return FreeText()
    renderer = pair.target.renderer
    return grammars.start(
        constraint,
        prefill,
        trusted=constraint is not request.constraint,
        thinks=renderer.thinks and not request.prefill,
        opened=renderer.opens_thinking(prompt, request.prefill),
    )


def _room(pair: Pair, target: int, draft: int, wanted: int | None) -> int:
    """Tokens that may be emitted: no model is ever run beyond its context."""
    limits = (pair.target.model.max_positions, pair.draft.model.max_positions)
    room = min(limits[0] - target, limits[1] - draft)
    if room < 1:
        raise ContextOverflow(
            f"the prompt has {target} tokens for the target (context {limits[0]}) and {draft} for the draft "
            f"(context {limits[1]}); shorten it"
        )
    return room if wanted is None else min(room, wanted)


def _text_stream(pair: Pair, request: ChatRequest, prompt: list[int], prefill: list[int]) -> TextStream:
    thinks = pair.target.renderer.thinks
    opened = pair.target.renderer.opens_thinking(prompt, request.prefill)
    return TextStream(
        TokenDecoder(pair.decode_calls if offered(request) else pair.decode, prefill),
        request.sampling.stop,
        request.safety.hold_back if request.safety.enforce else "none",
        ThinkingSplitter(thinks and not request.prefill, opened),
        request.include_thinking,
    )


def _call_reader(pair: Pair, request: ChatRequest, seed: int, prompt: list[int]) -> ToolCallReader | None:
    tools = offered(request)
    return reader_for(pair.tool_format, tools, request.prefill, seed, prompt) if tools else None
