"""Every example runs as a user would run it, with the default pair, and says what it promises to say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {
    "agent_with_tools.py": ["risk of get_weather: mode ", "match ratio ", "calls [('get_weather', {'city': "],
    "basic.py": ["match ratio:", "'output_tokens': 48"],
    "guarded_agent.py": ["refusal, risk 0.", "answers that the model was asked for:"],
    "lcel_chain.py": ["a compass: ", "a thermometer: ", "a sieve: "],
    "opentelemetry_spans.py": [
        "handle request > chat SmolLM2-135M-Instruct",
        "same trace: True",
        "ssd.match_ratio: ",
        "event gen_ai.evaluation.result: ",
    ],
    "prometheus_metrics.py": ['finish_reason="', 'ssd_mode_tokens_total{mode="safety",tenant="acme"}'],
    "risk_log.py": ["match ratio 0.", "match ratio"],
    "shadow_mode.py": ["shadow mode:", "with enforcement:", "finish reason: length"],
    "streaming.py": ["stopped after 40 tokens"],
    "structured_output.py": ["json_schema: Person(name=", "function_calling: Person(name="],
}


def test_every_example_is_tested_and_short() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert lengths.keys() == SAYS.keys()
    assert max(lengths.values()) < 80


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SAYS))
def test_example_runs(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    for words in SAYS[name]:
        assert words in done.stdout
    assert done.stderr == ""
