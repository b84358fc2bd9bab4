"""The words and documents of a transfer: its plan, what it did, and what is known of the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ual_registry.air.layers import layers_text
from ual_registry.air.names import TensorName
from ual_registry.cli.output import size_text, table
from ual_registry.cli.report_card import card_lines
from ual_registry.transfers.plan import Move, TransferPlan
from ual_registry.transfers.report import TransferReport
from ual_registry.transfers.rungs import CONTROL_GRADE, RUNGS, UNMEASURED

if TYPE_CHECKING:
    from ual_registry.distillation.report import DistillationReport
    from ual_registry.transfers.choose import Choice
    from ual_registry.transfers.report import EntryReport
    from ual_registry.workflows.transfer import Planned, Transferred

__all__ = ["plan_document", "plan_text", "result_document", "result_text"]

_MEANING = {
    CONTROL_GRADE: "between unrelated base models this carries nothing; measure it with 'ual evaluate'",
    UNMEASURED: "nothing is known of what survived; measure it with 'ual evaluate', or give --data",
}
"""What a label says that no measurement stands behind."""


def plan_document(planned: Planned) -> dict[str, Any]:
    """Return a plan as JSON."""
    plan = planned.plan
    return {
        "source": plan.source.id,
        "target": plan.target.id,
        "method": planned.method,
        "choice": None if planned.choice is None else planned.choice.document(),
        "layers": {name or "single": layers for name, layers in plan.layers.items()},
        "counts": plan.counts(),
        "moves": [
            {"source": move.source, "target": move.target, "action": str(move.action), "reason": move.reason}
            for move in plan.moves
        ],
    }


def plan_text(planned: Planned, *, is_verbose: bool) -> str:
    """Return a plan in words."""
    plan = planned.plan
    lines = [f"{_base_line(plan)} by {planned.method}", ""]
    if is_verbose:
        rows = [[str(move.action), move.source, move.target or "", move.reason] for move in plan.moves]
        lines.append(table(rows, ["", "source", "target", "why"]))
    else:
        lines.append(table(_role_rows(plan.moves), ["", "role", "entries", "source layers", "target layers", "why"]))
    lines += ["", _counts_text(plan), *_choice_lines(planned.choice)]
    return "\n".join(lines)


def _choice_lines(choice: Choice | None) -> Iterator[str]:
    if choice is None:
        return
    yield ""
    yield table([[step.method, str(step.standing), step.reason] for step in choice.steps], ["method", "", "why"])


def _base_line(plan: TransferPlan) -> str:
    return f"{plan.source.id} ({plan.source.model_type}) -> {plan.target.id} ({plan.target.model_type})"


def _counts_text(plan: TransferPlan) -> str:
    return ", ".join(f"{count} {action}" for action, count in plan.counts().items())


def _role_rows(moves: tuple[Move, ...]) -> list[list[str]]:
    """Group the moves that share action, role and reason."""
    groups: dict[tuple[str, str, str], list[Move]] = {}
    for move in moves:
        groups.setdefault((str(move.action), _role_label(move), move.reason), []).append(move)
    return [
        [
            action,
            role,
            str(len(group)),
            layers_text(tuple(sorted({m.entry.layer for m in group if m.entry and m.entry.layer is not None}))),
            layers_text(tuple(sorted({m.slot.layer for m in group if m.slot and m.slot.layer is not None}))),
            reason,
        ]
        for (action, role, reason), group in groups.items()
    ]


def _role_label(move: Move) -> str:
    """Name the role of an entry; of the whole adapter that of the slot that gets an update."""
    place = move.entry or move.slot
    if place is None:
        return move.source
    return f"{place.stack}.{place.role}" if place.stack else place.role


def result_document(result: Transferred, path: str, digest: str) -> dict[str, Any]:
    """Return what a transfer did as JSON."""
    report = result.report
    return {
        "path": path,
        "digest": digest,
        "method": result.method,
        "label": result.label,
        "choice": None if result.choice is None else result.choice.document(),
        **(_carried(report) if isinstance(report, TransferReport) else _trained(report)),
        "results": _results(result),
        "over_budget": result.over_budget,
    }


def _results(result: Transferred) -> Any:
    """Return the results of the report card; ``None`` where nothing was measured."""
    return None if result.evaluation is None else result.adapter.manifest.provenance[-1].byproducts["results"]


def _carried(report: TransferReport) -> dict[str, Any]:
    return {
        "counts": report.plan.counts(),
        "dropped_because": report.plan.drop_reasons(),
        "energy_share": report.energy_share,
        "entries": [_entry_document(entry) for entry in report.entries],
        "warnings": report.warnings,
    }


def _entry_document(entry: EntryReport) -> dict[str, Any]:
    """Leave out what only single methods have; the artifact has it."""
    return {key: value for key, value in dataclasses.asdict(entry).items() if key not in ("measures", "carried")}


def _trained(report: DistillationReport) -> dict[str, Any]:
    starts = [
        {
            "name": arm.name,
            "start_loss": arm.start_loss,
            "held_out_loss": arm.held_out_loss,
            "best_step": arm.best_step,
            "steps": arm.steps,
            "seconds": arm.seconds,
        }
        for arm in report.arms
    ]
    return {"starts": starts, "chosen_start": report.chosen, "texts": report.texts, "held_out_texts": report.held_out}


def result_text(result: Transferred, path: str, digest: str) -> str:
    """Return what a transfer did in words."""
    report, manifest = result.report, result.adapter.manifest
    lines = [*(_carried_lines(report) if isinstance(report, TransferReport) else _trained_lines(result, report))]
    lines += _choice_lines(result.choice)
    if result.evaluation is not None:
        lines += ["", *card_lines(manifest.provenance[-1])]
    if result.over_budget is not None:
        lines += ["", f"note: {result.over_budget}"]
    meaning = _MEANING.get(result.label)
    lines += [
        "",
        f"label: {result.label}{f' ({meaning})' if meaning else ''}",
        f"wrote {path} ({size_text(Path(path).stat().st_size)})",
        digest,
    ]
    return "\n".join(lines)


def _carried_lines(report: TransferReport) -> Iterator[str]:
    yield f"{_base_line(report.plan)} by {report.method}"
    yield ""
    yield table(_measure_rows(report), ["role", "entries", "energy kept", "norm ratio", "effective rank"])
    yield ""
    yield _counts_text(report.plan)
    yield from (f"  dropped {count}: {reason}" for reason, count in report.plan.drop_reasons().items())
    if RUNGS[report.method].is_whole:
        yield f"{report.energy_share:.3f} of the adapter's effect on held-out text is reached; quality is another thing"
    else:
        yield f"energy share {report.energy_share:.3f} reached the target's shapes; this says nothing about quality"
    yield from (f"warning: {warning}" for warning in report.warnings)


def _measure_rows(report: TransferReport) -> list[list[str]]:
    groups: dict[str, list[EntryReport]] = {}
    for entry in report.entries:
        groups.setdefault(TensorName.parse(f"{entry.target}.lora_B").role, []).append(entry)
    rows = []
    for role, own in groups.items():
        means = (
            sum(getattr(e, field) for e in own) / len(own) for field in ("energy_kept", "norm_ratio", "effective_rank")
        )
        rows.append([role, str(len(own)), *(f"{mean:.3f}" for mean in means)])
    return rows


def _trained_lines(result: Transferred, report: DistillationReport) -> Iterator[str]:
    base = result.adapter.manifest.base_model
    yield f"{base.id} ({base.model_type}) by {result.method}: {report.texts} texts, {report.held_out} of them held out"
    yield ""
    rows = [
        [
            arm.name,
            f"{arm.start_loss:.3f}",
            f"{arm.held_out_loss:.3f}",
            str(arm.best_step),
            str(arm.steps),
            f"{arm.seconds:.0f} s",
        ]
        for arm in report.arms
    ]
    yield table(rows, ["start", "loss before", "held-out loss", "best step", "steps", "time"])
    yield ""
    if report.no_warm_because is not None:
        yield f"no warm start: {report.no_warm_because}"
    yield f"the {report.chosen} start is kept"
