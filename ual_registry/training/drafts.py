"""Examples as texts to be tokenised: which characters are trained on, and what stands around them.

A conversation becomes the text that the base model's own chat template makes of it, and the turns of the assistant are
trained on. Where a template marks them, its marks are taken. Otherwise they follow from what the template makes of the
conversation up to each turn, which must be how the whole one begins. A template that writes earlier turns in another
way than the last one (it drops what the assistant thought, for instance) makes one text for each turn of the assistant,
as it would be when that turn is asked for.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.errors import FormatError, MissingExtraError, TrainingError
from ual_registry.training.encoding import Encoder
from ual_registry.training.forms import Example, Message

__all__ = ["Chat", "Draft", "completion_draft", "text_draft"]

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
_ASSISTANT = "assistant"
_TODAY = re.compile(r"""strftime_now\(\s*(['"])([^'"]*)\1\s*\)""")
_DAY = datetime.datetime(2024, 7, 26, tzinfo=datetime.UTC)
"""The day that a template gets where it asks for today, so that the same data makes the same tokens on every day; it
is the one that the templates of Llama 3 name where they are told none."""
Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A text, and what of it is trained on.

    Attributes:
        text: The text.
        trained: First character of each part that is trained on, and the one after its last.
        is_framed: Whether the special tokens around it stand in the text already.
        can_continue: Whether what is too long goes on in another row.
    """

    text: str
    trained: tuple[Span, ...]
    is_framed: bool = False
    can_continue: bool = False


def text_draft(example: Example) -> Draft:
    """Return a text, all of it trained on."""
    text = example.text or ""
    return Draft(text=text, trained=((0, len(text)),), can_continue=True)


def completion_draft(example: Example, *, on_prompt: bool) -> Draft:
    """Return prompt and completion as one text.

    Args:
        example: The example.
        on_prompt: Whether the prompt is trained on too.
    """
    prompt, completion = example.prompt or "", example.completion or ""
    text = prompt + completion
    return Draft(text=text, trained=((0 if on_prompt else len(prompt), len(text)),))


class Chat:
    """Writes conversations with the chat template of a base model.

    Args:
        encoder: Its tokenizer.

    Raises:
        TrainingError: The tokenizer has no chat template.
        MissingExtraError: Templates cannot be rendered.
    """

    def __init__(self, encoder: Encoder) -> None:
        tokenizer = encoder.tokenizer
        if not tokenizer.chat_template:
            raise TrainingError(
                "the base model has no chat template, and the examples are conversations",
                code="no-chat-template",
                hint="give prompt and completion instead, or a base model that was made for conversations",
            )
        self._encoder = encoder
        self._template: str = _TODAY.sub(_day, tokenizer.get_chat_template())
        self._is_marked = bool(_MARKER.search(self._template))

    def drafts(self, example: Example, *, on_prompt: bool) -> list[Draft]:
        """Return a conversation as one text, or as one for each turn of the assistant.

        Raises:
            FormatError: The template refuses the conversation, or no part of what it makes can be told apart.
        """
        turns = example.messages or ()
        try:
            if on_prompt:
                text = self._render(turns)
                return [Draft(text=text, trained=((0, len(text)),), is_framed=True)]
            return list(self._by_mark(turns) if self._is_marked else self._by_prefix(example, turns))
        except (FormatError, MissingExtraError):
            raise
        except Exception as error:  # a template raises what it likes
            reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            raise _fault(example, f"the chat template refuses the conversation: {reason}") from error

    def _by_mark(self, turns: Sequence[Message]) -> Iterator[Draft]:
        from transformers.utils.chat_template_utils import render_jinja_template  # noqa: PLC0415  # once it is needed

        told: Any = render_jinja_template(
            conversations=[_plain(turns)],
            chat_template=self._template,
            return_assistant_tokens_mask=True,
            **self._encoder.tokenizer.special_tokens_map,
        )
        (text,), (spans,) = told
        yield Draft(text=text, trained=tuple((start, end) for start, end in spans), is_framed=True)

    def _by_prefix(self, example: Example, turns: Sequence[Message]) -> Iterator[Draft]:
        whole = self._render(turns)
        answers = [index for index, turn in enumerate(turns) if turn.role == _ASSISTANT]
        spans = [self._span(turns[: index + 1], whole) for index in answers]
        if all(span is not None for span in spans):
            trained = tuple(span for span in spans if span is not None)
            yield Draft(text=whole, trained=trained, is_framed=True)
            return
        for index in answers:
            text = self._render(turns[: index + 1])
            span = self._span(turns[: index + 1], text)
            if span is None:
                raise _fault(
                    example,
                    f"messages[{index}]: what the chat template writes before the assistant's turn is not how the "
                    "conversation begins",
                    hint="use a template that marks the turns with {% generation %}",
                )
            yield Draft(text=text, trained=(span,), is_framed=True)

    def _span(self, turns: Sequence[Message], whole: str) -> Span | None:
        """Return where the last of some turns stands in a text; ``None`` where the text does not begin with them."""
        head, tail = self._render(turns[:-1], asks=True), self._render(turns)
        if not (whole.startswith(tail) and tail.startswith(head)):
            return None
        bare = tail.rstrip()
        is_ended = len(bare) > len(head) and self._encoder.ends_with_special(bare)
        return len(head), len(bare) if is_ended else len(tail)

    def _render(self, turns: Sequence[Message], *, asks: bool = False) -> str:
        try:
            text: str = self._encoder.tokenizer.apply_chat_template(
                _plain(turns), chat_template=self._template, tokenize=False, add_generation_prompt=asks
            )
        except ImportError as error:
            raise MissingExtraError("train", needed_for="a chat template") from error
        return text


def _day(found: re.Match[str]) -> str:
    return repr(_DAY.strftime(found[2]))


def _plain(turns: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _fault(example: Example, problem: str, *, hint: str | None = None) -> FormatError:
    return FormatError(f"{example.place}: {problem}", code="training-data", context={"place": example.place}, hint=hint)
