"""What became of the examples of a training: what was left out and why, and what each side of the split holds.

Nothing here loads a framework.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ual_registry.digest import Digest

__all__ = ["DataReport", "LeftOut", "SideReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An example that cannot be trained on.

    Attributes:
        place: Where it was read.
        reason: Why, in words that many examples share.
    """

    place: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SideReport:
    """One side of the split.

    Attributes:
        digest: Digest of what its examples say, in the order of their digests.
        documents: Documents.
        examples: Examples.
        rows: Rows of tokens.
        tokens: Tokens of those rows.
        trained_tokens: Tokens that are trained on: the terms of the loss of one pass.
        size_bytes: UTF-8 bytes of the text that is trained on.
        longest: Tokens of the longest row.
    """

    digest: Digest
    documents: int
    examples: int
    rows: int
    tokens: int
    trained_tokens: int
    size_bytes: int
    longest: int

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "digest": str(self.digest),
            "documents": self.documents,
            "examples": self.examples,
            "rows": self.rows,
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "size_bytes": self.size_bytes,
            "longest": self.longest,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What became of the examples.

    Attributes:
        form: Their form.
        examples: How many were read.
        duplicates: Those left out because another one says the same.
        left_out: Those left out because nothing in them can be trained on.
        cut: Rows whose end was cut off, on the right.
        cut_tokens: Tokens that were lost by it.
        continued: Texts that go on in further rows.
        unrolled: Conversations that became one row for each turn of the assistant.
        joined: Rows in which a token holds the end of a prompt and the beginning of what follows.
        special: Examples whose text spells a special token of the tokenizer.
        labels: Examples by label, sorted; empty without labels.
        train: What is trained on.
        held_out: What is held out.
    """

    form: str
    examples: int
    duplicates: int = 0
    left_out: tuple[LeftOut, ...] = ()
    cut: int = 0
    cut_tokens: int = 0
    continued: int = 0
    unrolled: int = 0
    joined: int = 0
    special: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    train: SideReport
    held_out: SideReport

    @property
    def digest(self) -> Digest:
        """What names the data: both sides, whatever the order in which they were read."""
        return Digest.of_bytes(f"{self.train.digest} {self.held_out.digest}".encode())

    def notes(self) -> tuple[str, ...]:
        """Return what a user must know of, in sentences."""
        reasons = Counter(own.reason for own in self.left_out)
        first = {reason: next(own.place for own in self.left_out if own.reason == reason) for reason in reasons}
        counted = [
            (self.duplicates, f"{_many(self.duplicates, 'example')} left out: another one says the same"),
            *(
                (count, f"{_many(count, 'example')} left out: {why} (first: {first[why]})")
                for why, count in reasons.items()
            ),
            (self.cut, f"{_many(self.cut, 'row')} cut off on the right: {_many(self.cut_tokens, 'token')} lost"),
            (self.continued, f"{_many(self.continued, 'text')} too long for one row: they go on in further rows"),
            (
                self.unrolled,
                f"{_many(self.unrolled, 'conversation')} written as one row for each turn of the assistant",
            ),
            (self.joined, f"{_many(self.joined, 'row')} in which one token holds the border of prompt and completion"),
            (self.special, f"{_many(self.special, 'example')} with text that is read as a special token"),
        ]
        return tuple(text for count, text in counted if count)

    def document(self) -> dict[str, Any]:
        """Return it as JSON; places of single examples are left out, which are the reader's own."""
        return {
            "form": self.form,
            "digest": str(self.digest),
            "examples": self.examples,
            "duplicates": self.duplicates,
            "left_out": dict(sorted(Counter(own.reason for own in self.left_out).items())),
            "cut": {"rows": self.cut, "tokens": self.cut_tokens, "side": "right"},
            "continued": self.continued,
            "unrolled": self.unrolled,
            "joined": self.joined,
            "special": self.special,
            "labels": dict(self.labels),
            "train": self.train.document(),
            "held_out": self.held_out.document(),
        }


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
