"""Chat messages → token ids for one model. Text stays text: it never becomes a control token.

Each model has its own template, so each gets its own rendering of the same messages; only generated ids
are shared. Sandboxing and the marking of control tokens are transformers' own; every added token counts
as a control token here, also those that are not flagged special.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..backend import ChatMessage
from ..config import ModelSpec
from ..errors import InvalidRequest, TemplateError
from ..tool_formats import get_format, native_format
from .skeleton import skeletons
from .tool_prompts import Message, Offer

#: For base models that bring no chat template: ``ModelSpec(chat_template="plain")``.
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['role'].capitalize() }}: {{ m['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
Tools = Sequence[dict[str, Any]]
_TAIL = 16  # tokens at the end of a prompt that hold an opening tag, if the template wrote one
_BECOMES_CONTROL = "a text would become a control token of the model; remove it"
_TEXT_ONLY = "{{ messages[0]['content'] }}"


class Renderer:
    """One model's tokenizer and chat template.

    Args:
        tokenizer: the model's own tokenizer.
        spec: names the template and the system prompt that only this model sees.

    Attributes:
        control_texts: every token that is no text, as it is written, with its id.
        control_ids: their ids.
        tool_format: how the template writes calls to tools; ``None`` if it knows none.

    Raises:
        TemplateError: the tokenizer has no chat template and the spec brings none.
        ConfigError: the spec names a tool format that is not known.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> None:
        self.tokenizer = tokenizer
        self._system_prompt = spec.system_prompt
        template = PLAIN_TEMPLATE if spec.chat_template == "plain" else spec.chat_template
        self._template: str = template or _single_template(tokenizer)
        self._tool_template: str = template or _single_template(tokenizer, "tool_use")
        self._native = native_format(self._tool_template)
        self.tool_format = get_format(spec.tool_format) if spec.tool_format else self._native
        added: list[str] = [t.content for t in tokenizer.added_tokens_decoder.values()]
        tokenizer.chat_control_tokens = [text for text in added if not text.isspace()]
        self.control_texts: dict[str, int] = {
            text: tokenizer.convert_tokens_to_ids(text) for text in tokenizer.chat_control_tokens
        }
        self.control_ids = frozenset(self.control_texts.values())

    @property
    def thinks(self) -> bool:
        """Whether the template knows a thinking part."""
        return "</think>" in self._template

    def opens_thinking(self, prompt: Sequence[int], prefill: str) -> bool:
        """Whether the answer goes on inside a thinking part that the template or the prefill opened."""
        if not self.thinks or "</think>" in prefill:
            return False
        tail: str = self.tokenizer.decode(list(prompt[-_TAIL:]), skip_special_tokens=False)
        return tail.rstrip().endswith("<think>") or prefill.lstrip().startswith("<think>")

    def render(self, messages: Sequence[ChatMessage], offer: Offer | None = None) -> list[int]:
        """Ids of the conversation up to where the assistant's new turn begins.

        Args:
            messages: the conversation.
            offer: tools and the form of an answer; ``None`` leaves calls and results to the template.

        Raises:
            TemplateError: the template refuses these messages.
            InvalidRequest: a text would become a control token.
        """
        plain = self._with_system_prompt([_plain(m) for m in messages])
        *others, last = self._ways(plain, offer)
        for way in others:
            try:
                return self._encode(*way)
            except TemplateError:
                continue
        return self._encode(*last)

    def _ways(self, plain: list[Message], offer: Offer | None) -> Iterator[tuple[list[Message], Tools]]:
        """Ways to say it, the best first: a template may refuse a role, or more than one call a turn."""
        ways: list[tuple[list[Message], Tools]] = []
        if offer is None:
            ways.append((plain, ()))
        else:
            if self._native is not None and self._native.name == offer.format.name:
                ways.append((offer.native(plain), offer.tools))
            ways.append((offer.in_words(plain), ()))
        for messages, tools in ways:
            yield messages, tools
            # Templates without a system role (Gemma): its text goes before the first user message.
            folded = _fold_system(messages)
            if folded is not None:
                yield folded, tools

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without any control token and without an opening one.

        Raises:
            InvalidRequest: the text would become a control token.
        """
        ids = self._apply([{"role": "user", "content": text}], (), _TEXT_ONLY) if text else []
        if self.control_ids.intersection(ids):
            raise InvalidRequest(_BECOMES_CONTROL)
        return ids

    def _encode(self, messages: list[Message], tools: Tools) -> list[int]:
        """Render, then check by ids: the control tokens are those of the same conversation about nothing.

        Marking finds typed control tokens; this also finds what only becomes one later, by joining with
        its neighbour, by normalisation, or as the name of an argument.
        """
        template = self._tool_template if tools else self._template
        ids = self._apply(messages, tools, template)
        skeleton = self._apply(*skeletons(messages, tools), template)
        if [i for i in ids if i in self.control_ids] != [i for i in skeleton if i in self.control_ids]:
            raise InvalidRequest(_BECOMES_CONTROL)
        return ids

    def _apply(self, messages: list[Message], tools: Tools, template: str) -> list[int]:
        try:
            ids: list[int] = self.tokenizer.apply_chat_template(
                messages,
                tools=list(tools) or None,
                chat_template=template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                sanitize_control_tokens=True,
            )
        except Exception as error:  # templates are programs that came with the weights: anything can go wrong
            if "sanitize" in str(error):
                raise InvalidRequest(_BECOMES_CONTROL) from None
            if isinstance(error, UnicodeError) or not _encodable([messages, *tools]):
                raise InvalidRequest("a message holds a lone surrogate; send valid Unicode text") from None
            raise TemplateError(
                "the chat template refuses these messages; check the order of the roles"
            ) from None
        return ids

    def _with_system_prompt(self, messages: list[Message]) -> list[Message]:
        if not self._system_prompt:
            return messages
        if messages and messages[0]["role"] == "system":
            text = f"{self._system_prompt}\n\n{messages[0]['content']}"
            return [{**messages[0], "content": text}, *messages[1:]]
        return [{"role": "system", "content": self._system_prompt}, *messages]

    def turn_end_ids(self) -> set[int]:
        """The control token that the template writes after an assistant's text: it ends a turn."""
        try:
            yes, no = (
                self._apply(
                    [_plain(ChatMessage("user", "a")), _plain(ChatMessage("assistant", text))],
                    (),
                    self._template,
                )
                for text in ("yes", "no")
            )
        except (TemplateError, InvalidRequest):
            return set()
        # What follows the answer is what both renderings end with.
        same = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(yes), reversed(no), strict=False))
        suffix = [token for token, _ in same][::-1]
        return set([i for i in suffix if i in self.control_ids][:1])


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeError:
        return False
    return True


def _single_template(tokenizer: PreTrainedTokenizerBase, kind: str = "default") -> str:
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get(kind, template.get("default"))
    if not isinstance(template, str):
        raise TemplateError("this model has no chat template; set ModelSpec(chat_template=...), or 'plain'")
    return template


def _plain(message: ChatMessage) -> Message:
    """The dictionary chat templates read; empty fields are left out, as templates test for presence."""
    plain: Message = {"role": message.role, "content": message.content}
    if message.name:
        plain["name"] = message.name
    if message.tool_calls:
        plain["tool_calls"] = [dict(call) for call in message.tool_calls]
    if message.tool_call_id:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _fold_system(messages: list[Message]) -> list[Message] | None:
    """System texts moved to the front of the first user message, or None if there is nothing to move."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not system or not rest or rest[0]["role"] != "user":
        return None
    return [{**rest[0], "content": "\n\n".join([*system, rest[0]["content"]])}, *rest[1:]]
