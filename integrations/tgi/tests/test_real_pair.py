"""The command itself, on the embedded pair: real answers, its own calibration, 500 strange requests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from langchain_ssd import ChatSSD
from langchain_ssd.errors import ModelNotFound
from langchain_ssd.pairs import target_spec

from .serving import chat, read_events, wait_until
from .test_fuzz import fuzz_raw, fuzz_schema

pytestmark = pytest.mark.slow
SERVE = "from langchain_ssd.cli import app; app()"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client of ``langchain-ssd serve`` with the default pair and short contexts."""
    try:
        target_spec("default")
    except ModelNotFound:
        pytest.skip("the default pair is not set up here (langchain-ssd setup)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVE, "serve", "--port", str(port), "--max-total-tokens", "96"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, env=dict(os.environ))
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False, verify=False)
        try:
            wait_until(lambda: _health(client) == 503 or process.poll() is not None, 60)  # it loads
            wait_until(lambda: _health(client) == 200 or process.poll() is not None, 300)
            yield client
            assert _health(client) == 200
            for idle in ("ssd_server_requests_in_flight 0.0", "tgi_batch_current_size 0.0"):
                wait_until(lambda idle=idle: idle in client.get("/metrics").text, 20)
        finally:
            client.close()
            process.terminate()
            assert process.wait(120) == 0
        log.seek(0)
        assert "lighthouse" not in log.read()


def _health(client: httpx.Client) -> int:
    try:
        return client.get("/health").status_code
    except httpx.HTTPError:
        return 0


def test_real_answers_whole_and_streamed(client: httpx.Client) -> None:
    body = {"inputs": "Name a lighthouse.", "parameters": {"max_new_tokens": 16, "details": True}}
    whole = client.post("/generate", json=body).json()
    with client.stream("POST", "/generate_stream", json=body) as response:
        *events, last = read_events(response.iter_lines())
    assert last["generated_text"] == "".join(event["token"]["text"] for event in events)
    assert last["generated_text"] == whole["generated_text"]
    assert whole["details"]["generated_tokens"] == last["details"]["generated_tokens"] <= 16
    assert all(token["logprob"] <= 0 for token in whole["details"]["tokens"])


def test_the_pairs_own_calibration_is_in_force(client: httpx.Client) -> None:
    with ChatSSD(base_url=str(client.base_url), max_tokens=8) as model:
        message = model.invoke("Name a lighthouse.")
        summary = message.response_metadata["ssd"]
        assert (summary["monitor"], summary["calibrated"], summary["enforced"]) == ("sequential", True, True)
        assert model.warm_up().info["target"]["context"] == 96
        assert model.get_num_tokens("Name a lighthouse.") == len(model.get_token_ids("Name a lighthouse."))
    tokens = client.post("/tokenize", json={"inputs": "Name a lighthouse 👍🏽."}).json()
    assert "".join(token["text"] for token in tokens) == "Name a lighthouse 👍🏽."
    said = client.post("/chat_tokenize", json=chat("Name a lighthouse.")).json()
    assert "<|im_start|>user\nName a lighthouse.<|im_end|>" in said["templated_text"]


def test_no_stream_changes_anothers_output(client: httpx.Client) -> None:
    def ask(seed: int) -> str:
        parameters = {"max_new_tokens": 20, "do_sample": True, "temperature": 0.9, "seed": seed}
        with client.stream(
            "POST", "/generate_stream", json={"inputs": f"Name lighthouse {seed}.", "parameters": parameters}
        ) as response:
            *_, last = read_events(response.iter_lines())
        return str(last["generated_text"])

    def leave(number: int) -> None:
        body = {"inputs": f"Name boat {number}.", "parameters": {"max_new_tokens": 40}}
        with client.stream("POST", "/generate_stream", json=body) as response:
            next(read_events(response.iter_lines()))

    alone = [ask(seed) for seed in range(3)]
    assert len(set(alone)) > 1
    with ThreadPoolExecutor(6) as pool:
        leavers = [pool.submit(leave, number) for number in range(3)]
        together = list(pool.map(ask, range(3)))
        for leaver in leavers:
            leaver.result()
    assert together == alone


def test_what_does_not_fit_is_422_with_both_numbers(client: httpx.Client) -> None:
    response = client.post("/v1/chat/completions", json=chat("word " * 200))
    assert (response.status_code, response.json()["code"]) == (422, "context_overflow")
    assert "context 96" in response.json()["error"]


@pytest.mark.filterwarnings("default")
def test_five_hundred_strange_requests(client: httpx.Client) -> None:
    port = client.base_url.port
    assert port
    raw = fuzz_raw(port, 250, seed=3)
    schema = fuzz_schema(client, 252)
    assert raw.total() + schema.total() >= 480
    assert schema[200] > 10
