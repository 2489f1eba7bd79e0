"""The backend behind ``ChatSSD(base_url=...)``: a pair that lives in a server.

It speaks through huggingface_hub, to a server of this package or, if that is allowed, to a plain
text-generation-inference server, which no SSD protects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from langchain_ssd.backend import Backend, ChatMessage, ChatRequest, EventStream, Health, TextToken
from langchain_ssd.errors import Cancelled, ConfigError, ProtocolError, StartupTimeout, WorkerError
from langchain_ssd.mailbox import Mailbox, MailboxStream, ended_stream

from ..protocol import PROTOCOL
from .answers import ProtectedReader, Reader, not_enforced
from .asking import arguments
from .failures import error_of_response, failure_of, silent
from .loop import PooledClient, start
from .plain import PlainReader

T = TypeVar("T")
_SILENCE = 60.0  # seconds without a byte; servers break silence every 15
_CALL = 30.0  # seconds for a short call
_START = 900.0  # seconds that a server may load
_NO_KEY = "none"  # or huggingface_hub would send the user's own token of the hub to this server


class RemoteBackend(Backend):
    """A protected pair in a server.

    Nothing is asked before the first request, call or :meth:`warm_up`.  Then ``/info`` tells whether SSD
    protects the server; one without it is refused.

    Args:
        base_url: the server's address, without a path of the API.
        api_key: its key, if it wants one.
        allow_unprotected: also take a plain text-generation-inference server.  Its answers then say in their
            metadata that nothing protected them.

    Raises:
        ConfigError: the address is none.
    """

    def __init__(self, base_url: str, api_key: str | None = None, *, allow_unprotected: bool = False) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ConfigError("base_url must begin with http:// or https://")
        self._url = base_url.rstrip("/").removesuffix("/v1")
        self._key = api_key or _NO_KEY
        self._allow_unprotected = allow_unprotected
        self._lock = threading.Lock()
        self._info: dict[str, Any] | None = None
        self._running: set[Mailbox] = set()
        self._closed = False

    # Requests

    def submit(self, request: ChatRequest) -> EventStream:
        """Hand a request over; every failure arrives as a ``Failed`` event."""
        if self._closed:
            return ended_stream(_closed())
        work: list[Future[None]] = []
        mailbox = Mailbox(partial(_cancel, work))
        self._running.add(mailbox)
        work.append(start(self._serve(request, mailbox)))
        return MailboxStream(mailbox, request.timeout)

    async def _serve(self, request: ChatRequest, mailbox: Mailbox) -> None:
        try:
            async with PooledClient(self._url, self._key, _SILENCE) as client:
                info = await self._connect(client)
                if request.safety.enforce and "ssd" in info and not info["ssd"].get("enforced"):
                    raise not_enforced()
                await self._read(client, request, mailbox, protected="ssd" in info)
        except Exception as error:  # whatever it is, the consumer must hear of it
            mailbox.fail(failure_of(error, _SILENCE))
        finally:
            mailbox.fail(silent(_SILENCE))  # a no-op if it has ended
            self._running.discard(mailbox)

    async def _read(
        self, client: PooledClient, request: ChatRequest, mailbox: Mailbox, *, protected: bool
    ) -> None:
        reader: Reader = ProtectedReader(enforce=request.safety.enforce) if protected else PlainReader()
        chunks: Any = await client.chat_completion(**arguments(request, protected=protected))
        async for chunk in chunks:
            if mailbox.deliver(reader.read(chunk)):
                return
        if not mailbox.deliver(reader.end()):
            raise ProtocolError("the server ended a response without saying how")

    # Calls

    def token_ids(self, text: str) -> list[int]:
        """Token ids of plain text by the target's own tokenizer.

        Raises:
            SSDError: the server cannot say.
        """
        return [token.id for token in self.tokenize(text)]

    def tokenize(self, source: str | Sequence[ChatMessage]) -> list[TextToken]:
        """Tokens of plain text, or of a conversation as the target's chat template writes it.

        Raises:
            SSDError: the server cannot say.
        """
        if isinstance(source, str):
            found = self._post("/tokenize", {"inputs": source, "add_special_tokens": False})
        else:
            messages = arguments(ChatRequest(tuple(source)), protected=True)["messages"]
            found = self._post("/chat_tokenize", {"messages": messages})["tokenize_response"]
        try:
            return [TextToken(int(token["id"]), str(token["text"])) for token in found]
        except (KeyError, TypeError, ValueError):
            raise ProtocolError("the server sent tokens that are none") from None

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return _wait(self._exchange("POST", path, body)).json()

    async def _exchange(self, method: str, path: str, body: Any, *, accept: tuple[int, ...] = (200,)) -> Any:
        """A short call, after the server has said what it is."""
        async with PooledClient(self._url, self._key, _CALL) as client:
            await self._connect(client)
            response = await client.call(method, path, body)
        if response.status_code not in accept:
            raise error_of_response(response)
        return response

    async def _connect(self, client: PooledClient) -> dict[str, Any]:
        """What the server says of itself.

        Raises:
            ConfigError: no SSD protects it, or it speaks another protocol.
        """
        if self._closed:
            raise _closed()
        return self._info or self._checked(await client.get_endpoint_info())

    def _checked(self, info: Any) -> dict[str, Any]:
        if not isinstance(info, dict):
            raise ProtocolError("the server does not describe itself; check base_url")
        ssd = info.get("ssd")
        if ssd is None and not self._allow_unprotected:
            raise ConfigError(
                "no SSD protects the server at base_url; serve a pair with 'langchain-ssd serve', or set "
                "allow_unprotected=True"
            )
        if ssd is not None and (not isinstance(ssd, dict) or ssd.get("protocol") != PROTOCOL):
            raise ConfigError("the server speaks another version of the protocol; install the same one")
        self._info = info
        return info

    # Its state

    def warm_up(self) -> Health:
        """Wait until the server's pair is ready.

        Raises:
            ConfigError: no SSD protects the server.
            SSDError: it cannot be reached, or does not become ready.
        """
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline:
            response = _wait(self._exchange("GET", "/health", None, accept=(200, 503)))
            if response.status_code == 200:
                return self.health()
            time.sleep(0.5)
        raise StartupTimeout(f"the server's pair was not ready within {_START:g} s; look at its log")

    def health(self) -> Health:
        """What is known at this moment; asks nobody."""
        if self._closed:
            return Health("closed")
        if self._info is None:
            return Health("idle", running=len(self._running))
        return Health("ready", running=len(self._running), info=_described(self._info))

    def close(self) -> None:
        """End this backend's requests; the server goes on. Idempotent."""
        self._closed = True
        for mailbox in list(self._running):
            mailbox.abort(Cancelled("the model was closed before this was finished"))


def _wait(call: Coroutine[Any, Any, T]) -> T:
    """Block until a short call is done."""
    try:
        return start(call).result()
    except Exception as error:
        raise failure_of(error, _CALL) from None


def _cancel(work: list[Future[None]]) -> None:
    for future in work:
        future.cancel()


def _described(info: dict[str, Any]) -> dict[str, Any]:
    """The server's own description, with the context where a local worker would have it."""
    total = info.get("max_total_tokens")
    name = str(info.get("model_id", ""))
    pair = {"target": {"name": name, "context": total}} if isinstance(total, int) else {}
    return {"server": info, "protected": "ssd" in info, **pair}


def _closed() -> WorkerError:
    return WorkerError("this model is closed; create a new one")
