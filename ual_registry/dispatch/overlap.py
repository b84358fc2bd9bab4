"""Which domains are hard to tell apart, and which examples make them so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ual_registry.dispatch.classifier import Floats
from ual_registry.dispatch.router import Router

__all__ = ["Overlap", "OverlapPair", "analyze_overlap"]

_MOST_PAIRS = 20
_MOST_EXAMPLES = 5
_LEAST_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapPair:
    """Two domains that are taken for each other.

    Attributes:
        first: One domain.
        second: The other, later by name.
        share: Mean probability (0..1) that the examples of each give to the other.
        examples: The examples that lean most to the other domain: (domain, text, probability of the other).
    """

    first: str
    second: str
    share: float
    examples: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How far the domains of a router overlap on examples.

    Attributes:
        names: The domains, in the order of rows and columns.
        shares: (domains, domains) mean probability that the examples of the row give to the column, 0 on the diagonal.
        pairs: The pairs that overlap most, worst first.
    """

    names: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    pairs: tuple[OverlapPair, ...]


def analyze_overlap(router: Router, texts: Sequence[str], labels: Sequence[str], embeddings: Floats) -> Overlap:
    """Say which domains overlap on examples, best on some that the router was not fitted on.

    Args:
        router: The router.
        texts: Examples.
        labels: Their domains; each one of the router's.
        embeddings: (examples, dimension).

    Raises:
        RouteError: The embeddings are of another encoder.
    """
    router.check(embeddings)
    names = router.names
    index = np.array([names.index(label) for label in labels], dtype=np.int64)
    probabilities = router.probabilities(embeddings)
    shares = np.zeros((len(names), len(names)))
    for row in np.unique(index):
        shares[row] = probabilities[index == row].mean(axis=0)
    np.fill_diagonal(shares, 0.0)
    both = (shares + shares.T) / 2
    rows, columns = np.triu_indices(len(names), k=1)
    order = np.lexsort((columns, rows, -both[rows, columns]))[:_MOST_PAIRS]
    pairs = [
        OverlapPair(
            first=names[rows[own]],
            second=names[columns[own]],
            share=float(both[rows[own], columns[own]]),
            examples=_leaning(texts, index, probabilities, names, (int(rows[own]), int(columns[own]))),
        )
        for own in order
        if both[rows[own], columns[own]] >= _LEAST_SHARE
    ]
    return Overlap(names=names, shares=tuple(tuple(map(float, row)) for row in shares), pairs=tuple(pairs))


def _leaning(
    texts: Sequence[str], index: np.ndarray, probabilities: Floats, names: Sequence[str], pair: tuple[int, int]
) -> tuple[tuple[str, str, float], ...]:
    found = [
        (names[own], texts[int(place)], float(probabilities[place, other]))
        for own, other in (pair, pair[::-1])
        for place in np.flatnonzero(index == own)
    ]
    return tuple(sorted(found, key=lambda item: (-item[2], item[1]))[:_MOST_EXAMPLES])
