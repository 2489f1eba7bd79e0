"""Bytes of a request's body → a checked value, in bounded time and memory; errors name fields, not values."""

from __future__ import annotations

import asyncio
import re
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.types import Receive

from .problems import Problem, invalid

B = TypeVar("B", bound=BaseModel)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


async def read_body(receive: Receive, limit: int, seconds: float) -> bytes:
    """The whole body, counted while it arrives.

    Raises:
        Problem: it is too large, too slow, or its sender left.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Problem(499, "disconnect", "the client left")
                body += message.get("body", b"")
                if len(body) > limit:
                    raise too_large(limit)
                more = message.get("more_body", False)
    except TimeoutError:
        raise Problem(
            408, "timeout", f"the body did not arrive within {seconds:g} s; send it faster"
        ) from None
    return bytes(body)


def too_large(limit: int) -> Problem:
    """A body above the limit."""
    return Problem(413, "payload_too_large", f"the body is larger than {limit} bytes; send less text")


def parse(model: type[B], body: bytes) -> B:
    """The value that a body describes.

    Raises:
        Problem: it is not JSON, or not of the model.
    """
    try:
        from_json(body, allow_inf_nan=False, cache_strings="none")
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid(describe(error)) from None
    except (ValueError, RecursionError):
        raise invalid("the body is not valid JSON") from None


def describe(error: ValidationError) -> str:
    """The first problem in one line: where and what, without the value, and no name that is no name."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    names = [str(part) for part in first["loc"]]
    where = ".".join(name if _NAME.fullmatch(name) or name.isdecimal() else "(other)" for name in names)
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown field; leave it out"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}" if where else first["msg"]
