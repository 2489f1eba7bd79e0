"""When a ChatSSD takes hold of a worker, shares it, and lets go of it."""

import asyncio
import copy
import gc
import threading
import weakref

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField

from langchain_ssd import ChatSSD, EngineConfig, ModelSpec, chat_model
from langchain_ssd.backend import Health
from langchain_ssd.errors import InvalidRequest, ModelNotFound
from langchain_ssd.holding import BackendHold
from langchain_ssd.testing import ScriptedBackend

from .chat_helpers import SPOKEN, collect, model_of


@pytest.fixture
def taken(monkeypatch):
    """Scripted backends in place of workers: every one that was taken, with what was asked for."""
    made = []

    def local(target, draft, engine):
        backend = ScriptedBackend(SPOKEN)
        made.append((backend, target, draft, engine))
        return backend

    monkeypatch.setattr(chat_model, "local", local)
    return made


def test_construction_takes_nothing(taken):
    model = ChatSSD()
    assert model.health() == Health("idle")
    model.close()
    assert taken == []


def test_the_first_call_takes_and_later_calls_keep(taken):
    engine = EngineConfig(max_batch=2)
    model = ChatSSD(target="org/big", draft=ModelSpec(name="org/small"), engine=engine)
    model.invoke("hi")
    list(model.stream("hi"))
    asyncio.run(model.ainvoke("hi"))
    asyncio.run(collect(model.astream("hi")))
    ((backend, *asked),) = taken
    assert asked == ["org/big", ModelSpec(name="org/small"), engine]
    assert len(backend.requests) == 4
    assert model.health().state == "ready"


def test_close_is_idempotent_and_a_later_call_starts_again(taken):
    model = ChatSSD()
    model.invoke("hi")
    model.close()
    model.close()
    assert taken[0][0].closed == 1
    assert model.health().state == "idle"
    assert model.invoke("hi").text == "Hello my dear friend"
    assert len(taken) == 2


def test_a_with_block_closes(taken):
    with ChatSSD() as model:
        model.invoke("hi")
    assert taken[0][0].closed == 1


async def test_an_async_with_block_closes(taken):
    async with ChatSSD() as model:
        await model.ainvoke("hi")
    assert taken[0][0].closed == 1


def test_an_injected_backend_is_never_closed():
    model, backend = model_of(SPOKEN)
    with model:
        model.invoke("hi")
    assert backend.closed == 0
    assert model.invoke("hi").text == "Hello my dear friend"


def test_the_garbage_collector_lets_go(taken):
    model = ChatSSD()
    model.invoke("hi")
    backend = weakref.ref(taken.pop()[0])
    del model
    gc.collect()
    assert backend() is None  # a worker's backend gives itself back when it is dropped


def test_a_stream_keeps_its_backend_though_the_model_is_gone(taken):
    stream = ChatSSD().stream("hi")
    assert next(stream).text == "Hello"
    gc.collect()
    assert "".join(chunk.text for chunk in stream) == " my dear friend"


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, ChatSSD.model_copy])
def test_a_copy_has_a_hold_of_its_own(taken, clone):
    model = ChatSSD()
    model.invoke("hi")
    other = clone(model)
    other.invoke("hi")
    other.close()
    assert [entry[0].closed for entry in taken] == [0, 1]
    model.invoke("hi")
    assert len(taken) == 2


def test_a_copy_with_another_target_takes_that_target(taken):
    model = ChatSSD(target="org/one")
    model.invoke("hi")
    model.model_copy(update={"target": "org/two"}).invoke("hi")
    assert [entry[1] for entry in taken] == ["org/one", "org/two"]


@pytest.mark.parametrize("locked", [False, True])
def test_bound_and_configured_models_use_the_same_hold(taken, locked):
    model = ChatSSD(lock_safety=locked)
    model.bind(seed=1).invoke("hi")
    model.with_config(tags=["x"]).invoke("hi")
    heat = model.configurable_fields(temperature=ConfigurableField(id="heat"))
    for value in (0.1, 0.2):
        heat.invoke("hi", {"configurable": {"heat": value}})
        gc.collect()
    assert heat.with_config(configurable={"heat": 0.3}).invoke("hi").text == "Hello my dear friend"
    assert len(taken) == 1
    assert [request.sampling.temperature for request in taken[0][0].requests] == [0, 0, 0.1, 0.2, 0.3]


def test_a_configurable_target_takes_that_target(taken):
    model = ChatSSD(target="org/one").configurable_fields(target=ConfigurableField(id="t"))
    model.invoke("hi", {"configurable": {"t": "org/two"}})
    model.invoke("hi")
    assert [entry[1] for entry in taken] == ["org/two", "org/one"]


def test_threads_take_hold_once(taken):
    model = ChatSSD()
    assert len(model.batch(["hi"] * 8)) == 8
    assert len(taken) == 1


async def test_tasks_take_hold_once_and_off_the_event_loop(taken, monkeypatch):
    threads = []
    original = chat_model.local

    def local(*asked):
        threads.append(threading.current_thread())
        return original(*asked)

    monkeypatch.setattr(chat_model, "local", local)
    await ChatSSD().abatch(["hi"] * 4)
    assert len(taken) == len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_a_hold_that_failed_can_be_tried_again():
    hold = BackendHold()

    def fail():
        raise ModelNotFound("not set up")

    with pytest.raises(ModelNotFound):
        hold.get(fail)
    assert hold.backend is None
    backend = ScriptedBackend()
    assert hold.get(lambda: backend) is backend
    assert copy.copy(hold).backend is None
    assert copy.deepcopy(hold).backend is None


def test_the_default_pair_that_is_not_set_up_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("LANGCHAIN_SSD_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFound, match="langchain-ssd setup") as caught:
        ChatSSD().invoke("hi")
    assert str(tmp_path) not in str(caught.value)


def test_warm_up_learns_the_context(monkeypatch):
    info = {"target": {"context": 2048}, "draft": {"context": 1024}}
    monkeypatch.setattr(ScriptedBackend, "warm_up", lambda self: Health("ready", info=info))
    model, _ = model_of(SPOKEN)
    assert model.warm_up().state == "ready"
    assert model.profile["max_input_tokens"] == 1024
    given, _ = model_of(SPOKEN, profile={"max_input_tokens": 7})
    asyncio.run(given.awarm_up())
    assert given.profile["max_input_tokens"] == 7


def test_warm_up_without_a_context_leaves_the_profile():
    model, _ = model_of(SPOKEN)
    model.warm_up()
    assert "max_input_tokens" not in model.profile


def test_tokens_are_the_backends():
    model, _ = model_of(SPOKEN)
    assert model.get_token_ids("to be or") == [2, 3, 3]
    assert model.get_num_tokens("to be or") == 3
    assert model.get_num_tokens_from_messages([HumanMessage("to be")]) == 3  # LangChain adds "Human:"
    for bad in ("\x00", "\ud800"):
        with pytest.raises(InvalidRequest, match="the text holds"):
            model.get_num_tokens(bad)
        with pytest.raises(InvalidRequest, match="the text holds"):
            model.get_token_ids(bad)


def test_tokens_can_be_the_users():
    model, _ = model_of(SPOKEN, custom_get_token_ids=lambda text: [1, 2, 3, 4])
    assert (model.get_token_ids("a"), model.get_num_tokens("a")) == ([1, 2, 3, 4], 4)
