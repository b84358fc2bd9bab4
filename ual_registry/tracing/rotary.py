"""See how rotary position embedding pairs the rows of a query: which rows one feature of a head depends on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ual_registry.tracing.attention import Attention
from ual_registry.tracing.flow import BRANCH
from ual_registry.tracing.record import Recording

__all__ = ["SeenRotary", "find_rotary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRotary:
    """What rotates.

    Attributes:
        style: ``none``, ``half`` or ``interleaved``.
        rotated: Rotated features of a head.
        head_dim: Features of a head.
    """

    style: str
    rotated: int
    head_dim: int


def find_rotary(recording: Recording, attentions: Iterable[Attention]) -> SeenRotary:
    """Return how queries are rotated; of blocks with and without rotation, the former count."""
    last = SeenRotary(style="none", rotated=0, head_dim=0)
    for attention in attentions:
        last = _of(recording, attention)
        if last.style != "none":
            break
    return last


def _of(recording: Recording, attention: Attention) -> SeenRotary:
    width = attention.head_dim
    pairs = {tuple(rows) for feature in range(width) if len(rows := _rows(recording, attention, feature)) == 2}
    return SeenRotary(style=_style(pairs), rotated=2 * len(pairs), head_dim=width)


def _rows(recording: Recording, attention: Attention, feature: int) -> list[int]:
    """Return the rows, counted inside a head, that one feature of the query depends on."""
    where = torch.zeros(attention.query.shape[-1])
    where[feature] = 1
    found = _inside(recording, attention.query, where, attention.head_dim)
    for norm in recording.sources(attention.query):
        if len(found) == 1 and norm.kind == "norm" and norm.leaf.shape[-1] == attention.head_dim:
            found |= _inside(recording, norm.inputs[0], where, attention.head_dim)  # a norm after the rotation
    return sorted(found)


def _inside(recording: Recording, tensor: Tensor, where: Tensor, width: int) -> set[int]:
    """Return positions inside a head among the rows that reach ``tensor``, for the features in ``where``."""
    found: set[int] = set()
    for operation in recording.sources(tensor):
        if operation.kind == "linear" or operation.kind in BRANCH:
            order = {row: index for index, row in enumerate(recording.rows(tensor, operation))}
            found.update(order[row] % width for row in recording.rows(tensor, operation, where=where))
    return found


def _style(pairs: set[tuple[int, ...]]) -> str:
    if not pairs:
        return "none"
    distances = {second - first for first, second in pairs}
    if distances == {1} and len(pairs) > 1:
        return "interleaved"
    return "half"
