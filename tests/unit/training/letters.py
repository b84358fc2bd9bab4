"""A tokenizer whose tokens are letters, with few joined ones, so that whole rows can be read in a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ual_registry.training.rows import NO_LABEL, TokenRow

SPECIAL = ["<pad>", "<s>", "</s>", "<mask>"]

MARKED = (
    "{% for m in messages %}<s>{{ m.role[0] }}:"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}"
    "{% else %}{{ m.content }}</s>{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<s>a:{% endif %}"
)
PLAIN = (
    "{% for m in messages %}<s>{{ m.role[0] }}:{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>a:{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}<s>{{ m.role[0] }}:"
    "{{ m.content if loop.last or m.role != 'assistant' else m.content.split('!')[-1] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>a:{% endif %}"
)
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + PLAIN
COUNTING = "{{ messages | length }}" + PLAIN


def letters(
    *, frame: str = "$A", template: str | None = None, joined: Sequence[tuple[str, str]] = (), **tokens: Any
) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer.

    Args:
        frame: What stands around every text, ``<s> $A </s>`` for instance.
        template: Its chat template.
        joined: Pairs of tokens that are one.
        tokens: Special tokens by name, where they are not the usual ones.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*SPECIAL, *alphabet, *("".join(pair) for pair in joined)]
    made = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=list(joined)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing(single=frame, special_tokens=[("<s>", 1), ("</s>", 2)])
    usual = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"}
    found = PreTrainedTokenizerFast(tokenizer_object=made, **{**usual, **tokens})
    found.chat_template = template
    return found


def read(tokenizer: Any, row: TokenRow) -> list[str]:
    """Return the tokens of a row, as they are written."""
    return [tokenizer.decode([token]) for token in row.input_ids]


def trained(tokenizer: Any, row: TokenRow) -> list[str | None]:
    """Return the labels of a row, as they are written; ``None`` where nothing is trained on."""
    return [None if label == NO_LABEL else tokenizer.decode([label]) for label in row.labels]
