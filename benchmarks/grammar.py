"""What a grammar costs: tokens per second of answers in a form beside free text, and where the time goes."""

from __future__ import annotations

import statistics
import time
from typing import Any

from langchain_ssd.backend import ChatMessage, ChatRequest
from langchain_ssd.config import EngineConfig, Sampling, SSDConfig
from langchain_ssd.constraint import Constraint
from langchain_ssd.engine.engine import Engine
from langchain_ssd.engine.pair import Pair
from langchain_ssd.events import Finished

from .common import show
from .pair import default_pair

ASK = "Describe a person from a novel as JSON: name, age, occupation, three hobbies, and three sentences."
HOBBY = {"type": "string", "maxLength": 30}
SENTENCE = {"type": "string", "minLength": 40, "maxLength": 160}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 3, "maxLength": 40},
        "age": {"type": "integer", "minimum": 1, "maximum": 120},
        "occupation": {"type": "string", "maxLength": 40},
        "hobbies": {"type": "array", "items": HOBBY, "minItems": 3, "maxItems": 3},
        "sentences": {"type": "array", "items": SENTENCE, "minItems": 3, "maxItems": 3},
    },
    "required": ["name", "age", "occupation", "hobbies", "sentences"],
    "additionalProperties": False,
}
FORMS: dict[str, Constraint | None] = {
    "free text": None,
    "schema": Constraint("json_schema", PERSON, may_refuse=False),
    "schema or refusal": Constraint("json_schema", PERSON),
    "any object": Constraint("json_object", may_refuse=False),
}
TOKENS, REPEATS = 120, 3


def measure(pair: Pair, form: Constraint | None, streams: int) -> dict[str, Any]:
    """Decode, and time the steps after the prompts."""
    engine = Engine(pair, EngineConfig(max_batch=streams))
    for i in range(streams):
        request = ChatRequest(
            (ChatMessage("user", ASK + " " * i),),
            constraint=form,
            sampling=Sampling(max_tokens=TOKENS),
            safety=SSDConfig(hold_back="none"),
        )
        engine.submit(str(i), request, 0.0)
    engine.step(0.0)  # prompts
    began, ends = time.perf_counter(), []
    while engine.busy:
        ends += [event for _, event in engine.step(0.0) if isinstance(event, Finished)]
    seconds = time.perf_counter() - began
    summaries = [end.summary for end in ends]
    emitted = sum(s.emitted for s in summaries)
    return {
        "tokens/s": emitted / seconds,
        "forced": 1 - sum(s.scored for s in summaries) / emitted,
        "target passes per token": sum(s.target_passes for s in summaries) / emitted,
        "draft passes per token": sum(s.draft_passes for s in summaries) / emitted,
    }


def main() -> None:
    """All forms in turn, several times over, so that a change of the machine's mood hits all alike."""
    pair = default_pair()
    rows = []
    for streams in (1, 4):
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in FORMS}
        for _ in range(REPEATS):
            for name, form in FORMS.items():
                found[name].append(measure(pair, form, streams))
        free = statistics.median(run["tokens/s"] for run in found["free text"])
        for name, runs in found.items():
            median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            rows.append({"streams": streams, "form": name, **median, "ratio": median["tokens/s"] / free})
    note = f"bf16, greedy, block size 3, at most {TOKENS} tokens, median of {REPEATS} rounds; aim 0.9"
    show("grammar", "Tokens per second under a grammar beside free text", rows, note)
