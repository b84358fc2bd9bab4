"""What one process is fed in an epoch: the micro-batches of every step, in the order that a plan gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

__all__ = ["Echo", "Feed"]

Parts = Sequence[Sequence[int]]
"""The rows of each micro-batch of a step."""


class Feed(torch.utils.data.Sampler[Parts]):
    """Yields the micro-batches of every step of an epoch, as positions in the data.

    Args:
        plan: Gives the micro-batches of every step of an epoch; every epoch has as many steps.
    """

    def __init__(self, plan: Callable[[int], Sequence[Parts]]) -> None:
        self._plan = plan
        self.epoch = 0
        self._of = (0, plan(0))

    @property
    def steps(self) -> Sequence[Parts]:
        """The steps of the epoch."""
        if self._of[0] != self.epoch:
            self._of = (self.epoch, self._plan(self.epoch))
        return self._of[1]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Parts]:
        yield from self.steps


class Echo(torch.utils.data.Dataset[Sequence[int]]):
    """A data set whose items are what it is asked for, so that a collator is given rows by their positions."""

    def __getitem__(self, rows: Sequence[int]) -> Sequence[int]:
        return rows
