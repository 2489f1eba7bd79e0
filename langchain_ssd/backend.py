"""The seam: messages go in, a stream of events comes out.

``ChatSSD`` knows only this page.  A local worker, a remote server and a scripted double are the same
thing to it.  Other distributions register a factory under the entry point group
``langchain_ssd.backends``.  No tokenizer, torch or LangChain here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Literal

from .config import RefusalPolicy, Sampling, SSDConfig
from .constraint import Constraint
from .errors import BackendNotInstalled, InvalidRequest
from .events import Event

Role = Literal["system", "user", "assistant", "tool"]
ENTRY_POINT_GROUP = "langchain_ssd.backends"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One plain chat message, as chat templates read it."""

    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Everything a backend needs to answer once.

    Attributes:
        messages: the conversation, without a trailing assistant turn.
        prefill: the start of the answer, if the caller gave one; scored before the first new token.
        tools: functions the model may call, in OpenAI's shape.
        tool_choice: "auto", "none", "required" (at least one call), or the name of the one to call.
        parallel_tool_calls: whether more than one call may come out.
        constraint: what the answer must look like; ``None`` for free text.
        timeout: seconds from submission after which the request fails; ``None`` waits for ever.
    """

    messages: tuple[ChatMessage, ...]
    prefill: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    constraint: Constraint | None = None
    sampling: Sampling = field(default_factory=Sampling)
    safety: SSDConfig = field(default_factory=SSDConfig)
    refusal: RefusalPolicy = field(default_factory=RefusalPolicy)
    include_thinking: bool = False
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What a backend says of itself; ``info`` describes the loaded pair once it is known.

    ``stalled`` is how many seconds it has made no progress although it has work, or given no sign of life.
    """

    state: Literal["idle", "loading", "ready", "failed", "closed"]
    running: int = 0
    queued: int = 0
    info: dict[str, Any] = field(default_factory=dict)
    stalled: float = 0.0


@dataclass(frozen=True, slots=True)
class TextToken:
    """One token of a text. The texts of all its tokens join to the whole; part of a character is empty."""

    id: int
    text: str


class EventStream(ABC):
    """One response in flight: iterate it once, synchronously or asynchronously.

    It ends after exactly one ``Finished`` or ``Failed``.  Leaving the iteration early, for whatever
    reason, cancels the request.
    """

    @abstractmethod
    def __iter__(self) -> Iterator[Event]: ...

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Event]: ...

    @abstractmethod
    def cancel(self) -> None:
        """Stop the work. Idempotent; a no-op once the stream has ended. Never blocks."""


class Backend(ABC):
    """Something that answers requests with a protected pair of models."""

    @abstractmethod
    def submit(self, request: ChatRequest) -> EventStream:
        """Hand a request over. Never blocks on model work; failures arrive as ``Failed`` events."""

    @abstractmethod
    def token_ids(self, text: str) -> list[int]:
        """Token ids of plain text by the target's own tokenizer; blocks until the pair is loaded."""

    def count_tokens(self, text: str) -> int:
        """Number of tokens of plain text by the target's own tokenizer."""
        return len(self.token_ids(text))

    def tokenize(self, source: str | Sequence[ChatMessage]) -> list[TextToken]:
        """Tokens of plain text, or of a conversation as the target's chat template writes it.

        Raises:
            InvalidRequest: the text cannot be tokenized, or this backend cannot say.
        """
        raise InvalidRequest("this backend cannot tell the texts of tokens; ask it for token_ids")

    @abstractmethod
    def warm_up(self) -> Health:
        """Start loading if needed and block until the pair is ready.

        Raises:
            ConfigError: the pair cannot work.
            WorkerError: the worker failed to start.
        """

    @abstractmethod
    def health(self) -> Health:
        """State at this moment; adds no work and never blocks."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. Idempotent."""


def load_backend(name: str, **options: Any) -> Backend:
    """Build a backend that another distribution registered.

    Raises:
        BackendNotInstalled: nothing is registered under that name.
    """
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        backend: Backend = entry.load()(**options)
        return backend
    raise BackendNotInstalled(
        f"no backend named '{name}' is installed; for a remote server run: pip install langchain-ssd-{name}"
    )
