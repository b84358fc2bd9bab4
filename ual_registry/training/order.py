"""The order of the rows of a training: which stand in each step, and how they lie in a micro-batch.

Which rows a step is made of follows from seed, epoch and the size of a step alone. How they are put together changes
how fast they go, and nothing else: grouped ones lie by length, packed ones several in a line, and a micro-batch has as
many rows as their tokens allow. Nothing here loads a framework.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Sequence

__all__ = ["Bins", "best_fit", "cut_by_length", "filled", "lay_out", "share_of", "steps_of"]

Bins = tuple[tuple[int, ...], ...]


def steps_of(
    lengths: Sequence[int], *, size: int, seed: int, epoch: int, by_length: bool = False
) -> tuple[tuple[int, ...], ...]:
    """Return the rows of every step of an epoch: every row once, in another order in every epoch.

    Args:
        lengths: Tokens of each row.
        size: Rows of a step; the last one may have fewer.
        seed: Another seed gives another order.
        epoch: The epoch, from 0.
        by_length: Whether the rows of a step lie by length, the longest first; it has the same rows either way.
    """
    order = list(range(len(lengths)))
    random.Random(f"order {seed} {epoch}").shuffle(order)  # noqa: S311  # an order is no secret
    steps = [order[start : start + size] for start in range(0, len(order), size)]
    if by_length:
        for step in steps:
            step.sort(key=lambda row: -lengths[row])
    return tuple(map(tuple, steps))


def share_of(step: Sequence[int], *, size: int, process: int, processes: int) -> Bins:
    """Return the micro-batches of one process in a step, of as many rows as it may have.

    A step takes the same rows however many processes share it; each takes its part of every stretch of them. Where none
    is left for a process it gets one micro-batch without rows, so that no process waits for another.

    Args:
        step: The rows of the step.
        size: Rows of a micro-batch on one process.
        process: Which process, from 0.
        processes: How many there are.
    """
    own, width = process * size, size * processes
    parts = (tuple(step[first + own : min(first + own + size, first + width)]) for first in range(0, len(step), width))
    return tuple(part for part in parts if part) or ((),)


def cut_by_length(rows: Sequence[int], widths: Sequence[int], *, limit: int, pass_cost: int) -> Bins:
    """Cut rows that lie by length into micro-batches that cost the least: places, and a price for every pass.

    Args:
        rows: The rows, the longest first.
        widths: Tokens of each of them.
        limit: Places of a micro-batch at most; one row may have more.
        pass_cost: What a pass costs beside its places, in places.

    >>> cut_by_length([7, 8, 9], [90, 9, 8], limit=200, pass_cost=10)
    ((7,), (8, 9))
    """
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(rows) + 1):
        costs = []
        for begin in range(end - 1, -1, -1):
            places = (end - begin) * widths[begin]
            if places > limit and end - begin > 1:
                break
            costs.append((best[begin][0] + places + pass_cost, begin))
        best.append(min(costs))
    found, end = [], len(rows)
    while end:
        begin = best[end][1]
        found.append(tuple(rows[begin:end]))
        end = begin
    return tuple(reversed(found))


def filled(rows: Sequence[int], widths: Sequence[int], *, limit: int) -> Bins:
    """Cut rows into as few micro-batches as their tokens allow; for rows that lie in lines without gaps.

    Args:
        rows: The rows.
        widths: Tokens of each of them.
        limit: Tokens of a micro-batch at most; one row may have more.
    """
    found: list[list[int]] = []
    held = 0
    for row, width in zip(rows, widths, strict=True):
        if not found or held + width > limit:
            found.append([])
            held = 0
        found[-1].append(row)
        held += width
    return tuple(map(tuple, found))


def best_fit(lengths: Sequence[int], capacity: int) -> Bins:
    """Put rows into lines, the longest first, each where the least room is left (best-fit decreasing).

    Args:
        lengths: Tokens of each row, none over ``capacity``.
        capacity: Tokens of a line at most.

    Returns:
        The rows of each line, every row once.

    >>> best_fit([3, 5, 2, 4], 7)
    ((1, 2), (3, 0))
    """
    lines: list[list[int]] = []
    room: list[tuple[int, int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        place = bisect_left(room, (lengths[row], -1))
        if place == len(room):
            lines.append([row])
            insort(room, (capacity - lengths[row], len(lines) - 1))
        else:
            left, line = room.pop(place)
            lines[line].append(row)
            insort(room, (left - lengths[row], line))
    return tuple(map(tuple, lines))


def lay_out(lengths: Sequence[int], *, limit: int) -> Bins:
    """Put the rows of a micro-batch into lines so that they cost the least.

    Lines are as long as the longest row, or two, four, ... times that. A place costs as much whether it is full or
    empty, and more the longer its line is, since attention goes over all of it.

    Args:
        lengths: Tokens of each row.
        limit: Tokens of a line at most; one row may be longer.
    """
    longest = max(lengths)
    best, capacity = best_fit(lengths, longest), 2 * longest
    least = _cost(lengths, best)
    while capacity // 2 < min(sum(lengths), limit):
        found = best_fit(lengths, max(min(capacity, limit), longest))
        if _cost(lengths, found) < least:
            best, least = found, _cost(lengths, found)
        capacity *= 2
    return best


_DEAR_LENGTH = 2048
"""Length of a line at which attention costs about as much as all else, in models of some hundred million weights."""


def _cost(lengths: Sequence[int], lines: Bins) -> float:
    width = max(sum(lengths[row] for row in line) for line in lines)
    return len(lines) * width * (1 + width / _DEAR_LENGTH)
