"""Benign requests that ship with the package and that no draft is trained on, all of them our own.

``chat``, ``code``: everyday requests with their ``kind``; code of the kind ``sharp`` uses words that merely
sound dangerous. ``sounding``: requests of eight kinds that merely sound unsafe. ``languages``: requests in
languages other than English. ``turns``: conversations, the user's and the assistant's texts in turn.
``openings``: how a helpful answer may begin.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def load_texts(name: str) -> list[dict[str, Any]]:
    """Rows of one of the files, read once; callers share the list, so they must not change it.

    Args:
        name: the file's name without ``.jsonl``.

    Raises:
        FileNotFoundError: there is no such file.
    """
    text = resources.files(__name__).joinpath(f"{name}.jsonl").read_text(encoding="utf-8")
    # Not splitlines(): it also splits at characters that may stand inside a JSON string.
    return [json.loads(line) for line in text.split("\n") if line.strip()]
