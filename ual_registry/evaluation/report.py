"""What an evaluation found, as a record: for people, for machines, and for the report card."""

from __future__ import annotations

from dataclasses import dataclass

from ual_registry.evaluation.recovery import Label, MetricReport
from ual_registry.evaluation.side_effects import SideEffects

__all__ = [
    "ADAPTER",
    "BASE",
    "NATIVE",
    "RANDOM",
    "SIGN_FLIPPED",
    "SOURCE",
    "SOURCE_BASE",
    "WRONG_TASK",
    "Dose",
    "DosePoint",
    "Evaluation",
    "dosed_arm",
]

ADAPTER = "adapter"
BASE = "base"
NATIVE = "native"
RANDOM = "random"
"""What the names of the random arms begin with."""

SIGN_FLIPPED = "sign-flipped"
WRONG_TASK = "wrong-task"
SOURCE_BASE = "source-base"
SOURCE = "source-adapter"


def dosed_arm(gamma: float) -> str:
    """Return the name of the arm that has the adapter at a dose."""
    return f"{ADAPTER} x {gamma:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DosePoint:
    """The adapter at one dose, on the dev items.

    Attributes:
        gamma: What its update was multiplied by.
        values: Every metric, by name.
    """

    gamma: float
    values: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """The dose curve and the dose that it chose.

    Attributes:
        items: Dev items.
        data_digest: Digest of their file.
        metric: The metric that chose.
        points: The curve, by ascending dose.
        chosen: The best dose that is not negative; 0 where every dose is worse than none.
    """

    items: int
    data_digest: str
    metric: str
    points: tuple[DosePoint, ...]
    chosen: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        task: Name of the task.
        items: Test items.
        data_digest: Digest of their file.
        is_plain: Whether prompts were given as they are, even where a base has a chat template.
        seed: What seeded draws, controls and label orders.
        resamples: Draws of the bootstrap.
        metrics: Every metric with its arms on the base model; the one that is finer than a share first.
        source: The same for the source base and the source adapter, where they were measured.
        labels: The verdict on the adapter as it is, by metric.
        label: The least good of them; ``None`` where nothing can be said.
        dosed_labels: The same for the adapter at the dose that dev chose; empty where that is 0 or 1, or none was.
        notes: What limits the verdict.
        dose: The dose curve, where it was asked for.
        side_effects: What happens to generic text, where some was given.
        identity_error: Greatest difference of an item between the base and the base with the adapter at dose 0.
    """

    task: str
    items: int
    data_digest: str
    is_plain: bool
    seed: int
    resamples: int
    metrics: tuple[MetricReport, ...]
    source: tuple[MetricReport, ...]
    labels: dict[str, Label | None]
    label: Label | None
    dosed_labels: dict[str, Label | None]
    notes: tuple[str, ...]
    dose: Dose | None
    side_effects: SideEffects | None
    identity_error: float
