"""The heads of two attentions, paired by what they do, and the maps between the rows of paired heads.

What a head does shows in two products of its weights, whatever basis its own features have: query with key says where
it looks, output with value says what it writes. Queries of one group share a key and a value; a target's group gets
the mean of what its queries' counterparts would give it, a source's group goes to every head that is paired with one
of its queries. Rows that rotary position embedding turns together stay together: a map that mixed pairs of different
frequencies would hold at one position alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment

from ual_registry.errors import ShapeError

__all__ = ["Attention", "HeadPairs", "Heads", "key_map", "output_map", "pair_heads", "query_map", "value_map"]

_RowMaps = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Given the rows of a head and of its counterpart, returns the map from the one to the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """How the rows of an attention are laid out.

    Attributes:
        queries: Query heads.
        groups: Key-value heads; each serves as many query heads as the others, one after the other.
        width: Features of a head's query and key.
        value_width: Features of a head's value.
        rotary: Pairs of features of a head that are rotated together, the fastest first.
        speeds: By how much each pair is rotated from one position to the next, in radians; empty where it is not known.
    """

    queries: int
    groups: int
    width: int
    value_width: int
    rotary: tuple[tuple[int, int], ...] = ()
    speeds: tuple[float, ...] = ()

    @property
    def members(self) -> int:
        """Query heads of a group."""
        return self.queries // self.groups

    @classmethod
    def of(
        cls,
        *,
        queries: int,
        groups: int,
        width: int,
        value_width: int,
        style: str,
        rotated: int,
        speeds: tuple[float, ...] = (),
    ) -> Heads:
        """Lay out heads by the style of their rotary position embedding.

        Args:
            queries: As the attribute.
            groups: As the attribute.
            width: As the attribute.
            value_width: As the attribute.
            style: ``half`` pairs feature i with i + rotated / 2, ``interleaved`` 2i with 2i + 1, ``none`` nothing.
            rotated: How many features of a head are rotated, the first ones.
            speeds: As the attribute.

        Raises:
            ShapeError: The query heads cannot be shared out among the groups, or there is not one speed above 0 for
                each pair.
        """
        if groups < 1 or queries % groups:
            raise ShapeError(f"{queries} query heads cannot be shared out among {groups} key-value heads")
        count = 0 if style == "none" else rotated // 2
        pairs = [(2 * at, 2 * at + 1) if style == "interleaved" else (at, at + count) for at in range(count)]
        if speeds and (len(speeds) != count or not all(speed > 0 for speed in speeds)):
            raise ShapeError(f"speeds {speeds}: expected one above 0 for each of {count} pairs")
        return cls(
            queries=queries, groups=groups, width=width, value_width=value_width, rotary=tuple(pairs), speeds=speeds
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """The weights of an attention, what they read and write given in a basis that both models share.

    Attributes:
        heads: How their rows are laid out.
        query: Shape (queries * width, d).
        key: Shape (groups * width, d).
        value: Shape (groups * value_width, d).
        output: Shape (d, queries * value_width).
    """

    heads: Heads
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    output: torch.Tensor

    def of_heads(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return query, key, value and output of every query head, shape (queries, width or value_width, d)."""
        heads, d = self.heads, self.query.shape[1]
        key = self.key.reshape(heads.groups, heads.width, d).repeat_interleave(heads.members, 0)
        value = self.value.reshape(heads.groups, heads.value_width, d).repeat_interleave(heads.members, 0)
        return (
            self.query.reshape(heads.queries, heads.width, d),
            key,
            value,
            self.output.T.reshape(heads.queries, heads.value_width, d),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPairs:
    """Which query head of the source goes to which of the target.

    Attributes:
        source: Indices of query heads, each at most once.
        target: Indices of query heads, each at most once; as many.
        cosines: How alike the heads of every pair are, from -1 to 1.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    cosines: tuple[float, ...]

    def swapped(self) -> HeadPairs:
        """Return the pairs of the way back."""
        return HeadPairs(source=self.target, target=self.source, cosines=self.cosines)


def pair_heads(source: Attention, target: Attention, *, gate: float = 0.0) -> HeadPairs:
    """Pair heads one to one so that the sum of their likeness is greatest.

    The likeness of two heads is the mean of two cosines: of ``Q^T K`` and of ``O V``.

    Source: LoRASuite (arXiv 2505.13515), head mapping; the two halves weigh the same here.

    Args:
        source: Of the source.
        target: Of the target, in the same basis.
        gate: Pairs that are not more alike than that are left out.

    Raises:
        ShapeError: The bases differ.
    """
    if source.query.shape[1] != target.query.shape[1]:
        raise ShapeError(f"heads that read {source.query.shape[1]} and {target.query.shape[1]} features: expected one")
    own, other = source.of_heads(), target.of_heads()
    likeness = (_cosines(own[:2], other[:2]) + _cosines(own[2:], other[2:])) / 2
    rows, columns = linear_sum_assignment(likeness.cpu().numpy(), maximize=True)
    found = [(int(row), int(column), float(likeness[row, column])) for row, column in zip(rows, columns, strict=True)]
    kept = [pair for pair in found if pair[2] > gate]
    return HeadPairs(
        source=tuple(pair[0] for pair in kept),
        target=tuple(pair[1] for pair in kept),
        cosines=tuple(pair[2] for pair in kept),
    )


def _cosines(own: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the cosine of ``X_i^T Y_i`` and ``X_j^T Y_j`` for all heads, shape (n_s, n_t), without these products."""
    cross = _product(own[0], other[0]).mul_(_product(own[1], other[1])).sum((1, 3))
    sizes = [_sizes(*item) for item in (own, other)]
    return cross / (sizes[0][:, None] * sizes[1]).clamp(min=torch.finfo(cross.dtype).tiny)


def _product(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return all inner products of features, shape (n_s, w_s, n_t, w_t)."""
    return (own.flatten(0, 1) @ other.flatten(0, 1).T).reshape(*own.shape[:2], *other.shape[:2])


def _sizes(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((x @ x.mT) * (y @ y.mT)).sum((1, 2)).clamp(min=0).sqrt()


def query_map(pairs: HeadPairs, source: Attention, target: Attention) -> torch.Tensor:
    """Return the map from the source's query rows to the target's, shape (queries_t * width_t, queries_s * width_s)."""
    own, other = source.of_heads()[0], target.of_heads()[0]
    made = own.new_zeros(target.heads.queries, target.heads.width, source.heads.queries, source.heads.width)
    between = _row_maps(source.heads, target.heads)
    for at, to in zip(pairs.source, pairs.target, strict=True):
        made[to, :, at] = between(own[at], other[to])
    return made.flatten(2).flatten(0, 1)


def key_map(pairs: HeadPairs, source: Attention, target: Attention) -> torch.Tensor:
    """Return the map from the source's key rows to the target's, shape (groups_t * width_t, groups_s * width_s)."""
    between = _row_maps(source.heads, target.heads)
    return _shared(pairs, (source.heads, source.of_heads()[1]), (target.heads, target.of_heads()[1]), between)


def value_map(pairs: HeadPairs, source: Attention, target: Attention) -> torch.Tensor:
    """Return the map between value rows, shape (groups_t * value_width_t, groups_s * value_width_s)."""
    return _shared(pairs, (source.heads, source.of_heads()[2]), (target.heads, target.of_heads()[2]), _turn)


def output_map(pairs: HeadPairs, source: Attention, target: Attention) -> torch.Tensor:
    """Return the map from what the target's output reads to what the source's does.

    Returns:
        Shape (queries_s * value_width_s, queries_t * value_width_t).
    """
    own, other = source.of_heads()[3], target.of_heads()[3]
    made = own.new_zeros(source.heads.queries, source.heads.value_width, target.heads.queries, target.heads.value_width)
    for at, to in zip(pairs.source, pairs.target, strict=True):
        made[at, :, to] = _turn(own[at], other[to]).T
    return made.flatten(2).flatten(0, 1)


def _shared(
    pairs: HeadPairs,
    source: tuple[Heads, torch.Tensor],
    target: tuple[Heads, torch.Tensor],
    between: _RowMaps,
) -> torch.Tensor:
    """Return the map of what groups share: the mean over the paired queries of every group of the target."""
    (heads, own), (others, other) = source, target
    made = own.new_zeros(others.groups, other.shape[1], heads.groups, own.shape[1])
    counts = own.new_zeros(others.groups)
    for at, to in zip(pairs.source, pairs.target, strict=True):
        group = to // others.members
        made[group, :, at // heads.members] += between(own[at], other[to])
        counts[group] += 1
    made /= counts.clamp(min=1)[:, None, None, None]
    return made.flatten(2).flatten(0, 1)


def _row_maps(own: Heads, other: Heads) -> _RowMaps:
    """Return what maps a head's rows to another's: pair by pair where both rotate, the rest by a turn."""
    if not own.rotary or not other.rotary:
        return _turn
    nearest = _nearest(own, other)
    return lambda rows, others: _by_pairs(rows, others, own.rotary, other.rotary, nearest)


def _by_pairs(
    own: torch.Tensor,
    other: torch.Tensor,
    own_rotary: Sequence[tuple[int, int]],
    other_rotary: Sequence[tuple[int, int]],
    nearest: Sequence[int],
) -> torch.Tensor:
    """Return the map from a head's rows to another's; ``nearest`` says which pair each pair of the other takes."""
    made = own.new_zeros(len(other), len(own))
    for (p, q), at in zip(other_rotary, nearest, strict=True):
        a, b = own_rotary[at]
        energy = float(own[a].square().sum() + own[b].square().sum())
        real = float(own[a] @ other[p] + own[b] @ other[q]) / energy if energy > 0 else 0.0
        imaginary = float(own[a] @ other[q] - own[b] @ other[p]) / energy if energy > 0 else 0.0
        made[p, a], made[p, b] = real, -imaginary
        made[q, a], made[q, b] = imaginary, real
    rest, others = _rest(len(own), own_rotary), _rest(len(other), other_rotary)
    if rest and others:
        made[torch.tensor(others)[:, None], torch.tensor(rest)] = _turn(own[rest], other[others])
    return made


def _nearest(own: Heads, other: Heads) -> list[int]:
    """Return, for each pair of ``other``, the pair of ``own`` whose speed is nearest, in the logarithm.

    Where speeds are not known, both are taken to fall evenly from the same to the same.

    >>> narrow, wide = (Heads(queries=1, groups=1, width=w, value_width=w, rotary=((0, 1),) * w) for w in (2, 4))
    >>> _nearest(narrow, wide)
    [0, 0, 1, 1]
    """
    if not own.speeds or not other.speeds:
        count, there = len(own.rotary), len(other.rotary)
        return [min(index * count // there, count - 1) for index in range(there)]
    mine, theirs = (torch.tensor(heads.speeds, dtype=torch.float64).log() for heads in (own, other))
    apart = (theirs[:, None] - mine).abs()
    return [int(index) for index in apart.argmin(1)]


def _rest(width: int, rotary: Sequence[tuple[int, int]]) -> list[int]:
    rotated = {feature for pair in rotary for feature in pair}
    return [feature for feature in range(width) if feature not in rotated]


def _turn(own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the turn, times a number, that brings rows (w_s, d) nearest to others (w_t, d); shape (w_t, w_s).

    Source: Schoenemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 1966.
    """
    left, values, right = torch.linalg.svd(other @ own.T, full_matrices=False)
    kept = values > (values.max() if len(values) else 0.0) * len(own) * torch.finfo(values.dtype).eps
    turn: torch.Tensor = left[:, kept] @ right[kept]
    energy = float((turn @ own).square().sum())
    return turn * (float(values.sum()) / energy if energy > 0 else 0.0)
