"""Sharing a worker: who gets the same one, and when it ends."""

import gc
from typing import Any

import pytest

from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.errors import WorkerError
from langchain_ssd.events import Finished
from langchain_ssd.worker import client, registry
from langchain_ssd.worker.lifecycle import WeakBag

from .worker_doubles import HELLO, D, FakeSupervisor, T


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(client, "Supervisor", FakeSupervisor)
    monkeypatch.setattr(FakeSupervisor, "made", [])
    return FakeSupervisor.made


def hold(**settings: Any) -> registry.SharedBackend:
    target = settings.pop("target", T)
    return registry.shared_backend(target, D, EngineConfig(**settings))


@pytest.fixture(autouse=True)
def nothing_stays_registered():
    yield
    gc.collect()
    assert registry._entries == {}


def test_equal_settings_share_and_others_do_not(made):
    holds = [hold(), hold(), hold(max_batch=2), hold(target=ModelSpec(name="target", token="a"))]
    locals_ = [one._local for one in holds]
    assert locals_[0] is locals_[1]
    assert len({id(local) for local in locals_}) == 3
    for one in holds:
        one.close()


def test_the_key_names_no_token():
    key = registry._key(ModelSpec(name="t", token="hf_secret"), D, EngineConfig(), "e")
    assert len(key) == 64
    assert "hf_secret" not in key


def test_only_the_last_close_ends_the_worker_and_closing_twice_counts_once(made):
    first, second = hold(), hold()
    mine, yours = first.submit(HELLO), second.submit(HELLO)
    first.close()
    first.close()
    assert [event.code for event in mine] == ["cancelled"]
    assert first.health().state == "closed"
    assert second.health().state == "loading"
    made[0].answer(2, Finished())
    assert list(yours) == [Finished()]
    second.close()
    assert second._local.health().state == "closed"
    third = hold()
    assert third._local is not second._local
    third.close()


def test_a_closed_hold_refuses_although_the_worker_lives(made):
    first, second = hold(), hold()
    first.close()
    assert [event.code for event in first.submit(HELLO)] == ["worker"]
    for call in (first.warm_up, lambda: first.token_ids("x")):
        with pytest.raises(WorkerError, match="closed"):
            call()
    second.close()


def test_a_dropped_hold_is_given_back(made):
    first, second = hold(), hold()
    local = first._local
    del first
    gc.collect()
    assert local.health().state != "closed"
    del second
    gc.collect()
    assert local.health().state == "closed"


def test_a_hold_dropped_while_the_registry_is_locked_is_given_back_by_the_next_user(made):
    one = hold()
    local = one._local
    with registry._lock:
        del one
        gc.collect()
    assert local.health().state == "idle"
    hold(max_batch=3).close()
    assert local.health().state == "closed"


def test_a_response_keeps_its_hold(made):
    response = hold().submit(HELLO)
    gc.collect()
    made[0].answer(1, Finished())
    assert list(response) == [Finished()]


def test_a_worker_given_up_by_its_users_does_not_bind_new_ones(made):
    old = hold(max_restarts=0)
    old.submit(HELLO)
    made[0].die()
    assert old._local.exhausted
    new = hold(max_restarts=0)
    assert new._local is not old._local
    old.close()
    assert hold(max_restarts=0)._local is new._local
    new.close()


def test_a_weak_bag_forgets_what_is_gone():
    bag: WeakBag[ModelSpec] = WeakBag()
    kept = ModelSpec(name="kept")
    bag.add(kept)
    bag.add(ModelSpec(name="gone"))
    assert bag.items() == [kept]
    assert len(bag._refs) == 1
