"""Benign tasks about records full of names, numbers and dates, made by code.

A draft that has learnt to turn away in the middle of harmful answers may take a copied number or name for
such a middle.  The target's own answers, of which other passages are made, hold few of them.  Pure Python.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ..backend import ChatMessage
from .corpus import BenignPrompt, Part
from .texts import load_texts

_ROWS = (4, 16)
_GIVEN = ("Amina", "Bruno", "Chen", "Dora", "Emeka", "Freya", "Goran", "Hana", "Ivo", "Jamal")
_FAMILY = ("Adler", "Brandt", "Costa", "Diaz", "Eklund", "Farkas", "Gupta", "Horvat", "Ito", "Jensen")
_CITIES = ("Bergen", "Cork", "Dakar", "Essen", "Faro", "Ghent", "Hanoi", "Izmir", "Jaipur", "Kyoto")
_LETTERS = "ABCDEFGHKLMNPRSTUVWX"
_TASKS = (
    "What is the {column} of {key} {value}?",
    "Which {key} has {column} {other}? Answer in one sentence.",
    "Tell me everything that is said about {key} {value}.",
    "How many entries are there?",
    "Write the last entry as a sentence.",
    "Name the first three entries, as a list.",
    "Give only the {column} of each entry, separated by commas.",
    "Which entry has the largest {column}, and which the smallest?",
    "Rewrite the first two entries as JSON.",
    "Write a short message that tells a colleague the {column} of {key} {value}.",
)  # fmt: skip


def record_tasks(count: int, part: Part, seed: int) -> list[BenignPrompt]:
    """So many records with a task each; the kinds of record of one part occur in no other.

    Args:
        count: how many.
        part: whose kinds of records; evaluation has none of these.
        seed: makes the draws repeatable.
    """
    kinds = [kind for kind in load_texts("record_kinds") if kind["part"] == part]
    rng = random.Random(f"records/{part}/{seed}")
    return [_record(rng.choice(kinds), rng) for _ in range(count)] if kinds else []


def _record(kind: Mapping[str, Any], rng: random.Random) -> BenignPrompt:
    rows = [_row(kind["columns"], rng) for _ in range(rng.randint(*_ROWS))]
    chosen, key = rng.choice(rows), kind["key"]
    column = rng.choice([name for name in kind["columns"] if name != key])
    task = rng.choice(_TASKS).format(column=column, key=key, value=chosen[key], other=chosen[column])
    body = rng.choice((_table, _csv, _fields, _prose, _prose))(rows, kind["sentence"])
    texts = [f"This is from {kind['title']}.", body, task]
    if rng.random() < 0.25:  # the task comes first
        texts = [task, f"It is about {kind['title']}:", body]
    return BenignPrompt((ChatMessage("user", "\n\n".join(texts)),), "record")


def _row(columns: Mapping[str, Any], rng: random.Random) -> dict[str, str]:
    return {name: _value(kind, rng) for name, kind in columns.items()}


def _value(kind: str | Sequence[str], rng: random.Random) -> str:
    if not isinstance(kind, str):
        return rng.choice(kind)
    match kind:
        case "person":
            return f"{rng.choice(_GIVEN)} {rng.choice(_FAMILY)}"
        case "city":
            return rng.choice(_CITIES)
        case "date":
            return f"{rng.randint(1, 28)}.{rng.randint(1, 12)}.{rng.randint(1950, 2030)}"
        case "time":
            return f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
        case "money":
            return f"{rng.choice('$€£')}{rng.randint(1, 4000)}.{rng.randint(0, 99):02}"
        case "phone":
            return f"0{rng.randint(20, 99)} {rng.randint(100, 999)} {rng.randint(1000, 9999)}"
        case "ip":
            return ".".join(str(rng.randint(1, 254)) for _ in range(4))
        case "code":
            return f"{rng.choice(_LETTERS)}{rng.choice(_LETTERS)}-{rng.randint(100, 99999)}"
    low, _, high = kind.rpartition("-")
    return str(rng.randint(int(low), int(high)))


def _table(rows: Sequence[Mapping[str, str]], _: str) -> str:
    lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
    return "\n".join(f"| {line} |" for line in (*lines, *(" | ".join(row.values()) for row in rows)))


def _csv(rows: Sequence[Mapping[str, str]], _: str) -> str:
    return "\n".join(",".join(line) for line in (rows[0], *(row.values() for row in rows)))


def _fields(rows: Sequence[Mapping[str, str]], _: str) -> str:
    return "\n\n".join("\n".join(f"{name}: {value}" for name, value in row.items()) for row in rows)


def _prose(rows: Sequence[Mapping[str, str]], sentence: str) -> str:
    return " ".join(sentence.format_map(row) for row in rows)
