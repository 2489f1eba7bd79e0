"""What a grammar costs: tokens per second of answers in a form beside free text, and where the time goes."""

from __future__ import annotations

import json
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
    "any object": Constraint("json_object", may_refuse=False),
}
TOLD = "Answer with JSON and nothing else. It must fit this JSON Schema:\n" + json.dumps(PERSON)
TOKENS, REPEATS = 120, 3


def measure(pair: Pair, form: Constraint | None, streams: int) -> dict[str, Any]:
    """Decode, and time the steps after the prompts."""
    engine = Engine(pair, EngineConfig(max_batch=streams))
    for i in range(streams):
        conversation = (ChatMessage("user", ASK + " " * i),)
        if form is None:  # where there is a form, the prompt tells of it: all are to have as long a prompt
            conversation = (ChatMessage("system", TOLD), *conversation)
        request = ChatRequest(
            conversation,
            constraint=form,
            sampling=Sampling(max_tokens=TOKENS),
            safety=SSDConfig(hold_back="none"),
        )
        engine.submit(str(i), request, 0.0)
    engine.step(0.0)  # prompts
    began, cpu_began, ends = time.perf_counter(), time.process_time(), []
    while engine.busy:
        ends += [event for _, event in engine.step(0.0) if isinstance(event, Finished)]
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    summaries = [end.summary for end in ends]
    emitted = sum(s.emitted for s in summaries)
    return {
        "tokens/s": emitted / seconds,
        "tokens per CPU second": emitted / cpu_seconds,  # of all threads; other programs matter little
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
        medians = {
            name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            for name, runs in found.items()
        }
        free = medians["free text"]
        for name, median in medians.items():
            ratios = {"ratio": median["tokens/s"] / free["tokens/s"]}
            ratios["CPU ratio"] = median["tokens per CPU second"] / free["tokens per CPU second"]
            rows.append({"streams": streams, "form": name, **median, **ratios})
    note = f"bf16, greedy, block size 3, at most {TOKENS} tokens, median of {REPEATS} rounds; aim 0.9"
    show("grammar", "Tokens per second under a grammar beside free text", rows, note)
