"""Events of risk to a URL: signed by the rules of Standard Webhooks, over https, without redirects."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
import weakref
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Annotated, Any, Self

import httpx
from pydantic import Field, SecretStr, ValidationError, model_validator

from ..config import Settings
from ..errors import ConfigError
from ..events import Event
from ..settings import problem
from .delivery import Delivery, Refusal
from .lifecycle import RunHandler
from .logs import NAMES, line_of
from .reading import RiskRun

DEFAULT_EVENTS = ("ssd.refusal", "ssd.mode_changed", "ssd.response_finished")
_PREFIX = "whsec_"
_SHORTEST_SECRET = 24
_LONGEST_ANSWER = 65_536


class WebhookSettings(Settings):
    """What :class:`RiskWebhook` is given. Addresses and headers are kept as secrets, for many hold one."""

    url: SecretStr
    secret: SecretStr | None
    headers: dict[str, SecretStr]
    allow_http: bool
    proxy: SecretStr | None
    timeout: Annotated[float, Field(gt=0, le=300)]
    batch_size: Annotated[int, Field(ge=1, le=1000)]
    interval: Annotated[float, Field(gt=0, le=3600)]
    queue_size: Annotated[int, Field(ge=1, le=1_000_000)]
    attempts: Annotated[int, Field(ge=1, le=100)]

    @model_validator(mode="after")
    def _safe(self) -> Self:
        try:
            url = httpx.URL(self.url.get_secret_value())
        except httpx.InvalidURL:
            raise ValueError("the url cannot be read") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("the url must begin with https:// and name a host")
        if url.scheme == "http" and not self.allow_http and not _is_loopback(url.host):
            raise ValueError("the url must begin with https://; allow_http=True sends events in the clear")
        if url.userinfo:
            raise ValueError("put credentials into headers, not into the url")
        if self.secret is not None and len(key_of(self.secret)) < _SHORTEST_SECRET:
            raise ValueError(f"the secret must have {_SHORTEST_SECRET} bytes or more")
        return self


class RiskWebhook(RunHandler):
    """Posts events as JSON, in batches, from a thread of its own; the request that is watched never waits.

    The body is ``{"events": [...], "dropped": n}``: lines as :class:`JsonlRiskLogger` writes them, and how
    many were lost so far.  A batch that meets status 429 or 5xx or a broken connection is tried again, with
    pauses that grow, or as long as ``Retry-After`` asks; it then has the same ``webhook-id``.  Redirects are
    not followed.  At the exit of the process what waits is delivered within five seconds.

    Args:
        url: where to; https, unless it is this machine.
        events: names of the events to post, as the log has them.
        secret: signs every batch (HMAC-SHA256), by the rules of standardwebhooks.com: ``whsec_`` and base64,
            or any text of 24 bytes or more.
        headers: sent along, such as ``Authorization``.
        allow_http: take any http address; events then travel in the clear.
        proxy: of the way there; the environment's is not used.
        timeout: seconds for one attempt.
        batch_size: most events of a batch.
        interval: seconds that an event waits for others.
        queue_size: most events that wait; beyond, the oldest are dropped.
        attempts: how often a batch is tried before it is lost.

    Raises:
        ConfigError: one of these cannot be used.
    """

    def __init__(
        self,
        url: str | SecretStr,
        *,
        events: Collection[str] = DEFAULT_EVENTS,
        secret: str | SecretStr | None = None,
        headers: Mapping[str, str | SecretStr] | None = None,
        allow_http: bool = False,
        proxy: str | SecretStr | None = None,
        timeout: float = 10.0,
        batch_size: int = 50,
        interval: float = 1.0,
        queue_size: int = 10_000,
        attempts: int = 6,
    ) -> None:
        super().__init__()
        self._events = _checked(events)
        settings = _settings(
            url=url,
            secret=secret,
            headers=headers or {},
            allow_http=allow_http,
            proxy=proxy,
            timeout=timeout,
            batch_size=batch_size,
            interval=interval,
            queue_size=queue_size,
            attempts=attempts,
        )
        _try_out(settings)
        self._delivery = Delivery(
            lambda: HttpSender(settings),
            batch_size=settings.batch_size,
            interval=settings.interval,
            queue_size=settings.queue_size,
            attempts=settings.attempts,
        )
        weakref.finalize(self, self._delivery.stop, settings.timeout).atexit = False

    @property
    def sent(self) -> int:
        """Events that were delivered."""
        return self._delivery.sent

    @property
    def dropped(self) -> int:
        """Events that were lost."""
        return self._delivery.dropped

    def close(self, timeout: float = 10.0) -> bool:
        """Deliver what waits, for at most so many seconds, and end the thread. Later events are dropped.

        Returns:
            Whether the thread has ended; if not, it does with the request that it is in.
        """
        return self._delivery.close(timeout)

    def _tell(self, run: RiskRun, event: Event) -> None:
        super()._tell(run, event)
        if NAMES.get(type(event)) in self._events:
            with self._guarded("RiskWebhook"):
                self._delivery.put(line_of(event, run))


class HttpSender:
    """Posts batches. httpx's transport is used without its client, which follows, remembers and logs URLs."""

    def __init__(self, settings: WebhookSettings) -> None:
        proxy = settings.proxy.get_secret_value() if settings.proxy else None
        self._transport = httpx.HTTPTransport(proxy=proxy)
        self._settings = settings
        self._key = key_of(settings.secret) if settings.secret else None

    def send(self, lines: list[dict[str, Any]], name: str, dropped: int, seconds: float | None) -> None:
        """Post a batch.

        Raises:
            Refusal: the receiver was not reached, or did not take it.
        """
        limit = self._settings.timeout if seconds is None else min(seconds, self._settings.timeout)
        body = json.dumps({"events": lines, "dropped": dropped}, separators=(",", ":")).encode()
        request = httpx.Request(
            "POST",
            self._settings.url.get_secret_value(),
            headers=self._headers(name, body),
            content=body,
            extensions={"timeout": httpx.Timeout(limit).as_dict()},
        )
        try:
            response = self._transport.handle_request(request)
            _drain(response, time.monotonic() + limit)
        except httpx.TransportError as error:
            raise Refusal(type(error).__name__, again=True) from None
        if not response.is_success:
            again = response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error
            after = _retry_after(response.headers.get("retry-after"))
            raise Refusal(f"status {response.status_code}", again=again, after=after)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _headers(self, name: str, body: bytes) -> dict[str, str]:
        given = {key: value.get_secret_value() for key, value in self._settings.headers.items()}
        ours = {"content-type": "application/json", "user-agent": "langchain-ssd", "webhook-id": name}
        ours["webhook-timestamp"] = str(int(time.time()))
        if self._key is not None:
            ours["webhook-signature"] = signature(self._key, name, ours["webhook-timestamp"], body)
        return {**given, **ours}


def _checked(events: Collection[str]) -> frozenset[str]:
    unknown = sorted(set(events) - set(NAMES.values()))
    if unknown:
        raise ConfigError(f"unknown event '{unknown[0]}'; there are: {', '.join(NAMES.values())}")
    return frozenset(events)


def _settings(**given: Any) -> WebhookSettings:
    try:
        return WebhookSettings(**given)
    except ValidationError as error:
        raise ConfigError(f"webhook: {problem(error).removeprefix('Value error, ')}") from None


def _try_out(settings: WebhookSettings) -> None:
    """Connects to nobody, but loads what posting needs: a process may be forked while a thread is loading."""
    try:
        HttpSender(settings).close()
    except (OSError, ValueError) as error:
        kind = type(error).__name__
        raise ConfigError(f"webhook: check the proxy and the certificates of this machine ({kind})") from None


def key_of(secret: SecretStr) -> bytes:
    """The bytes that sign.

    Raises:
        ValueError: what follows ``whsec_`` is not base64.
    """
    text = secret.get_secret_value()
    if not text.startswith(_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("what follows whsec_ in the secret must be base64") from None


def signature(key: bytes, name: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over name, time and body, as Standard Webhooks has it."""
    digest = hmac.new(key, f"{name}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _drain(response: httpx.Response, until: float) -> None:
    """Read a short answer, so that the connection can be used again, and no long or slow one."""
    try:
        for _ in response.iter_raw():
            if time.monotonic() > until or response.num_bytes_downloaded > _LONGEST_ANSWER:
                break
    finally:
        response.close()


def _retry_after(value: str | None) -> float:
    """Seconds, of either form that HTTP allows; 0 if it is not there or cannot be read."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
