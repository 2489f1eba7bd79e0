"""The page at ``/`` in headless Chromium: it chats, draws, stops, and shows text as text."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from langchain_ssd.errors import GenerationFailed
from langchain_ssd.testing import ScriptedBackend, answer, failure, refusal

from .serving import KEY, serving, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_a_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
)
SPOKEN = answer(
    "Hello <b>my</b> dear friend", modes=["utility", "safety", "utility"], agreement=[True, False, True]
)


class Browser:
    """As much of the WebDriver protocol as these tests need."""

    def __init__(self, port: int) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
        wait_until(self._is_there, 20)
        self._profile = tempfile.mkdtemp(prefix="langchain-ssd-browser-")
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                     f"--user-data-dir={self._profile}", "--window-size=900,900"]  # fmt: skip
        options = {"binary": CHROMIUM, "args": arguments}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        self._session = self._http.post("/session", json=wanted).json()["value"]["sessionId"]

    def _is_there(self) -> bool:
        try:
            return self._http.get("/status").is_success
        except httpx.HTTPError:
            return False

    def _do(self, what: str, body: Any = None) -> Any:
        answered = self._http.post(f"/session/{self._session}/{what}", json=body or {}).json()["value"]
        assert not (isinstance(answered, dict) and "error" in answered), answered
        return answered

    def open(self, url: str) -> None:
        self._do("url", {"url": url})

    def run(self, script: str) -> Any:
        return self._do("execute/sync", {"script": script, "args": []})

    def text(self, identity: str) -> str:
        return str(self.run(f"return document.getElementById({json.dumps(identity)}).textContent"))

    def say(self, text: str) -> None:
        self.run(f"document.getElementById('text').value = {json.dumps(text)}")
        self.run("document.getElementById('ask').requestSubmit()")

    def wait(self, true: Callable[[], Any]) -> None:
        wait_until(true, 20)

    def wait_idle(self) -> None:
        self.wait(lambda: self.run("return document.body.dataset.state") == "idle")

    def screenshot(self) -> bytes:
        return base64.b64decode(self._http.get(f"/session/{self._session}/screenshot").json()["value"])

    def close(self) -> None:
        self._http.delete(f"/session/{self._session}")
        self._http.close()
        shutil.rmtree(self._profile, ignore_errors=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert DRIVER
    port = 9517
    process = subprocess.Popen(
        [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    opened = Browser(port)
    yield opened
    opened.close()
    process.terminate()
    process.wait(20)


def test_the_page_allows_nothing_from_outside() -> None:
    with serving(ScriptedBackend()) as server:
        page = server.get("/")
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for path, kind in (("/page.js", "text/javascript"), ("/page.css", "text/css")):
            assert server.get(path).headers["content-type"].startswith(kind)
        everything = page.text + server.get("/page.js").text + server.get("/page.css").text
        assert "://" not in everything.replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in everything


@pytest.mark.slow
@needs_a_browser
def test_it_chats_and_draws(browser: Browser) -> None:
    with serving(ScriptedBackend(SPOKEN), model_name="org/pair") as server:
        browser.open(server.url)
        browser.wait(lambda: browser.text("model") == "org/pair")
        browser.say("hi <i>there</i>")
        browser.wait(lambda: browser.text("reason") == "stop")
        browser.wait_idle()
        assert browser.text("talk") == "hi <i>there</i>Hello <b>my</b> dear friend"
        assert browser.run("return document.querySelectorAll('#talk b, #talk i').length") == 0
        assert browser.run("return document.querySelector('#talk .safety').textContent") == " <b>my</b>"
        assert (browser.text("ratio"), browser.text("tokens"), browser.text("safety")) == ("0.75", "4", "1")
        points = browser.run("return document.getElementById('line').getAttribute('points')").split()
        assert len(points) == 4
        heights = [float(point.split(",")[1]) for point in points]
        assert heights[0] < heights[1] > heights[2]  # the ratio falls, so the line goes down, and recovers
        assert browser.run("return document.querySelectorAll('.band').length") == 1
        assert browser.screenshot().startswith(b"\x89PNG")
        browser.say("and you?")
        browser.wait(lambda: len(server.backend.requests) == 2)
        browser.wait_idle()
        assert [m.role for m in server.backend.requests[1].messages] == ["user", "assistant", "user"]


@pytest.mark.slow
@needs_a_browser
def test_it_shows_refusals_errors_and_servers_without_telemetry(browser: Browser) -> None:
    with serving(ScriptedBackend(refusal("No.", after="Sure"))) as server:
        browser.open(server.url)
        browser.say("hi")
        browser.wait(lambda: browser.text("reason") == "content_filter")
        assert browser.run("return document.querySelector('#talk .refusal').textContent").strip() == "No."
    with serving(ScriptedBackend(failure(GenerationFailed("it broke"), after="Sure"))) as server:
        browser.open(server.url)
        browser.say("hi")
        browser.wait(lambda: browser.run("return document.querySelectorAll('.error').length") == 1)
        assert browser.run("return document.querySelector('.error').textContent") == "it broke"
    with serving(ScriptedBackend("Hello"), telemetry=False) as server:
        browser.open(server.url)
        browser.say("hi")
        browser.wait(lambda: browser.text("reason") == "stop")
        assert browser.text("talk") == "hiHello"


@pytest.mark.slow
@needs_a_browser
def test_stopping_cancels_the_work(browser: Browser) -> None:
    with serving(ScriptedBackend(answer("word " * 200), delay=0.05)) as server:
        browser.open(server.url)
        browser.say("hi")
        browser.wait(lambda: "word" in browser.text("talk"))
        browser.run("document.getElementById('stop').click()")
        browser.wait(lambda: server.backend.cancelled == [0])
        browser.wait_idle()


@pytest.mark.slow
@needs_a_browser
def test_with_keys_the_browser_signs_in(browser: Browser) -> None:
    with serving(ScriptedBackend("Hello"), keys=({"name": "a", "key": KEY},)) as server:
        browser.open(f"http://me:{KEY}@127.0.0.1:{server.port}/")
        time.sleep(0.2)
        browser.open(server.url)
        browser.say("hi")
        browser.wait(lambda: browser.text("talk") == "hiHello")
