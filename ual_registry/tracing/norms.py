"""Tell where the norms of a block stand: before a branch, behind it, both, or before two branches side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ual_registry.tracing.attention import Attention
from ual_registry.tracing.blocks import are_of_one_block, block_of
from ual_registry.tracing.flow import behind, origins
from ual_registry.tracing.record import Operation, Recording
from ual_registry.tracing.roles import Use

__all__ = ["find_norms"]

_ENTRIES = ("latent_query_down", "latent_query_up", "attention_query", "state_space_in")
_EXITS = ("attention_output", "state_space_out")
_UPS = ("mlp_up", "shared_mlp_up")


def find_norms(recording: Recording, uses: Iterable[Use], attentions: Iterable[Attention]) -> dict[str, Any]:
    """Return kind, position and whether query and key are normalised, as a binder says it.

    Args:
        recording: What the model did.
        uses: The roles of the stack's modules.
        attentions: The attentions of the stack.
    """
    listed = sorted(uses, key=lambda use: use.operation.number)
    crossing = {use.operation for use in listed if use.role == "cross_attention_output"}
    entry = next((use.operation for name in _ENTRIES for use in listed[::-1] if use.role == name), None)
    if entry is None:
        return {"kind": "layer", "position": "pre", "query_key": False}
    leaving = _last(listed, _EXITS, entry)
    up = _last(listed, _UPS, entry)
    return {
        "kind": _kind(recording, entry),
        "position": _position(recording, entry, leaving, up),
        "query_key": any(_is_normed(recording, item) for item in attentions if not crossing & {*item.outputs}),
    }


def _last(uses: list[Use], roles: tuple[str, ...], entry: Operation) -> Operation | None:
    return next((use.operation for use in uses if use.role in roles and are_of_one_block(use.operation, entry)), None)


def _kind(recording: Recording, entry: Operation) -> str:
    place = block_of(entry.path)
    names = [
        item.name
        for item in recording.operations
        if item.kind == "norm" and place is not None and item.scope.startswith(place.root)
    ]
    return Counter(names).most_common(1)[0][0] if names else "layer"


def _position(recording: Recording, entry: Operation, leaving: Operation | None, up: Operation | None) -> str:
    if leaving is not None and up is not None and leaving not in _all_behind(recording, up):
        return "parallel"
    read = [item for item in recording.sources(entry.inputs[0]) if item.kind == "norm"]
    is_before = len(read) == 1 and not _goes_on(recording, read[0])
    is_after = leaving is not None and any(
        item.kind == "norm" and recording.sources(item.inputs[0]) == {leaving} for item in recording.operations
    )
    if is_before:
        return "both" if is_after else "pre"
    return "post"


def _goes_on(recording: Recording, norm: Operation) -> bool:
    """Tell whether a norm's result is added to something later: it is the residual stream itself."""
    return any(
        norm in sources and len(sources) > 1
        for item in recording.operations[norm.number + 1 :]
        for tensor in item.inputs
        if (sources := recording.sources(tensor))
    )


def _all_behind(recording: Recording, up: Operation) -> frozenset[Operation]:
    return behind(recording, up.inputs[0])


def _is_normed(recording: Recording, attention: Attention) -> bool:
    return all(
        any(item.kind == "norm" and origins(recording, item.inputs[0]) <= _linears(recording, side) for item in found)
        for side in (attention.query, attention.key)
        if (found := behind(recording, side)) or True
    )


def _linears(recording: Recording, side: Any) -> frozenset[Operation]:
    return origins(recording, side)
