"""Bodies of the text-generation-inference routes. What is not supported is refused by name, never ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from langchain_ssd.config import Sampling
from langchain_ssd.constraint import Constraint

from ..protocol import SSDExtension

Positive = Annotated[float, Field(gt=0.0, le=100.0, allow_inf_nan=False)]
Nucleus = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2.0, le=2.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Count = Annotated[int, Field(ge=1, le=2**31)]
StopText = Annotated[str, Field(min_length=1, max_length=1024)]
Ask = bool | SSDExtension | None


def only(*allowed: Any, why: str = "is not supported by this server; leave it out") -> AfterValidator:
    """A field that takes only neutral values, and says why."""

    def check(value: Any) -> Any:
        if value is not None and not any(value == other and type(value) is type(other) for other in allowed):
            raise ValueError(why)
        return value

    return AfterValidator(check)


class Body(BaseModel):
    """Base of all bodies: exact types, unknown names forbidden, values never quoted."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, protected_namespaces=()
    )


class Grammar(Body):
    """What the answer must look like."""

    type: Literal["json", "json_schema", "regex"]
    value: Any

    def build(self) -> Constraint:
        """The engine's value.

        Raises:
            ValueError: the grammar is not of its type.
        """
        return build_constraint(self.type, self.value)


def build_constraint(kind: str, value: Any) -> Constraint:
    """A constraint as text-generation-inference writes it.

    Raises:
        ValueError: ``value`` is no regular expression or no schema.
    """
    if kind == "regex":
        if not isinstance(value, str):
            raise ValueError("a regular expression must be a text")
        return Constraint("regex", value)
    if isinstance(value, dict) and isinstance(value.get("schema"), dict) and "name" in value:
        value = value["schema"]  # {"name": ..., "schema": ...}, as OpenAI wraps it
    if not isinstance(value, dict):
        raise ValueError("a JSON Schema must be an object")
    return Constraint("json_schema", value)


_BEST_OF = "only 1: choosing among several answers would choose around refusals"
_NO_PROMPT = "log probabilities of the prompt are not computed; leave it out"
_NO_TOP = "only the chosen token's log probability is known; leave it out"


class GenerateParameters(Body):
    """Parameters of a generation, by the names of text-generation-inference."""

    adapter_id: Annotated[str | None, only()] = None
    best_of: Annotated[int | None, only(1, why=_BEST_OF)] = None
    decoder_input_details: Annotated[bool | None, only(False, why=_NO_PROMPT)] = None
    details: bool | None = None
    do_sample: bool | None = None
    frequency_penalty: Penalty | None = None
    grammar: Grammar | None = None
    max_new_tokens: Count | None = None
    repetition_penalty: Annotated[float, Field(gt=0.0, le=10.0, allow_inf_nan=False)] | None = None
    return_full_text: bool | None = None
    seed: Seed | None = None
    stop: tuple[StopText, ...] | None = Field(None, max_length=64)
    temperature: Positive | None = None
    top_k: Count | None = None
    top_n_tokens: Annotated[int | None, only(0, why=_NO_TOP)] = None
    top_p: Nucleus | None = None
    truncate: Annotated[int | None, only(why="prompts are never cut; shorten the input")] = None
    # langchain-huggingface sends 0.95 unless it is told otherwise, so that refusing it would lock it out.
    typical_p: Nucleus | None = Field(None, description="Taken, and without effect.")
    watermark: Annotated[bool | None, only(False)] = None

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn; as there, a temperature, top_k or top_p asks for it too."""
        return bool(self.do_sample) or any(
            value is not None for value in (self.temperature, self.top_k, self.top_p)
        )

    def sampling(self, default_new_tokens: int) -> Sampling:
        """The engine's settings."""
        return Sampling(
            temperature=(self.temperature or 1.0) if self.samples else 0.0,
            top_p=self.top_p or 1.0,
            top_k=self.top_k,
            max_tokens=self.max_new_tokens or default_new_tokens,
            stop=self.stop or (),
            seed=self.seed,
            repetition_penalty=self.repetition_penalty or 1.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logprobs=bool(self.details),
        )


class GenerateBody(Body):
    """``/generate`` and ``/generate_stream``: one user message, and how to answer it."""

    inputs: str = Field(min_length=1)
    parameters: GenerateParameters | None = None
    ssd: Ask = None

    @property
    def settings(self) -> GenerateParameters:
        """The parameters, or their defaults."""
        return self.parameters or GenerateParameters()


class CompatBody(GenerateBody):
    """``/``: the same, and whether to stream."""

    stream: bool = False


class TokenizeBody(Body):
    """``/tokenize``: text to take apart; parameters are accepted and do not matter."""

    inputs: str
    add_special_tokens: Annotated[bool | None, only(False, why="plain text has no control tokens")] = None
    parameters: GenerateParameters | None = None
