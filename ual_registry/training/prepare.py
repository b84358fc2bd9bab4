"""Examples as rows of tokens for one base model: what is trained on, what is held out, and what became of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ual_registry.digest import Digest
from ual_registry.errors import TrainingError
from ual_registry.training.config import TrainingConfig
from ual_registry.training.data_report import DataReport, LeftOut, SideReport
from ual_registry.training.drafts import Chat, Draft, completion_draft, text_draft
from ual_registry.training.encoding import Encoder
from ual_registry.training.forms import Example, Form
from ual_registry.training.rows import Cut, TokenRow, causal_rows, label_row, masked_rows, paired_row
from ual_registry.training.split import held_out_documents, in_order, without_duplicates

__all__ = ["FORMS", "Prepared", "prepare", "sorted_labels"]

FORMS: dict[str, tuple[Form, ...]] = {
    "causal": (Form.TEXT, Form.COMPLETION, Form.CHAT),
    "masked": (Form.TEXT,),
    "seq2seq": (Form.COMPLETION,),
    "classification": (Form.LABEL,),
}
"""The forms of examples that each kind of head is trained on."""

_AT_ONCE = 512
"""How many texts are encoded together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Rows of tokens, and what became of the examples.

    Attributes:
        train: What is trained on, in the order of the examples' digests.
        held_out: What is held out.
        report: What became of the examples.
        labels: The classes, sorted, where there are labels; a row holds the index of its own.
        pad_id: What rows are filled up with; it is never looked at.
        mask_id: What stands in place of a masked token; ``None`` where the tokenizer has none.
        plain_ids: The ids of tokens that are not special, which may stand in place of a masked one.
    """

    train: tuple[TokenRow, ...]
    held_out: tuple[TokenRow, ...]
    report: DataReport
    labels: tuple[str, ...] = ()
    pad_id: int = 0
    mask_id: int | None = None
    plain_ids: tuple[int, ...] = ()


def prepare(examples: Iterable[Example], tokenizer: Any, config: TrainingConfig) -> Prepared:
    """Turn examples into rows of tokens, and hold documents out.

    Nothing depends on the order of the examples: the same ones make the same rows in the same order.

    Args:
        examples: The examples, all of one form.
        tokenizer: The base model's fast tokenizer.
        config: The head, the length of a row, what is trained on, and the share that is held out.

    Raises:
        TrainingError: There are no examples, or too few, or none that this head can be trained on; or the tokenizer
            has no offsets, or no chat template where one is needed.
        FormatError: As ``drafts.Chat.drafts``, and whatever reading the examples raises.
    """
    read = list(examples)
    form = _checked_form(read, config)
    kept = without_duplicates(read) if config.deduplicate else in_order(read)
    labels = _checked_labels(kept, form)
    writer = _Writer(Encoder(tokenizer), config, form, labels)
    written = list(writer.write(kept))
    if not written:
        raise _nothing(len(read), writer.tally.left_out)
    train, held_out = _split(written, config)
    report = DataReport(
        form=form.value,
        examples=len(read),
        duplicates=len(read) - len(kept),
        labels=_counted(written, labels),
        train=_side(train),
        held_out=_side(held_out),
        **writer.tally.numbers(),
    )
    return Prepared(
        train=_rows(train),
        held_out=_rows(held_out),
        report=report,
        labels=labels,
        pad_id=writer.encoder.pad,
        **_masking(writer.encoder, config),
    )


Written = tuple[Example, tuple[TokenRow, ...]]


def _split(written: Sequence[Written], config: TrainingConfig) -> tuple[list[Written], list[Written]]:
    """Return what is trained on, and what is held out."""
    documents = (own.document_digest for own, _ in written)
    held = held_out_documents(documents, share=config.held_out_share, seed=config.seed)
    sides: tuple[list[Written], list[Written]] = ([], [])
    for pair in written:
        sides[pair[0].document_digest in held].append(pair)
    return sides


def _nothing(count: int, left_out: Sequence[LeftOut]) -> TrainingError:
    where = f" (first: {left_out[0].place}: {left_out[0].reason})" if left_out else ""
    return _refusal(f"none of {count} examples can be trained on{where}", code="nothing-to-train")


def _masking(encoder: Encoder, config: TrainingConfig) -> dict[str, Any]:
    """Return what may stand in place of a masked token.

    Raises:
        TrainingError: The head finds masked tokens, and the tokenizer has none to mask with.
    """
    if config.head != "masked":
        return {}
    tokenizer = encoder.tokenizer
    if tokenizer.mask_token_id is None:
        raise _refusal("the tokenizer has no mask token, and the head is to find masked ones", code="no-mask")
    special = encoder.special_ids
    plain = tuple(token for token in range(len(tokenizer)) if token not in special)
    return {"mask_id": tokenizer.mask_token_id, "plain_ids": plain}


def _rows(pairs: Iterable[Written]) -> tuple[TokenRow, ...]:
    return tuple(row for _, rows in pairs for row in rows)


def _counted(pairs: Sequence[Written], labels: Sequence[str]) -> dict[str, int]:
    counts = Counter(own.label for own, _ in pairs)
    return {label: counts[label] for label in labels}


def _side(pairs: Sequence[Written]) -> SideReport:
    rows = _rows(pairs)
    return SideReport(
        digest=Digest.of_chunks(f"{own.digest} {own.document_digest}\n".encode() for own, _ in pairs),
        documents=len({own.document_digest for own, _ in pairs}),
        examples=len(pairs),
        rows=len(rows),
        tokens=sum(len(row.input_ids) for row in rows),
        trained_tokens=sum(row.num_trained for row in rows),
        size_bytes=sum(row.size_bytes for row in rows),
        longest=max((len(row.input_ids) for row in rows), default=0),
    )


def _checked_form(examples: Sequence[Example], config: TrainingConfig) -> Form:
    """Return the form of the examples.

    Raises:
        TrainingError: There are none, or this head is not trained on such examples.
    """
    if not examples:
        raise _refusal("no examples to train on", code="too-few-examples")
    allowed = FORMS[config.head]
    for own in examples:
        if own.form not in allowed or own.form is not examples[0].form:
            first = examples[0].form
            expected = first.value if first in allowed else " or ".join(allowed)
            raise TrainingError(
                f"{own.place or 'example'}: expected {expected} for a {config.head} head, got {own.form.value}",
                code="wrong-form",
                context={"place": own.place, "form": own.form.value, "head": config.head},
                hint="choose another head, or say what the examples are (form)",
            )
    return examples[0].form


def _checked_labels(examples: Sequence[Example], form: Form) -> tuple[str, ...]:
    labels = sorted_labels(examples)
    if form is Form.LABEL and len(labels) < 2:
        raise _refusal(f"all examples have one label, {labels[0]!r}; expected two or more", code="too-few-labels")
    return labels


def sorted_labels(examples: Iterable[Example]) -> tuple[str, ...]:
    """Return every label once, numbers in the order of numbers."""
    found = {own.label for own in examples if own.label is not None}
    are_numbers = all(label.removeprefix("-").isdecimal() for label in found)
    return tuple(sorted(found, key=lambda label: (int(label) if are_numbers else 0, label)))


@dataclass(slots=True)
class _Tally:
    """What is counted while examples are written."""

    left_out: list[LeftOut] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def numbers(self) -> Mapping[str, Any]:
        """Return the fields of a ``DataReport`` that are counted."""
        return {"left_out": tuple(self.left_out), **self.counts}


class _Writer:
    """Writes the examples of one form as rows."""

    def __init__(self, encoder: Encoder, config: TrainingConfig, form: Form, labels: tuple[str, ...]) -> None:
        self.encoder, self.tally = encoder, _Tally()
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


def _refusal(message: str, *, code: str) -> TrainingError:
    return TrainingError(message, code=code, hint="docs/train.md shows the forms of training data")
