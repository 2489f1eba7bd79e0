"""Event streams of version 3 keep the metadata of the last chunk only, and call no hook for tokens.

They are recognised by their run manager: LangChain hands one to ``_stream`` on no other path.  So with one,
chunks that tell of risk are told to the handlers here, without their text, and the last chunk carries the
metadata of all.
"""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from .chunks import gather


class Metadata:
    """The metadata of one response, for those who would lose it.

    Args:
        run_manager: LangChain's, on the paths that have one.
    """

    def __init__(self, run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> None:
        self._manager = run_manager
        self._chunks: list[ChatGenerationChunk] = []

    def tell(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """Tell the handlers about a chunk; returns it as it is to go on."""
        if isinstance(self._manager, CallbackManagerForLLMRun) and (note := _note(chunk)):
            self._manager.on_llm_new_token("", chunk=note)
        return self._whole(chunk)

    async def atell(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """Like :meth:`tell`, on asynchronous paths."""
        if isinstance(self._manager, AsyncCallbackManagerForLLMRun) and (note := _note(chunk)):
            await self._manager.on_llm_new_token("", chunk=note)
        return self._whole(chunk)

    def _whole(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        if self._manager is None:
            return chunk
        self._chunks.append(chunk)
        if getattr(chunk.message, "chunk_position", None) == "last":
            chunk.generation_info = gather(self._chunks)
        return chunk


def _note(chunk: ChatGenerationChunk) -> ChatGenerationChunk | None:
    events: Any = (chunk.generation_info or {}).get("ssd_events")
    if not events:
        return None
    return ChatGenerationChunk(message=AIMessageChunk(content=""), generation_info={"ssd_events": events})
