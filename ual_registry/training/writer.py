"""Writes the examples of one form as rows of tokens, and counts what becomes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ual_registry.training.config import TrainingConfig
from ual_registry.training.data_report import LeftOut
from ual_registry.training.drafts import Chat, Draft, completion_draft, text_draft
from ual_registry.training.encoding import Encoder
from ual_registry.training.forms import Example, Form
from ual_registry.training.rows import Cut, TokenRow, causal_rows, label_row, masked_rows, paired_row

__all__ = ["Tally", "Writer", "Written"]

Written = tuple[Example, tuple[TokenRow, ...]]
"""An example with its rows."""

_AT_ONCE = 512
"""How many texts are encoded together."""


@dataclass(slots=True)
class Tally:
    """What is counted while examples are written."""

    left_out: list[LeftOut] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def numbers(self) -> Mapping[str, Any]:
        """Return the fields of a ``DataReport`` that are counted."""
        return {"left_out": tuple(self.left_out), **self.counts}


class Writer:
    """Writes the examples of one form as rows."""

    def __init__(self, encoder: Encoder, config: TrainingConfig, form: Form, labels: tuple[str, ...]) -> None:
        self.encoder, self.tally = encoder, Tally()
        self._config, self._form = config, form
        self._labels = {label: index for index, label in enumerate(labels)}
        self._chat = Chat(encoder) if form is Form.CHAT else None

    def write(self, examples: Sequence[Example]) -> Iterator[Written]:
        """Yield every example that can be trained on, with its rows."""
        for start in range(0, len(examples), _AT_ONCE):
            for example, cuts in self._cut(examples[start : start + _AT_ONCE]):
                rows = tuple(row for cut in cuts for row in self._kept(example, cut))
                if rows:
                    yield example, rows
                else:
                    self.tally.left_out.append(LeftOut(place=example.place, reason=_reason(example, cuts)))

    def _kept(self, example: Example, cut: Cut) -> Iterator[TokenRow]:
        """Yield the rows of a draft that have something to train on."""
        counts = self.tally.counts
        rows = [
            TokenRow(
                input_ids=ids,
                labels=labels,
                document=str(example.document_digest),
                place=example.place,
                size_bytes=size,
            )
            for ids, labels, size in cut.rows
        ]
        kept = [row for row in rows if row.num_trained]
        if kept:
            counts["cut"] += bool(cut.lost)
            counts["cut_tokens"] += cut.lost
            counts["joined"] += cut.is_joined
            counts["continued"] += len(rows) > 1
        yield from kept

    def _cut(self, examples: Sequence[Example]) -> Iterator[tuple[Example, list[Cut]]]:
        """Yield some examples with their drafts, cut into rows."""
        counts, holds_special = self.tally.counts, self.encoder.holds_special
        counts["special"] += sum(any(map(holds_special, _texts(own))) for own in examples)
        if self._config.head == "seq2seq":
            yield from self._paired(examples)
            return
        drafts = [self._drafts(own) for own in examples]
        found = iter(self.encoder([draft.text for some in drafts for draft in some]))
        for example, some in zip(examples, drafts, strict=True):
            counts["unrolled"] += len(some) > 1
            yield example, [self._rows_of(example, draft, next(found)) for draft in some]

    def _paired(self, examples: Sequence[Example]) -> Iterator[tuple[Example, list[Cut]]]:
        prompts = self.encoder([own.prompt or "" for own in examples])
        completions = self.encoder([own.completion or "" for own in examples])
        limit = self._config.max_length
        for example, prompt, completion in zip(examples, prompts, completions, strict=True):
            text = example.completion or ""
            is_empty = not text.strip()
            yield example, [] if is_empty else [paired_row(prompt, completion, text, self.encoder, max_length=limit)]

    def _drafts(self, example: Example) -> list[Draft]:
        on_prompt = self._config.loss_on == "all"
        if not "".join(_trained_texts(example)).strip():
            return []
        if self._chat is not None:
            return self._chat.drafts(example, on_prompt=on_prompt)
        return [
            completion_draft(example, on_prompt=on_prompt) if self._form is Form.COMPLETION else text_draft(example)
        ]

    def _rows_of(self, example: Example, draft: Draft, found: Any) -> Cut:
        limit = self._config.max_length
        if self._form is Form.LABEL:
            return label_row(found, self.encoder, self._labels[example.label or ""], max_length=limit)
        can_continue = draft.can_continue and self._config.long_texts == "split"
        rows: Callable[..., Cut] = masked_rows if self._config.head == "masked" else causal_rows
        return rows(draft, found, self.encoder, max_length=limit, can_continue=can_continue)


def _texts(example: Example) -> Iterator[str]:
    """Yield every text of an example."""
    yield from (text for text in (example.text, example.prompt, example.completion) if text is not None)
    yield from (turn.content for turn in example.messages or ())


def _trained_texts(example: Example) -> Iterator[str]:
    """Yield the texts of an example that can be trained on."""
    yield from (text for text in (example.text, example.completion) if text is not None)
    yield from (turn.content for turn in example.messages or () if turn.role == "assistant")


def _reason(example: Example, cuts: Sequence[Cut]) -> str:
    """Say why nothing of an example is trained on."""
    if cuts:
        return "what is trained on lies beyond max_length, or is no more than one token"
    if example.form is Form.CHAT:
        return "no turn of the assistant says anything"
    return "the text is blank" if example.text is not None else "the completion is blank"
