"""ChatSSD over real models in a real worker: a tiny random pair from disk, and the default pair."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from langchain_ssd import ChatSSD, EngineConfig, SSDConfig
from langchain_ssd.drafts import default_pair
from langchain_ssd.errors import ContextOverflow, RequestTimeout, WorkerDied
from langchain_ssd.testing.tiny_pair import save_tiny_pair

SSD = SSDConfig(hold_back="none", alpha_utility=0.4)


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    target, draft = save_tiny_pair(tmp_path_factory.mktemp("pair"), divergence=0.02)
    return {"target": target, "draft": draft, "engine": EngineConfig(threads=1, max_batch=4)}


@pytest.fixture(scope="module")
def model(specs: dict[str, object]) -> Iterator[ChatSSD]:
    with ChatSSD(**specs, ssd=SSD, max_tokens=40, temperature=0.7, seed=11) as model:
        yield model


@pytest.fixture(scope="module")
def expected(model: ChatSSD) -> str:
    """What a fresh worker answers."""
    return model.invoke("tell me").text


def worker_pid(model: ChatSSD) -> int:
    """The process started last: ``model`` is the newest to have been used."""
    workers = [p for p in psutil.Process().children() if "langchain_ssd.worker.process" in p.cmdline()]
    return max(workers, key=lambda p: p.create_time()).pid


def test_an_answer_with_its_numbers(model: ChatSSD, expected: str) -> None:
    answer = model.invoke("tell me")
    assert answer.text == expected
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] <= 40
    summary = answer.response_metadata["ssd"]
    assert summary["emitted"] == answer.usage_metadata["output_tokens"]
    assert 0 < summary["target_passes"] < summary["emitted"]  # speculation saves passes
    assert summary["time_to_first_token"] > 0


def test_a_stream_is_the_invoked_answer(model: ChatSSD, expected: str) -> None:
    assert "".join(chunk.text for chunk in model.stream("tell me")) == expected


async def test_async_and_batch_are_the_same_answer(model: ChatSSD, expected: str) -> None:
    assert (await model.ainvoke("tell me")).text == expected
    assert "".join([chunk.text async for chunk in model.astream("tell me")]) == expected
    answers = await model.abatch(["something else", "tell me", "x" * 90, "tell me"])
    assert [answers[1].text, answers[3].text] == [expected, expected]


def test_after_a_break_the_next_answer_is_as_fresh(model: ChatSSD, expected: str) -> None:
    for _, _chunk in zip(range(3), model.stream("quite another thing", max_tokens=150), strict=False):
        pass
    assert model.invoke("tell me").text == expected


async def test_after_a_cancelled_task_the_next_answer_is_as_fresh(model: ChatSSD, expected: str) -> None:
    async def read() -> None:
        async for _ in model.astream("quite another thing", max_tokens=150):
            await asyncio.sleep(0)

    task = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await model.ainvoke("tell me")).text == expected


def test_a_deadline_while_running_is_a_typed_error(model: ChatSSD, expected: str) -> None:
    with pytest.raises(RequestTimeout):
        model.invoke("tell me", max_tokens=150, timeout=0.03, temperature=1.0)
    assert model.invoke("tell me").text == expected


def test_a_prompt_beyond_the_context_gives_both_numbers(model: ChatSSD) -> None:
    with pytest.raises(ContextOverflow, match="context 256"):
        model.invoke("x" * 300)


def test_control_tokens_typed_by_a_user_are_counted_as_text(model: ChatSSD) -> None:
    assert model.get_num_tokens("<|end|>") == len("<|end|>")


def test_a_worker_killed_after_token_five(specs: dict[str, object], expected: str) -> None:
    engine = EngineConfig(threads=1, max_batch=3)  # another configuration: a worker of its own
    with ChatSSD(**{**specs, "engine": engine}, ssd=SSD, max_tokens=40, temperature=0.7, seed=11) as other:
        stream = other.stream("tell me", max_tokens=150)
        for _ in range(5):
            next(stream)
        os.kill(worker_pid(other), signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(WorkerDied):
            for _ in stream:
                pass
        assert time.monotonic() - began < 5
        assert other.invoke("tell me").text == expected


def test_the_default_pair_answers_and_refuses_nothing_benign() -> None:
    if not default_pair.is_ready():
        pytest.fail("the default pair is not set up; run: langchain-ssd setup")
    with ChatSSD(max_tokens=24, seed=1) as model:
        answer = model.invoke("What is the capital of France?")
    assert "Paris" in answer.text
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert answer.response_metadata["ssd"]["match_ratio"] > 0.5
