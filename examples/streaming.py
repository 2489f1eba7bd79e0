"""Stream an answer asynchronously, with the mode of every token; leaving the loop early stops the work.

Needs the default pair, once: langchain-ssd setup
"""

import asyncio
from contextlib import aclosing

from langchain_ssd import ChatSSD

MARKS = {"utility": "", "safety": "!"}


async def main() -> None:
    """Print tokens as they are released, and stop after forty of them."""
    async with ChatSSD(max_tokens=200, temperature=0.7, seed=7) as model:
        tokens = 0
        async with aclosing(model.astream("Tell me about lighthouses.")) as chunks:
            async for chunk in chunks:
                # One token a chunk: its numbers, but never its words, are in the metadata.
                for token in chunk.response_metadata.get("ssd_trace", []):
                    tokens += 1
                    print(MARKS[token["mode"]], end="")
                print(chunk.text, end="", flush=True)
                if tokens >= 40:
                    break
        print(f"\n\nstopped after {tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main())
