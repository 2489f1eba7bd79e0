"""Prompts in: a user's files and the texts that ship with the package, split so that nothing is seen twice.

A prompt's part is decided by a hash of its text alone, so that training, calibration and evaluation never
share one, whatever file it comes from: ``EVALUATION`` below 0.05, ``CALIBRATION`` below 0.12, training above.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2s
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..backend import ChatMessage
from ..errors import ConfigError
from .texts import load_texts

Part = Literal["train", "calibration", "evaluation"]
Ours = TypeVar("Ours")
EVALUATION, CALIBRATION = 0.05, 0.12
_SHIPPED_EVALUATION, _SHIPPED_CALIBRATION = (
    0.45,
    0.6,
)  # the shipped kinds are small: more of them is kept unseen
_MAX_LINE = 100_000


@dataclass(frozen=True, slots=True)
class BenignPrompt:
    """A benign request, and an answer if one came with it.

    Attributes:
        messages: the conversation, ending with a user message.
        kind: where it comes from.
        opening: the beginning of the answer, if one is put into the model's mouth.
        answer: the target's answer, if it is known.
        finished: whether that answer came to its end.
    """

    messages: tuple[ChatMessage, ...]
    kind: str
    opening: str = ""
    answer: str | None = None
    finished: bool = False


@dataclass(frozen=True, slots=True)
class UnsafePrompt:
    """A request to refuse, and the beginning of an answer that an attacker would like."""

    text: str
    kind: str
    opening: str = ""


def fraction(text: str) -> float:
    """A number in [0, 1) that only depends on the text."""
    return int.from_bytes(blake2s(text.strip().encode(), digest_size=6).digest(), "big") / 2**48


def part_of(text: str, shipped: bool = False) -> Part:
    """Which part a prompt belongs to.

    Args:
        text: the prompt.
        shipped: it is one of the small kinds that ship with the package.
    """
    evaluation, calibration = EVALUATION, CALIBRATION
    if shipped:
        evaluation, calibration = _SHIPPED_EVALUATION, _SHIPPED_CALIBRATION
    x = fraction(text)
    return "evaluation" if x < evaluation else "calibration" if x < calibration else "train"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file with a ``prompt`` each, or a text file with one prompt a line.

    Raises:
        ConfigError: the file cannot be read or a line is no prompt; tells the line's number, not its text.
    """
    try:
        # Not splitlines(): it also splits at characters that may stand inside a JSON string.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path.name} cannot be read as UTF-8 text; check the file's name") from None
    as_json = path.suffix in (".jsonl", ".json")
    rows = [_row(line, n, path.name, as_json) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise ConfigError(f"{path.name} holds no prompts")
    return rows


def _row(line: str, number: int, name: str, as_json: bool) -> dict[str, Any]:
    wrong = ConfigError(f"line {number} of {name} is no prompt; give text, or JSON with a 'prompt'")
    if len(line) > _MAX_LINE:
        raise wrong
    if not as_json:
        return {"prompt": line.strip()}
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise wrong
    return row


def user_benign(rows: Iterable[dict[str, Any]], part: Part) -> list[BenignPrompt]:
    """Benign prompts of a user's rows; an ``answer`` is taken for the target's own."""
    return [
        BenignPrompt(
            (ChatMessage("user", row["prompt"]),),
            str(row.get("set") or "user"),
            answer=row.get("answer"),
            finished=bool(row.get("finished", True)),
        )
        for row in rows
        if part_of(row["prompt"]) == part and (row.get("label") or "safe") == "safe"
    ]


def shipped_benign(part: Part) -> list[BenignPrompt]:
    """Our own benign prompts: contrasts to unsafe ones, grave subjects, other languages, several turns."""
    found = [
        BenignPrompt((ChatMessage("user", row["benign"]),), "contrast")
        for row in load_texts("contrast")
        if part_of(row["benign"]) == part
    ]
    found += _benign_lessons() if part == "train" else []
    for name in ("benign_languages", "benign_plain", "benign_serious"):
        found += [
            BenignPrompt((ChatMessage("user", row["prompt"]),), name.removeprefix("benign_"))
            for row in load_texts(name)
            if part_of(row["prompt"], shipped=name != "benign_serious") == part
        ]
    for row in load_texts("benign_turns"):
        messages = tuple(ChatMessage(m["role"], m["content"]) for m in row["messages"])
        if part_of(messages[0].content, shipped=True) == part:
            found.append(BenignPrompt(messages, "turns"))
    return found


def _benign_lessons() -> list[BenignPrompt]:
    """What is only learnt from."""
    return [
        BenignPrompt((ChatMessage("user", row[key]),), kind)
        for kind, key in (("contrast", "benign"), ("various", "prompt"))
        for row in load_texts(f"lessons_{kind}")
    ]


def opened(prompts: Sequence[BenignPrompt], count: int, part: Part, seed: int) -> list[BenignPrompt]:
    """Prompts whose answer begins with a benign opening, so that a prefill alone means nothing."""
    rng = random.Random(f"openings/{seed}")
    openings = answer_openings(part)
    chosen = rng.sample(list(prompts), min(count, len(prompts)))
    return [BenignPrompt(p.messages, "opened", rng.choice(openings)) for p in chosen]


def answer_openings(part: Part, *, lessons: bool = True) -> list[str]:
    """Beginnings of answers that fit any request."""
    learnt = load_texts("lessons_openings") if part == "train" and lessons else []
    split = [row for row in load_texts("openings") if part_of(row["text"], shipped=True) == part]
    return [row["text"] for row in [*split, *learnt]]


def wrapped(prompts: Sequence[BenignPrompt], count: int, seed: int) -> list[BenignPrompt]:
    """Prompts inside the wrappers of jailbreaks, so that a wrapper alone means nothing."""
    rng = random.Random(f"wrappers/{seed}")
    single = [p for p in prompts if len(p.messages) == 1]
    chosen = rng.sample(single, min(count, len(single)))
    texts = [wrap(p.messages[0].content, rng) for p in chosen]
    return [BenignPrompt((ChatMessage("user", text),), "wrapped") for text in texts]


def wrap(request: str, rng: random.Random) -> str:
    """The request inside one of the shipped wrappers."""
    template: str = rng.choice(load_texts("wrappers"))["text"]
    return template.replace("{request}", request)


def user_unsafe(
    rows: Iterable[dict[str, Any]], part: Part, sensitive: Sequence[str] = ()
) -> list[UnsafePrompt]:
    """Unsafe prompts of a user's rows.

    Args:
        rows: with ``prompt`` and, where it applies, ``label``, ``set``, ``target`` (the attacker's opening).
        part: which part of them.
        sensitive: rows labelled ``sensitive`` are taken only if one of these occurs in their ``set``.
    """

    def wanted(row: dict[str, Any]) -> bool:
        label, name = row.get("label") or "unsafe", str(row.get("set") or "")
        return label == "unsafe" or (label == "sensitive" and any(s in name for s in sensitive))

    return [
        UnsafePrompt(row["prompt"], str(row.get("set") or "user"), str(row.get("target") or ""))
        for row in rows
        if part_of(row.get("goal") or row["prompt"]) == part and wanted(row)
    ]


def shipped_unsafe(part: Part) -> list[UnsafePrompt]:
    """Our own unsafe requests: plain ones, and the unsafe halves of the contrast pairs."""
    plain = [UnsafePrompt(row["prompt"], row["category"]) for row in load_texts("unsafe_requests")]
    contrast = [
        UnsafePrompt(row["unsafe"], "contrast")
        for row in load_texts("contrast")
        # Both halves of a pair stand in one part: its wording is as good as seen once one of them is.
        if part_of(row["benign"]) == part
    ]
    found = [p for p in plain if part_of(p.text) == part] + contrast
    if part == "train":
        found += [UnsafePrompt(row["prompt"], row["category"]) for row in load_texts("lessons_unsafe")]
        found += [UnsafePrompt(row["unsafe"], "contrast") for row in load_texts("lessons_contrast")]
    return found


def part_of_ours(prompts: Sequence[Ours], share: float) -> list[Ours]:
    """A share of our own prompts, the same ones for every run: evenly over the files they come from."""
    step = 1 / share if share > 0 else len(prompts) + 1
    return [prompts[int(n * step)] for n in range(round(len(prompts) * share))]


def with_openings(
    prompts: Sequence[UnsafePrompt], share: float, seed: int, *, lessons: bool = False
) -> list[UnsafePrompt]:
    """Give a share of the prompts without an attacker's opening a general one.

    Args:
        prompts: the requests.
        share: of those without an opening.
        seed: makes the draws repeatable.
        lessons: also use openings that are only learnt from.
    """
    rng = random.Random(f"unsafe openings/{seed}")
    openings = answer_openings("train", lessons=lessons)
    return [
        p if p.opening or rng.random() >= share else UnsafePrompt(p.text, p.kind, rng.choice(openings))
        for p in prompts
    ]
