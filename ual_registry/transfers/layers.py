"""Which layers of the source go to which layer of the target: rules on two depths, and on how alike layers are.

No framework is loaded. How alike two layers are is measured elsewhere (``layer_similarity``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ual_registry.errors import TransferError

__all__ = ["LayerChoice", "LayerPolicy", "LayerRule", "StackLayers", "layer_map", "layer_pools", "monotone_map"]


class LayerRule(StrEnum):
    """By what the layer of the source is found for a layer of the target."""

    PROPORTIONAL = "proportional"
    """By depth."""
    CKA = "cka"
    """By how alike their streams are on the same text, in order."""


class LayerPolicy(StrEnum):
    """What becomes of source layers that the layer map does not name."""

    PICK = "pick"
    """They go nowhere."""
    POOL = "pool"
    """They go to the target layer whose own source layer is nearest, and the updates are added up there; a source layer
    of several target layers is shared out evenly among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChoice:
    """How the layers of two base models correspond.

    Attributes:
        rule: By what they were found.
        policy: What becomes of the others.
        found: The source layer of every target layer, for each stack name; proportional where a name is absent.
    """

    rule: LayerRule = LayerRule.PROPORTIONAL
    policy: LayerPolicy = LayerPolicy.PICK
    found: Mapping[str | None, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names that mean nothing.

        Raises:
            TransferError: There is no such rule or policy.
        """
        for name, known in (("rule", LayerRule), ("policy", LayerPolicy)):
            if getattr(self, name) not in list(known):
                raise TransferError(
                    f"layer {name} {str(getattr(self, name))!r}: expected one of {', '.join(known)}", code="bad-option"
                )

    def of_stack(self, name: str | None, source_layers: int, target_layers: int) -> StackLayers:
        """Return how the layers of a stack correspond.

        Args:
            name: The stack's name.
            source_layers: Blocks of the source's stack.
            target_layers: Blocks of the target's stack.

        Raises:
            TransferError: What was found does not fit the two depths.
        """
        found = self.found.get(name, layer_map(source_layers, target_layers))
        if len(found) != target_layers or not all(0 <= layer < source_layers for layer in found):
            raise TransferError(
                f"layer map of {name or 'the stack'}: expected {target_layers} layers from 0 to {source_layers - 1}, "
                f"got {list(found)}",
                code="bad-layer-map",
            )
        is_pooled = self.policy == LayerPolicy.POOL
        return StackLayers(picks=found, pools=layer_pools(found, source_layers) if is_pooled else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackLayers:
    """How the layers of one stack correspond.

    Attributes:
        picks: The source layer of every target layer.
        pools: All source layers of every target layer; ``None`` where they are not pooled.
    """

    picks: tuple[int, ...] = ()
    pools: tuple[tuple[int, ...], ...] | None = None

    def sources(self, layer: int) -> tuple[tuple[int, float], ...]:
        """Return the source layers of a target layer, each with the share of its updates that goes there."""
        if layer >= len(self.picks):
            return ()
        if self.pools is None:
            return ((self.picks[layer], 1.0),)
        return tuple((own, 1.0 / sum(own in pool for pool in self.pools)) for own in self.pools[layer])


def layer_map(source_layers: int, target_layers: int) -> tuple[int, ...]:
    """Return the source layer of every target layer: proportional, ends on ends, halves upwards.

    >>> layer_map(30, 18)[:4], layer_map(30, 18)[-1]
    ((0, 2, 3, 5), 29)
    >>> layer_map(4, 1)
    (0,)
    """
    steps = max(target_layers - 1, 1)
    return tuple((2 * layer * (source_layers - 1) + steps) // (2 * steps) for layer in range(target_layers))


def layer_pools(layers: Sequence[int], source_layers: int) -> tuple[tuple[int, ...], ...]:
    """Return all source layers of every target layer: its own, and those that are nearest to it.

    >>> layer_pools((0, 2, 4), 5)
    ((0, 1), (2, 3), (4,))
    >>> layer_pools((0, 0, 1, 1), 2)
    ((0,), (0,), (1,), (1,))

    Args:
        layers: The source layer of every target layer.
        source_layers: Blocks of the source; of two that are as near the earlier target layer gets the layer.
    """
    pools = [[layer] for layer in layers]
    for layer in sorted(set(range(source_layers)) - set(layers)):
        nearest = min(range(len(layers)), key=lambda place: (abs(layers[place] - layer), place))
        pools[nearest].append(layer)
    return tuple(tuple(sorted(pool)) for pool in pools)


def monotone_map(similarity: Sequence[Sequence[float]], *, tolerance: float = 0.01) -> tuple[int, ...]:
    """Return the source layer of every target layer, in order, so that the sum of their likeness is greatest.

    Neighbouring layers are nearly alike, so likeness counts in steps of the tolerance alone; of maps that are equal in
    them the one nearest to the proportional map is taken.

    >>> monotone_map([[1.0, 0.5], [0.5, 0.6], [0.4, 1.0]])
    (0, 2)
    >>> monotone_map([[0.9, 0.9, 0.9], [0.9, 0.9, 0.9], [0.9, 0.9, 0.9]])
    (0, 1, 2)

    Source: LoRASuite (arXiv 2505.13515), algorithm 1; here a source layer may serve several target layers in a row.

    Args:
        similarity: How alike layer i of the source and layer j of the target are, at ``[i][j]``.
        tolerance: The least difference that counts.

    Raises:
        TransferError: There are no layers, rows differ in length, or a number is not finite.
    """
    _require_matrix(similarity)
    depth = len(similarity[0])
    wanted = layer_map(len(similarity), depth)
    best: list[tuple[tuple[int, int], tuple[int, ...]]] = [((0, 0), ()) for _ in similarity]
    for place in range(depth):
        reached: list[tuple[tuple[int, int], tuple[int, ...]]] = []
        for layer in range(len(similarity)):
            (likeness, apart), path = max(best[: layer + 1], key=lambda item: item[0])
            step = round(similarity[layer][place] / tolerance), -((layer - wanted[place]) ** 2)
            reached.append(((likeness + step[0], apart + step[1]), (*path, layer)))
        best = reached
    return max(best, key=lambda item: item[0])[1]


def _require_matrix(similarity: Sequence[Sequence[float]]) -> None:
    widths = {len(row) for row in similarity}
    if len(widths) != 1 or widths == {0} or not all(abs(value) < float("inf") for row in similarity for value in row):
        raise TransferError(
            "layer similarity: expected finite numbers, a row for every source layer and a column for every target "
            "layer",
            code="bad-layer-map",
        )
