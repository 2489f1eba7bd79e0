"""Clients that need another huggingface_hub: each in an environment of its own, built once and kept.

``LANGCHAIN_SSD_CLIENT_ENVS`` names the folder that holds them; else they are built in pytest's cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from langchain_ssd.testing import ScriptedBackend, answer, refusal

from .serving import serving

pytestmark = pytest.mark.slow
SPOKEN = answer("Hello my dear friend")
NO = "I can't help with that."
REFUSED = refusal(NO, after="Sure, here is")

LEGACY = """
import asyncio, json, sys
from text_generation import AsyncClient, Client
client = Client(sys.argv[1], timeout=30)
whole = client.generate("hi", max_new_tokens=9, stop_sequences=["x"])
events = list(client.generate_stream("hi"))

async def talk():
    return (await AsyncClient(sys.argv[1]).generate("hi")).generated_text

print(json.dumps({
    "text": whole.generated_text,
    "reason": whole.details.finish_reason.value,
    "tokens": [token.text for token in whole.details.tokens],
    "streamed": "".join(event.token.text for event in events),
    "last": events[-1].generated_text,
    "async": asyncio.run(talk()),
}))
"""
LEGACY_ERRORS = """
import json, sys
from text_generation import Client, errors
client = Client(sys.argv[1])
found = []
for arguments in ({"best_of": 3, "do_sample": True}, {"top_n_tokens": 5}, {"truncate": 3}):
    try:
        client.generate("hi", **arguments)
    except errors.ValidationError as error:
        found.append("validation")
print(json.dumps(found))
"""
LANGCHAIN = """
import asyncio, json, sys
from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint
endpoint = HuggingFaceEndpoint(endpoint_url=sys.argv[1], huggingfacehub_api_token="none", max_new_tokens=9)
model = ChatHuggingFace(llm=endpoint, model_id="ssd")

async def talk():
    return (await model.ainvoke("hi")).content

message = model.invoke("hi")
print(json.dumps({
    "llm": endpoint.invoke("hi"),
    "llm_stream": "".join(endpoint.stream("hi")),
    "chat": message.content,
    "reason": message.response_metadata.get("finish_reason"),
    "stream": "".join(chunk.content for chunk in model.stream("hi")),
    "async": asyncio.run(talk()),
}))
"""


def environment(name: str, *packages: str) -> Path:
    """The Python of an environment that holds these packages."""
    kept = os.environ.get("LANGCHAIN_SSD_CLIENT_ENVS")
    folder = (Path(kept) if kept else Path(__file__).parents[1] / ".pytest_cache" / "envs") / name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        done = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            pytest.skip(f"{name} cannot be installed here: {done.stderr.strip().splitlines()[-1][:200]}")
        (folder / "complete").touch()
    return python


def run(python: Path, program: str, url: str) -> Any:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))}
    done = subprocess.run(
        [str(python), "-c", program, url], capture_output=True, text=True, check=False, timeout=120, env=kept
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def legacy() -> Path:
    return environment("text-generation", "text-generation==0.7.0")


@pytest.fixture(scope="module")
def langchain_huggingface() -> Path:
    return environment("langchain-huggingface", "langchain-huggingface>=1.2,<2", "huggingface-hub<2")


def test_the_legacy_client_generates(legacy: Path) -> None:
    with serving(ScriptedBackend(SPOKEN)) as server:
        assert run(legacy, LEGACY, server.url) == {
            "text": "Hello my dear friend",
            "reason": "stop_sequence",
            "tokens": ["Hello", " my", " dear", " friend"],
            "streamed": "Hello my dear friend",
            "last": "Hello my dear friend",
            "async": "Hello my dear friend",
        }


def test_the_legacy_client_survives_a_refusal(legacy: Path) -> None:
    with serving(ScriptedBackend(REFUSED)) as server:
        found = run(legacy, LEGACY, server.url)
        assert (found["text"], found["async"]) == (NO, NO)
        assert found["streamed"] == found["last"] == f"Sure, here is\n\n{NO}"


def test_the_legacy_client_reads_our_errors(legacy: Path) -> None:
    with serving(ScriptedBackend(SPOKEN)) as server:
        assert run(legacy, LEGACY_ERRORS, server.url) == ["validation"] * 3


def test_langchain_huggingface_chats(langchain_huggingface: Path) -> None:
    with serving(ScriptedBackend(SPOKEN)) as server:
        found = run(langchain_huggingface, LANGCHAIN, server.url)
        assert found.pop("reason") == "stop"
        assert set(found.values()) == {"Hello my dear friend"}


def test_langchain_huggingface_reads_a_refusal(langchain_huggingface: Path) -> None:
    with serving(ScriptedBackend(REFUSED)) as server:
        found = run(langchain_huggingface, LANGCHAIN, server.url)
        assert (found["chat"], found["reason"], found["llm"]) == (NO, "content_filter", NO)
