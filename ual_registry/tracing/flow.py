"""Follow a recording backwards: which linear modules, and which of their rows, stand behind a tensor.

Norms, activations, products and convolutions keep features apart or belong to the branch; they are passed on the way.
Linear modules, embeddings and products of two moving tensors (attention) are not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ual_registry.tracing.record import Operation, Recording

__all__ = ["BRANCH", "Reach", "behind", "origins", "reach"]

BRANCH = frozenset({"norm", "product", "activation", "convolution"})
"""What is passed inside a branch, between one linear module and the next."""

_ELEMENTWISE = frozenset({"product", "activation"})


@dataclass(slots=True)
class Reach:
    """The rows of one linear module that stand behind a tensor.

    Attributes:
        plain: Rows that come without passing an activation.
        activated: Rows that pass an activation on the way.
    """

    plain: set[int] = field(default_factory=set)
    activated: set[int] = field(default_factory=set)

    @property
    def rows(self) -> tuple[int, ...]:
        """Return all of them, in order."""
        return tuple(sorted(self.plain | self.activated))


def behind(recording: Recording, tensor: Tensor, *, through: Collection[str] = BRANCH) -> frozenset[Operation]:
    """Return every operation met on the way back from ``tensor``, going on behind those of the kinds ``through``."""
    found: set[Operation] = set()
    waiting = [tensor]
    while waiting:
        for operation in recording.sources(waiting.pop()) - found:
            found.add(operation)
            if operation.kind in through:
                waiting.extend(operation.inputs)
    return frozenset(found)


def origins(recording: Recording, tensor: Tensor, *, through: Collection[str] = BRANCH) -> frozenset[Operation]:
    """Return where the way back from ``tensor`` ends: the operations behind it that are not passed."""
    found = behind(recording, tensor, through=through)
    return frozenset(operation for operation in found if operation.kind not in through)


def reach(recording: Recording, tensor: Tensor) -> dict[Operation, Reach]:
    """Return the linear modules behind ``tensor`` with their rows, passing norms, activations and products."""
    found: dict[Operation, Reach] = {}
    for operation, rows, activated in _walk(recording, tensor, None, is_activated=False):
        entry = found.setdefault(operation, Reach())
        (entry.activated if activated else entry.plain).update(rows)
    return found


def _walk(
    recording: Recording, tensor: Tensor, features: tuple[int, ...] | None, *, is_activated: bool
) -> Iterator[tuple[Operation, tuple[int, ...], bool]]:
    where = _mask(tensor, features)
    for operation in sorted(recording.sources(tensor), key=_number):
        rows = recording.rows(tensor, operation, where=where)
        if not rows:
            continue
        if operation.kind == "linear":
            yield operation, rows, is_activated
        elif operation.kind in BRANCH:
            activated = is_activated or operation.kind == "activation"
            kept = rows if operation.kind in _ELEMENTWISE else None
            for before in operation.inputs:
                yield from _walk(recording, before, _same(before, operation, kept), is_activated=activated)


def _number(operation: Operation) -> int:
    return operation.number


def _same(before: Tensor, operation: Operation, rows: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the features of an elementwise operation's input that its ``rows`` come from; all where unknown."""
    return rows if before.dim() and before.shape[-1] == operation.leaf.shape[-1] else None


def _mask(tensor: Tensor, features: tuple[int, ...] | None) -> Tensor | None:
    if features is None or len(features) == tensor.shape[-1]:
        return None
    mask = torch.zeros(tensor.shape[-1])
    mask[list(features)] = 1
    return mask
