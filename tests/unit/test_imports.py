"""The public door: its names, and that opening it loads nothing heavy."""

import subprocess
import sys

import pytest

import langchain_ssd

NAMES = ["ChatSSD", "EngineConfig", "ModelSpec", "RefusalPolicy", "SSDConfig", "SSDError", "SequentialConfig"]

ONE_CALL = """
from langchain_ssd import ChatSSD
from langchain_ssd.testing import ScriptedBackend
ChatSSD(backend=ScriptedBackend()).invoke('hi')
"""
ONE_HOLD = """
from langchain_ssd import ChatSSD
model = ChatSSD(target='org/target', draft='org/draft')
assert model._backend().health().state == 'idle'
model.close()
"""


def test_the_door_has_these_names_and_no_others():
    assert langchain_ssd.__all__ == NAMES == sorted(NAMES)
    assert len(NAMES) <= 12


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_had(name):
    assert getattr(langchain_ssd, name).__name__ == name
    assert name in dir(langchain_ssd)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = langchain_ssd.nonsense


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert langchain_ssd.__version__ == version("langchain-ssd")


@pytest.mark.parametrize(
    "statement",
    [
        "import langchain_ssd",
        "from langchain_ssd import *",
        ONE_CALL,
        ONE_HOLD,
    ],
)
def test_the_parent_loads_nothing_heavy(statement):
    heavy = ("torch", "transformers", "tokenizers", "rich", "typer", "huggingface_hub", "numpy")
    program = f"{statement}\nimport sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_importing_the_package_does_not_even_import_langchain():
    program = "import sys, langchain_ssd; print('langchain_core' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_words_of_a_refusal_need_no_langchain():
    program = "import sys, langchain_ssd.refusal_text; print('langchain_core' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
