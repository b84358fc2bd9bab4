"""Which examples are left out because another one says the same, and which documents are held out.

Both follow from digests, never from the order in which examples come. Nothing here loads a framework.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ual_registry.digest import Digest
from ual_registry.errors import TrainingError
from ual_registry.training.forms import Example

__all__ = ["held_out_documents", "in_order", "without_duplicates"]


def in_order(examples: Iterable[Example]) -> list[Example]:
    """Return examples in the order of their digests; those of one document and text as they came."""
    return sorted(examples, key=lambda own: (own.digest, own.document_digest))


def without_duplicates(examples: Iterable[Example]) -> list[Example]:
    """Return every example that says something else than those before it, in the order of their digests.

    Texts that differ in white space alone say the same. Of those that do, the one whose document has the lowest digest
    stays.
    """
    found: dict[Digest, Example] = {}
    for own in in_order(examples):
        found.setdefault(own.digest, own)
    return list(found.values())


def held_out_documents(
    documents: Iterable[Digest], *, share: float, seed: int, duplicates: int = 0
) -> frozenset[Digest]:
    """Choose the documents that are held out: at least one, and never all.

    Args:
        documents: Every document.
        share: Which part of them.
        seed: Another seed chooses others.
        duplicates: How many examples were left out before, for messages.

    Raises:
        TrainingError: There are fewer than two, and some are to be held out.
    """
    if not share:
        return frozenset()
    ranked = _ranked(sorted(set(documents)), seed)
    if len(ranked) < 2:
        raise TrainingError(
            f"{len(ranked)} document to train on{_beside(duplicates)}, expected 2 or more, since some are held out",
            code="too-few-examples",
            hint="give more examples, or set held_out_share to 0",
        )
    count = min(max(1, round(share * len(ranked))), len(ranked) - 1)
    return frozenset(ranked[:count])


def _beside(duplicates: int) -> str:
    many = "example says" if duplicates == 1 else "examples say"
    return f" ({duplicates} more {many} the same)" if duplicates else ""


def _ranked(documents: Sequence[Digest], seed: int) -> list[Digest]:
    return sorted(documents, key=lambda own: Digest.of_bytes(f"held out {seed} {own}".encode()))
