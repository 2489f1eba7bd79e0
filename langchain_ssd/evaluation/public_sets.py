"""Public sets by name, through ``datasets``, where a hub can be reached.  None of them ships with us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .cases import Case, attack_case, benign_case


@dataclass(frozen=True, slots=True)
class PublicSet:
    """Where a set is and how its rows are read.

    Attributes:
        path: hub name.
        config: its configuration.
        split: its split.
        prompt: the column of the prompt.
        unsafe: ``True`` or ``False`` for a whole set, or the column and the values that mean unsafe.
        gated: whether the hub asks for an accepted licence and a token.
        tabs: whether its files are tables with tabs between the columns.
    """

    path: str
    prompt: str
    split: str = "train"
    config: str | None = None
    unsafe: bool | tuple[str, frozenset[str]] = True
    gated: bool = False
    tabs: bool = False


SETS: dict[str, PublicSet] = {
    "advbench": PublicSet("walledai/AdvBench", "prompt", gated=True),
    "harmbench": PublicSet("walledai/HarmBench", "prompt", config="standard", gated=True),
    "jailbreakbench": PublicSet("JailbreakBench/JBB-Behaviors", "Goal", split="harmful", config="behaviors"),
    "jailbreakbench-benign": PublicSet(
        "JailbreakBench/JBB-Behaviors", "Goal", split="benign", config="behaviors", unsafe=False
    ),
    "strongreject": PublicSet("walledai/StrongREJECT", "prompt", gated=True),
    "wildjailbreak": PublicSet(
        "allenai/wildjailbreak",
        "adversarial",
        config="eval",
        unsafe=("data_type", frozenset({"adversarial_harmful"})),
        gated=True,
        tabs=True,
    ),
    "xstest": PublicSet(
        "walledai/XSTest", "prompt", split="test", unsafe=("label", frozenset({"unsafe"})), gated=True
    ),
    "or-bench": PublicSet("bench-llm/or-bench", "prompt", config="or-bench-hard-1k", unsafe=False),
    "or-bench-toxic": PublicSet("bench-llm/or-bench", "prompt", config="or-bench-toxic"),
}


def public_cases(name: str) -> list[Case]:
    """All cases of a public set.

    Raises:
        ConfigError: the name is unknown, ``datasets`` is missing, or the set cannot be had.
    """
    chosen = SETS.get(name.lower())
    if chosen is None:
        raise ConfigError(f"unknown public set '{name}'; known: {', '.join(SETS)}; or give a file")
    return [row_case(name.lower(), chosen, row) for row in _rows(name, chosen)]


def _rows(name: str, chosen: PublicSet) -> Any:
    try:
        from datasets import load_dataset  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise ConfigError("public sets need datasets: pip install 'langchain-ssd[evaluate]'") from None
    reading = {"delimiter": "\t", "keep_default_na": False} if chosen.tabs else {}
    try:
        return load_dataset(chosen.path, chosen.config, split=chosen.split, **reading)
    except Exception as error:  # the library raises many kinds, with addresses and paths in their texts
        hint = "accept its licence on the hub and log in, or " if chosen.gated else ""
        raise ConfigError(
            f"the set '{name}' cannot be had ({type(error).__name__}); {hint}save it as JSONL "
            "and give the file"
        ) from None


def row_case(name: str, chosen: PublicSet, row: Mapping[str, Any]) -> Case:
    """One row as a case."""
    prompt = str(row[chosen.prompt])
    unsafe = chosen.unsafe
    if not isinstance(unsafe, bool):
        column, values = unsafe
        unsafe = str(row[column]) in values
    if not unsafe:
        return benign_case(f"{name}-safe" if not isinstance(chosen.unsafe, bool) else name, prompt)
    return attack_case(name, "transfer" if name == "wildjailbreak" else "plain", prompt)
