"""Find the MLPs of a recording: what bends the stream inside a branch, experts and routers included.

``mlp_down`` reads nothing but activations and products of linear modules of its own block. Rows that pass an
activation on the way are the gate, rows that do not are multiplied with them: ``mlp_up``. Without a product all rows
pass the activation and are ``mlp_up``. A router is what an expert's result is multiplied with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ual_registry.tracing.blocks import are_of_one_block
from ual_registry.tracing.flow import BRANCH, Reach, behind, origins, reach
from ual_registry.tracing.record import Operation, Recording

__all__ = ["find_feedforwards"]

_WEIGHING = BRANCH | {"softmax"}

Found = tuple[Operation, str, tuple[int, ...], str]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Feedforward:
    """One MLP or one expert."""

    down: Operation
    before: dict[Operation, Reach]
    routers: tuple[Operation, ...]


def find_feedforwards(recording: Recording, taken: Collection[Operation]) -> Iterator[Found]:
    """Yield (module run, role, rows, reason) for every MLP.

    Args:
        recording: What the model did.
        taken: Operations that have a role already.
    """
    linears = [item for item in recording.operations if item.kind == "linear" and item not in taken]
    found = [mlp for item in linears if (mlp := _feedforward(recording, item)) is not None]
    mixtures = [mlp for mlp in found if _is_expert(mlp, found)]
    for mlp in found:
        is_shared = mlp not in mixtures and any(are_of_one_block(mlp.down, other.down) for other in mixtures)
        yield from _roles(mlp, "shared_" if is_shared else "")
    routers = {router: mlp for mlp in found for router in mlp.routers}
    for router, mlp in routers.items():
        role = "moe_router" if mlp in mixtures else "shared_mlp_router"
        yield router, role, tuple(range(router.features)), f"it weighs the result of {mlp.down.path}"


def _feedforward(recording: Recording, down: Operation) -> _Feedforward | None:
    """Return the MLP that ``down`` closes; ``None`` where it closes none."""
    (read,) = down.inputs
    last = [item for item in behind(recording, read, through={"norm"}) if item.kind != "norm"]
    if not last or any(item.kind not in {"product", "activation"} for item in last):
        return None
    passed = behind(recording, read)
    if any(item.kind not in BRANCH | {"linear"} or item.kind == "convolution" for item in passed):
        return None
    before = reach(recording, read)
    if not before or not are_of_one_block(down, *before):
        return None
    routers = (*_routers(recording, down), *(found for item in before for found in _routers_of_input(recording, item)))
    return _Feedforward(down=down, before=before, routers=tuple(dict.fromkeys(routers)))


def _routers(recording: Recording, down: Operation) -> Iterator[Operation]:
    for item in recording.operations:
        if item.kind != "product":
            continue
        for result, weight in (item.inputs, item.inputs[::-1]):
            if recording.sources(result) == {down}:
                weighing = origins(recording, weight, through=_WEIGHING)
                yield from (found for found in weighing if found.kind == "linear" and are_of_one_block(found, down))


def _routers_of_input(recording: Recording, up: Operation) -> Iterator[Operation]:
    """Yield what weighs the stream before an expert reads it."""
    for item in recording.sources(up.inputs[0]):
        if item.kind == "product":
            for weight in item.inputs:
                found = origins(recording, weight, through=_WEIGHING)
                if found and all(one.kind == "linear" and are_of_one_block(one, up) for one in found):
                    yield from found


def _is_expert(mlp: _Feedforward, found: list[_Feedforward]) -> bool:
    """Tell a mixture's expert from a shared one, which a router may weigh as well: there are several of the former."""
    place = mlp.down.place
    if place is not None and place.is_stacked:
        return True
    return any(other is not mlp and set(other.routers) & set(mlp.routers) for other in found)


def _roles(mlp: _Feedforward, prefix: str) -> Iterator[Found]:
    gates = {item: tuple(sorted(found.activated)) for item, found in mlp.before.items() if found.activated}
    ups = {item: tuple(sorted(found.plain - found.activated)) for item, found in mlp.before.items()}
    ups = {item: rows for item, rows in ups.items() if rows}
    for item, rows in gates.items():
        if ups:
            yield item, f"{prefix}mlp_gate", rows, "its result passes an activation and is multiplied"
        else:
            yield item, f"{prefix}mlp_up", rows, "its result passes an activation"
    for item, rows in ups.items():
        yield item, f"{prefix}mlp_up", rows, "its result is multiplied with an activation"
    rows = tuple(range(mlp.down.features))
    yield mlp.down, f"{prefix}mlp_down", rows, "it reads the activation or the product"
