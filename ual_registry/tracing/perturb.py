"""Change one field of a config at a time, and see which sizes change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.errors import UALError
from ual_registry.tracing.build import Builder
from ual_registry.tracing.fields import flatten, look_up, replaced
from ual_registry.tracing.gather import FoundModule, Undecided
from ual_registry.tracing.layout import NO_LAYOUT, follows
from ual_registry.tracing.measure import measure
from ual_registry.tracing.outer import OuterPlace, outer_sizes
from ual_registry.tracing.refusal import refusal
from ual_registry.tracing.stacks import FoundStack, find_stacks
from ual_registry.tracing.survey import Matrix
from ual_registry.tracing.trace import trace

__all__ = ["ROTATED", "Sample", "Subject", "changed_samples", "plain_sample", "sizes_of", "stretched"]

ROTATED = "rotated"
"""The name under which the rotated features of a head stand among the sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One config and the sizes of its model.

    Attributes:
        field: The field that was changed; ``None`` for the config as it was.
        values: The flattened config.
        sizes: The dimensions by the path of a stack's blocks; under ``""`` those outside the blocks.
    """

    field: str | None
    values: Mapping[str, Any]
    sizes: Mapping[str, Mapping[str, float]]


def plain_sample(
    values: Mapping[str, Any],
    stacks: Sequence[FoundStack],
    places: Sequence[OuterPlace],
    matrices: Mapping[str, Matrix],
) -> Sample:
    """Return the config as it was, with the sizes that its trace showed."""
    sizes = _sizes_of(stacks)
    for found in sizes.values():
        if found.get("layer_repeats") == 1:
            del found["layer_repeats"]  # every block is applied once: no dimension
    return Sample(field=None, values=values, sizes=_with_outer(stacks, sizes, places, matrices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is changed and measured.

    Attributes:
        builder: Builds the models.
        document: The whole config document of a tiny model, defaults included.
        stacks: What its trace showed.
        places: The modules with a role outside the blocks.
    """

    builder: Builder
    document: Mapping[str, Any]
    stacks: Sequence[FoundStack]
    places: Sequence[OuterPlace]


def changed_samples(subject: Subject) -> tuple[list[Sample], frozenset[str]]:
    """Return one changed config for each number that can be changed alone, and the fields that cannot.

    Args:
        subject: What is changed and measured.

    Returns:
        The samples, and the fields with which no model can be built if another value of theirs is taken.
    """
    found: list[Sample] = []
    stubborn: set[str] = set()
    for name, value in flatten(subject.document).items():
        if not _may_matter(value, subject.stacks):
            continue
        sample = next(_changed(subject, name, value), None)
        if sample is None:
            stubborn.add(name)
        else:
            found.append(sample)
    return found, frozenset(stubborn)


def _may_matter(value: Any, stacks: Sequence[FoundStack]) -> bool:
    """Tell a size, or a share that could be that of the rotated features, from all other values."""
    if isinstance(value, float) and 0 < value <= 1:
        turning = [stack.rotary for stack in stacks if stack.rotary.rotated]
        return any(int(seen.head_dim * value) // 2 * 2 == seen.rotated for seen in turning)
    return type(value) is int and value > 0


def _others(value: Any) -> tuple[float, ...]:
    if isinstance(value, float):
        return (1.0 if value < 1 else 0.5,)
    return 2 * value, 3 * value, value // 2 or 5, value + 1


def _changed(subject: Subject, name: str, value: float) -> Iterator[Sample]:
    """Yield what becomes of the model with other values of one field, as far as it can be built with them."""
    for other in _others(value):
        plain = replaced(subject.document, name, other)
        longer = stretched(plain, int(value), int(other))
        for document in [plain] if longer == plain else [plain, longer]:
            try:
                values = flatten(subject.builder.config(document).to_dict())
            except UALError:
                continue
            if values.get(name) == other and look_up(document, name) == other:
                sizes = sizes_of(subject, document, is_last=document is longer or longer == plain)
                if sizes is not None:
                    yield Sample(field=name, values=values, sizes=sizes)


def sizes_of(subject: Subject, document: Mapping[str, Any], *, is_last: bool) -> dict[str, dict[str, float]] | None:
    """Return the dimensions of a changed model, from a run where it runs, otherwise from its shapes.

    Args:
        subject: What is measured.
        document: The changed document.
        is_last: Whether shapes are better than nothing.
    """
    try:
        seen = trace(subject.builder, document)
        found, undecided = find_stacks(seen)
    except UALError:
        if not is_last:
            return None
    else:
        _check_layouts(subject, found, undecided)
        return _with_outer(subject.stacks, _sizes_of(found), subject.places, seen.matrices)
    try:
        matrices = subject.builder.empty(document)
    except Exception:  # noqa: BLE001  # any class may refuse any size in its own way
        return None
    measured: dict[str, dict[str, float]] = {
        stack.root: {**measure(stack.modules, matrices)} for stack in subject.stacks
    }
    return _with_outer(subject.stacks, measured, subject.places, matrices)


def _check_layouts(subject: Subject, found: Sequence[FoundStack], undecided: Sequence[Undecided]) -> None:
    """Hold the layouts of fused modules against a model of other sizes, in which a chance agreement shows.

    Raises:
        UninferableArchitectureError: The rows of a module are in an order that depends on more than its layout.
    """
    lost = {item.what for item in undecided if item.reason.endswith(NO_LAYOUT)}
    now = {(stack.root, module.full_path): (stack, module) for stack in found for module in stack.modules}
    for stack in subject.stacks:
        for module in stack.modules:
            what = f"{stack.root}{{layer}}.{module.full_path}"
            if module.layout is None:
                continue
            other, same = now.get((stack.root, module.full_path), (None, None))
            if what in lost or (other and same and not _follows(module, other, same)):
                message = (
                    f"{what}: its rows are in the order {module.layout} in one model, and in another at other sizes"
                )
                raise refusal(message, module=what)


def _follows(module: FoundModule, other: FoundStack, same: FoundModule) -> bool:
    if module.layout is None or module.rows.keys() != same.rows.keys():
        return True  # another form of the module, which toggles tell apart
    heads, groups = (other.sizes.get(name) for name in ("num_attention_heads", "num_key_value_heads"))
    return follows(module.layout, same.rows, heads=heads, groups=groups)


def _with_outer(
    stacks: Sequence[FoundStack],
    sizes: dict[str, dict[str, float]],
    places: Sequence[OuterPlace],
    matrices: Mapping[str, Matrix],
) -> dict[str, dict[str, float]]:
    outer = outer_sizes(places, matrices)
    for stack in stacks:
        if stack.root in sizes:
            sizes[stack.root] |= outer.get(stack.name, {})
    return {"": {**outer.get("", {})}, **sizes}


def _sizes_of(stacks: Sequence[FoundStack]) -> dict[str, dict[str, float]]:
    return {stack.root: _sizes(stack) for stack in stacks}


def _sizes(stack: FoundStack) -> dict[str, float]:
    sizes: dict[str, float] = dict(stack.sizes)
    if stack.rotary.rotated:
        sizes[ROTATED] = stack.rotary.rotated
    return sizes


def stretched(document: Mapping[str, Any], before: int, after: int) -> dict[str, Any]:
    """Return the document with lists of one item per block made as long as the blocks are many now."""
    longer = dict(document)
    for name, value in document.items():
        if isinstance(value, list) and len(value) == before and value:
            longer[name] = (value * (after // before + 1))[:after]
        elif isinstance(value, dict):
            longer[name] = stretched(value, before, after)
    return longer
