"""The guard for ``create_agent``: refusals, risky tool calls, tool results that alarm, a conversation's risk.

Put it **last** in the list of middleware. Then it is nearest to the model, and judges an answer before a
retry, a fallback or another hook can act on it. The verdict is carried out in the step after the model, where
no retry and no fallback looks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, NotRequired, cast

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from ..chat_model import ChatSSD
from ..errors import ConfigError, RequestRefused, RiskLimitExceeded, UnprotectedAnswer
from .policy import refused
from .reading import is_refusal
from .replacing import marked, replaced
from .scoring import ascore_text, score_text
from .settings import GuardSettings

try:
    from langchain.agents.middleware import (
        AgentMiddleware,
        AgentState,
        ExtendedModelResponse,
        ModelRequest,
        ModelResponse,
        ToolCallRequest,
        hook_config,
    )
    from langchain.agents.middleware.types import OmitFromSchema
    from langgraph.types import Command
except ImportError:
    raise ConfigError(
        "the guard for agents needs langchain 1.2.12 or newer; run: pip install 'langchain-ssd[agents]'"
    ) from None

from .asking import ask_refusal, ask_risk
from .tool_calls import stopped_call
from .tool_results import Result, ResultGuard, asked
from .verdicts import GuardNotes, judge, over_limit, risk_of

Update = dict[str, Any] | None


class GuardState(AgentState[Any]):
    """The agent's state with the guard's notes. Callers can read them and cannot set them."""

    ssd_guard: NotRequired[Annotated[GuardNotes, OmitFromSchema(input=True, output=False)]]


class SSDGuardMiddleware(AgentMiddleware[GuardState, Any, Any]):
    """Guards an agent whose model is a ``ChatSSD``. Put it last in the list of middleware.

    Args:
        scorer: the model whose pair scores tool results; needed unless ``on_injection`` is "off".
        settings: the fields of :class:`~langchain_ssd.guard.GuardSettings`.

    Raises:
        ValidationError: an unknown name or a bad value (pydantic's).
        ConfigError: results are to be scored, and there is no scorer.

    Example:
        .. code-block:: python

            from langchain.agents import create_agent
            from langchain_ssd import ChatSSD
            from langchain_ssd.guard import SSDGuardMiddleware

            guard = SSDGuardMiddleware(tool_policies={"send_email": "ask"}, max_conversation_risk=0.5)
            agent = create_agent(ChatSSD(lock_safety=True), tools, middleware=[guard], checkpointer=saver)
    """

    state_schema = GuardState

    def __init__(self, *, scorer: ChatSSD | None = None, **settings: Any) -> None:
        super().__init__()
        self.settings = GuardSettings(**settings)
        self._scorer = scorer
        self._results = ResultGuard(self.settings)
        if scorer is None and self.settings.on_injection != "off":
            raise ConfigError("on_injection needs a model to score with; give scorer=ChatSSD(...)")

    # The model's answers: judged before they enter the state

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ExtendedModelResponse[Any]:
        """Judge an answer, and replace it in place if it must not stand."""
        try:
            response = handler(request)
        except Exception as error:  # a refusal that somebody between here and the model has made an error of
            response = _refused_inside(error)
        return self._judged(request, response)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ExtendedModelResponse[Any]:
        """Judge an answer, and replace it in place if it must not stand."""
        try:
            response = await handler(request)
        except Exception as error:
            response = _refused_inside(error)
        return self._judged(request, response)

    def _judged(self, request: ModelRequest[Any], response: ModelResponse[Any]) -> ExtendedModelResponse[Any]:
        answer = _newest(response.result) or AIMessage("")
        verdict = judge(self.settings, answer, cast("GuardState", request.state).get("ssd_guard"))
        if verdict.stands:
            result = [verdict.answer if message is answer else message for message in response.result]
            response = replace(response, result=result)
        else:  # with an answer that is taken back go the tool messages and values that were made of it
            response = ModelResponse(result=[verdict.answer])
        return ExtendedModelResponse(response, Command(update={"ssd_guard": verdict.notes}))

    # Verdicts: carried out after the model's step, where no retry and no fallback looks

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: GuardState, runtime: Any) -> Update:
        """Carry out the verdict on the newest answer.

        Raises:
            RequestRefused: it is a refusal, and ``on_refusal="raise"``.
            RiskLimitExceeded: it passed the limit, and ``on_conversation_risk="raise"``.
            UnprotectedAnswer: it does not come from SSD, or the guard has not seen it.
        """
        answer, notes = _newest(state["messages"]), state.get("ssd_guard")
        if answer is None or notes is None or notes["message"] != answer.id:
            return self._unseen()
        if notes["stop"] == "unprotected":
            raise UnprotectedAnswer(
                "an answer does not come from SSD and was withheld; guard SSD models only, fallbacks too"
            )
        if notes["stop"] == "refusal":
            return self._refusal(answer, notes)
        return self._risk(answer, notes) if notes["stop"] == "conversation_risk" else None

    @hook_config(can_jump_to=["end"])
    async def aafter_model(self, state: GuardState, runtime: Any) -> Update:
        """Carry out the verdict on the newest answer; raises as :meth:`after_model`."""
        return self.after_model(state, runtime)

    def _unseen(self) -> Update:
        if self.settings.require_ssd:
            raise UnprotectedAnswer(
                "a middleware made up an answer that the guard has not seen; require_ssd=False lets it pass"
            )
        return None

    def _refusal(self, answer: AIMessage, notes: GuardNotes) -> Update:
        policy = self.settings.on_refusal
        if policy == "raise":
            raise refused(notes["why"]["reason"])
        words = ask_refusal(notes["why"]) if policy == "ask" else None
        if words is not None:
            metadata = {**answer.response_metadata, "finish_reason": "stop"}
            return _end(answer.model_copy(update={"content": words, "response_metadata": metadata}))
        return _end(marked(answer))

    def _risk(self, answer: AIMessage, notes: GuardNotes) -> Update:
        limit, policy = self.settings.max_conversation_risk or 0.0, self.settings.on_conversation_risk
        if policy == "raise":
            raise _too_risky(notes["risk"], limit)
        if policy == "ask" and ask_risk(notes["risk"], limit):
            return {"ssd_guard": {**notes, "stop": None, "risk": 0.0}}
        return _end(marked(replaced(answer, self.settings.risk_text)))

    # A conversation that has passed its limit stays closed

    @hook_config(can_jump_to=["end"])
    def before_agent(self, state: GuardState, runtime: Any) -> Update:
        """Keep a conversation closed that has passed its limit.

        Raises:
            RiskLimitExceeded: it has, and ``on_conversation_risk="raise"``.
        """
        notes, limit = state.get("ssd_guard"), self.settings.max_conversation_risk or 0.0
        if notes is None or not over_limit(self.settings, risk_of(notes)):
            return None
        if self.settings.on_conversation_risk == "raise":
            raise _too_risky(notes["risk"], limit)
        if self.settings.on_conversation_risk == "ask" and ask_risk(notes["risk"], limit):
            return {"ssd_guard": {**notes, "stop": None, "risk": 0.0}}
        return _end(marked(replaced(AIMessage(""), self.settings.risk_text)))

    @hook_config(can_jump_to=["end"])
    async def abefore_agent(self, state: GuardState, runtime: Any) -> Update:
        """Keep a conversation closed that has passed its limit; raises as :meth:`before_agent`."""
        return self.before_agent(state, runtime)

    # Tools

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Result]
    ) -> Result:
        """Stop a risky call; score the result of one that runs."""
        stopped = stopped_call(self.settings, request)
        if stopped is not None:
            return stopped
        result = handler(request)
        if self._scorer is None or self.settings.on_injection == "off":
            return result
        scores = [score_text(self._scorer, text) for text in self._results.texts(result)]
        return self._results.judged(result, scores)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Result]]
    ) -> Result:
        """Stop a risky call; score the result of one that runs."""
        stopped = stopped_call(self.settings, request)
        if stopped is not None:
            return stopped
        result = await handler(request)
        if self._scorer is None or self.settings.on_injection == "off":
            return result
        scores = [await ascore_text(self._scorer, text) for text in self._results.texts(result)]
        return self._results.judged(result, scores)

    def before_model(self, state: GuardState, runtime: Any) -> Update:
        """Ask about results that are withheld, before the model reads them."""
        decided: list[ToolMessage] = asked(state["messages"])
        return {"messages": decided} if decided else None

    async def abefore_model(self, state: GuardState, runtime: Any) -> Update:
        """Ask about results that are withheld, before the model reads them."""
        return self.before_model(state, runtime)


def _newest(messages: Sequence[BaseMessage]) -> AIMessage | None:
    return next((m for m in reversed(messages) if isinstance(m, AIMessage)), None)


def _end(answer: AIMessage) -> dict[str, Any]:
    return {"messages": [answer], "jump_to": "end"}


def _too_risky(risk: float, limit: float) -> RiskLimitExceeded:
    return RiskLimitExceeded(
        f"the conversation's risk of {risk:.2f} has passed its limit of {limit:.2f}; begin another one"
    )


def _refused_inside(error: Exception) -> ModelResponse[Any]:
    """The refused answer that an error carries; any other error goes on.

    ``ModelRefusalError`` and the errors of structured output do, and a fallback would act on them. So does
    the model's own, if its policy is to raise.
    """
    if isinstance(error, RequestRefused) and error.response_metadata:
        metadata = dict(error.response_metadata)
        block: dict[str, Any] = {"type": "refusal", "refusal": error.text}
        return ModelResponse(result=[AIMessage([block], response_metadata=metadata)])
    for name in ("raw_message", "ai_message"):
        message = getattr(error, name, None)
        if isinstance(message, AIMessage) and is_refusal(message):
            return ModelResponse(result=[message])
    raise error
