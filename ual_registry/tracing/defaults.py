"""What a config class sets by itself, and what a dimension follows from where its field is left out."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ual_registry.binders.model import Way
from ual_registry.tracing.dimensions import Solution, rank
from ual_registry.tracing.fields import candidates, evaluate, fields_of, flatten, replaced
from ual_registry.tracing.perturb import Sample, Subject, sizes_of

__all__ = ["default_of", "fallbacks"]


def default_of(config_class: Any, name: str) -> Any:
    """Return the plain value that a config class sets for a field; ``None`` where it sets none or computes it."""
    value = getattr(config_class, config_class.attribute_map.get(name, name), None)
    if value is None:
        known = inspect.signature(config_class.__init__).parameters.get(name)
        value = None if known is None or known.default is inspect.Parameter.empty else known.default
    return value if isinstance(value, (bool, int, float, str)) else None


def fallbacks(subject: Subject, root: str, solution: Solution, *, side: str | None) -> dict[str, Way]:
    """Return the ways of dimensions whose fields may be left out, for configs that leave them out.

    Args:
        subject: What is changed and measured.
        root: Path of the stack's blocks.
        solution: The ways that read the fields.
        side: ``encoder`` or ``decoder``, which field names may hold.
    """
    found: dict[str, Way] = {}
    fields = {field for way in solution.ways.values() for field in fields_of(way)} & subject.document.keys()
    for name, way in solution.ways.items():
        if isinstance(way, str) and way in fields and default_of(subject.builder.config_class, way) is None:
            rest = {field: value for field, value in subject.document.items() if field != way}
            samples = list(_samples(subject, rest, fields - {way}))
            second = _right(name, root, samples, side)
            if second is not None:
                found[name] = second
    return found


def _samples(subject: Subject, document: Mapping[str, Any], fields: Iterable[str]) -> Iterator[Sample]:
    """Yield a config without the field, and the same with each other field doubled."""
    doubled = [(field, replaced(document, field, 2 * document[field])) for field in sorted(fields)]
    for changed, other in [(None, document), *doubled]:
        sizes = sizes_of(subject, other, is_last=True)
        if sizes is not None:
            yield Sample(field=changed, values=flatten(other), sizes=sizes)


def _right(name: str, root: str, samples: Sequence[Sample], side: str | None) -> Way | None:
    """Return the best way that gives the dimension in every sample."""
    sizes = [sample.sizes.get(root, {}).get(name) for sample in samples]
    if not samples or samples[0].field is not None or sizes[0] is None:
        return None
    numbers = {field: value for field, value in samples[0].values.items() if type(value) is int and value > 0}
    for way in rank(name, candidates(sizes[0], numbers), side):
        if all(
            size is None or evaluate(way, sample.values) == size for size, sample in zip(sizes, samples, strict=True)
        ):
            return way
    return None
