"""A tokenizer for tests: one token per byte, plus four control tokens. Needs no download and no training."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CONTROL_TOKENS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")

#: Writes ``<|role|>text<|end|>`` for every message.
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
#: The same conversation in other words, for a model of another family.
OTHER_TEMPLATE = (
    "{{ 'Be safe.<|end|>' }}"
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>assistant:' }}{% endif %}"
)


def byte_tokenizer(template: str = TEMPLATE) -> PreTrainedTokenizerFast:
    """A fast tokenizer: ids 0 to 255 stand for one byte each, 256 to 259 for ``CONTROL_TOKENS``.

    Args:
        template: the Jinja chat template.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|end|>",  # noqa: S106 - a control token, not a secret
        additional_special_tokens=list(CONTROL_TOKENS[1:]),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer
