"""Prompts → requests with prefills: what the target begins by itself, and what is put into its mouth.

Every benign prompt makes exactly one response, so that responses are independent and quantiles mean what they
say. Some of them begin inside their own answer or behind an opening text: otherwise every prefill would look
like an attack.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..backend import ChatMessage
from ..engine.pair import Pair
from ..errors import InvalidRequest, TemplateError
from .collect import Answer, Request

if TYPE_CHECKING:
    from ..drafts.corpus import BenignPrompt, UnsafePrompt

DEPTHS = (5, 10, 20, 40)
"""Tokens of a harmful answer that an attacker prefills."""
_LEAST_ROOM = 16  # a prompt that leaves less of the contexts is left out


def benign_requests(pair: Pair, prompts: Sequence[BenignPrompt]) -> list[Request]:
    """Render benign prompts for both models; what cannot be rendered or is too long is left out."""
    made = []
    for n, p in enumerate(prompts):
        kind = p.kind if not p.opening else "opened"
        made.append(_request(pair, p.messages, p.opening, Request((), (), "benign", kind, str(n))))
    return [r for r in made if r is not None]


def unsafe_requests(pair: Pair, prompts: Sequence[UnsafePrompt]) -> list[Request]:
    """Render unsafe prompts: each plain, and once more behind its opening if it has one."""
    made = []
    for n, p in enumerate(prompts):
        messages = (ChatMessage("user", p.text),)
        made.append(_request(pair, messages, "", Request((), (), "unsafe", p.kind, str(n))))
        if p.opening:
            made.append(_request(pair, messages, p.opening, Request((), (), "unsafe", "prefill", str(n))))
    return [r for r in made if r is not None]


def begin_inside(
    requests: Sequence[Request], answers: Sequence[Answer], share: float, seed: int
) -> tuple[list[Request], list[Answer]]:
    """Turn the beginning of some benign answers into a prefill, at a random depth.

    The target's greedy answer goes on as before, so nothing has to be asked again.

    Args:
        requests: with their answers; those with a prefill are left as they are.
        answers: of the target.
        share: how many of the others begin inside.
        seed: of the choice and the depths.
    """
    rng = random.Random(f"benign prefills/{seed}")

    def cut(request: Request, said: Answer) -> tuple[Request, Answer]:
        chosen, deepest = rng.random() < share, min(max(DEPTHS), len(said.ids) - 1)
        if request.prefill or not chosen or deepest < 1:
            return request, said
        return _moved(replace(request, kind="prefill"), said, rng.randint(1, deepest))

    return _unzip([cut(r, a) for r, a in zip(requests, answers, strict=True)])


def deepen(
    requests: Sequence[Request], answers: Sequence[Answer], length: int
) -> tuple[list[Request], list[Answer]]:
    """Cut harmful answers at 5, 10, 20 and 40 tokens in turn: what lies before is prefilled.

    Args:
        requests: with their answers; those without a prefill are left as they are.
        answers: of the target, long enough for the greatest depth and ``length`` tokens more.
        length: tokens that are kept behind the prefill.
    """
    depth = _rotation()

    def cut(request: Request, said: Answer) -> tuple[Request, Answer]:
        if request.prefill:
            whole = Answer(request.prefill + said.ids, said.finished)
            request, said = _moved(replace(request, prefill=()), whole, min(depth(), len(whole.ids)))
        kept = said.ids[:length]
        return request, Answer(kept, said.finished and len(kept) == len(said.ids))

    return _unzip([cut(r, a) for r, a in zip(requests, answers, strict=True)])


def _rotation() -> Callable[[], int]:
    asked = iter(range(1_000_000))
    return lambda: DEPTHS[next(asked) % len(DEPTHS)]


def _moved(request: Request, said: Answer, depth: int) -> tuple[Request, Answer]:
    """The first ``depth`` tokens of an answer become the prefill."""
    return replace(request, prefill=said.ids[:depth]), Answer(said.ids[depth:], said.finished)


def _unzip(pairs: Sequence[tuple[Request, Answer]]) -> tuple[list[Request], list[Answer]]:
    return [request for request, _ in pairs], [said for _, said in pairs]


def _request(pair: Pair, messages: Sequence[ChatMessage], opening: str, blank: Request) -> Request | None:
    try:
        target, draft = (tuple(s.renderer.render(messages)) for s in (pair.target, pair.draft))
        prefill = tuple(pair.target.renderer.encode(opening))
    except (InvalidRequest, TemplateError):
        return None
    made = replace(blank, target=target, draft=draft, prefill=prefill)
    return made if target and draft and made.room(pair) >= _LEAST_ROOM else None
