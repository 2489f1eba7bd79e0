"""Routes that describe: info, health, metrics, models, and how the target's tokenizer sees a text."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from langchain_ssd.backend import TextToken
from langchain_ssd.events import SCHEMA_VERSION
from langchain_ssd.pairs import context_length
from langchain_ssd.plain_text import check_text

from .. import __version__
from ..protocol import PROTOCOL
from .bodies import TokenizeBody
from .connection import Connection
from .messages import conversation
from .metrics import MEDIA_TYPE
from .openai_bodies import ChatBody
from .problems import Problem, invalid
from .service import KEY, Service

_LONGEST_TEXT = 100_000  # characters; the engine makes no step while it tokenizes
_STARTED = int(time.time())


async def info(service: Service, connection: Connection) -> None:
    """``GET /info``."""
    config, health = service.config, service.backend.health()
    pair = health.info
    target: dict[str, Any] = pair.get("target", {})
    total = context_length(health)
    longest = config.max_input_tokens or (None if total is None else total - 1)
    await connection.reply(
        {
            "model_id": config.model_name,
            "model_sha": None,
            "model_dtype": target.get("dtype"),
            "model_device_type": target.get("device"),
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": config.max_concurrent_requests,
            "max_best_of": 1,
            "max_stop_sequences": config.max_stop_sequences,
            "max_input_tokens": longest,
            "max_input_length": longest,
            "max_total_tokens": total,
            "validation_workers": 1,
            "max_client_batch_size": 1,
            "router": "langchain-ssd-tgi",
            "version": __version__,
            "sha": None,
            "docker_label": None,
            "ssd": {
                "protocol": PROTOCOL,
                "schema_version": SCHEMA_VERSION,
                "safety_locked": config.lock_safety,
                "telemetry": config.telemetry,
                "enforced": config.safety.enforce,
                "monitor": config.safety.monitor,
            },
        }
    )


async def health(service: Service, connection: Connection) -> None:
    """``GET /health``."""
    await service.health.check()
    await connection.reply_bytes(b"", b"text/plain; charset=utf-8")


async def metrics(service: Service, connection: Connection) -> None:
    """``GET /metrics``."""
    await connection.reply_bytes(service.metrics.text(), MEDIA_TYPE.encode("ascii"))


async def models(service: Service, connection: Connection) -> None:
    """``GET /v1/models``."""
    model = {
        "id": service.config.model_name,
        "object": "model",
        "created": _STARTED,
        "owned_by": "langchain-ssd",
    }
    await connection.reply({"object": "list", "data": [model]})


async def tokenize(service: Service, connection: Connection) -> None:
    """``POST /tokenize``: the target's tokens of plain text."""
    body = await connection.read(TokenizeBody, service.config.max_body_bytes, service.config.body_timeout)
    if len(body.inputs) > _LONGEST_TEXT:
        raise invalid(f"inputs: at most {_LONGEST_TEXT} characters can be tokenized at once")
    await connection.reply(_spans(await _tokens(service, connection, check_text(body.inputs, "inputs"))))


async def chat_tokenize(service: Service, connection: Connection) -> None:
    """``POST /chat_tokenize``: the conversation as the target's chat template writes it."""
    body = await connection.read(ChatBody, service.config.max_body_bytes, service.config.body_timeout)
    messages, prefill = conversation(body.messages)
    if prefill:
        raise invalid("messages: the last message is an assistant's; /tokenize takes the start of an answer")
    if body.tools:
        raise invalid("tools: this route does not render tools; leave them out")
    if sum(len(message.content) for message in messages) > _LONGEST_TEXT:
        raise invalid(f"messages: at most {_LONGEST_TEXT} characters can be tokenized at once")
    tokens = await _tokens(service, connection, messages)
    text = "".join(token.text for token in tokens)
    await connection.reply({"tokenize_response": _spans(tokens), "templated_text": text})


async def _tokens(service: Service, connection: Connection, source: Any) -> list[TextToken]:
    key = connection.scope.get(KEY)
    health = service.backend.health()
    if health.state == "loading":  # the call would wait until the pair is loaded
        raise Problem(503, "unhealthy", "the pair is loading; try again later")
    service.admission.enter(key)  # each call takes the engine's time, and a thread
    try:
        return await asyncio.to_thread(service.backend.tokenize, source)
    finally:
        service.admission.leave(key, 0)


def _spans(tokens: list[TextToken]) -> list[dict[str, Any]]:
    spans, at = [], 0
    for token in tokens:
        spans.append({"id": token.id, "text": token.text, "start": at, "stop": at + len(token.text)})
        at += len(token.text)
    return spans
