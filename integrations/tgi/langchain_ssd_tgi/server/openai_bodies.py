"""Bodies of the routes under ``/v1``, by OpenAI's names with text-generation-inference's additions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from langchain_ssd.config import Sampling
from langchain_ssd.constraint import Constraint
from langchain_ssd.tools import constraint_from

from .bodies import (
    Ask,
    Body,
    Count,
    Nucleus,
    Penalty,
    Seed,
    StopText,
    build_constraint,
    only,
)

_ONE = "only 1: this server gives one answer a request"
_NO_TEMPLATE = "a request cannot bring a template; leave it out"
_NO_TOP = "only the chosen token's log probability is known; use 0 or leave it out"
Temperature = Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100.0, le=100.0, allow_inf_nan=False)]
TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,10}$")]


class CalledFunction(Body):
    """A function and its arguments, in an earlier turn."""

    name: str
    arguments: str | dict[str, Any] = ""
    description: str | None = None


class CalledTool(Body):
    """One tool call of an earlier turn."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class MessageBody(Body):
    """One message of the conversation; a last one of the assistant is the start of the answer."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    annotations: Annotated[list[Any] | None, only([])] = None
    audio: Annotated[Any, only()] = None
    function_call: Annotated[Any, only(why="use tool_calls")] = None


class FunctionBody(Body):
    """A function that the model may call."""

    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    arguments: dict[str, Any] | None = Field(None, description="Another name of parameters.")
    strict: bool | None = None


class ToolBody(Body):
    """A tool, which is always a function."""

    type: Literal["function"] = "function"
    function: FunctionBody

    def plain(self) -> dict[str, Any]:
        """The tool in OpenAI's shape."""
        function = self.function.model_dump(exclude_none=True, exclude={"arguments"})
        function.setdefault("parameters", self.function.arguments or {"type": "object", "properties": {}})
        return {"type": "function", "function": function}


class NamedFunction(Body):
    """A function by its name."""

    name: str


class ToolChoiceBody(Body):
    """The function that must be called."""

    type: Literal["function"] | None = None
    function: NamedFunction


class JsonSchemaBody(Body):
    """A named schema."""

    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    """What the answer must look like, as OpenAI or text-generation-inference writes it."""

    type: Literal["text", "json_object", "json_schema", "json", "regex"]
    json_schema: JsonSchemaBody | None = None
    value: Any = None

    def build(self) -> Constraint | None:
        """The engine's value; ``None`` for free text.

        Raises:
            ValueError: the parts do not fit together.
        """
        if self.type == "text":
            return None
        if self.json_schema is not None:
            schema = {"schema": self.json_schema.schema_, "strict": self.json_schema.strict}
            return constraint_from({"type": "json_schema", "json_schema": schema})
        if self.value is not None:
            return build_constraint(self.type, self.value)
        if self.type == "json_object":
            return Constraint("json_object")
        raise ValueError("it needs a json_schema, or a value")


class StreamOptions(Body):
    """What a stream holds beside the answer."""

    include_usage: bool = False
    include_obfuscation: Annotated[bool | None, only(False)] = None


class OpenAIBody(Body):
    """What chat and text completions share."""

    model: str | None = Field(None, max_length=256)
    max_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Nucleus | None = None
    top_k: Count | None = None
    seed: Seed | None = None
    stop: StopText | list[StopText] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0.0, le=10.0, allow_inf_nan=False)] | None = None
    logit_bias: dict[TokenKey, Bias] | None = Field(None, max_length=4096)
    n: Annotated[int | None, only(1, why=_ONE)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=512, description="Not used.")
    ssd: Ask = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings as a list."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, max_tokens: int | None, *, logprobs: bool) -> Sampling:
        """The engine's settings; as there, a temperature that is not given is 1."""
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p or 1.0,
            top_k=self.top_k,
            max_tokens=max_tokens,
            stop=self.stops,
            seed=self.seed,
            repetition_penalty=self.repetition_penalty or 1.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias={int(token): bias for token, bias in (self.logit_bias or {}).items()},
            logprobs=logprobs,
        )


class ChatBody(OpenAIBody):
    """``/v1/chat/completions``."""

    messages: list[MessageBody] = Field(min_length=1, max_length=4096)
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, only(0, why=_NO_TOP)] = None
    tools: list[ToolBody] | None = Field(None, max_length=512)
    tool_choice: Literal["auto", "none", "required"] | ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    metadata: dict[str, str] | None = Field(None, description="Not used.")
    store: Annotated[bool | None, only(False)] = None
    chat_template: Annotated[Any, only(why=_NO_TEMPLATE)] = None
    chat_template_kwargs: Annotated[Any, only(why=_NO_TEMPLATE)] = None
    tool_prompt: Annotated[Any, only(why=_NO_TEMPLATE)] = None
    guideline: Annotated[Any, only(why=_NO_TEMPLATE)] = None

    @property
    def choice(self) -> str:
        """How tools are chosen: a word, or the name of a function."""
        if isinstance(self.tool_choice, ToolChoiceBody):
            return self.tool_choice.function.name
        return self.tool_choice or "auto"


class CompletionBody(OpenAIBody):
    """``/v1/completions``: one prompt, read as a user message."""

    prompt: str | list[str]
    best_of: Annotated[int | None, only(1, why=_ONE)] = None
    echo: bool | None = None
    logprobs: Annotated[int | None, only(0, why=_NO_TOP)] = None
    suffix: Annotated[str | None, only()] = None
