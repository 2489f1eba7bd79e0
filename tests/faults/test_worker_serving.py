"""The undisturbed worker process: whole answers, nothing waits that need not, and nothing stays behind."""

import gc
import os
import threading
import time

import psutil
import pytest

from langchain_ssd.backend import ChatMessage, TextToken
from langchain_ssd.config import Sampling
from langchain_ssd.errors import InvalidRequest
from langchain_ssd.events import Finished, Queued, Refused, Token

from .driving import alive, ask, texts, words


def test_an_answer_comes_whole_and_with_its_times(backend):
    events = list(backend.submit(ask("echo 4")))
    assert [type(event) for event in events] == [Queued, Token, Token, Token, Token, Finished]
    assert texts(events) == words(4)
    summary = events[-1].summary
    assert 0 <= summary.queue_seconds <= summary.time_to_first_token <= summary.seconds < 5


def test_warm_up_reports_progress_and_describes_the_pair(start):
    heard: list[tuple[str, float]] = []
    health = start("slow").warm_up(lambda *news: heard.append(news))
    assert heard == [("target", 0.0), ("target", 0.25), ("target", 0.5), ("target", 0.75), ("done", 1.0)]
    assert health.state == "ready"
    assert health.info["target"] == {"name": "slow"}


def test_submitting_waits_neither_for_the_process_nor_for_the_pair(start):
    backend = start("slow")
    began = time.monotonic()
    streams = [backend.submit(ask("echo 1")) for _ in range(10)]
    assert time.monotonic() - began < 0.9  # loading alone takes a second
    assert [texts(s) for s in streams] == [words(1)] * 10


def test_concurrent_requests_get_their_own_answers(start):
    backend = start(max_batch=4)
    answers: dict[int, str] = {}

    def run(count: int) -> None:
        answers[count] = texts(backend.submit(ask(f"echo {count}")))

    threads = [threading.Thread(target=run, args=(count,)) for count in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {count: words(count) for count in range(1, 21)}


def test_text_is_tokenized_by_the_worker(backend):
    assert backend.token_ids("hé\x00") == [104, 195, 169, 0]
    assert backend.count_tokens("") == 0
    with pytest.raises(InvalidRequest):
        backend.token_ids("\ud800")
    assert backend.token_ids("still there") != []


def test_tokens_come_with_their_texts(backend):
    assert backend.tokenize("hé") == [TextToken(104, "h"), TextToken(233, "é")]
    said = backend.tokenize([ChatMessage("user", "hi")])
    assert "".join(token.text for token in said) == "user: hi"
    assert backend.tokenize("") == []


def test_strange_text_reaches_the_engine_and_comes_back(backend):
    assert texts(backend.submit(ask("\ud800 \x00 <|im_end|> 漢 echo 2", prefill="\udfff"))) == words(2)


def test_a_library_that_prints_and_reads_does_not_disturb_the_channel(start):
    assert texts(start("noisy").submit(ask("echo 2"))) == words(2)


def test_limits_and_refusals_cross_the_border(backend):
    assert list(backend.submit(ask("echo 9", sampling=Sampling(max_tokens=2))))[-1].finish_reason == "length"
    events = list(backend.submit(ask("echo 9 refuse after 2")))
    assert isinstance(events[-2], Refused)
    assert events[-1].finish_reason == "refusal"


def test_two_hundred_requests_leave_nothing_behind(start):
    start().close()
    gc.collect()
    before = psutil.Process().num_fds() if os.name == "posix" else 0
    threads = threading.active_count()
    for _ in range(4):
        backend = start()
        for _ in range(50):
            assert texts(backend.submit(ask("echo 2"))) == words(2)
        assert backend._mailboxes == {}
        assert backend._replies == {}
        pid = backend.pid
        backend.close()
        assert not alive(pid)
    gc.collect()
    assert threading.active_count() == threads
    if os.name == "posix":
        assert psutil.Process().num_fds() == before
