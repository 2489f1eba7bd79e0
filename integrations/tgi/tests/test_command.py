"""``langchain-ssd serve``: options, environment, file, and what it refuses to do."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from langchain_ssd.cli import app
from langchain_ssd.config import EngineConfig
from langchain_ssd.testing import ScriptedBackend
from langchain_ssd_tgi import command
from langchain_ssd_tgi.server import run as running
from langchain_ssd_tgi.server.settings import ServerConfig

from .serving import KEY

runner = CliRunner()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been run: (backend, server, listen)."""
    calls: list[Any] = []
    monkeypatch.setattr(running, "run", lambda *parts: calls.append(parts))
    monkeypatch.setattr(command, "open_backend", lambda *pair: ScriptedBackend(str(pair)))
    return calls


def serve(*options: str, env: dict[str, str] | None = None) -> Any:
    pair = ("--target", "org/big", "--draft", "org/small")
    return runner.invoke(app, ["serve", *pair, *options], env=env)


def test_defaults_are_loopback_and_locked(started: list[Any]) -> None:
    done = serve()
    assert done.exit_code == 0, done.output
    ((_, server, listen),) = started
    assert (listen.host, listen.port, listen.grace) == ("127.0.0.1", 8080, 90.0)
    assert server.lock_safety
    assert server.model_name == "org/big"
    assert server.allowed_hosts == ("localhost", "127.0.0.1", "[::1]")
    assert (server.cors_origins, server.keys) == ((), ())


def test_options_left_out_are_the_settings_own_defaults(started: list[Any]) -> None:
    serve()
    ((_, server, listen),) = started
    own = running.ListenConfig().model_dump(), ServerConfig().model_dump(exclude={"model_name"})
    assert (listen.model_dump(), server.model_dump(exclude={"model_name"})) == own
    options = inspect.signature(command.serve).parameters
    engine = EngineConfig()
    assert options["max_batch_size"].default == engine.max_batch
    assert options["max_queue"].default == engine.max_queue


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    started: list[Any], tmp_path: Path
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(
        "port = 1001\nmax_input_tokens = 11\ngrace = 3.5\nlock_safety = false\n"
        f'[[keys]]\nname = "team"\nkey = "{KEY}"\nrequests_per_minute = 5\n'
        '[safety]\ntheta = 0.5\n[refusal]\nlanguage = "de"\n[engine]\nprefill_chunk = 64\n'
    )
    env = {"LANGCHAIN_SSD_TGI_PORT": "1002", "LANGCHAIN_SSD_TGI_MAX_INPUT_TOKENS": "12"}
    done = serve("--config", str(file), "--port", "1003", env=env)
    assert done.exit_code == 0, done.output
    ((_, server, listen),) = started
    assert (listen.port, server.max_input_tokens, listen.grace) == (1003, 12, 3.5)
    assert not server.lock_safety
    assert (server.keys[0].name, server.keys[0].requests_per_minute) == ("team", 5)
    assert (server.safety.theta, server.refusal.language) == (0.5, "de")
    assert KEY not in done.output


@pytest.mark.parametrize(
    ("text", "name"),
    [("prot = 1", "prot"), ("[safety]\nthteta = 1", "thteta"), ("[engine]\nx = 1", "x"),
     ("[[keys]]\nname='a'", "key"),
     ("= 1", "TOML"), ("port = 'x'", "port"), ("[refusal]\npatience = 0", "patience")],
)  # fmt: skip
def test_what_is_wrong_in_the_file_is_one_line(
    started: list[Any], tmp_path: Path, text: str, name: str
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    done = serve("--config", str(file))
    assert done.exit_code == 2
    assert name in done.output
    assert str(tmp_path) not in done.output
    assert started == []


def test_a_server_that_others_can_reach_needs_keys(started: list[Any], tmp_path: Path) -> None:
    done = serve("--host", "0.0.0.0")
    assert done.exit_code == 2
    assert "needs keys" in done.stderr
    keys = tmp_path / "keys"
    keys.write_text(f"# comment\nteam {KEY}\n\n{'z' * 20}\n")
    for options in (("--allow-anonymous",), ("--api-keys", str(keys))):
        assert serve("--host", "0.0.0.0", *options).exit_code == 0
    assert started[0][1].keys == ()
    assert [key.name for key in started[1][1].keys] == ["team", "key-2"]
    assert started[1][1].allowed_hosts == ("*",)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--tls-certificate", "x.pem"), "go together"),
        (("--tls-certificate", "x.pem", "--tls-key", "y.pem"), "cannot be read"),
        (("--api-keys", "nowhere"), "cannot be read"),
        (("--config", "nowhere"), "cannot be read"),
        (("--port", "70000"), "port"),
        (("--log-level", "loud"), "log-level"),
        (("--max-stop-sequences", "1000"), "max_stop_sequences"),
    ],
)
def test_wrong_options_are_one_line(started: list[Any], options: tuple[str, ...], word: str) -> None:
    done = serve(*options)
    assert done.exit_code == 2
    assert word in done.output
    assert started == []


def test_the_published_monitor_is_warned_of(started: list[Any]) -> None:
    assert "known holes" in serve().output
    assert "known holes" not in serve("--monitor", "sequential").output


def test_shadow_mode_and_monitor(started: list[Any]) -> None:
    assert serve("--shadow", "--monitor", "sequential").exit_code == 0
    safety = started[0][1].safety
    assert (safety.enforce, safety.monitor) == (False, "sequential")


def test_the_example_file_is_read(started: list[Any]) -> None:
    file = Path(__file__).parents[1] / "deploy" / "serve.toml"
    done = runner.invoke(app, ["serve", "--config", str(file)])
    assert done.exit_code == 0, done.output
    ((_, server, listen),) = started
    assert (server.model_name, server.request_timeout, listen.port) == ("qwen2.5-7b-ssd", 300.0, 8080)


def test_unit_and_container_name_options_that_exist() -> None:
    folder = Path(__file__).parents[1] / "deploy"
    options = {name for parameter in typer_command().params for name in parameter.opts}
    for name, begin in (("langchain-ssd.service", "ExecStart="), ("Dockerfile", 'CMD ["--config')):
        line = next(x for x in (folder / name).read_text().splitlines() if begin in x)
        used = set(re.findall(r"--[a-z-]+", line))
        assert "--config" in used
        assert used <= options


def typer_command() -> Any:
    import typer

    return typer.main.get_command(app).get_command(None, "serve")  # type: ignore[attr-defined, arg-type]
