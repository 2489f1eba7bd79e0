"""A shadow-mode log of benign prompts under JSON forms, for ``langchain-ssd calibrate --from-log``.

Calibration asks for free text only, while a draft of its own ways disagrees more inside a form.  The prompts
are those of the calibration part, so that ``python -m benchmarks forms`` still looks at others.

    python -m benchmarks.form_log --draft whole --out forms.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.commands.options import named
from langchain_ssd.config import EngineConfig, Sampling, SSDConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.drafts.corpus import read_rows, shipped_benign, user_benign
from langchain_ssd.drafts.default_pair import default_target
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.loading import load_pair
from langchain_ssd.engine.pair import Pair
from langchain_ssd.events import Token
from langchain_ssd.pairs import draft_spec

from .forms import SCHEMA, told
from .safety import DATA

STEPS: dict[str, Any] = {
    "type": "object",
    "properties": {"steps": {"type": "array", "items": {"type": "string", "maxLength": 80}, "maxItems": 5}},
    "required": ["steps"],
}
FACTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "subject": {"type": "string", "maxLength": 40},
        "summary": {"type": "string", "maxLength": 200},
        "rating": {"type": "integer", "minimum": 1, "maximum": 10},
        "certain": {"type": "boolean"},
    },
    "required": ["subject", "summary", "rating", "certain"],
}


def main() -> None:
    """Every prompt once, its forms in turn."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.form_log", description=__doc__)
    parser.add_argument("--draft", default="default", help="folder of the draft, or one that ships")
    parser.add_argument("--count", type=int, default=60, help="how many prompts")
    parser.add_argument("--tokens", type=int, default=128, help="the longest answer")
    parser.add_argument("--out", type=Path, required=True, help="the log")
    args = parser.parse_args()
    config = EngineConfig(max_batch=20, max_queue=1000)
    pair = load_pair(default_target(), draft_spec(named(args.draft)), config, lambda stage, part: None)
    with args.out.open("w", encoding="utf-8") as file:
        for line in logged(pair, config, prompts(args.count), args.tokens):
            file.write(json.dumps(line) + "\n")


def prompts(count: int) -> list[str]:
    """Benign prompts of the calibration part: the development data's, or ours where it is not there."""
    path = DATA / "synthetic_benign.jsonl"
    found = user_benign(read_rows(path), "calibration") if path.is_file() else shipped_benign("calibration")
    return [p.messages[-1].content for p in found][-count:]


def logged(pair: Pair, config: EngineConfig, texts: list[str], tokens: int) -> Iterator[dict[str, Any]]:
    """The answers' tokens in numbers, as shadow mode sees them."""
    engine = Engine(pair, config)
    for i, text in enumerate(texts):
        engine.submit(str(i), _request(text, (SCHEMA, STEPS, FACTS)[i % 3], tokens), 0.0)
    while engine.busy:
        for name, event in engine.step(0.0):
            if isinstance(event, Token):
                yield {**event.to_wire(), "response": name, "text": "", "token_id": 0}


def _request(text: str, schema: dict[str, Any], tokens: int) -> ChatRequest:
    return ChatRequest(
        (ChatMessage("system", told(schema)), ChatMessage("user", text)),
        constraint=Constraint("json_schema", schema),
        sampling=Sampling(max_tokens=tokens),
        safety=SSDConfig(enforce=False, hold_back="none"),
    )


if __name__ == "__main__":
    main()
