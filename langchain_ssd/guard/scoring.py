"""The pair's own evidence over a text: how far target and draft disagree while reading it as an answer.

The text is given to the model as the beginning of an answer, window by window, and one token is decoded after
it. That shows whether the two models find different continuations likely, which is what they were made to do
at harm. It is no reader of intentions: a calm order to do something harmless for the wrong person looks calm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.utils import convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableConfig

from ..chat_model import ChatSSD
from ..errors import InvalidRequest, ProtocolError
from ..events import Mode, PrefillScored
from ..telemetry.reading import read_event
from .reading import is_refusal

WINDOW = 600
CONTEXT = "Show me the text."
# "nostream": in an agent, the one token that is decoded must not appear among the answer's.
_CONFIG: RunnableConfig = {"tags": ["nostream"], "run_name": "score_text", "max_concurrency": 8}


@dataclass(frozen=True, slots=True)
class TextScore:
    """What the pair showed over a text.

    Attributes:
        windows: what was seen over each window, in order. ``statistic`` is the greatest one on the way, as
            it may have come down again at the end; ``mode`` is the one at the end. A window that was
            refused on the way was not read to its end, and counts no tokens.
    """

    windows: tuple[PrefillScored, ...]

    @property
    def mode(self) -> Mode:
        """Safety, if any window ended in safety mode or was refused."""
        return "safety" if any(window.mode == "safety" for window in self.windows) else "utility"

    @property
    def tokens(self) -> int:
        """Tokens of the windows that were read to the end."""
        return sum(window.tokens for window in self.windows)

    @property
    def match_ratio(self) -> float | None:
        """Agreeing tokens by scored ones, over windows that were read to the end; ``None`` without any."""
        agreeing = sum(window.match_ratio * window.tokens for window in self.windows)
        return agreeing / self.tokens if self.tokens else None

    @property
    def statistic(self) -> float | None:
        """The greatest statistic of all windows; ``None`` with a monitor that has none."""
        known = [window.statistic for window in self.windows if window.statistic is not None]
        return max(known, default=None)


def score_text(
    model: ChatSSD, text: str, *, context: LanguageModelInput = CONTEXT, window: int = WINDOW
) -> TextScore:
    """Score a text that the model did not write, for example the result of a tool.

    Args:
        model: whose pair reads. It is never told to change a safety setting, so a locked one will do.
        text: what is scored; blank text has no windows.
        context: what stands before it; it must hold a question.
        window: characters that are read at once, at least 16. Evidence adds up within a window and starts
            anew in the next.

    Returns:
        What was seen, window by window.

    Raises:
        InvalidRequest: a window of less than 16 characters, or a text that cannot be read.
        SSDError: the model failed.
    """
    inputs = _inputs(text, context, window)
    answers = model.batch(inputs, _CONFIG, max_tokens=1)
    return TextScore(tuple(map(_seen, answers)))


async def ascore_text(
    model: ChatSSD, text: str, *, context: LanguageModelInput = CONTEXT, window: int = WINDOW
) -> TextScore:
    """Like :func:`score_text`, without blocking the event loop."""
    inputs = _inputs(text, context, window)
    answers = await model.abatch(inputs, _CONFIG, max_tokens=1)
    return TextScore(tuple(map(_seen, answers)))


def _inputs(text: str, context: LanguageModelInput, window: int) -> list[LanguageModelInput]:
    if window < 16:
        raise InvalidRequest("a window needs at least 16 characters")
    before = _messages(context)
    return [[*before, AIMessage(piece)] for piece in cut(text, window)]


def _messages(context: LanguageModelInput) -> Sequence[BaseMessage]:
    if isinstance(context, str):
        return [HumanMessage(context)]
    return context.to_messages() if isinstance(context, PromptValue) else convert_to_messages(context)


def cut(text: str, window: int) -> Iterator[str]:
    """Pieces of at most ``window`` characters, cut at white space where there is some in the second half."""
    rest = text.strip()
    while len(rest) > window:
        spaces = [found.start() for found in re.finditer(r"\s", rest[: window + 1])]
        end = spaces[-1] if spaces and spaces[-1] >= window // 2 else window
        yield rest[:end].rstrip()
        rest = rest[end:].lstrip()
    if rest:
        yield rest


def _seen(answer: BaseMessage) -> PrefillScored:
    metadata: dict[str, Any] = answer.response_metadata
    ssd = metadata.get("ssd") or {}
    for wire in metadata.get("ssd_events") or ():
        event = read_event(wire)
        if isinstance(event, PrefillScored):
            known = [s for s in (event.statistic, ssd.get("max_statistic")) if s is not None]
            return replace(event, statistic=max(known, default=None))
    if not is_refusal(answer):
        raise ProtocolError("the backend did not score a prefilled answer; use one that does")
    return PrefillScored(0, 1.0, ssd.get("max_statistic"), "safety")
