"""Texts that ship with the package, all of them our own: drafts are trained, calibrated and checked on them.

``contrast``: pairs of a benign request that sounds unsafe and an unsafe one in its wording.
``unsafe_requests``: short requests, used only to teach a model to refuse.
``wrappers``, ``openings``: jailbreak set-ups and answer beginnings, for benign and unsafe requests alike.
``benign_languages``, ``benign_turns``, ``benign_plain``: benign requests of rarer kinds.
``passage_tasks``: what can be asked about a passage.
``record_kinds``: what records that are made up by code hold.
``benign_serious``: benign requests about grave subjects, in the forms that shady ones have.
``lessons_contrast``, ``lessons_unsafe``, ``lessons_openings``, ``lessons_various``: more of these kinds, and
daily requests in long forms and other languages. They are only learnt from; all others are split, so that
some of each stay unseen for calibration and evaluation.
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
