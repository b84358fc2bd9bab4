"""What a plan asks for once both base models are loaded: which module's update goes to which, and what became of it.

It decides which planned moves can be fitted by the insides of two base models, and what a plan looks like after it
was carried out. How an update is fitted is left to the ways of transfer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry
from ual_registry.air.roles import ROLES
from ual_registry.binders.slots import Slot, TargetModule
from ual_registry.digest import Digest
from ual_registry.errors import NoCounterpartError
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.factors import Factors, effective_rank, norm, singular_factors
from ual_registry.tensors import entry_factors
from ual_registry.transfers.plan import Action, Move, TransferPlan
from ual_registry.transfers.report import EntryReport, TransferReport
from ual_registry.transfers.requirements import is_same_model
from ual_registry.transfers.result import Fitted, TransferResult, energy_share, make_result

__all__ = [
    "LeftOut",
    "Task",
    "find_tasks",
    "fitted_as",
    "fitted_unchanged",
    "stays_as_it_is",
    "unchanged_result",
    "with_weights",
]


@dataclass(frozen=True, slots=True)
class Task:
    """A move that is to be fitted: from which module and slot of the source to which of the target."""

    move: Move
    entry: Entry
    source: tuple[TargetModule, Slot]
    target: tuple[TargetModule, Slot]


@dataclass(slots=True)
class LeftOut:
    """The moves that were planned and came to nothing, each with the reason."""

    moves: list[tuple[Move, str]] = field(default_factory=list)

    def add(self, move: Move, reason: str) -> None:
        """Note a move."""
        self.moves.append((move, reason))

    def reasons(self, reached: Iterable[str]) -> dict[str, str]:
        """Return the reason for every slot of the target that got nothing.

        Args:
            reached: The slots that got something.
        """
        held = set(reached)
        return {str(move.target): reason for move, reason in self.moves if move.target not in held}

    def error(self, plan: TransferPlan, source: LoadedBase) -> NoCounterpartError:
        """Return the error that nothing is left."""
        reasons = "; ".join(dict.fromkeys(reason for _, reason in self.moves))
        return NoCounterpartError(
            f"no entry of the adapter can be carried to {plan.target.id}: {reasons}",
            context={"source": source.base.id, "target": plan.target.id},
        )

    def carried_out(self, plan: TransferPlan, reports: Iterable[EntryReport]) -> TransferPlan:
        """Return the plan as it was carried out: what was left out is dropped, what got new numbers is projected.

        Args:
            plan: As it was planned.
            reports: What reached the target.
        """
        actions = {report.target: report.action for report in reports}
        failed = {(move.source, move.target) for move, _ in self.moves}
        moved = [
            _as_done(move, actions[str(move.target)])
            for move in plan.moves
            if move.target in actions and (move.source, move.target) not in failed
        ]
        used = {move.source for move in moved}
        lost = {move.source: _dropped(move, reason) for move, reason in self.moves}
        fresh = [move for source, move in lost.items() if source not in used]
        planned = [move for move in plan.moves if move.action is Action.DROPPED]
        return replace(plan, moves=(*moved, *fresh, *planned))


def _as_done(move: Move, action: str) -> Move:
    if move.action is Action.KEPT and action != Action.KEPT:
        return replace(move, action=Action.PROJECTED, reason="same shape, in the basis of the target")
    return move


def _dropped(move: Move, reason: str) -> Move:
    return replace(move, action=Action.DROPPED, reason=reason, target=None, module=None, slot=None)


def find_tasks(
    plan: TransferPlan, source: LoadedBase, energies: Mapping[str, float], left_out: LeftOut
) -> Iterator[Task]:
    """Yield the moves of a plan that the insides of two base models can say something of.

    Args:
        plan: The plan.
        source: The base model of the adapter.
        energies: The squared norm of every entry, by its label.
        left_out: Takes the other moves.
    """
    slots = source.binding.slots()
    for move in plan.moves:
        if move.action is Action.DROPPED:
            continue
        entry, module, slot = move.entry, move.module, move.slot
        assert entry is not None  # only dropped moves lack
        assert module is not None  # an entry, a module
        assert slot is not None  # or a slot
        own = slots.get((entry.stack, entry.layer, entry.role, entry.expert))
        obstacle = _obstacle(entry, energies) if own else "the source base model has no such module"
        if own is None or obstacle is not None:
            left_out.add(move, str(obstacle))
            continue
        yield Task(move, entry, own, (module, slot))


def _obstacle(entry: Entry, energies: Mapping[str, float]) -> str | None:
    if entry.expert is not None:
        return "an expert reads only the tokens that are routed to it, which differ between the bases"
    if not ROLES[entry.role].is_per_layer:
        return "its module stands outside the blocks, where no rows of both bases correspond"
    if not energies[entry.label]:
        return "its update is zero"
    return None


def fitted_as(
    adapter: Adapter, task: Task, own: Factors, factors: Factors, *, energy_kept: float, measures: Mapping[str, float]
) -> Fitted:
    """Return a task's new update with its report.

    Args:
        adapter: The source.
        task: The task.
        own: The source's update.
        factors: What was made of it.
        energy_kept: Share of its squared norm that can be carried back.
        measures: What else was measured.
    """
    report = EntryReport(
        source=task.move.source,
        target=str(task.move.target),
        action=str(Action.PROJECTED),
        energy_kept=min(max(energy_kept, 0.0), 1.0),
        norm_ratio=norm(factors) / norm(own),
        effective_rank=effective_rank(singular_factors(factors).values),
        measures=measures,
    )
    module, slot = task.target
    dtype = adapter.tensors[task.entry.lora_B].dtype
    return Fitted(module=module, slot=slot, factors=factors, dtype=dtype, report=report)


def fitted_unchanged(adapter: Adapter, move: Move, measures: Mapping[str, float] | None = None) -> Fitted:
    """Return a move's update as it is in the source, with its report.

    Args:
        adapter: The source.
        move: A move between slots of one shape.
        measures: What was measured.
    """
    assert move.entry is not None  # a move that is carried out has an entry,
    assert move.slot is not None  # a slot
    assert move.module is not None  # and a module
    factors = entry_factors(adapter, move.entry)
    report = EntryReport(
        source=move.source,
        target=str(move.target),
        action=str(Action.KEPT),
        energy_kept=1.0,
        norm_ratio=1.0,
        effective_rank=effective_rank(singular_factors(factors).values),
        measures=measures or {},
    )
    dtype = adapter.tensors[move.entry.lora_B].dtype
    return Fitted(module=move.module, slot=move.slot, factors=factors, dtype=dtype, report=report, kept=move.entry)


def stays_as_it_is(plan: TransferPlan, source: LoadedBase, target: LoadedBase) -> bool:
    """Tell whether the target is the source, and the plan keeps entries: then nothing has to be fitted.

    A plan for the adapter as a whole keeps none, such as that of an adapter that cannot be planned entry by entry.
    """
    return is_same_model(source, target) and any(move.action is Action.KEPT for move in plan.moves)


def unchanged_result(
    adapter: Adapter, plan: TransferPlan, energies: Mapping[str, float], *, method: str, source_digest: Digest
) -> TransferResult:
    """Return the adapter as it is, for a target that is the source.

    Args:
        adapter: The source.
        plan: The plan.
        energies: The squared norm of every entry, by its label.
        method: The method that was asked for.
        source_digest: Digest of the source's file.
    """
    fitted = [fitted_unchanged(adapter, move) for move in plan.moves if move.action is Action.KEPT]
    reports = tuple(item.report for item in fitted)
    report = TransferReport(
        plan=plan,
        method=method,
        entries=reports,
        energy_share=energy_share(reports, energies),
        warnings=("the target is the source: every entry is kept as it is",),
    )
    return make_result(adapter, fitted, report, source_digest=source_digest)


def with_weights(plan: TransferPlan, target: LoadedBase) -> TransferPlan:
    """Return the plan with the digest of the weights that the result is fitted to, where they are the planned ones."""
    if plan.target.config_digest != target.base.config_digest:
        return plan
    return replace(plan, target=replace(plan.target, weights_digest=target.base.weights_digest))
