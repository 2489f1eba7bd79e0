"""Commands that other distributions add to the command line."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from langchain_ssd import cli
from langchain_ssd.errors import ConfigError

runner = CliRunner()


def greet(name: Annotated[str, typer.Option("--name", help="Whom.")] = "you") -> None:
    """Say hello."""
    if name == "nobody":
        raise ConfigError("nobody cannot be greeted")
    typer.echo(f"hello {name}")


def install(monkeypatch: pytest.MonkeyPatch, **commands: str) -> None:
    points = [EntryPoint(name, value, cli.ENTRY_POINT_GROUP) for name, value in commands.items()]

    def entry_points(*, group: str, **wanted: Any) -> list[EntryPoint]:
        return [p for p in points if p.group == group and wanted.items() <= {"name": p.name}.items()]

    monkeypatch.setattr(cli, "entry_points", entry_points)


def test_an_installed_command_runs_and_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, greet=f"{__name__}:greet")
    assert runner.invoke(cli.app, ["greet", "--name", "Ada"]).output == "hello Ada\n"
    shown = runner.invoke(cli.app, ["--help"]).output
    assert "greet" in shown
    assert "Say hello." in shown
    assert "--name" in runner.invoke(cli.app, ["greet", "--help"]).output


def test_its_errors_are_one_line_like_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, greet=f"{__name__}:greet")
    done = runner.invoke(cli.app, ["greet", "--name", "nobody"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "error (config): nobody cannot be greeted\n"


def test_a_command_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    done = runner.invoke(cli.app, ["serve", "--port", "1"])
    assert done.exit_code == 2
    assert "pip install langchain-ssd-tgi" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_other_package_replaces_a_command_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, doctor=f"{__name__}:greet")
    assert "Say hello." not in runner.invoke(cli.app, ["doctor", "--help"]).output


def test_an_unknown_command_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    done = runner.invoke(cli.app, ["nonsense"])
    assert done.exit_code == 2
    assert "No such command" in done.stderr
