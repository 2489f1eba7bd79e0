"""``/openapi.json``: the routes as OpenAPI 3.1, out of the same models that check the bodies."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .. import __version__
from .bodies import CompatBody, GenerateBody, TokenizeBody
from .connection import Connection
from .openai_bodies import ChatBody, CompletionBody
from .service import Service

_ERRORS = {
    "400": "Not HTTP",
    "401": "No valid key",
    "403": "Locked settings, telemetry switched off, or a foreign origin",
    "404": "No such model",
    "405": "Wrong method",
    "408": "The body came too slowly",
    "413": "The body is too large",
    "415": "The body is not declared as JSON",
    "421": "Unknown host name",
    "422": "The request cannot be served as it is",
    "424": "The request failed while it was computed",
    "429": "Too many requests; see Retry-After",
    "500": "Incomplete generation, or an unforeseen fault",
    "503": "The pair is not well, loading, or the server is shutting down",
}
_WORK: dict[str, tuple[type[BaseModel], str, bool]] = {
    "/": (CompatBody, "Generate, as a stream or not", True),
    "/generate": (GenerateBody, "Generate", False),
    "/generate_stream": (GenerateBody, "Generate as a stream", True),
    "/v1/chat/completions": (ChatBody, "Chat", True),
    "/v1/completions": (CompletionBody, "Complete a prompt, which is read as a user message", True),
    "/tokenize": (TokenizeBody, "Tokens of a text", False),
    "/chat_tokenize": (ChatBody, "Tokens of a conversation", False),
}
_LOOK = {
    "/": "A page to chat with the pair",
    "/info": "What is served",
    "/health": "Whether it is well",
    "/metrics": "Prometheus metrics",
    "/v1/models": "The one model",
    "/openapi.json": "This page",
}
_PLAIN = {"/": "text/html", "/health": "text/plain", "/metrics": "text/plain"}


async def describe(service: Service, connection: Connection) -> None:
    """``GET /openapi.json``."""
    await connection.reply(document())


@cache
def document() -> dict[str, Any]:
    """The whole page."""
    models = sorted(
        {(model, "validation") for model, _, _ in _WORK.values()}, key=lambda pair: pair[0].__name__
    )
    refs, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    paths: dict[str, Any] = {}
    for path, (model, summary, streams) in _WORK.items():
        paths.setdefault(path, {})["post"] = _post(refs[(model, "validation")], summary, streams)
    for path, summary in _LOOK.items():
        paths.setdefault(path, {})["get"] = _get(path, summary)
    return {
        "openapi": "3.1.0",
        "info": {"title": "langchain-ssd-tgi", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**schemas["$defs"], "Error": _ERROR},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}, {}],
    }


_ERROR = {
    "type": "object",
    "required": ["error", "error_type", "code"],
    "properties": {name: {"type": "string"} for name in ("error", "error_type", "code")},
}


def _post(schema: Any, summary: str, streams: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": ["object", "array"]}}}
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": {"description": "The answer", "content": content}, **_errors(_ERRORS)},
    }


def _get(path: str, summary: str) -> dict[str, Any]:
    media = _PLAIN.get(path, "application/json")
    shape = {"schema": {"type": "string"}} if path in _PLAIN else {"schema": {"type": "object"}}
    wanted = ("401", "403", "405", "421", *(("503",) if path == "/health" else ()))
    errors = {status: text for status, text in _ERRORS.items() if status in wanted}
    responses = {"200": {"description": summary, "content": {media: shape}}, **_errors(errors)}
    return {"summary": summary, "responses": responses}


def _errors(texts: dict[str, str]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": text, "content": content} for status, text in texts.items()}
