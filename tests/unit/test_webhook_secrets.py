"""Who may read what a webhook posts: signatures, secrets, and addresses that are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from langchain_ssd.errors import ConfigError
from langchain_ssd.telemetry import RiskWebhook
from langchain_ssd.telemetry.webhook import signature

from .webhook_helpers import SECRET, Receiver, flush, put

pytestmark = pytest.mark.usefixtures("fast_and_clean")


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's reference libraries.
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", [SECRET, SecretStr(SECRET), "a plain text of enough bytes"])
def test_a_receiver_can_verify_a_batch(secret: str | SecretStr, receive: Callable[..., Receiver]) -> None:
    receiver = receive(503)
    webhook = RiskWebhook(receiver.url, secret=secret, headers={"Authorization": "Bearer abc"}, interval=3600)
    put(webhook, 2)
    flush(webhook)
    key = b"a plain text of enough bytes" if secret != SECRET and isinstance(secret, str) else None
    key = key or b"0123456789abcdef0123456789"
    assert len(receiver.posts) == 2
    for _, _, headers, body in receiver.posts:
        said = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{digest}"
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        assert headers["Authorization"] == "Bearer abc"


def test_without_a_secret_there_is_no_signature(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    webhook = RiskWebhook(receiver.url)
    put(webhook, 1)
    flush(webhook)
    assert "webhook-signature" not in receiver.posts[0][2]


def test_secrets_are_shown_nowhere(
    receive: Callable[..., Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receive(404)
    token = "token-in-the-path-0123456789"
    with caplog.at_level(logging.DEBUG):
        webhook = RiskWebhook(
            f"{receiver.url}/{token}", secret=f"{token}-secret", headers={"authorization": f"Bearer {token}"}
        )
        put(webhook, 1)
        flush(webhook)
    assert receiver.posts[0][1].endswith(token)
    shown = [repr(webhook), str(webhook), repr(vars(webhook)), repr(vars(webhook._delivery)), caplog.text]
    for said in shown:
        assert token not in said
    with pytest.raises(ConfigError) as refused:
        RiskWebhook(f"http://example.com/{token}", secret=token)
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "http://example.com/hook"}, "must begin with https"),
        ({"url": "http://127.0.0.1.example.com/"}, "must begin with https"),
        ({"url": "http://[::2]/"}, "must begin with https"),
        ({"url": "ftp://example.com"}, "must begin with https"),
        ({"url": "example.com/hook"}, "must begin with https"),
        ({"url": "https://"}, "name a host"),
        ({"url": "https://example.com:port"}, "cannot be read"),
        ({"proxy": "nonsense://example.com"}, "check the proxy"),
        ({"url": "https://user:pass@example.com"}, "put credentials into headers"),
        ({"secret": "short"}, "24 bytes or more"),
        ({"secret": "whsec_!!!"}, "must be base64"),
        ({"batch_size": 0}, "batch_size: .*greater than or equal to 1"),
        ({"interval": 0}, "interval: "),
        ({"queue_size": 0}, "queue_size: "),
        ({"attempts": 0}, "attempts: "),
        ({"timeout": 0}, "timeout: "),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RiskWebhook(**{"url": "https://example.com/hook", **given})


@pytest.mark.parametrize("host", ["localhost", "127.8.9.1", "[::1]", "app.localhost"])
def test_this_machine_needs_no_https(host: str) -> None:
    RiskWebhook(f"http://{host}:1/")


def test_http_can_be_allowed() -> None:
    RiskWebhook("http://example.com/", allow_http=True)
