"""Tell which block of a model a module stands in, from the indices in its path."""

from __future__ import annotations

from dataclasses import dataclass

from ual_registry.tracing.record import Operation

__all__ = ["BlockPlace", "are_of_one_block", "block_of", "without_indices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlace:
    """A path cut at its first index: ``layers.`` , 3, ``mlp.up_proj``."""

    root: str
    layer: int
    rest: str


def block_of(path: str) -> BlockPlace | None:
    """Return the block that ``path`` stands in; ``None`` where it holds no index.

    >>> block_of("model.layers.3.mlp.up_proj")
    BlockPlace(root='model.layers.', layer=3, rest='mlp.up_proj')
    """
    parts = path.split(".")
    for index, part in enumerate(parts[:-1]):  # a module that is itself an item of a list stands in no block
        if part.isdecimal():
            root = "".join(f"{before}." for before in parts[:index])
            return BlockPlace(root=root, layer=int(part), rest=".".join(parts[index + 1 :]))
    return None


def are_of_one_block(*operations: Operation) -> bool:
    """Tell whether all operations stand in the same block."""
    places = [block_of(operation.path) for operation in operations]
    first = places[0]
    return first is not None and all(
        place is not None and (place.root, place.layer) == (first.root, first.layer) for place in places
    )


def without_indices(path: str) -> str:
    """Return ``path`` with every index replaced, so that the same module of all blocks looks alike."""
    return ".".join("#" if part.isdecimal() else part for part in path.split("."))
