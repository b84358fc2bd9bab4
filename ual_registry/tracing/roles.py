"""Give roles to linear modules and their rows, from what their results do in a recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ual_registry.tracing.attention import Attention, find_attentions
from ual_registry.tracing.blocks import are_of_one_block, block_of, without_indices
from ual_registry.tracing.feedforward import find_feedforwards
from ual_registry.tracing.flow import origins, reach
from ual_registry.tracing.record import Operation, Recording
from ual_registry.tracing.statespace import find_statespaces

__all__ = ["Roles", "Use", "find_roles"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Use:
    """A linear module and the role that some of its rows play.

    Attributes:
        operation: The run of the module.
        role: A name of the role table.
        rows: The rows that play it.
        reason: What was seen.
    """

    operation: Operation
    role: str
    rows: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """What was found in one recording.

    Attributes:
        uses: Modules of blocks with their roles.
        attentions: The attentions, by the path of the stack's blocks.
    """

    uses: tuple[Use, ...]
    attentions: tuple[Attention, ...] = field(default_factory=tuple)


def find_roles(recording: Recording) -> Roles:
    """Return every role of every linear module inside the blocks."""
    attentions = find_attentions(recording)
    taken = frozenset(output for attention in attentions for output in attention.outputs)
    cross = _cross_modules(recording, attentions)
    uses = [use for attention in attentions for use in _of_attention(recording, attention, cross)]
    spaces = list(find_statespaces(recording, taken))
    uses += [Use(operation=item, role=role, rows=rows, reason=why) for item, role, rows, why in spaces]
    taken |= {use.operation for use in uses}
    uses += [
        Use(operation=item, role=role, rows=rows, reason=why)
        for item, role, rows, why in find_feedforwards(recording, taken)
    ]
    return Roles(uses=tuple(use for use in uses if block_of(use.operation.path)), attentions=attentions)


def _sides(recording: Recording, attention: Attention) -> list[dict[Operation, tuple[int, ...]]]:
    """Return the linear modules behind query, key and value, with their rows."""
    tensors = (attention.query, attention.key, attention.value)
    return [{item: found.rows for item, found in reach(recording, tensor).items()} for tensor in tensors]


def _cross_modules(recording: Recording, attentions: Iterable[Attention]) -> frozenset[str]:
    """Return the forms of the paths of key modules that never read the stream that the query reads."""
    flags: dict[str, bool] = {}
    for attention in attentions:
        query, key, _ = _sides(recording, attention)
        for item in key:
            form = without_indices(item.path)
            flags[form] = flags.get(form, True) and _is_cross(recording, query, key)
    return frozenset(form for form, is_cross in flags.items() if is_cross)


def _of_attention(recording: Recording, attention: Attention, crossing: frozenset[str]) -> Iterator[Use]:
    query, key, value = _sides(recording, attention)
    cross = "cross_" if any(without_indices(item.path) in crossing for item in key) else ""
    latent = {item: _latents(recording, item) for item in {**query, **key, **value}}
    for item, rows in query.items():
        role = "latent_query_up" if latent[item] else f"{cross}attention_query"
        yield Use(operation=item, role=role, rows=rows, reason="its result reaches the query of attention")
        yield from (_narrow(recording, item, down, "latent_query_down") for down in latent[item])
    yield from _keys(recording, key, value, latent, cross)
    for item in attention.outputs:
        rows = tuple(range(item.features))
        reason = "it reads the result of attention first"
        yield Use(operation=item, role=f"{cross}attention_output", rows=rows, reason=reason)
    yield from _of_positions(recording, attention)


def _keys(
    recording: Recording,
    key: dict[Operation, tuple[int, ...]],
    value: dict[Operation, tuple[int, ...]],
    latent: dict[Operation, tuple[Operation, ...]],
    cross: str,
) -> Iterator[Use]:
    downs = {down for item in (*key, *value) for down in latent[item]}
    reasons = {side: f"its result reaches the {side} of attention" for side in ("key", "value")}
    for item, rows in key.items():
        role = "latent_key_rotary" if item in downs else "latent_key_up" if latent[item] else f"{cross}attention_key"
        yield Use(operation=item, role=role, rows=rows, reason=reasons["key"])
    for item, rows in value.items():
        role = "latent_value_up" if latent[item] else f"{cross}attention_value"
        yield Use(operation=item, role=role, rows=rows, reason=reasons["value"])
    ups = {item for item in (*key, *value) if latent[item]}
    for down in downs:
        up = min((item for item in ups if down in latent[item]), key=lambda item: item.number)
        yield _narrow(recording, up, down, "latent_key_value_down")


def _narrow(recording: Recording, up: Operation, down: Operation, role: str) -> Use:
    rows = reach(recording, up.inputs[0])[down].rows
    return Use(operation=down, role=role, rows=rows, reason=f"only {up.path} reads its result")


def _latents(recording: Recording, linear: Operation) -> tuple[Operation, ...]:
    """Return the linear modules of the same block that ``linear`` reads, where it reads nothing else."""
    found = [item for tensor in linear.inputs for item in origins(recording, tensor)]
    if found and all(item.kind == "linear" and are_of_one_block(item, linear) for item in found):
        return tuple(found)
    return ()


def _is_cross(recording: Recording, query: Iterable[Operation], key: Iterable[Operation]) -> bool:
    """Tell whether query and key read different streams."""
    streams = [_streams(recording, side) for side in (query, key)]
    return bool(streams[0]) and not streams[0] & streams[1]


def _streams(recording: Recording, linears: Iterable[Operation]) -> frozenset[Operation]:
    found: set[Operation] = set()
    for linear in linears:
        for item in _latents(recording, linear) or (linear,):
            found.update(origin for tensor in item.inputs for origin in origins(recording, tensor))
    return frozenset(found)


def _of_positions(recording: Recording, attention: Attention) -> Iterator[Use]:
    """Yield the modules that make queries and keys out of relative positions: they read nothing but parameters."""
    query = {(item, row) for item, found in reach(recording, attention.query).items() for row in found.rows}
    content = {item.path for tensor in (attention.query, attention.key) for item in reach(recording, tensor)}
    for sides in attention.positions:
        linears = [reach(recording, side) for side in sides]
        for one, other in (linears, linears[::-1]):
            partner = {(item, row) for item, found in other.items() for row in found.rows}
            side = "key" if query & partner else "query"
            for item, found in one.items():
                if item.path not in content and not any(tensor.requires_grad for tensor in item.inputs):
                    reason = f"a {side} made from relative positions"
                    yield Use(operation=item, role=f"attention_position_{side}", rows=found.rows, reason=reason)
