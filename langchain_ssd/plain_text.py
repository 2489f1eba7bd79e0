"""Texts in plain values, and whether a tokenizer can take them; for the engine and LangChain's side alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .errors import InvalidRequest


def texts(value: object) -> Iterator[str]:
    """All texts in a JSON-like value, keys included, however deeply it is nested."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case Mapping() as mapping:
                waiting += [*mapping.keys(), *mapping.values()]
            case list() | tuple() as items:
                waiting += items


def check_text(text: str, where: str) -> str:
    """Return ``text``, unless no tokenizer could take it.

    Raises:
        InvalidRequest: it holds NUL or a lone surrogate; ``where`` tells the user where to look.
    """
    if "\x00" in text:
        raise InvalidRequest(f"{where} holds a NUL character; remove it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequest(
            f"{where} holds a lone surrogate, which is not Unicode text; remove it"
        ) from None
    return text
