"""Find state-space blocks (Mamba): a convolution, a step size made in two steps, and a scan that a gate closes."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ual_registry.tracing.blocks import are_of_one_block
from ual_registry.tracing.flow import BRANCH, behind, origins, reach
from ual_registry.tracing.record import Operation, Recording

__all__ = ["find_statespaces"]

Found = tuple[Operation, str, tuple[int, ...], str]

_SCAN = BRANCH | {"matmul"}


def find_statespaces(recording: Recording, taken: Collection[Operation]) -> Iterator[Found]:
    """Yield (module run, role, rows, reason) for every state-space block.

    Args:
        recording: What the model did.
        taken: Operations that have a role already.
    """
    free = [item for item in recording.operations if item.kind == "linear" and item not in taken]
    for step_up in free:
        chosen = _only(origins(recording, step_up.inputs[0]))  # what chooses step size, input and output of the state
        if chosen is None or chosen not in free or not are_of_one_block(step_up, chosen):
            continue
        entry = _entry(recording, chosen)
        if entry is None or not are_of_one_block(entry, chosen):
            continue
        leaving = [item for item in free if _closes(recording, item, step_up, entry)]
        if leaving:
            yield from _roles(recording, entry, chosen, step_up, leaving[0])


def _only(found: Collection[Operation]) -> Operation | None:
    return next(iter(found)) if len(found) == 1 else None


def _entry(recording: Recording, chosen: Operation) -> Operation | None:
    """Return the linear module whose result reaches ``chosen`` through a convolution."""
    passed = behind(recording, chosen.inputs[0])
    before = [item for item in passed if item.kind not in BRANCH]
    bends = any(item.kind == "convolution" and are_of_one_block(item, chosen) for item in passed)
    if bends and len(before) == 1 and before[0].kind == "linear":
        return before[0]
    return None


def _closes(recording: Recording, leaving: Operation, step_up: Operation, entry: Operation) -> bool:
    return are_of_one_block(leaving, entry) and {step_up, entry} <= origins(recording, leaving.inputs[0], through=_SCAN)


def _roles(
    recording: Recording, entry: Operation, chosen: Operation, step_up: Operation, leaving: Operation
) -> Iterator[Found]:
    every = set(range(chosen.features))
    down = set(reach(recording, step_up.inputs[0])[chosen].rows)
    reads = set(_state_output(recording, chosen))
    kept = set(reach(recording, chosen.inputs[0])[entry].rows)
    gate = set(reach(recording, leaving.inputs[0])[entry].rows) - kept
    parts = [
        (entry, "state_space_in", kept, "its result passes the convolution"),
        (entry, "state_space_gate", gate, "its result closes the scan through an activation"),
        (chosen, "state_space_step_down", down, f"{step_up.path} reads it"),
        (chosen, "state_space_output", reads, "the state is multiplied with it at the end"),
        (chosen, "state_space_input", every - down - reads, "it enters the state"),
        (step_up, "state_space_step_up", set(range(step_up.features)), "it makes the step size"),
        (leaving, "state_space_out", set(range(leaving.features)), "it reads the gated scan"),
    ]
    for item, role, rows, reason in parts:
        yield item, role, tuple(sorted(rows)), reason


def _state_output(recording: Recording, chosen: Operation) -> tuple[int, ...]:
    """Return the rows that are one side of the product which reads the state."""
    for item in recording.operations:
        if item.kind == "matmul":
            for side in item.inputs:
                if origins(recording, side) == {chosen}:
                    return reach(recording, side)[chosen].rows
    return ()
