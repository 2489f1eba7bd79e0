"""Chat messages → token ids for one model. Text stays text: it never becomes a control token.

Each model has its own template, so each gets its own rendering of the same messages; only generated ids
are shared. Sandboxing and the marking of control tokens are transformers' own; every added token counts
as a control token here, also those that are not flagged special.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from ..backend import ChatMessage
from ..config import ModelSpec
from ..errors import InvalidRequest, TemplateError

#: For base models that bring no chat template: ``ModelSpec(chat_template="plain")``.
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['role'].capitalize() }}: {{ m['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
_TEXT_ONLY = "{{ messages[0]['content'] }}"


class Renderer:
    """One model's tokenizer and chat template.

    Args:
        tokenizer: the model's own tokenizer.
        spec: names the template and the system prompt that only this model sees.

    Raises:
        TemplateError: the tokenizer has no chat template and the spec brings none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> None:
        self.tokenizer = tokenizer
        self._system_prompt = spec.system_prompt
        template = PLAIN_TEMPLATE if spec.chat_template == "plain" else spec.chat_template
        self._template: str = template or _single_template(tokenizer)
        added: list[str] = [t.content for t in tokenizer.added_tokens_decoder.values()]
        tokenizer.chat_control_tokens = [text for text in added if not text.isspace()]
        self.control_ids = frozenset(tokenizer.convert_tokens_to_ids(tokenizer.chat_control_tokens))

    @property
    def thinks(self) -> bool:
        """Whether the template knows a thinking part."""
        return "</think>" in self._template

    def render(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Ids of the conversation up to where the assistant's new turn begins.

        Raises:
            TemplateError: the template refuses these messages.
            InvalidRequest: a text cannot be encoded without becoming a control token.
        """
        plain = self._with_system_prompt([_plain(m) for m in messages])
        try:
            return self._encode(plain, self._template)
        except jinja2.TemplateError:
            folded = _fold_system(plain)
        if folded is None:
            raise TemplateError("the chat template refuses these messages; check the order of the roles")
        try:  # templates without a system role (Gemma): put its text before the first user message
            return self._encode(folded, self._template)
        except jinja2.TemplateError as error:
            raise TemplateError(
                "the chat template refuses these messages; check the order of the roles"
            ) from error

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without any control token and without an opening one."""
        return self._encode([{"role": "user", "content": text}], _TEXT_ONLY) if text else []

    def _encode(self, messages: list[dict[str, Any]], template: str) -> list[int]:
        try:
            ids: list[int] = self.tokenizer.apply_chat_template(
                messages,
                chat_template=template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                sanitize_control_tokens=True,
            )
        except (ValueError, TypeError, UnicodeError) as error:
            raise InvalidRequest("a message cannot be encoded as text; remove unusual characters") from error
        return ids

    def _with_system_prompt(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not self._system_prompt:
            return messages
        if messages and messages[0]["role"] == "system":
            text = f"{self._system_prompt}\n\n{messages[0]['content']}"
            return [{**messages[0], "content": text}, *messages[1:]]
        return [{"role": "system", "content": self._system_prompt}, *messages]

    def turn_end_ids(self) -> set[int]:
        """Control tokens that the template writes after an assistant's text: they end a turn."""
        opening = [ChatMessage("user", "a")]
        try:
            before = self.render(opening)
            whole = self.tokenizer.apply_chat_template(
                self._with_system_prompt([_plain(m) for m in [*opening, ChatMessage("assistant", "b")]]),
                chat_template=self._template,
                tokenize=True,
                return_dict=False,
            )
        except (TemplateError, InvalidRequest, jinja2.TemplateError):
            return set()
        after = whole[len(before) :]
        return {next(i for i in after if i in self.control_ids)} if self.control_ids & set(after) else set()


def _single_template(tokenizer: PreTrainedTokenizerBase) -> str:
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not isinstance(template, str):
        raise TemplateError("this model has no chat template; set ModelSpec(chat_template=...), or 'plain'")
    return template


def _plain(message: ChatMessage) -> dict[str, Any]:
    """The dictionary chat templates read; empty fields are left out, as templates test for presence."""
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name:
        plain["name"] = message.name
    if message.tool_calls:
        plain["tool_calls"] = [dict(call) for call in message.tool_calls]
    if message.tool_call_id:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _fold_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """System texts moved to the front of the first user message, or None if there is nothing to move."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not system or not rest or rest[0]["role"] != "user":
        return None
    return [{**rest[0], "content": "\n\n".join([*system, rest[0]["content"]])}, *rest[1:]]
