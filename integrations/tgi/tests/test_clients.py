"""Real clients, as people have them: huggingface_hub, openai, langchain-openai and curl."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from typing import Any

import pytest

from langchain_ssd.errors import InvalidRequest, Overloaded
from langchain_ssd.testing import ScriptedBackend, answer, failure, refusal, tool_call

from .serving import KEY, serving

SPOKEN = answer("Hello my dear friend")
NO = "I can't help with that."
REFUSED = refusal(NO, after="Sure, here is")
ASK: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """huggingface_hub; while HF_HUB_OFFLINE is set, it connects to no server at all."""
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return huggingface_hub


# huggingface_hub


def test_hub_generates_text(hub: Any) -> None:
    with serving(ScriptedBackend(SPOKEN)) as server:
        client = hub.InferenceClient(base_url=server.url)
        assert client.text_generation("hi") == "Hello my dear friend"
        detailed = client.text_generation("hi", details=True, max_new_tokens=9, temperature=0.5, stop=["x"])
        assert detailed.generated_text == "Hello my dear friend"
        assert detailed.details.generated_tokens == 4
        assert [token.text for token in detailed.details.tokens] == ["Hello", " my", " dear", " friend"]
        assert "".join(client.text_generation("hi", stream=True)) == "Hello my dear friend"
        *_, last = client.text_generation("hi", stream=True, details=True)
        assert (last.generated_text, last.details.finish_reason) == ("Hello my dear friend", "eos_token")


def test_hub_chats(hub: Any) -> None:
    with serving(ScriptedBackend(SPOKEN), keys=({"name": "a", "key": KEY},)) as server:
        client = hub.InferenceClient(base_url=server.url, api_key=KEY)
        whole = client.chat_completion(ASK, max_tokens=5, logprobs=True)
        assert whole.choices[0].message.content == "Hello my dear friend"
        assert whole.usage.completion_tokens == 4
        assert len(whole.choices[0].logprobs.content) == 4
        chunks = list(client.chat.completions.create(messages=ASK, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello my dear friend"
        assert chunks[-1].choices[0].finish_reason == "stop"


def test_hub_chats_in_an_event_loop(hub: Any) -> None:
    async def talk(url: str) -> list[str]:
        async with hub.AsyncInferenceClient(base_url=url) as client:
            whole = await client.chat_completion(ASK)
            stream = await client.chat_completion(ASK, stream=True)
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            text = await client.text_generation("hi")
            return [whole.choices[0].message.content, "".join(parts), text]

    with serving(ScriptedBackend(SPOKEN)) as server:
        assert asyncio.run(talk(server.url)) == ["Hello my dear friend"] * 3


def test_hub_reads_refusals_and_typed_errors(hub: Any) -> None:
    from huggingface_hub import errors

    with serving(ScriptedBackend(REFUSED)) as server:
        client = hub.InferenceClient(base_url=server.url)
        assert client.text_generation("hi") == NO
        choice = client.chat_completion(ASK).choices[0]
        assert (choice.message.content, choice.finish_reason) == (NO, "content_filter")
        with pytest.raises(errors.ValidationError, match="best_of"):
            client.text_generation("hi", best_of=3)
    with serving(ScriptedBackend(failure(InvalidRequest("no"), after="some"), Overloaded("full"))) as server:
        client = hub.InferenceClient(base_url=server.url)
        with pytest.raises(errors.ValidationError, match="no"):
            list(client.text_generation("hi", stream=True))
        with pytest.raises(errors.OverloadedError):
            client.text_generation("hi")


def test_hub_calls_tools(hub: Any) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    with serving(ScriptedBackend(tool_call("add", {"a": 1}))) as server:
        client = hub.InferenceClient(base_url=server.url)
        whole = client.chat_completion(ASK, tools=[tool], tool_choice="auto")
        (call,) = whole.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 1})
        chunks = list(client.chat_completion(ASK, tools=[tool], stream=True))
        parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or ()]
        assert json.loads("".join(part.function.arguments for part in parts)) == {"a": 1}


# openai


@pytest.fixture
def openai() -> Any:
    return pytest.importorskip("openai", reason="pip install 'langchain-ssd-tgi[clients]'")


def test_openai_chats(openai: Any) -> None:
    with serving(ScriptedBackend(SPOKEN)) as server, _client(openai, server.url) as client:
        whole = client.chat.completions.create(
            model="ssd", messages=ASK, max_completion_tokens=9, logprobs=True
        )
        assert whole.choices[0].message.content == "Hello my dear friend"
        assert whole.usage.total_tokens == 5
        again = [*ASK, whole.choices[0].message.model_dump(exclude_unset=False), *ASK]
        assert client.chat.completions.create(model="ssd", messages=again).choices
        stream = client.chat.completions.create(
            model="ssd", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        *chunks, usage = list(stream)
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello my dear friend"
        assert usage.usage.completion_tokens == 4
        assert [model.id for model in client.models.list()] == ["ssd"]
        text = client.completions.create(model="ssd", prompt="hi")
        assert text.choices[0].text == "Hello my dear friend"


def test_openai_reads_refusals_errors_and_telemetry(openai: Any) -> None:
    with serving(ScriptedBackend(REFUSED)) as server, _client(openai, server.url) as client:
        choice = client.chat.completions.create(model="ssd", messages=ASK, extra_body={"ssd": True})
        assert choice.choices[0].message.refusal == NO
        assert choice.choices[0].finish_reason == "content_filter"
        assert choice.ssd["summary"]["match_ratio"] == 1.0
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            client.chat.completions.create(model="ssd", messages=ASK, n=2)
        assert "n: only 1" in str(caught.value.body)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-4", messages=ASK)
        server.service.backend.current = ScriptedBackend(Overloaded("full"))
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="ssd", messages=ASK)
        server.service.backend.current = ScriptedBackend(failure(InvalidRequest("no"), after="some"))
        with pytest.raises(openai.APIError) as failed:
            list(client.chat.completions.create(model="ssd", messages=ASK, stream=True))
        assert failed.value.body == "no"


def test_openai_retries_what_was_turned_away(openai: Any) -> None:
    with serving(ScriptedBackend(Overloaded("full"), "at last")) as server:
        with _client(openai, server.url, max_retries=2) as client:
            whole = client.chat.completions.create(model="ssd", messages=ASK)
        assert whole.choices[0].message.content == "at last"


def _client(openai: Any, url: str, **options: Any) -> Any:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", **{"max_retries": 0, **options})


# langchain-openai


def test_langchain_openai_chats() -> None:
    langchain_openai = pytest.importorskip(
        "langchain_openai", reason="pip install 'langchain-ssd-tgi[clients]'"
    )
    with serving(ScriptedBackend(SPOKEN)) as server:
        model = langchain_openai.ChatOpenAI(
            base_url=f"{server.url}/v1", api_key="none", model="ssd", max_retries=0, temperature=0
        )
        assert model.invoke("hi").content == "Hello my dear friend"
        assert "".join(chunk.text for chunk in model.stream("hi")) == "Hello my dear friend"
        assert asyncio.run(model.ainvoke("hi")).usage_metadata["output_tokens"] == 4
    with serving(ScriptedBackend(REFUSED)) as server:
        model = langchain_openai.ChatOpenAI(base_url=f"{server.url}/v1", api_key="none", model="ssd")
        message = model.invoke("hi")
        assert message.content == NO
        assert message.additional_kwargs["refusal"] == NO
        assert message.response_metadata["finish_reason"] == "content_filter"


# curl


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_as_in_the_documentation() -> None:
    def curl(*arguments: str) -> str:
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    json_type = ("-H", "Content-Type: application/json")
    with serving(ScriptedBackend(SPOKEN), keys=({"name": "a", "key": KEY},)) as server:
        key = ("-H", f"Authorization: Bearer {KEY}")
        body = '{"inputs": "hi", "parameters": {"max_new_tokens": 20}}'
        answered = curl(f"{server.url}/generate", "-d", body, *json_type, *key)
        assert json.loads(answered) == {"generated_text": "Hello my dear friend"}
        streamed = curl("-N", f"{server.url}/generate_stream", "-d", body, *json_type, *key)
        assert streamed.count("data: ") == 5
        assert curl("-o", "/dev/null", "-w", "%{http_code}", f"{server.url}/info") == "401"
        assert curl("-w", "%{http_code}", f"{server.url}/health") == "200"
        assert curl(f"{server.url}/info", "-u", f"me:{KEY}").startswith("{")
