"""One layer's updates carried by weights: streams by shared tokens, heads and neurons by their counterparts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from ual_registry.air.model import Stack
from ual_registry.binders.describe import rotary_structure
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.contexts import MapContext
from ual_registry.projection.heads import (
    Attention,
    HeadPairs,
    Heads,
    key_map,
    output_map,
    pair_heads,
    query_map,
    value_map,
)
from ual_registry.projection.maps import LinearMap
from ual_registry.projection.vocabulary import NeuronPairs, match_neurons, neuron_map
from ual_registry.transfers.alignment import Alignment
from ual_registry.transfers.outputs import slot_weight
from ual_registry.transfers.rotary_speeds import rotary_speeds
from ual_registry.transfers.tasks import Task
from ual_registry.transfers.weight_fit import WeightOptions

__all__ = ["LayerMaps", "layer_maps"]

_ATTENTION = {
    "attention_query": "query",
    "attention_key": "key",
    "attention_value": "value",
    "attention_output": "output",
}
_MLP = {"mlp_gate": "gate", "mlp_up": "up", "mlp_down": "down"}
_WRITERS = {"attention_output", "mlp_down"}
_INNER_MAPS = {"query": query_map, "key": key_map, "value": value_map}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMaps:
    """The maps of one task.

    Attributes:
        context: Its read and write map, both ways.
        measures: What was measured of them.
    """

    context: MapContext
    measures: Mapping[str, float]


def layer_maps(
    alignment: Alignment, tasks: list[Task], options: WeightOptions
) -> Iterator[tuple[Task, LayerMaps | str]]:
    """Yield the maps of tasks between one layer of the source and one of the target, or why there are none.

    Args:
        alignment: Of both base models.
        tasks: Of one stack, one layer of the source and one of the target.
        options: How heads and neurons are paired.

    Raises:
        NumericalError: A weight is not finite.
    """
    for names, make in ((_ATTENTION, _attention_maps), (_MLP, _mlp_maps)):
        own = [task for task in tasks if task.entry.role in names]
        if own:
            inner = make(alignment, own[0], options)
            for task in own:
                yield task, inner if isinstance(inner, str) else _with_streams(alignment, task, inner)
    for task in tasks:
        if task.entry.role not in _ATTENTION and task.entry.role not in _MLP:
            yield task, "shared tokens say nothing of what it reads or writes"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inner:
    """The maps of a layer's inner spaces, by part of the module: there and back.

    Those of writers are of what they read, from the target's to the source's; all others of what is written.
    """

    maps: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    measures: Mapping[str, float]


def _with_streams(alignment: Alignment, task: Task, inner: _Inner) -> LayerMaps | str:
    part = {**_ATTENTION, **_MLP}[task.entry.role]
    paths = task.source[0].path, task.target[0].path
    there, back = inner.maps[part]
    if not bool(there.any()):
        return "nothing in the target's layer is like what it belongs to"
    if task.entry.role in _WRITERS:
        reads, writes = (there, back), alignment.write_maps(*paths)
    else:
        reads, writes = alignment.read_maps(*paths), (there, back)
    context = MapContext(
        read=_linear(reads[0]), write=_linear(writes[0]), back_read=_linear(reads[1]), back_write=_linear(writes[1])
    )
    return LayerMaps(context=context, measures=inner.measures)


def _linear(matrix: torch.Tensor) -> LinearMap:
    return LinearMap(matrix=matrix, bias=matrix.new_zeros(len(matrix)))


def _attention_maps(alignment: Alignment, task: Task, options: WeightOptions) -> _Inner | str:
    found = _parts(alignment, task, _ATTENTION)
    stacks = [base.base.stack(task.entry.stack) for base in (alignment.source, alignment.target)]
    if any(set(parts) != set(_ATTENTION.values()) for parts in found):
        return "heads can be paired only where both layers have query, key, value and output"
    bases, layers = (alignment.source, alignment.target), (task.source[1].layer, task.target[1].layer)
    heads = [_heads(*item) for item in zip(bases, stacks, layers, strict=True)]
    if any(not _is_laid_out(parts, item) for parts, item in zip(found, heads, strict=True)):
        return "the heads of this layer are not laid out as the base model's description says"
    source, target = (
        Attention(heads=item, query=parts["query"], key=parts["key"], value=parts["value"], output=parts["output"].T)
        for item, parts in zip(heads, found, strict=True)
    )
    pairs = pair_heads(source, target, gate=options.gate)
    return _Inner(maps=_head_maps(pairs, source, target), measures=_head_measures(pairs, target))


def _head_maps(pairs: HeadPairs, source: Attention, target: Attention) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    back = pairs.swapped()
    found = {name: (make(pairs, source, target), make(back, target, source)) for name, make in _INNER_MAPS.items()}
    return {**found, "output": (output_map(pairs, source, target), output_map(back, target, source))}


def _head_measures(pairs: HeadPairs, target: Attention) -> dict[str, float]:
    count = len(pairs.cosines)
    return {
        "head_cosine": sum(pairs.cosines) / count if count else 0.0,
        "heads_paired": count / target.heads.queries,
    }


def _heads(base: LoadedBase, stack: Stack | None, layer: int | None) -> Heads:
    assert stack is not None  # the stack of a planned entry is in both bases
    assert layer is not None  # attention stands in layers
    rotary = rotary_structure(base.base, base.config)
    width = stack.head_dim or 0
    return Heads.of(
        queries=stack.num_attention_heads or 0,
        groups=stack.num_key_value_heads or 0,
        width=width,
        value_width=stack.value_head_dim or width,
        style=rotary.style,
        rotated=rotary.rotated,
        speeds=rotary_speeds(base, layer, rotary.rotated // 2),
    )


def _is_laid_out(parts: Mapping[str, torch.Tensor], heads: Heads) -> bool:
    rows = [len(parts[name]) for name in ("query", "key", "value", "output")]
    return rows == [
        heads.queries * heads.width,
        heads.groups * heads.width,
        heads.groups * heads.value_width,
        heads.queries * heads.value_width,
    ]


def _mlp_maps(alignment: Alignment, task: Task, options: WeightOptions) -> _Inner | str:
    source, target = _parts(alignment, task, _MLP)
    names = source.keys() & target.keys()
    if not {"up", "down"} <= names:
        return "neurons can be matched only where both layers have up and down"
    pairs = match_neurons(source, target, gate=options.gate)
    there = {name: neuron_map(pairs, source[name], target[name]) for name in names}
    back = {name: neuron_map(pairs.swapped(), target[name], source[name]) for name in names}
    # What down reads is larger where what it makes of it is smaller: its map there is that of its own columns, turned.
    maps = {name: (there[name], back[name]) for name in names if name != "down"}
    maps["down"] = (there["down"].T, back["down"].T)
    return _Inner(maps=maps, measures=_neuron_measures(pairs, len(target["up"])))


def _neuron_measures(pairs: NeuronPairs, count: int) -> dict[str, float]:
    mean = float(pairs.cosines.mean()) if len(pairs.cosines) else 0.0
    return {"neuron_cosine": mean, "neurons_paired": len(pairs.cosines) / count}


def _parts(
    alignment: Alignment, task: Task, names: Mapping[str, str]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return what the rows of a layer's modules read, or what they write, in the basis of the target's stream.

    Returns:
        Of the source and of the target, by part, shape (rows or columns, d_t), float64.
    """
    layers = task.source[1].layer, task.target[1].layer
    found = []
    for is_target, (base, layer) in enumerate(zip((alignment.source, alignment.target), layers, strict=True)):
        slots = base.binding.slots()
        parts = {}
        for role, name in names.items():
            place = slots.get((task.entry.stack, layer, role, None))
            if place is not None:
                weight = slot_weight(base, *place)[0].to("cpu", torch.float64)
                parts[name] = _in_stream(alignment, place[0].path, role, weight, is_target=bool(is_target))
        found.append(parts)
    return found[0], found[1]


def _in_stream(alignment: Alignment, path: str, role: str, weight: torch.Tensor, *, is_target: bool) -> torch.Tensor:
    norms = alignment.norms[is_target]
    if role in _WRITERS:
        behind = norms.behind.get(path)
        columns = weight.T if behind is None else behind.without_mean(weight.T) * behind.gain
        columns = columns if norms.stream is None else norms.stream.without_mean(columns)
        return columns if is_target else columns @ alignment.maps.to_target.T
    before = norms.before.get(path)
    rows = weight if before is None else before.folded(weight)
    return rows if is_target else rows @ alignment.maps.to_source
