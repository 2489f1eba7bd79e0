"""The engine's requests → arguments of huggingface_hub's ``chat_completion``, for either kind of server."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import RefusalPolicy, Sampling, Settings, SSDConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.errors import InvalidRequest

JSON = dict[str, Any]
# What a plain server's chat would silently ignore.
_ONLY_OURS = ("top_k", "repetition_penalty", "logit_bias")


def arguments(request: ChatRequest, *, protected: bool) -> JSON:
    """Keyword arguments for ``chat_completion``.

    Raises:
        InvalidRequest: a plain server would ignore part of this.
    """
    sampling = request.sampling
    extra = _extension(request) if protected else _plain_extra(request)
    return {
        "messages": _messages(request),
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p if sampling.top_p < 1 else None,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty or None,
        "frequency_penalty": sampling.frequency_penalty or None,
        # A plain server's log probabilities are all that can be told of its tokens.
        "logprobs": True if sampling.logprobs or not protected else None,
        "tools": [dict(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request) if request.tools else None,
        "extra_body": extra,
    }


def _extension(request: ChatRequest) -> JSON:
    """What only our server reads, in the body's top level and in ``ssd``."""
    sampling, constraint = request.sampling, request.constraint
    ssd: JSON = {
        "telemetry": True,
        # Said in any case: a server that has gone over to shadow mode must not answer as if it were not.
        "safety": {**_changes(request.safety, SSDConfig()), "enforce": request.safety.enforce},
        # What becomes of a refusal here is not the server's business.
        "refusal": _changes(request.refusal, RefusalPolicy(on_refusal=request.refusal.on_refusal)),
        "include_thinking": request.include_thinking,
    }
    if request.timeout is not None:
        ssd["timeout"] = request.timeout
    if constraint is not None:
        ssd["constraint"] = asdict(constraint)
    extra: JSON = {"ssd": ssd}
    if sampling.top_k is not None:
        extra["top_k"] = sampling.top_k
    if sampling.repetition_penalty != 1.0:
        extra["repetition_penalty"] = sampling.repetition_penalty
    if sampling.logit_bias:
        extra["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if not request.parallel_tool_calls and request.tools:
        extra["parallel_tool_calls"] = False
    return extra


def _changes(given: Settings, default: Settings) -> JSON:
    """Settings that are not the default's; what is left out is the server's to decide."""
    changes = given.model_dump(mode="json")
    same = default.model_dump(mode="json")
    return {name: value for name, value in changes.items() if value != same[name]}


def _plain_extra(request: ChatRequest) -> JSON | None:
    neutral = Sampling()
    for name in _ONLY_OURS:
        if getattr(request.sampling, name) != getattr(neutral, name):
            raise InvalidRequest(f"a plain text-generation-inference server ignores {name}; leave it out")
    if request.constraint is None:
        return None
    return {"response_format": _format(request.constraint)}


def _format(constraint: Constraint) -> JSON:
    if constraint.kind == "json_schema":
        return {"type": "json", "value": constraint.value}
    if constraint.kind == "json_object":
        return {"type": "json", "value": {"type": "object"}}
    if constraint.kind == "regex":
        return {"type": "regex", "value": constraint.value}
    raise InvalidRequest(f"a plain server knows no grammar of kind {constraint.kind}; use a schema")


def _messages(request: ChatRequest) -> list[JSON]:
    messages = [_message(message) for message in request.messages]
    if request.prefill:
        messages.append({"role": "assistant", "content": request.prefill})
    return messages


def _message(message: ChatMessage) -> JSON:
    plain: JSON = {"role": message.role, "content": message.content}
    if message.name is not None:
        plain["name"] = message.name
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        plain["tool_calls"] = [_call(call) for call in message.tool_calls]
    return plain


def _call(call: JSON) -> JSON:
    function = call.get("function", {})
    arguments_ = function.get("arguments", {})
    text = arguments_ if isinstance(arguments_, str) else json.dumps(arguments_, ensure_ascii=False)
    return {**call, "type": "function", "function": {"name": function.get("name", ""), "arguments": text}}


def _tool_choice(request: ChatRequest) -> Any:
    if request.tool_choice in ("auto", "none", "required"):
        return request.tool_choice
    return {"type": "function", "function": {"name": request.tool_choice}}
