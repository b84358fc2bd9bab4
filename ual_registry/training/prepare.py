"""Examples as rows of tokens for one base model: what is trained on, what is held out, and what became of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.digest import Digest
from ual_registry.errors import TrainingError
from ual_registry.training.config import TrainingConfig
from ual_registry.training.data_report import DataReport, LeftOut, SideReport
from ual_registry.training.elsewhere import HINT
from ual_registry.training.encoding import Encoder
from ual_registry.training.forms import Example, Form
from ual_registry.training.rows import TokenRow
from ual_registry.training.split import held_out_documents, in_order, without_duplicates
from ual_registry.training.writer import Writer, Written

__all__ = ["FORMS", "Prepared", "prepare", "sorted_labels"]

FORMS: dict[str, tuple[Form, ...]] = {
    "causal": (Form.TEXT, Form.COMPLETION, Form.CHAT),
    "masked": (Form.TEXT,),
    "seq2seq": (Form.COMPLETION,),
    "classification": (Form.LABEL,),
}
"""The forms of examples that each kind of head is trained on."""


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


def prepare(
    examples: Iterable[Example], tokenizer: Any, config: TrainingConfig, *, held_out: Iterable[Example] | None = None
) -> Prepared:
    """Turn examples into rows of tokens, and hold documents out.

    Nothing depends on the order of the examples: the same ones make the same rows in the same order.

    Args:
        examples: The examples, all of one form.
        tokenizer: The base model's fast tokenizer.
        config: The head, the length of a row, what is trained on, and the share that is held out.
        held_out: Examples to hold out in place of a share; what says the same is not trained on.

    Raises:
        TrainingError: There are no examples, or too few, or none that this head can be trained on; or the tokenizer
            has no offsets, or no chat template where one is needed.
        FormatError: As ``drafts.Chat.drafts``, and whatever reading the examples raises.
    """
    read, given = list(examples), list(held_out or ())
    form = _checked_form([*read, *given], config)
    apart = _kept(given, config)
    said = {own.digest for own in apart}
    kept = [own for own in _kept(read, config) if own.digest not in said]
    count = len(read) + len(given)
    duplicates = count - len(kept) - len(apart)
    labels = _checked_labels([*kept, *apart], form)
    writer = Writer(Encoder(tokenizer), config, form, labels)
    written = list(writer.write(kept))
    if not written:
        raise _nothing(len(read), writer.tally.left_out)
    if held_out is None:
        train, held = _split(written, config, duplicates=duplicates)
    else:
        train, held = written, list(writer.write(apart))
        if not held:
            raise _refusal("nothing of what is to be held out can be trained on", code="nothing-to-train")
    report = DataReport(
        form=form.value,
        examples=count,
        duplicates=duplicates,
        labels=_counted([*train, *held], labels),
        train=_side(train),
        held_out=_side(held),
        **writer.tally.numbers(),
    )
    return Prepared(
        train=_rows(train),
        held_out=_rows(held),
        report=report,
        labels=labels,
        pad_id=writer.encoder.pad,
        **_masking(writer.encoder, config),
    )


def _kept(examples: Sequence[Example], config: TrainingConfig) -> list[Example]:
    """Return examples in order, without those that another one says too."""
    return without_duplicates(examples) if config.deduplicate else in_order(examples)


def _split(
    written: Sequence[Written], config: TrainingConfig, *, duplicates: int
) -> tuple[list[Written], list[Written]]:
    """Return what is trained on, and what is held out."""
    documents = (own.document_digest for own, _ in written)
    held = held_out_documents(documents, share=config.held_out_share, seed=config.seed, duplicates=duplicates)
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
                hint=_other_way(own.form, allowed),
            )
    return examples[0].form


def _other_way(form: Form, allowed: Sequence[Form]) -> str:
    """Return how examples of a form can be trained on: by another head, or as what else they hold."""
    heads = [head for head, forms in FORMS.items() if form in forms]
    found = f"train another head on them (--head {' or '.join(heads)})"
    as_text = form is Form.LABEL and Form.TEXT in allowed
    return f"{found}, or read their texts alone (--form text)" if as_text else found


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


def _refusal(message: str, *, code: str) -> TrainingError:
    return TrainingError(message, code=code, hint=HINT)
