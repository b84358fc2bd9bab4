"""Infer a binder: build, trace, perturb, solve, write down, and check the result against the whole model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import apply_binder
from ual_registry.binders.load import decode_binder
from ual_registry.errors import BinderError
from ual_registry.tracing.build import Builder, quiet
from ual_registry.tracing.classes import find_classes
from ual_registry.tracing.defaults import fallbacks
from ual_registry.tracing.dimensions import Solution, solve
from ual_registry.tracing.document import Model, make_document
from ual_registry.tracing.fields import flatten
from ual_registry.tracing.gather import FoundModule, Undecided
from ual_registry.tracing.outer import agreeing, find_outer
from ual_registry.tracing.perturb import Subject, changed_samples, plain_sample
from ual_registry.tracing.refusal import refusal
from ual_registry.tracing.shrink import shrink
from ual_registry.tracing.stacks import FoundStack, find_stacks
from ual_registry.tracing.survey import Matrix
from ual_registry.tracing.ties import find_ties
from ual_registry.tracing.toggles import toggle
from ual_registry.tracing.trace import Trace, trace

__all__ = ["Evidence", "InferredBinder", "infer"]

_BY_NAME = 0.8
"""Confidence in a module one of whose widths was told from another only by the name of its field."""
_UNSOLVED = 0.3
"""Confidence in a module one of whose widths follows from no field of the config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was seen of one module.

    Attributes:
        path: Its path, with ``{layer}`` and ``{expert}``.
        seen: What was seen, by role.
        layers: The blocks of the tiny model that hold it.
        confidence: From 0 to 1.
    """

    path: str
    seen: Mapping[str, str]
    layers: tuple[int, ...]
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InferredBinder:
    """A binder that nobody wrote.

    Attributes:
        document: A legal binder document.
        evidence: What was seen, module by module.
        confidence: That of the module that is least sure.
        undecided: What could not be told; such modules stand without a role.
    """

    document: Mapping[str, Any]
    evidence: tuple[Evidence, ...]
    confidence: float
    undecided: tuple[Undecided, ...]


def infer(base: BaseConfig) -> InferredBinder:
    """Infer the binder of a base model from what its model computes.

    Args:
        base: The config of the base model.

    Raises:
        UninferableArchitectureError: The model cannot be run in small, or its modules' roles contradict one another.
        BinderDataError: The config has no ``model_type``.
    """
    base.model_type  # noqa: B018  # says what is missing
    with quiet():
        return _infer(base)


def _infer(base: BaseConfig) -> InferredBinder:
    builder = Builder(base.document)
    tiny = shrink(builder, base.document)
    seen = trace(builder, tiny)
    stacks, undecided = find_stacks(seen)
    places, unsaid = agreeing(find_outer(seen, is_paired=len(stacks) == 2), seen.matrices)
    document = builder.config(tiny).to_dict()
    subject = Subject(builder=builder, document=document, stacks=stacks, places=places)
    solutions, outside = _solved(subject, seen)
    toggled = toggle(subject, solutions, seen.matrices)
    whole = Model(values=flatten(builder.config(base.document).to_dict()), matrices=builder.empty(base.document))
    found = make_document(
        builder,
        toggled.stacks,
        solutions,
        outside,
        find_classes(builder, tiny, toggled.stacks, places),
        places=places,
        tied=find_ties(builder, document, places),
        models=[Model(values=flatten(document), matrices=seen.matrices), whole],
        known_values=toggled.known_values,
    )
    _check(found, base, builder, whole.matrices)
    evidence = tuple(_evidence(toggled.stacks, solutions))
    unsolved = [item for solution in (*solutions, outside) for item in _unsolved(solution)]
    return InferredBinder(
        document=found,
        evidence=evidence,
        confidence=min(item.confidence for item in evidence),
        undecided=(*undecided, *unsaid, *unsolved, *toggled.undecided, _TOGGLES),
    )


def _solved(subject: Subject, seen: Trace) -> tuple[list[Solution], Solution]:
    """Return the ways of each stack's dimensions, and of what stands outside the blocks."""
    plain = plain_sample(flatten(subject.document), subject.stacks, subject.places, seen.matrices)
    changed, stubborn = changed_samples(subject)
    samples = [plain, *changed]
    solutions = [solve(stack.root, samples, stubborn, side=stack.name) for stack in subject.stacks]
    for stack, solution in zip(subject.stacks, solutions, strict=True):
        solution.fallbacks = fallbacks(subject, stack.root, solution, side=stack.name)
    return solutions, solve("", samples, stubborn)


_TOGGLES = Undecided(
    what="when, unless",
    reason="truth values were switched one by one; what words, or several settings together, switch on is not known",
)


def _unsolved(solution: Solution) -> Iterator[Undecided]:
    for name, size in solution.unsolved.items():
        yield Undecided(what=name, reason=f"no field of the config explains {size:g} whatever else is changed")


def _evidence(stacks: Sequence[FoundStack], solutions: Sequence[Solution]) -> Iterator[Evidence]:
    for stack, solution in zip(stacks, solutions, strict=True):
        for module in stack.modules:
            yield Evidence(
                path=f"{stack.root}{{layer}}.{module.full_path}",
                seen=dict(module.reasons),
                layers=module.layers,
                confidence=_confidence(module, solution),
            )


def _confidence(module: FoundModule, solution: Solution) -> float:
    if solution.unsolved:
        return _UNSOLVED
    return _BY_NAME if solution.by_name else 1.0


def _check(document: Mapping[str, Any], base: BaseConfig, builder: Builder, matrices: Mapping[str, Matrix]) -> None:
    """Apply the document to the whole config and compare every width with the real model's.

    Raises:
        UninferableArchitectureError: The document does not say what the model is.
    """
    try:
        binder = decode_binder(json.dumps(document).encode(), what="inferred binder")
        binding = apply_binder(binder, _with_defaults(base, builder), builder.model_class.__name__)
    except BinderError as error:
        raise refusal(f"what was seen makes no binder: {error.message}", **dict[str, Any](error.context)) from error
    for path, module in binding.modules.items():
        matrix = matrices.get(path)
        expected = module.matrix_shape
        if matrix is None or set(matrix.shape[-2:]) != set(expected):
            actual = None if matrix is None else matrix.shape
            message = f"{path}: the inferred binder says {expected}, the model of {base.label} has {actual}"
            raise refusal(message, module=path)


def _with_defaults(base: BaseConfig, builder: Builder) -> BaseConfig:
    whole = json.loads(builder.config(base.document).to_json_string(use_diff=False))
    return BaseConfig(label=base.label, document={**whole, **base.document}, digest=base.digest)
