"""One update by the weights of its module and of the target's: copied within a lineage, or through subspaces."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch

from ual_registry.errors import TransferError
from ual_registry.models.fit_device import fit_device
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.aligned import Norm
from ual_registry.projection.copying import LINEAGE_THRESHOLD, lineage_cosine
from ual_registry.projection.factors import Factors
from ual_registry.projection.subspace import leading_subspaces, sign_variance, subspace_energy, through_subspaces
from ual_registry.transfers.outputs import slot_weight
from ual_registry.transfers.tasks import Task

__all__ = ["AnchorKind", "WeightOptions", "fit_subspace", "require_one_lineage", "task_weights"]


class AnchorKind(StrEnum):
    """Which rows of shared tokens tell how the two residual streams correspond."""

    EMBEDDING = "embedding"
    UNEMBEDDING = "unembedding"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightOptions:
    """How updates are fitted by weights.

    Attributes:
        k: Of ``subspace``, how many singular pairs; ``None`` takes all.
        threshold: Of ``copy``, the cosine of weights that must be passed.
        anchors: Of ``vocab``, which rows of shared tokens count.
        penalties: Of ``vocab``, over the mean diagonal; the one that predicts tokens held out best is taken.
        gate: Of ``vocab``, the least cosine of a neuron or head and its counterpart; others get nothing.
        norm: Of ``vocab``, how long to make the updates: ``keep`` or ``restore``.
        any_base: Whether to take base models that are not those of the adapter and the plan.
    """

    k: int | None = 320
    threshold: float = LINEAGE_THRESHOLD
    anchors: AnchorKind = AnchorKind.BOTH
    penalties: tuple[float, ...] = (0.0001, 0.001, 0.01, 0.1, 1.0)
    gate: float = 0.0
    norm: Norm = Norm.KEEP
    any_base: bool = False

    def __post_init__(self) -> None:
        """Refuse names and numbers that mean nothing.

        Raises:
            TransferError: There is no such kind of anchors or norm, or a number is out of its range.
        """
        for name, known in (("anchors", tuple(AnchorKind)), ("norm", (Norm.KEEP, Norm.RESTORE))):
            if getattr(self, name) not in known:
                raise TransferError(
                    f"{name} {str(getattr(self, name))!r}: expected one of {', '.join(known)}", code="bad-option"
                )
        right = {
            "k": self.k is None or self.k >= 1,
            "threshold": -1 <= self.threshold < 1,
            "penalties": bool(self.penalties) and all(0 <= penalty < float("inf") for penalty in self.penalties),
            "gate": 0 <= self.gate < 1,
        }
        for name, is_right in right.items():
            if not is_right:
                raise TransferError(f"{name}: got {getattr(self, name)}, which is out of range", code="bad-option")


def task_weights(task: Task, source: LoadedBase, target: LoadedBase) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights of both modules of a task, of fused ones their slot's rows: (out_s, in_s) and (out_t, in_t).

    Raises:
        NumericalError: A weight holds a number that is not finite.
        UnresolvedModuleError: A model has no such module, or it has another shape.
    """
    return slot_weight(source, *task.source)[0], slot_weight(target, *task.target)[0]


def fit_subspace(
    own: Factors, weights: tuple[torch.Tensor, torch.Tensor], k: int | None
) -> tuple[Factors, dict[str, float]]:
    """Carry one update through the leading singular subspaces of both weights.

    Args:
        own: The update, shape (out_s, in_s).
        weights: Of the source's module and of the target's.
        k: How many singular pairs; cut to what both weights have.

    Returns:
        The update, float64, on the CPU, and its measures: ``subspace_energy``, the share of it inside the source's
        subspaces, and ``sign_variance``.
    """
    common = min(min(weight.shape) for weight in weights)
    device = fit_device(weights[1].device)
    source, target = (leading_subspaces(weight.to(device), min(k or common, common)) for weight in weights)
    own = own.to(device)
    measures = {
        "subspace_energy": subspace_energy(own, source),
        "sign_variance": sign_variance(own, source, target),
    }
    return through_subspaces(own, source, target).to("cpu"), measures


def require_one_lineage(tasks: list[Task], source: LoadedBase, target: LoadedBase, threshold: float) -> list[float]:
    """Return the cosine of both weights of every task, in their order.

    Args:
        tasks: What is to be copied.
        source: The base model of the adapter.
        target: The base model to go to.
        threshold: What every cosine must pass.

    Raises:
        TransferError: Shapes differ, or a cosine does not pass.
        NumericalError: A weight holds a number that is not finite.
    """
    _require_shapes(tasks, target)
    found = [lineage_cosine(*task_weights(task, source, target)) for task in tasks]
    failed = [
        (cosine, str(task.move.target)) for task, cosine in zip(tasks, found, strict=True) if not cosine > threshold
    ]
    if failed:
        lowest, worst = min(failed)
        raise TransferError(
            f"{source.base.id} and {target.base.id} are not of one lineage: {len(failed)} of {len(found)} modules have "
            f"weights whose cosine is not above {threshold:g}, the lowest {lowest:.3f} at {worst}",
            code="not-one-lineage",
            hint="choose a method that aligns the two models",
            context={"module": worst, "cosine": lowest},
        )
    return found


def _require_shapes(tasks: list[Task], target: LoadedBase) -> None:
    for task in tasks:
        own, other = ((slot.out_features, slot.in_features) for _, slot in (task.source, task.target))
        if own != other:
            raise TransferError(
                f"{task.move.target}: shape {other} in {target.base.id} does not match {own} in the source; "
                "an update can be copied between equal shapes alone",
                code="not-one-lineage",
                hint="choose a method that aligns the two models",
                context={"module": str(task.move.target)},
            )
