"""Switch the truth values of a config one by one, and see which modules come and go.

Where a switch changes a size that a way does not explain, or leaves a model that cannot be read, the binder is good for
the value that was watched alone, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ual_registry.errors import UALError
from ual_registry.tracing.dimensions import Solution
from ual_registry.tracing.fields import evaluate, flatten, look_up, replaced
from ual_registry.tracing.gather import FoundModule, Undecided
from ual_registry.tracing.perturb import Subject
from ual_registry.tracing.stacks import FoundStack, find_stacks
from ual_registry.tracing.survey import Matrix
from ual_registry.tracing.trace import trace

__all__ = ["Toggled", "toggle"]


@dataclass(slots=True)
class Toggled:
    """The stacks with what other settings switch on.

    Attributes:
        stacks: The stacks; modules that exist only with one setting say so.
        known_values: Fields that must keep the value that was watched.
        undecided: Why.
    """

    stacks: list[FoundStack]
    known_values: dict[str, list[Any]] = field(default_factory=dict)
    undecided: list[Undecided] = field(default_factory=list)


def toggle(subject: Subject, solutions: Sequence[Solution], matrices: Mapping[str, Matrix]) -> Toggled:
    """Return what changes where one truth value of the config changes.

    Args:
        subject: What is changed.
        solutions: The ways of the stacks' dimensions.
        matrices: The matrices of the tiny model as it is.
    """
    toggled = Toggled(stacks=list(subject.stacks))
    for name, value in flatten(subject.document).items():
        if isinstance(value, bool):
            document = replaced(subject.document, name, not value)
            if _changes(subject, name, document, matrices):
                _switch(toggled, subject, solutions, document, name)
    return toggled


def _changes(subject: Subject, name: str, document: Mapping[str, Any], matrices: Mapping[str, Matrix]) -> bool:
    """Tell whether a switch changes a matrix; a setting that cannot be had changes none."""
    try:
        kept = look_up(subject.builder.config(document).to_dict(), name)
        return kept == look_up(document, name) and subject.builder.empty(document) != matrices
    except Exception:  # noqa: BLE001  # any class may refuse any setting in its own way
        return False


def _switch(
    toggled: Toggled, subject: Subject, solutions: Sequence[Solution], document: Mapping[str, Any], name: str
) -> None:
    value = look_up(subject.document, name)
    try:
        seen = trace(subject.builder, document)
        others, _ = find_stacks(seen)
        reason = next(_contradictions(subject.stacks, others, solutions, flatten(document)), None)
    except UALError as error:
        others, reason = (), error.message
    if reason is not None:
        toggled.known_values[name] = [value]
        toggled.undecided.append(Undecided(what=f"{name} = {not value}", reason=reason))
        return
    values = flatten(document)
    for index, (stack, other) in enumerate(zip(toggled.stacks, others, strict=True)):
        toggled.stacks[index] = replace(stack, modules=tuple(_joined(stack, other, name, value, values)))


def _contradictions(
    stacks: Sequence[FoundStack], others: Sequence[FoundStack], solutions: Sequence[Solution], values: Mapping[str, Any]
) -> Iterator[str]:
    """Yield a sentence for each dimension that the ways do not give with the other setting."""
    if [stack.root for stack in stacks] != [stack.root for stack in others]:
        yield "the blocks stand elsewhere"
        return
    for other, solution in zip(others, solutions, strict=True):
        for name, size in other.sizes.items():
            way = solution.ways.get(name)
            if (way is None and size != 1) or (way is not None and evaluate(way, values) != size):
                yield f"{name} is {size}, which no way that was found gives"


def _joined(
    stack: FoundStack, other: FoundStack, name: str, value: bool, values: Mapping[str, Any]
) -> Iterator[FoundModule]:
    """Yield the modules of both settings, each with the setting that it needs."""
    here = {_signature(module): module for module in stack.modules}
    there = {_signature(module): module for module in other.modules}
    for signature, module in here.items():
        if signature not in there and not module.is_elsewhere:
            module.when[name] = value
        yield module
    for signature, module in there.items():
        if signature not in here:
            module.when[name] = not value
            module.is_elsewhere = True
            module.values = values
            yield module


def _signature(module: FoundModule) -> tuple[Any, ...]:
    return module.full_path, tuple(module.rows), module.layout, module.weight
