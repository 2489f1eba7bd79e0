"""``langchain-ssd average-drafts``: the mean of drafts that lie close together, or one line why not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from langchain_ssd.cli import app
from langchain_ssd.config import EngineConfig, ModelSpec
from langchain_ssd.draft_folder import CARD, DraftCard, read_card
from langchain_ssd.drafts.average import average
from langchain_ssd.drafts.finish import differences, tokens_before
from langchain_ssd.drafts.starting import start
from langchain_ssd.engine.delta import WEIGHTS, read_factors, write_delta
from langchain_ssd.engine.loading import load_model, load_pair
from langchain_ssd.engine.packing import Encoding
from langchain_ssd.errors import ConfigError
from langchain_ssd.pairs import draft_spec
from langchain_ssd.profile import fingerprint
from langchain_ssd.testing.tiny_pair import save_tiny_pair

from .draft_helpers import recipe

runner = CliRunner()
NAME = "model.layers.0.mlp.down_proj.weight"
ROWS, COLUMNS, RANK = 10, 25, 3  # neither factor fills its groups of 64
IDS = torch.tensor([[1, 5, 9, 30, 7]])
Factors = tuple[Tensor, Tensor]


def quiet(stage: str, part: float) -> None:
    """Nobody watches."""


def factors(seed: int, rank: int = RANK) -> Factors:
    """An adapter near a common one, as those are that were trained from one another."""
    common, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    shapes = ((rank, COLUMNS), (ROWS, rank))
    down, up = (
        torch.randn(shape, generator=common) + 0.1 * torch.randn(shape, generator=own) for shape in shapes
    )
    return down, up


def card(**changes: Any) -> DraftCard:
    return DraftCard.model_validate({"base": "default", "base_fingerprint": "ab", **changes})


def written(folder: Path, *, sums: dict[str, Tensor] | None = None, pair: Factors | None = None) -> Path:
    """Finish a folder: weights, configuration, and a card unless there is one."""
    folder.mkdir(exist_ok=True)
    encoding: Encoding = (read_card(folder) or card()).encoding
    write_delta(folder, sums or {}, {NAME: pair} if pair else {}, encoding)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    if not (folder / CARD).exists():
        (folder / CARD).write_text(card().model_dump_json())
    return folder


def carded(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    (folder / CARD).write_text(card(**changes).model_dump_json(exclude_none=True))
    return folder


def adapter(folder: Path, seed: int, rank: int = RANK, **changes: Any) -> Path:
    return written(carded(folder, **changes), pair=factors(seed, rank))


def decoded(folder: Path, part: str, count: int) -> tuple[Tensor, Tensor]:
    """The numbers of a part in 8 bits and the step of each, by arithmetic of this file's own."""
    parts = load_file(folder / WEIGHTS)
    steps = [float(scale) for scale in parts[f"{NAME}.{part}.scale"] for _ in range(64)]
    levels = [int(level) for row in parts[f"{NAME}.{part}.q8"] for level in row]
    values = [level * step for level, step in zip(levels, steps, strict=True)]
    return torch.tensor(values)[:count], torch.tensor(steps)[:count]


# The weights


@pytest.mark.parametrize("seeds", [(1, 2), (1, 2, 3)])
def test_the_mean_of_the_factors_within_a_step(seeds: tuple[int, ...], tmp_path: Path) -> None:
    folders = [adapter(tmp_path / f"d{seed}", seed) for seed in seeds]
    out = tmp_path / "mean"
    size = average(folders, out, quiet)
    assert size == (out / WEIGHTS).stat().st_size
    for place, part in enumerate(("down", "up")):
        known = sum(factors(seed)[place].flatten() for seed in seeds) / len(seeds)
        assert isinstance(known, Tensor)
        found, step = decoded(out, part, len(known))
        stored = [decoded(folder, part, len(known)) for folder in folders]
        mean = sum(values for values, _ in stored) / len(seeds)
        assert bool(((found - mean).abs() <= 0.6 * step).all())  # half a step, and a scale of 11 bits
        assert bool(((found - known).abs() <= 0.6 * (step + sum(s for _, s in stored) / len(seeds))).all())
        assert float((known - stored[0][0]).norm()) > 10 * float((found - known).norm())
    assert load_file(out / WEIGHTS)[f"{NAME}.rank"].tolist() == [RANK]


def test_a_draft_twice_stays_what_it_is(tmp_path: Path) -> None:
    one = adapter(tmp_path / "one", 1)
    average([one, one], tmp_path / "mean", quiet)
    for part, count in (("down", RANK * COLUMNS), ("up", ROWS * RANK)):
        before, step = decoded(one, part, count)
        after, _ = decoded(tmp_path / "mean", part, count)
        assert bool(((after - before).abs() <= step).all())


@pytest.mark.parametrize("first", ["int8", "float16", "int4"])
def test_the_encoding_is_the_firsts(first: Encoding, tmp_path: Path) -> None:
    others = [e for e in ("float16", "int8") if e != first]
    folders = [adapter(tmp_path / e, n, encoding=e) for n, e in enumerate((first, *others))]
    out = tmp_path / "mean"
    average(folders, out, quiet)
    assert {n: p.shape for n, p in load_file(out / WEIGHTS).items()} == {
        n: p.shape for n, p in load_file(folders[0] / WEIGHTS).items()
    }
    found = read_factors(out, {NAME: torch.Size((ROWS, COLUMNS))})[NAME]
    for place, factor in enumerate(found):
        mean = torch.stack([factors(n)[place] for n in range(len(folders))]).mean(dim=0)
        assert float((factor - mean).norm()) < (0.2 if first == "int4" else 0.02) * float(mean.norm())


def test_full_differences_are_averaged_too(tmp_path: Path) -> None:
    sums = [{"a.weight": torch.full((2, 64), v), "a.norm": torch.tensor([v, -v])} for v in (1.0, 3.0)]
    folders = [
        written(carded(tmp_path / f"{n}", encoding="int4", layers=(0, 2)), sums=s) for n, s in enumerate(sums)
    ]
    average(folders, tmp_path / "mean", quiet)
    parts = load_file(tmp_path / "mean" / WEIGHTS)
    assert parts["a.norm.sum.f16"].tolist() == [2.0, -2.0]
    assert set(parts) == {"a.norm.sum.f16", "a.weight.sum.q4", "a.weight.sum.scale"}
    levels = torch.stack([parts["a.weight.sum.q4"] & 15, parts["a.weight.sum.q4"] >> 4]).float() - 8
    torch.testing.assert_close(
        levels * parts["a.weight.sum.scale"].float().view(1, -1, 1),
        torch.full((2, 2, 32), 2.0),
        rtol=2e-3,
        atol=0,
    )


# The folder


def test_the_card_says_how_the_parts_were_made(tmp_path: Path) -> None:
    made = [{"trained": {"tokens": 500, "before": before}} for before in (0, 500, 200)]
    folders = [adapter(tmp_path / f"{n}", n, made=m, layers=(0, 1)) for n, m in enumerate(made)]
    out = tmp_path / "deep" / "mean"
    average(folders, out, quiet)
    assert {path.name for path in out.iterdir()} == {WEIGHTS, CARD, "config.json", "README.md"}
    found = read_card(out)
    assert found is not None
    assert [part["made"] for part in found.made["averaged"]] == made
    assert sum(part["weight"] for part in found.made["averaged"]) == pytest.approx(1)
    assert found.model_copy(update={"made": {}}) == card(layers=(0, 1))
    assert tokens_before(str(out)) == 1000  # the parts share their beginning, so the longest line counts
    assert "the mean of 3 drafts" in (out / "README.md").read_text()
    assert all(str(tmp_path) not in (out / name).read_text() for name in (CARD, "README.md"))
    assert [path.name for path in out.parent.iterdir()] == ["mean"]
    assert (out / WEIGHTS).stat().st_mode & 0o044 == 0o044


def tiny_draft(folder: Path, target: ModelSpec, base: Any, seed: int) -> dict[str, Factors]:
    """A draft of a tiny target, near all others that this makes; its factors."""
    draft = start(recipe(method="lora", rank=3), base, None)
    trained = {name: p for name, p in draft.named_parameters() if p.requires_grad}
    own = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for place, parameter in enumerate(trained.values()):
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(place))
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=own))
    sums, pairs = differences(draft, trained, base, None)
    carded(folder, base=target, base_fingerprint=fingerprint(target), encoding="float16")
    draft.config.save_pretrained(folder)
    write_delta(folder, sums, pairs, "float16")
    return pairs


def test_the_mean_loads_as_a_draft(tmp_path: Path) -> None:
    target, _ = save_tiny_pair(tmp_path)
    base: Any = load_model(target)
    folders = [tmp_path / f"d{n}" for n in range(2)]
    pairs = [tiny_draft(folder, target, base, n) for n, folder in enumerate(folders)]
    average(folders, tmp_path / "mean", quiet)
    loaded = [
        load_pair(target, draft_spec(str(folder)), EngineConfig(), quiet).draft.model.model
        for folder in (tmp_path / "mean", *folders)
    ]
    wanted = copy.deepcopy(base)
    with torch.no_grad():
        for name, parameter in wanted.named_parameters():
            if name in pairs[0]:
                down, up = ((pairs[0][name][i] + pairs[1][name][i]) / 2 for i in range(2))
                parameter.add_(up @ down)
    with torch.inference_mode():
        found, *parts, mean = (model(input_ids=IDS).logits for model in (*loaded, wanted))
    torch.testing.assert_close(found, mean, atol=0.02, rtol=0.01)
    assert all(float((part - mean).abs().max()) > 0.2 for part in parts)


# What is refused


def refused(folders: list[Path], out: Path) -> str:
    """One line that names no folder; nothing is left behind."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        average(folders, out, quiet)
    assert sorted(out.parent.rglob("*")) == before
    assert str(out.parent) not in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rank": 2}, "rank"),
        ({"base": ModelSpec(name="org/other")}, "base model"),
        ({"base_fingerprint": "cd"}, "base model"),
        ({"layers": (0,)}, "choice of layers"),
        ({"chat_template": "plain"}, "chat template"),
    ],
    ids=str,
)
def test_drafts_that_do_not_belong_together(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    folders = [adapter(tmp_path / "a", 1), adapter(tmp_path / "b", 2), adapter(tmp_path / "c", 3, **changes)]
    assert refused(folders, tmp_path / "mean").startswith(f"draft 3 of 3 has another {word} than the first; ")


@pytest.mark.parametrize("encoding", ["int8", "float16"])
def test_weights_of_another_name_or_size(encoding: Encoding, tmp_path: Path) -> None:
    down, up = factors(1)
    one = written(carded(tmp_path / "a", encoding=encoding), pair=(down, up))
    big = written(carded(tmp_path / "b", encoding=encoding), pair=(down.repeat(1, 4), up))
    assert "draft 2 of 2 has weights of another shape" in refused([one, big], tmp_path / "mean")
    full = written(carded(tmp_path / "c", encoding=encoding), sums={NAME: up @ down})
    assert "another set of changed weights" in refused([one, full], tmp_path / "mean")


def test_the_same_number_of_values_in_another_shape(tmp_path: Path) -> None:
    sums = [{NAME: torch.ones(shape)} for shape in ((2, 6), (3, 4))]
    folders = [written(carded(tmp_path / f"{n}", encoding="float16"), sums=s) for n, s in enumerate(sums)]
    assert "another shape" in refused(folders, tmp_path / "mean")


def test_one_draft_is_no_mean(tmp_path: Path) -> None:
    assert "two drafts or more" in refused([adapter(tmp_path / "a", 1)], tmp_path / "mean")


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    one, out = adapter(tmp_path / "a", 1), tmp_path / "mean"
    whole = adapter(tmp_path / "whole", 1)
    (whole / CARD).unlink()
    assert "draft 2 of 2 has no draft.json" in refused([one, whole], out)
    assert "draft 2 of 2 has no draft.json" in refused([one, tmp_path / "nowhere"], out)
    other = adapter(tmp_path / "b", 2)
    (other / CARD).write_text("{")
    assert "draft.json of this draft cannot be read" in refused([one, other], out)
    for number, spoil in enumerate((lambda p: p.unlink(), lambda p: p.write_bytes(b"{"))):
        broken = adapter(tmp_path / f"broken{number}", 2)
        spoil(broken / WEIGHTS)
        assert "the weights of draft 1 of 2 cannot be read" in refused([broken, one], out)
    odd = adapter(tmp_path / "odd", 2)
    parts = load_file(odd / WEIGHTS)
    del parts[f"{NAME}.up.scale"]
    save_file(parts, odd / WEIGHTS)
    assert "another shape" in refused([odd, one], out)
    assert "another shape" in refused([one, odd], out)
    (one / "config.json").unlink()
    assert "no config.json" in refused([one, one], out)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folders = [adapter(tmp_path / "a", 1), adapter(tmp_path / "b", 2)]
    out = tmp_path / "mean"
    for taken in (out, folders[0]):
        taken.mkdir(exist_ok=True)
        (taken / "kept").write_text("mine")
        assert "not empty" in refused(folders, taken)
        assert (taken / "kept").read_text() == "mine"
    file = tmp_path / "file"
    file.touch()
    assert "not empty" in refused(folders, file)
    assert "cannot be written" in refused(folders, file / "mean")
    (out / "kept").unlink()
    average(folders, out, quiet)  # an empty folder is as good as none
    assert (out / WEIGHTS).is_file()


# The command


def test_the_command_averages_and_says_what_comes_next(tmp_path: Path) -> None:
    folders = [str(adapter(tmp_path / name, n)) for n, name in enumerate(("a", "b"))]
    out = tmp_path / "mean"
    shown = runner.invoke(app, ["average-drafts", *folders, "--out", str(out)], env={"COLUMNS": "300"})
    assert shown.exit_code == 0, shown.output
    assert "averaging ..." in shown.output
    assert "The draft is ready" in shown.output
    assert f"langchain-ssd calibrate --draft {out} --out {out / 'profile.json'}" in shown.output
    assert len(json.loads((out / CARD).read_text())["made"]["averaged"]) == 2


def test_a_draft_of_another_base_is_calibrated_for_a_target(tmp_path: Path) -> None:
    base = ModelSpec(name="org/base")
    folders = [str(adapter(tmp_path / name, n, base=base)) for n, name in enumerate(("a", "b"))]
    out = str(tmp_path / "mean")
    shown = runner.invoke(app, ["average-drafts", *folders, "--out", out], env={"COLUMNS": "300"})
    assert f"calibrate --target TARGET --draft {out}" in shown.output


def test_help_gives_examples() -> None:
    shown = runner.invoke(app, ["average-drafts", "--help"], env={"COLUMNS": "140"})
    assert shown.exit_code == 0
    assert "langchain-ssd average-drafts ./first ./second --out ./mean" in shown.output
    assert "--set adapter=FOLDER" in shown.output
    assert "average-drafts" in runner.invoke(app, ["--help"]).output


def test_errors_are_one_line(tmp_path: Path) -> None:
    one, other = (str(adapter(tmp_path / name, n, rank=n)) for n, name in enumerate(("a", "b"), start=2))
    shown = runner.invoke(app, ["average-drafts", one, other, "--out", str(tmp_path / "mean")])
    assert shown.exit_code == 2
    assert shown.stderr == (
        "error (config): draft 2 of 2 has another rank than the first; "
        "average drafts that were trained further from one another\n"
    )
    assert not (tmp_path / "mean").exists()
