"""Every error a user can see: one tree, no prompt text, no paths of the machine.

SSDError
├── ConfigError                 the setup is wrong: nothing will work until it is changed
│   ├── ModelNotFound           a model name, revision or folder cannot be read
│   ├── UnsafeModel             weights that are not safetensors, or a model that wants remote code
│   ├── UnsupportedModel        a model whose cache cannot be rewound
│   ├── VocabularyMismatch      the two tokenizers differ: names the first differing token
│   ├── TemplateError           a chat template is missing or fails
│   ├── BackendNotInstalled     a backend was asked for whose distribution is missing
│   └── SafetyLocked            a call tried to change locked safety settings
├── InvalidRequest              this request is wrong: another may work
│   ├── UnsupportedContent      an image, audio, or a role the model cannot read
│   ├── UnsupportedConstraint   a grammar or schema that cannot be compiled or enforced
│   └── ContextOverflow         the prompt does not fit into one of the two contexts
├── RequestFailed               this request was accepted and then failed
│   ├── Overloaded              the queue is full                                   (retryable)
│   ├── QueueTimeout            the deadline passed before decoding began           (retryable)
│   ├── RequestTimeout          the deadline passed while decoding
│   ├── Cancelled               the consumer went away
│   ├── NonFiniteLogits         a model produced NaN, or no finite probability
│   ├── OutOfMemory             the device ran out of memory
│   ├── GrammarFailed           a grammar took too much work, or left no token to go on with
│   └── GenerationFailed        a model or the monitor raised: SSD fails closed
├── WorkerError                 the process that holds the models
│   ├── WorkerStartFailed       it could not load the pair
│   ├── StartupTimeout          it did not become ready in time
│   ├── WorkerDied              it ended or hung while requests ran                 (retryable)
│   ├── WorkerUnavailable       it died too often: close() and look at the cause
│   └── ProtocolError           a broken or hostile frame
└── GuardStopped                stopped for safety: another model or attempt must not go on with it
    ├── RequestRefused          the answer is a refusal, and the model's policy or a guard's is to raise
    ├── RiskLimitExceeded       the risk of the conversation has passed its limit
    └── UnprotectedAnswer       an answer that does not come from SSD

Each class has a ``code`` for machines, says whether a retry can help, and carries a one-line
message that says what to do.  Errors cross the process border as ``{"code", "message"}``.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SSDError(Exception):
    """Base of everything this package raises on purpose.

    Attributes:
        message: one line that says what to do.
        retry_after: seconds that whoever is busy asks to wait before another attempt, if it said so.
    """

    code: ClassVar[str] = "ssd_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after: float | None = None

    def to_wire(self) -> dict[str, str]:
        """The error as it crosses a process or network border."""
        return {"code": self.code, "message": self.message}


class ConfigError(SSDError):
    """The setup is wrong: nothing will work until it is changed."""

    code = "config"


class ModelNotFound(ConfigError):
    """A model name, revision or folder cannot be read."""

    code = "model_not_found"


class UnsafeModel(ConfigError):
    """The weights are not safetensors, or the model wants to run its own code."""

    code = "unsafe_model"


class UnsupportedModel(ConfigError):
    """The model's cache cannot be rewound, or its attention is not one this engine can batch."""

    code = "unsupported_model"


class VocabularyMismatch(ConfigError):
    """The two tokenizers differ, so token ids cannot be shared between the models."""

    code = "vocabulary_mismatch"


class TemplateError(ConfigError):
    """A chat template is missing, or fails on these messages."""

    code = "template"


class BackendNotInstalled(ConfigError):
    """A backend was asked for whose distribution is not installed."""

    code = "backend_not_installed"


class SafetyLocked(ConfigError):
    """A call tried to change safety settings that ``lock_safety=True`` protects."""

    code = "safety_locked"


class InvalidRequest(SSDError):
    """This request cannot be served as it is; nothing was computed for it."""

    code = "invalid_request"


class UnsupportedContent(InvalidRequest):
    """An image, audio, or a role that the pair cannot read."""

    code = "unsupported_content"


class UnsupportedConstraint(InvalidRequest):
    """A grammar or schema that cannot be compiled, or asks for what cannot be enforced."""

    code = "unsupported_constraint"


class ContextOverflow(InvalidRequest):
    """The prompt does not fit into the context of one of the two models."""

    code = "context_overflow"


class RequestFailed(SSDError):
    """The request was accepted and then failed."""

    code = "request_failed"


class Overloaded(RequestFailed):
    """The queue is full; try again later."""

    code = "overloaded"
    retryable = True


class QueueTimeout(RequestFailed):
    """The deadline passed while the request waited for a place in the batch."""

    code = "queue_timeout"
    retryable = True


class RequestTimeout(RequestFailed):
    """The deadline passed while the request was being decoded."""

    code = "request_timeout"


class Cancelled(RequestFailed):
    """The consumer went away."""

    code = "cancelled"


class NonFiniteLogits(RequestFailed):
    """A model produced NaN, or a row without any finite probability."""

    code = "non_finite_logits"


class OutOfMemory(RequestFailed):
    """The device ran out of memory while serving this request."""

    code = "out_of_memory"


class GrammarFailed(RequestFailed):
    """Along the answer a grammar took too much work, or left no token to go on with."""

    code = "grammar_failed"


class GenerationFailed(RequestFailed):
    """A model or the monitor raised; the target never goes on alone."""

    code = "generation_failed"


class WorkerError(SSDError):
    """Something about the process that holds the models."""

    code = "worker"


class WorkerStartFailed(WorkerError):
    """The worker could not load the pair."""

    code = "worker_start_failed"


class StartupTimeout(WorkerError):
    """The worker did not become ready within ``EngineConfig.start_timeout``."""

    code = "startup_timeout"


class WorkerDied(WorkerError):
    """The worker ended, or stopped making progress, while requests ran."""

    code = "worker_died"
    retryable = True


class WorkerUnavailable(WorkerError):
    """The worker died too often in a row."""

    code = "worker_unavailable"


class ProtocolError(WorkerError):
    """A broken, oversized or unknown frame arrived."""

    code = "protocol"


class GuardStopped(SSDError):
    """A run was stopped for safety. Nothing is broken: no other attempt and no other model is a remedy.

    On purpose no kind of LangChain's ``ModelRefusalError``: code that falls back to another model looks
    for that one.
    """

    code = "guard_stopped"


class RequestRefused(GuardStopped):
    """The answer is a refusal, and ``RefusalPolicy(on_refusal="raise")`` was set, or a guard told to raise.

    Attributes:
        text: the refusal for the reader; empty if a guard raised this.
        reason: why, for machines.
        category: as the policy names it.
        response_metadata: what the response's message would have carried.
        usage: its token counts.
    """

    code = "request_refused"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.text = self.reason = self.category = ""
        self.response_metadata: dict[str, Any] = {}
        self.usage: dict[str, Any] = {}


class RiskLimitExceeded(GuardStopped):
    """The risk of the conversation has passed the guard's limit."""

    code = "risk_limit_exceeded"


class UnprotectedAnswer(GuardStopped):
    """An answer without SSD's metadata: whatever made it was not watched."""

    code = "unprotected_answer"


def _tree(base: type[SSDError]) -> list[type[SSDError]]:
    return [base] + [leaf for child in base.__subclasses__() for leaf in _tree(child)]


def from_wire(code: str, message: str) -> SSDError:
    """Rebuild an error that crossed a border; an unknown code becomes a plain :class:`SSDError`."""
    for kind in _tree(SSDError):
        if kind.code == code:
            return kind(message)
    return SSDError(message)
