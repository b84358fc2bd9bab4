"""Which method to take, by what is at hand: the rule of ``--method auto``, with the reason for each step.

The rule knows no file and loads no framework. It orders the methods by what was measured of them
(``docs/transfer.md``); whether one of them refuses is seen when it is run, and the next one is taken then. See ADR
0015.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ual_registry.transfers.rungs import RUNGS, Needs

__all__ = ["DISTILL", "DISTILL_SHARE", "Choice", "Material", "Standing", "Step", "choose", "needed_s"]

DISTILL = "distill"
"""The one method that trains; it starts from what another one made."""

DISTILL_SHARE = 0.75
"""The share of a budget that training is given; the rest is for what it starts from."""

_COPY = "copy"
_FALLBACK = "svd"

_WORTH: dict[str, str] = {
    _COPY: "every entry has its shape there; right within one lineage, which is checked",
    "predictions": "there is text; the effect on the next token carried most of what needs no training",
    "residual": "there is text; the effect on the residual stream",
    "activations": "there is text; each module by maps of its own, which take the most memory",
    "vocab": "shared tokens are enough for it; carries little between unrelated bases",
    _FALLBACK: "two configs are enough for it; carries nothing between unrelated bases",
}
"""The methods in the order in which they are tried, each with why."""

_START_S = 20.0
_S_PER_GIB = 400.0


class Standing(StrEnum):
    """What became of a method."""

    LACKING = "lacking"
    """Something that it needs is not at hand."""
    POSSIBLE = "possible"
    """It can be tried."""
    REFUSED = "refused"
    """It was tried and refused."""
    BEATEN = "beaten"
    """It was measured, and another one was better."""
    UNTRIED = "untried"
    """It could have been tried."""
    TAKEN = "taken"
    """The result is its."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What is at hand.

    Attributes:
        lacking: What is not, each with the reason.
        is_same_shape: Whether every entry of the adapter has its shape in the target.
        budget_s: Seconds that may be spent; ``None`` where nothing was said.
        weights_bytes: Size of the weights of both base models together.
    """

    lacking: Mapping[Needs, str] = field(default_factory=dict)
    is_same_shape: bool = False
    budget_s: float | None = None
    weights_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the rule says of one method.

    Attributes:
        method: The method.
        standing: What became of it.
        reason: Why.
    """

    method: str
    standing: Standing
    reason: str

    def document(self) -> dict[str, str]:
        """Return it as JSON."""
        return {"method": self.method, "standing": str(self.standing), "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the rule says of every method.

    Attributes:
        steps: In the order in which they are tried; the one that trains stands first.
    """

    steps: tuple[Step, ...]

    @property
    def candidates(self) -> tuple[str, ...]:
        """The methods that can be tried and do not train, the best first."""
        return tuple(step.method for step in self.steps if self._is_open(step) and step.method != DISTILL)

    @property
    def distils(self) -> bool:
        """Whether the target is to be trained, from what the best other method made."""
        return any(self._is_open(step) and step.method == DISTILL for step in self.steps)

    @property
    def method(self) -> str:
        """The method that was taken, or else the one to expect."""
        taken = [step.method for step in self.steps if step.standing is Standing.TAKEN]
        return taken[0] if taken else DISTILL if self.distils else self.candidates[0]

    def reason(self, method: str) -> str:
        """Return what is said of a method."""
        return next(step.reason for step in self.steps if step.method == method)

    @staticmethod
    def _is_open(step: Step) -> bool:
        return step.standing is Standing.POSSIBLE

    def noted(self, method: str, standing: Standing, reason: str) -> Choice:
        """Return the same with what became of a method."""
        steps = (
            Step(method=method, standing=standing, reason=reason) if step.method == method else step
            for step in self.steps
        )
        return replace(self, steps=tuple(steps))

    def document(self) -> list[dict[str, Any]]:
        """Return it as JSON."""
        return [step.document() for step in self.steps]


def choose(material: Material) -> Choice:
    """Say which methods can be tried with what is at hand, in which order, and why the others cannot.

    >>> nothing = {need: "not at hand" for need in Needs}
    >>> choose(Material(lacking=nothing)).method
    'svd'
    >>> choose(Material(is_same_shape=True)).candidates
    ('copy', 'predictions', 'residual', 'activations', 'vocab', 'svd')
    """
    return Choice(steps=(_distil(material), *_others(material)))


def needed_s(weights_bytes: int) -> float:
    """Return how many seconds a distillation is given at least, by the size of both base models: a rule of thumb.

    It is meant for two cores; a faster machine does more in the same time, and training ends when it has its budget.
    """
    return _START_S + _S_PER_GIB * weights_bytes / (1 << 30)


def _distil(material: Material) -> Step:
    lacking = _first_lacking(DISTILL, material)
    if lacking is not None:
        return Step(method=DISTILL, standing=Standing.LACKING, reason=lacking)
    needed = needed_s(material.weights_bytes) / DISTILL_SHARE
    if material.budget_s is None:
        reason = f"no budget: give --budget, for these base models {needed:.0f} s or more"
        return Step(method=DISTILL, standing=Standing.LACKING, reason=reason)
    if material.budget_s < needed:
        reason = f"a budget of {material.budget_s:.0f} s is less than {needed:.0f} s"
        return Step(method=DISTILL, standing=Standing.LACKING, reason=reason)
    reason = f"a budget of {material.budget_s:.0f} s is enough ({needed:.0f} s or more); carries most of all"
    return Step(method=DISTILL, standing=Standing.POSSIBLE, reason=reason)


def _others(material: Material) -> Iterable[Step]:
    for method, worth in _WORTH.items():
        lacking = _first_lacking(method, material)
        if lacking is None and method == _COPY and not material.is_same_shape:
            lacking = "not every entry has its shape in the target"
        standing = Standing.POSSIBLE if lacking is None else Standing.LACKING
        yield Step(method=method, standing=standing, reason=worth if lacking is None else lacking)


def _first_lacking(method: str, material: Material) -> str | None:
    return next((material.lacking[need] for need in RUNGS[method].needs if need in material.lacking), None)
