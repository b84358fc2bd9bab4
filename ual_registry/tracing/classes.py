"""Find where the backbone stands in every public class of a model type, and what else those classes hold."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ual_registry.tracing.build import Builder
from ual_registry.tracing.outer import OuterPlace
from ual_registry.tracing.stacks import FoundStack
from ual_registry.tracing.survey import Matrix

__all__ = ["Classes", "find_classes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The classes of a model type.

    Attributes:
        prefix: Path of the backbone in the class that was traced.
        by_prefix: Class names by the path of the backbone.
        partial: The stacks of classes that lack one.
        others: Paths without a role, with ``{backbone}`` and ``{index}``.
        backbone: Paths of the matrices of the backbone, from the backbone on.
    """

    prefix: str
    by_prefix: Mapping[str, list[str]]
    partial: Mapping[str, list[str]]
    others: tuple[str, ...]
    backbone: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Own:
    """What the traced class showed."""

    stacks: Sequence[FoundStack]
    prefix: str
    outer: Sequence[OuterPlace]


@dataclass(slots=True)
class _Gathered:
    by_prefix: dict[str, list[str]] = field(default_factory=dict)
    partial: dict[str, list[str]] = field(default_factory=dict)
    others: dict[str, None] = field(default_factory=dict)


def find_classes(
    builder: Builder, document: Mapping[str, Any], stacks: Sequence[FoundStack], outer: Sequence[OuterPlace]
) -> Classes:
    """Return the classes of the builder's model type.

    Args:
        builder: Builds them.
        document: The config document of a tiny model.
        stacks: What the trace of one class showed.
        outer: The traced class's modules with a role outside the blocks.
    """
    backbone = _empty(builder, document, builder.base_class)
    every = {
        one.__name__: backbone if one is builder.base_class else _empty(builder, document, one)
        for one in (*builder.public_classes(), builder.base_class, builder.model_class)
    }
    prefix = _own_prefix(stacks, every.values())
    found = _Gathered()
    for name, matrices in every.items():
        _add(found, name, matrices, _Own(stacks, prefix, outer))
    return Classes(
        prefix=prefix,
        by_prefix=found.by_prefix,
        partial=found.partial,
        others=tuple(sorted(found.others)),
        backbone=frozenset(backbone),
    )


def _empty(builder: Builder, document: Mapping[str, Any], model_class: Any) -> Mapping[str, Matrix]:
    try:
        return builder.empty(document, model_class)
    except Exception:  # noqa: BLE001  # a class that this config is not meant for
        return {}


def _own_prefix(stacks: Sequence[FoundStack], every: Iterable[Mapping[str, Matrix]]) -> str:
    """Return what stands before the blocks in the traced class alone: not in all classes that hold such blocks."""
    shortest: list[str] | None = None
    together = _parts_together(stacks)
    for stack in stacks:
        parts = stack.root.split(".")[:-1]
        for matrices in every:
            shared = _shared_parts(stack, parts, matrices, least=len(parts) - together)
            if shared is not None and (shortest is None or len(parts) - shared > len(shortest)):
                shortest = parts[: len(parts) - shared]
    return "".join(f"{part}." for part in shortest or [])


def _parts_together(stacks: Sequence[FoundStack]) -> int:
    """Return how many parts of the path come before the first that tells the stacks, or the blocks, apart."""
    columns = zip(*(stack.root.split(".")[:-1] for stack in stacks), strict=False)
    if len(stacks) == 1:
        return len(stacks[0].root.split(".")) - 2
    return sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))


def _shared_parts(stack: FoundStack, parts: Sequence[str], matrices: Mapping[str, Matrix], *, least: int) -> int | None:
    """Return how many of the last parts of a stack's path another class has, too; ``None`` without such blocks."""
    module = stack.modules[0]
    inside = module.path_in(module.layers[0]).removeprefix(stack.root)
    for count in range(len(parts), least - 1, -1):
        ending = "." + "".join(f"{part}." for part in parts[-count:]) + inside
        if any(f".{path}".endswith(ending) for path in matrices):
            return count
    return None


def _add(found: _Gathered, name: str, matrices: Mapping[str, Matrix], own: _Own) -> None:
    places = {stack.name: _prefix_in(stack, own.prefix, matrices) for stack in own.stacks}
    held = {stack: place for stack, place in places.items() if place is not None}
    if len(set(held.values())) != 1:
        return
    place = next(iter(held.values()))
    found.by_prefix.setdefault(place, []).append(name)
    if len(held) < len(own.stacks):
        found.partial[name] = [stack for stack in held if stack is not None]
    for path in _without_role(matrices, own, place):
        found.others[path] = None


def _prefix_in(stack: FoundStack, prefix: str, matrices: Mapping[str, Matrix]) -> str | None:
    module = stack.modules[0]
    ending = module.path_in(module.layers[0]).removeprefix(prefix)
    return next((path.removesuffix(ending) for path in matrices if f".{path}".endswith(f".{ending}")), None)


def _without_role(matrices: Mapping[str, Matrix], own: _Own, place: str) -> Iterator[str]:
    forms = [_form(stack, module, own.prefix) for stack in own.stacks for module in stack.modules]
    placed = {_moved(item.path, own.prefix, place) for item in own.outer}
    for path, matrix in matrices.items():
        inside = path.removeprefix(place)
        if matrix.kind == "parameter" or path in placed or any(form.fullmatch(inside) for form in forms):
            continue
        text = "{backbone}" + inside if path.startswith(place) and place else path
        yield re.sub(r"(?<=\.)\d+(?=\.|$)", "{index}", text)


def _moved(path: str, before: str, after: str) -> str:
    return after + path.removeprefix(before) if path.startswith(before) else path


def _form(stack: FoundStack, module: Any, prefix: str) -> re.Pattern[str]:
    path = re.escape(stack.root.removeprefix(prefix)) + "[0-9]+" + re.escape("." + module.full_path)
    return re.compile(path.replace(r"\{expert\}", "[0-9]+"))
