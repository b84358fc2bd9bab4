"""Places in a model's residual stream, and how the stream is read there.

Behind a block the stream is what the block gives. Behind attention no module gives it: there it is what the block
reads and what attention adds, through the norm that may stand behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from ual_registry.errors import NoCounterpartError
from ual_registry.models.loaded import LoadedBase
from ual_registry.transfers.blocks import block_paths
from ual_registry.transfers.final_state import NormShape, find_norms_behind
from ual_registry.transfers.sites import Side, Site
from ual_registry.transfers.whole_adapter import modules_of_role

__all__ = ["WRITERS", "Point", "Stream"]

WRITERS = ("attention_output", "mlp_down")
"""Roles of the modules that write into the residual stream, in the order in which they do."""

_PROBED_TOKENS = 32


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A place in a model's stream: behind the module of a role in a layer.

    Attributes:
        layer: The layer.
        role: One of ``WRITERS``; behind the last of them is behind the whole block.
    """

    layer: int
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Where a model's stream is read.

    Attributes:
        blocks: Module paths of the blocks, by layer.
        writers: Module paths of what writes at each point, but for those behind a block.
        norms: The norms behind writers, by the writer's path.
    """

    blocks: Sequence[str]
    writers: Mapping[Point, str]
    norms: Mapping[str, NormShape]

    @classmethod
    def of(cls, base: LoadedBase, points: Collection[Point], ids: Sequence[int]) -> Stream:
        """Find out where a model's stream is read at some points.

        Args:
            base: The model.
            points: The points.
            ids: Token ids of some text.

        Raises:
            NoCounterpartError: The model has no module of a role in a layer.
        """
        writers = {point: _path(base, point) for point in sorted(points) if point.role != WRITERS[-1]}
        norms = find_norms_behind(base, list(writers.values()), ids[:_PROBED_TOKENS]) if writers else {}
        return cls(blocks=block_paths(base), writers=writers, norms=norms)

    def sites(self, point: Point) -> tuple[Site, ...]:
        """Return what has to be read for a point."""
        block = self.blocks[point.layer]
        if point not in self.writers:
            return (Site(block, Side.OUTPUT),)
        return (Site(block, Side.INPUT), Site(self.writers[point], Side.OUTPUT))

    def rows(self, point: Point, read: Mapping[Site, torch.Tensor]) -> torch.Tensor:
        """Return the stream at a point, shape (n, d), from what was read at its sites."""
        if point not in self.writers:
            return read[Site(self.blocks[point.layer], Side.OUTPUT)]
        path = self.writers[point]
        written, behind = read[Site(path, Side.OUTPUT)], self.norms.get(path)
        added = written if behind is None else behind.scaled(written).to(written.dtype)
        return read[Site(self.blocks[point.layer], Side.INPUT)] + added


def _path(base: LoadedBase, point: Point) -> str:
    module = modules_of_role(base, point.role).get(point.layer)
    if module is None:
        raise NoCounterpartError(
            f"base model {base.base.id} has no {point.role} in layer {point.layer}, behind which its stream could be "
            "read",
            context={"base_model": base.base.id, "role": point.role},
        )
    return module.path
