"""From an item to token ids: each model's own chat template where it has one, and answers that share one context.

An answer is encoded together with its prompt, as the model would meet it. The tokens that all answers of an item begin
with, the prompt's above all, are the context; what remains of each is scored.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.errors import TransferError
from ual_registry.evaluation.items import LabelItem

__all__ = ["Question", "label_order", "no_tokens", "question", "start_ids"]

_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Question:
    """A context and the answers that may follow it.

    Attributes:
        context: Token ids, at least one.
        answers: Token ids of every answer after the context, at least one each.
    """

    context: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]


def label_order(item: LabelItem, seed: int) -> tuple[str, ...]:
    """Return the labels of an item in an order of its own, the same one for every model and arm."""
    numbers = random.Random(f"{seed}/{item.line}")  # noqa: S311  # an order, no secret
    return tuple(numbers.sample(item.labels, len(item.labels)))


def question(tokenizer: Any, prompt: str, answers: Sequence[str], *, is_plain: bool = False) -> Question:
    """Encode a prompt and its answers.

    With a chat template the prompt is what the user says, and an answer begins the reply. Without one the answer
    follows the prompt, after a space where the prompt does not end in one.

    Args:
        tokenizer: The model's tokenizer.
        prompt: The prompt.
        answers: The answers; where there are none, only the context is encoded.
        is_plain: Whether to leave a chat template alone.

    Raises:
        TransferError: The tokenizer has no token for an answer, or the chat template fails.
    """
    is_chat = not is_plain and bool(getattr(tokenizer, "chat_template", None))
    before = _chat(tokenizer, prompt) if is_chat else prompt
    space = "" if is_chat or before[-1:].isspace() else " "
    alone = _encode(tokenizer, before, is_chat=is_chat)
    whole = [_encode(tokenizer, before + space + answer, is_chat=is_chat) for answer in answers]
    nothing = _encode(tokenizer, before + space, is_chat=is_chat)
    silent = [answer for answer, ids in zip(answers, whole, strict=True) if ids in (alone, nothing)]
    if silent:
        raise no_tokens(tokenizer, silent[0])
    shared = _shared(alone, whole)
    if shared == 0:
        return Question(start_ids(tokenizer), tuple(tuple(ids) for ids in whole))
    return Question(tuple(alone[:shared]), tuple(tuple(ids[shared:]) for ids in whole))


def _shared(alone: Sequence[int], whole: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens the prompt shares with every answer; each answer keeps at least one of its own."""
    most = min([len(alone), *(len(ids) - 1 for ids in whole)])
    for index in range(most):
        if any(ids[index] != alone[index] for ids in whole):
            return index
    return most


def _chat(tokenizer: Any, prompt: str) -> str:
    messages = [{"role": "user", "content": prompt}]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template is a program of the model's makers, and may raise what it likes
        raise TransferError(
            f"the chat template of {tokenizer.name_or_path} fails: {error}",
            code="chat-template",
            hint="give the base model a tokenizer whose chat template takes a message of the user",
        ) from error


def _encode(tokenizer: Any, text: str, *, is_chat: bool) -> list[int]:
    """Encode a text; a chat template has written the special tokens already."""
    return [int(token) for token in tokenizer(text, add_special_tokens=not is_chat)["input_ids"]]


def no_tokens(tokenizer: Any, text: str) -> TransferError:
    """Return the error that a tokenizer has no token for a text, so that the text has no likelihood."""
    return TransferError(
        f"the tokenizer of {tokenizer.name_or_path} has no token for {text[:_SHOWN_CHARACTERS]!r}, so it has no "
        "likelihood",
        code="no-tokens",
        hint="give text in a script that the base model can read",
    )


def start_ids(tokenizer: Any) -> tuple[int, ...]:
    """Return the token that a text of its own begins after.

    Raises:
        TransferError: The tokenizer has neither a token for the beginning of a text nor one for its end.
    """
    for name in ("bos_token_id", "eos_token_id"):
        token = getattr(tokenizer, name, None)
        if isinstance(token, int):
            return (token,)
    raise TransferError(
        "the tokenizer has no token that begins or ends a text, so the first token of a text has no likelihood",
        code="no-start-token",
        hint="give the base model a tokenizer with bos_token or eos_token",
    )
