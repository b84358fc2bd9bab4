"""Drafts as rows of tokens: labels, special tokens around the text, and what is cut off.

A label stands at the place of the token that it is, as transformers expects it; ``NO_LABEL`` stands where nothing is
trained on. The first token of a row follows nothing, so it never has a label: the labels that are left are exactly the
terms of the loss.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ual_registry.digest import Digest
from ual_registry.training.drafts import Draft
from ual_registry.training.encoding import Encoded, Encoder

__all__ = [
    "NO_LABEL",
    "Cut",
    "TokenRow",
    "causal_rows",
    "framed_row",
    "label_row",
    "masked_rows",
    "paired_row",
    "rows_digest",
]

NO_LABEL = -100
"""What stands in place of a label where nothing is trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """One row of tokens.

    Attributes:
        input_ids: Token ids, 32-bit.
        labels: For each token itself or ``NO_LABEL``; of a masked head what may be masked; of a decoder's row the
            target's tokens; of a classification the index of the class, alone.
        document: Digest of the document that it comes from.
        place: Where the example was read.
        size_bytes: UTF-8 bytes of the text that is trained on, for bits per byte.
    """

    input_ids: array[int]
    labels: array[int]
    document: str
    place: str = ""
    size_bytes: int = 0

    @property
    def num_trained(self) -> int:
        """How many terms of the loss it has."""
        return len(self.labels) - self.labels.count(NO_LABEL)


def rows_digest(*sides: Iterable[TokenRow]) -> Digest:
    """Return what names the tokens of some rows with their labels, side by side: another tokenizer makes another."""
    return Digest.of_chunks(_bytes(own) for side in sides for row in (*side, None) for own in _parts(row))


def _parts(row: TokenRow | None) -> tuple[array[int], ...]:
    """Return the numbers of a row behind their count; none of ``None``, which ends a side."""
    if row is None:
        return (array("i", [-1]),)
    return array("i", [len(row.input_ids), len(row.labels)]), row.input_ids, row.labels


def _bytes(numbers: array[int]) -> bytes:
    """Return numbers as bytes, the lowest first on every machine."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The rows of one draft, and what was lost on the way.

    Attributes:
        rows: Input ids, labels and bytes that are trained on, row by row.
        lost: Tokens that are in no row.
        is_joined: Whether one token holds characters of a part that is trained on and of the one before it.
    """

    rows: tuple[tuple[array[int], array[int], int], ...]
    lost: int = 0
    is_joined: bool = False


def causal_rows(draft: Draft, found: Encoded, encoder: Encoder, *, max_length: int, can_continue: bool) -> Cut:
    """Return the rows of a text of which each token follows from those before it.

    Args:
        draft: The text, and what of it is trained on.
        found: Its tokens.
        encoder: What encoded it.
        max_length: Tokens of a row at most.
        can_continue: Whether a text that is longer goes on in further rows; otherwise its end is cut off.
    """
    labels, is_joined = _labels(draft, found)
    whole = _Tokens(list(found.ids), labels, list(found.spans))
    prefix = () if draft.is_framed else encoder.prefix
    if not draft.is_framed:
        for token in _ending(encoder):
            whole.add(token, len(draft.text))
    windows = list(_windows(len(whole.ids), prefix, max_length))
    kept = windows if can_continue else windows[:1]
    rows = tuple(_causal_row(draft, prefix, whole, window) for window in kept)
    return Cut(rows=rows, lost=len(whole.ids) - kept[-1][1], is_joined=is_joined)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Tokens of a text with what is trained on, and where they stand in it."""

    ids: list[int]
    labels: list[int]
    spans: list[tuple[int, int]]

    def add(self, token: int, place: int) -> None:
        """Add a token that no character belongs to, and train on it."""
        self.ids.append(token)
        self.labels.append(token)
        self.spans.append((place, place))


def _ending(encoder: Encoder) -> tuple[int, ...]:
    """Return the special tokens after a text, with the one that ends it among them."""
    if encoder.end is None or encoder.end in encoder.suffix:
        return encoder.suffix
    return (*encoder.suffix, encoder.end)


def _windows(count: int, prefix: Sequence[int], max_length: int) -> Iterator[tuple[int, int]]:
    """Yield the tokens of each row, first and after the last.

    Every token but the first of a text without a prefix has one before it in its row: where there is no prefix, a row
    begins with the last token of the row before.
    """
    room = max(max_length - len(prefix), 1 if prefix else 2)
    step = room if prefix else room - 1
    yield 0, min(room, count)
    yield from ((start, min(start + room, count)) for start in range(step, count - (0 if prefix else 1), step))


def _causal_row(
    draft: Draft, prefix: Sequence[int], whole: _Tokens, window: tuple[int, int]
) -> tuple[array[int], array[int], int]:
    start, after = window
    own = array("i", [*prefix, *whole.ids[start:after]])
    told = array("i", [*[NO_LABEL] * len(prefix), *whole.labels[start:after]])
    told[0] = NO_LABEL
    trained = [whole.spans[start + index - len(prefix)] for index, label in enumerate(told) if label != NO_LABEL]
    return own, told, _bytes_of(draft.text, trained)


def masked_rows(draft: Draft, found: Encoded, encoder: Encoder, *, max_length: int, can_continue: bool) -> Cut:
    """Return the rows of a text any token of which may be masked; special tokens never are. See ``causal_rows``."""
    room = max(max_length - len(encoder.prefix) - len(encoder.suffix), 1)
    special, ids = encoder.special_ids, found.ids
    rows: list[tuple[array[int], array[int], int]] = []
    for start in range(0, len(ids) if can_continue else min(len(ids), 1), room):
        part = ids[start : start + room]
        own = array("i", [*encoder.prefix, *part, *encoder.suffix])
        told = array("i", [NO_LABEL if token in special else token for token in own])
        rows.append((own, told, _bytes_of(draft.text, found.spans[start : start + room])))
    return Cut(rows=tuple(rows), lost=0 if can_continue else max(len(ids) - room, 0))


def framed_row(found: Encoded, encoder: Encoder, *, max_length: int) -> tuple[array[int], int]:
    """Return a text between its special tokens, and how many tokens of it are lost."""
    room = max(max_length - len(encoder.prefix) - len(encoder.suffix), 1)
    return array("i", [*encoder.prefix, *found.ids[:room], *encoder.suffix]), max(len(found.ids) - room, 0)


def label_row(found: Encoded, encoder: Encoder, label: int, *, max_length: int) -> Cut:
    """Return a text with the index of its class."""
    ids, lost = framed_row(found, encoder, max_length=max_length)
    return Cut(rows=((ids, array("i", [label]), 0),), lost=lost)


def paired_row(prompt: Encoded, completion: Encoded, text: str, encoder: Encoder, *, max_length: int) -> Cut:
    """Return a prompt for the encoder, and a completion, with the token that ends it, for the decoder."""
    ids, lost = framed_row(prompt, encoder, max_length=max_length)
    target = [*encoder.prefix, *completion.ids, *_ending(encoder)]
    kept = array("i", target[:max_length])
    held = max(min(len(completion.ids), max_length - len(encoder.prefix)), 0)
    return Cut(
        rows=((ids, kept, _bytes_of(text, completion.spans[:held])),), lost=lost + max(len(target) - max_length, 0)
    )


def _labels(draft: Draft, found: Encoded) -> tuple[list[int], bool]:
    """Return the label of every token, and whether one stands on the border of a part that is trained on."""
    labels = [NO_LABEL] * len(found.ids)
    parts, is_joined, index = sorted(draft.trained), False, 0
    for place, (start, end) in enumerate(found.spans):
        while index < len(parts) and parts[index][1] <= start:
            index += 1
        if index == len(parts):
            break
        first, after = parts[index]
        if start < after and (end > first or start >= first):
            labels[place] = found.ids[place]
            is_joined = is_joined or start < first
    return labels, is_joined


def _bytes_of(text: str, spans: Sequence[tuple[int, int]]) -> int:
    """Return how many bytes the characters of some tokens have, each counted once."""
    if text.isascii():
        return _characters(spans)
    total, done = 0, 0
    for start, end in spans:
        total += len(text[max(start, done) : end].encode())
        done = max(done, end)
    return total


def _characters(spans: Sequence[tuple[int, int]]) -> int:
    total, done = 0, 0
    for start, end in spans:
        total += max(end - max(start, done), 0)
        done = max(done, end)
    return total
