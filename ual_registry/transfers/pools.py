"""Several updates in one slot: where a target layer stands for several source layers, their updates are added up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ual_registry.projection.factors import effective_rank, norm, singular_factors
from ual_registry.projection.recompress import energy_kept, recompress, stack
from ual_registry.transfers.plan import Action, TransferPlan
from ual_registry.transfers.report import EntryReport
from ual_registry.transfers.result import Fitted

__all__ = ["add_up"]


def add_up(fitted: Sequence[Fitted], plan: TransferPlan, energies: Mapping[str, float]) -> list[Fitted]:
    """Add up the updates of every slot, each times its weight in the plan, and bring the sum down to one's rank.

    Args:
        fitted: Updates, several of which may be for one slot.
        plan: The plan; its moves have the weights.
        energies: The squared norm of every entry of the source, by its label.

    Returns:
        One update for every slot, in the order in which slots come first. The measures of a sum are the means of those
        of its parts, and ``pool_energy``, the share of the sum's squared norm that its rank can hold.
    """
    weights = {(move.source, move.target): move.weight for move in plan.moves}
    slots: dict[str, list[Fitted]] = {}
    for item in fitted:
        slots.setdefault(item.report.target, []).append(item)
    return [
        _sum(parts, [weights[part.report.source, slot] for part in parts], energies) for slot, parts in slots.items()
    ]


def _sum(parts: list[Fitted], weights: list[float], energies: Mapping[str, float]) -> Fitted:
    if len(parts) == 1 and weights == [1.0]:
        return parts[0]
    whole = stack([part.factors.to_float64().scaled(weight) for part, weight in zip(parts, weights, strict=True)])
    rank = max(part.factors.rank for part in parts)
    held = energy_kept(whole, rank)
    factors = recompress(whole, rank)
    carried = {part.report.source: part.report.energy_kept * held for part in parts}
    total = sum(energies[source] for source in carried)
    report = EntryReport(
        source=" + ".join(carried),
        target=parts[0].report.target,
        action=str(Action.PROJECTED),
        energy_kept=sum(energies[source] * kept for source, kept in carried.items()) / total if total > 0 else 0.0,
        norm_ratio=norm(factors) / math.sqrt(total) if total > 0 else 0.0,
        effective_rank=effective_rank(singular_factors(factors).values),
        measures={**_means([part.report.measures for part in parts]), "pool_energy": held},
        carried=carried,
    )
    return replace(parts[0], factors=factors, report=report, kept=None)


def _means(measures: list[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for item in measures for name in item)
    found = {name: [item[name] for item in measures if name in item] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}
