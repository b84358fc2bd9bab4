"""What modules write, known from what they read: moments of outputs from moments of inputs and the weights.

A pass over the text sees inputs alone. That is exact for linear modules, costs less than adding up outputs, and gives
every role of a fused module its own rows.
"""

from __future__ import annotations

import torch

from ual_registry.binders.slots import Slot, TargetModule
from ual_registry.errors import NumericalError
from ual_registry.models.finite import DAMAGED
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.moments import PairMoments
from ual_registry.transfers.statistics_store import PairStatistics

__all__ = ["slot_rows", "slot_weight", "through_linear"]


def slot_weight(base: LoadedBase, module: TargetModule, slot: Slot) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return weight (out, in) and bias (out,) of one slot of a module: of a fused one its own rows.

    Raises:
        NumericalError: They hold a number that is not finite.
        UnresolvedModuleError: The model has no such module, or it has another shape.
    """
    weight, bias = base.linear(module)
    if slot.rows is not None:
        rows = _indices(slot).to(weight.device)
        weight, bias = weight[rows], None if bias is None else bias[rows]
    for name, part in (("weight", weight), ("bias", bias)):
        if part is not None and not bool(part.isfinite().all()):
            raise NumericalError(
                f"{module.path}: its {name} is not finite (base model {base.base.id})",
                context={"module": module.path, "base_model": base.base.id},
                hint=DAMAGED,
            )
    return weight, bias


def slot_rows(statistics: PairStatistics, source: Slot, target: Slot) -> PairStatistics:
    """Return of the moments of two whole modules' outputs those of one slot each."""

    def taken(moments: PairMoments) -> PairMoments:
        found = moments.state()
        x, y = (_indices(slot).to(found["xy"].device) for slot in (source, target))
        return PairMoments.from_state(
            {
                "count": found["count"],
                "x_mean": found["x_mean"][x],
                "y_mean": found["y_mean"][y],
                "xx": found["xx"][x][:, x],
                "yy": found["yy"][y][:, y],
                "xy": found["xy"][x][:, y],
            }
        )

    return PairStatistics(taken(statistics.fit), taken(statistics.held_out))


def _indices(slot: Slot) -> torch.Tensor:
    return torch.cat([torch.arange(first, first + count) for first, count in slot.all_rows.runs()])


def through_linear(
    statistics: PairStatistics,
    source: tuple[torch.Tensor, torch.Tensor | None],
    target: tuple[torch.Tensor, torch.Tensor | None],
) -> PairStatistics:
    """Return the moments of what two linear modules write, from those of what they read.

    With ``y = W x + b`` the mean of y is ``W mean(x) + b``, and its second moments are ``W G W^T``. They are computed
    where the moments are.

    Args:
        statistics: Of pairs (input of the source's module, input of the target's).
        source: Weight (out_s, in_s) and bias (out_s,) of the source's module; only the rows that count.
        target: The same of the target's.
    """
    parts = (statistics.fit, statistics.held_out)
    return PairStatistics(*(_through(moments, source, target) for moments in parts))


def _like(moments: torch.Tensor, linear: tuple[torch.Tensor, torch.Tensor | None]) -> tuple[torch.Tensor, torch.Tensor]:
    weight, bias = linear
    weight = weight.to(moments)
    return weight, weight.new_zeros(len(weight)) if bias is None else bias.to(moments)


def _through(
    moments: PairMoments,
    source: tuple[torch.Tensor, torch.Tensor | None],
    target: tuple[torch.Tensor, torch.Tensor | None],
) -> PairMoments:
    found = moments.state()
    (read, x_bias), (write, y_bias) = (_like(found["xy"], linear) for linear in (source, target))
    return PairMoments.from_state(
        {
            "count": found["count"],
            "x_mean": read @ found["x_mean"] + x_bias,
            "y_mean": write @ found["y_mean"] + y_bias,
            "xx": read @ found["xx"] @ read.T,
            "yy": write @ found["yy"] @ write.T,
            "xy": read @ found["xy"] @ write.T,
        }
    )
