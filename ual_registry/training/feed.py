"""What one process is fed in an epoch: micro-batches of the steps, in an order that follows from seed and epoch alone.

A step takes the same rows however many processes share it. Each takes its part of every micro-batch; where none is
left for a process it takes none, so that nothing is trained on twice and no process waits for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

__all__ = ["Feed"]

Steps = Sequence[Sequence[int]]


class Feed(torch.utils.data.Sampler[list[int]]):
    """Yields the rows of every micro-batch of an epoch, as positions in the data.

    Args:
        plan: Gives the rows of every step of an epoch; every epoch has as many.
        batch_size: Rows of a micro-batch on one process.
        process: Which process this is, from 0.
        processes: How many there are.
    """

    def __init__(self, plan: Callable[[int], Steps], *, batch_size: int, process: int = 0, processes: int = 1) -> None:
        self._plan, self._batch_size = plan, batch_size
        self._process, self._processes = process, processes
        self.epoch = 0
        self._of = (0, plan(0))

    @property
    def steps(self) -> Steps:
        """The steps of the epoch."""
        if self._of[0] != self.epoch:
            self._of = (self.epoch, self._plan(self.epoch))
        return self._of[1]

    def __len__(self) -> int:
        return sum(-(-len(step) // self._width) for step in self.steps)

    @property
    def _width(self) -> int:
        return self._batch_size * self._processes

    def __iter__(self) -> Iterator[list[int]]:
        own = self._process * self._batch_size
        for step in self.steps:
            for first in range(0, len(step), self._width):
                yield list(step[first : first + self._width][own : own + self._batch_size])
