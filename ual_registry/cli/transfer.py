"""The command about other base models: transfer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ual_registry.air.layers import layers_text
from ual_registry.air.names import TensorName
from ual_registry.air.write import write
from ual_registry.cli.output import Output, common_options, size_text, table
from ual_registry.storage import check_target
from ual_registry.transfers.plan import Move, TransferPlan
from ual_registry.workflows.transfer import DEFAULT_METHOD, plan_transfer, transfer

if TYPE_CHECKING:
    from ual_registry.transfers.report import EntryReport, TransferReport

__all__ = ["transfer_command"]

_METHODS = ("svd", "truncate", "interpolate")


@click.command("transfer")
@click.argument("ref")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="BASE",
    help="Base model to go to: its folder, its config.json, or OWNER/NAME on the Hub.",
)
@click.option("--to-id", "target_id", help="Hub id of that base model, as a label.")
@click.option("--to-revision", "target_revision", help="Commit of that base model.")
@click.option(
    "--method", type=click.Choice(_METHODS), default=DEFAULT_METHOD, show_default=True, help="How to fit shapes."
)
@click.option(
    "--rotary",
    type=click.Choice(["drop", "project"]),
    default="drop",
    show_default=True,
    help="Query and key where rotary position embedding differs.",
)
@click.option("--plan", "plan_only", is_flag=True, help="Say what would happen to every entry; nothing is computed.")
@click.option("-o", "--output", "path", metavar="PATH", help="AIR file to write.")
@click.option("--force", is_flag=True, help="Replace what stands at PATH.")
@common_options
def transfer_command(ref: str, output: Output, **options: Any) -> None:
    """Carry an adapter to another base model.

    The methods here pair feature i of one model with feature i of the other. Between unrelated base models that carries
    nothing: they are controls. Measure the result before you use it.
    """
    path, how = options["path"], {name: options[name] for name in ("target_id", "target_revision", "rotary")}
    if options["plan_only"]:
        plan = plan_transfer(ref, options["target"], **how)
        output.result(_plan_document(plan), lambda: _plan_text(plan, is_verbose=output.is_verbose))
        return
    if path is None:
        raise click.UsageError("give -o PATH, or --plan to see what would happen")
    check_target(Path(path), force=options["force"])
    result = transfer(ref, options["target"], method=options["method"], **how)
    digest = write(result.adapter, path)
    document = {"path": path, "digest": str(digest), **_report_document(result.report)}
    output.result(document, lambda: _report_text(result.report, path, str(digest)))


def _plan_document(plan: TransferPlan) -> dict[str, Any]:
    return {
        "source": plan.source.id,
        "target": plan.target.id,
        "layers": {name or "single": layers for name, layers in plan.layers.items()},
        "counts": plan.counts(),
        "moves": [
            {"source": move.source, "target": move.target, "action": str(move.action), "reason": move.reason}
            for move in plan.moves
        ],
    }


def _plan_text(plan: TransferPlan, *, is_verbose: bool) -> str:
    lines = [f"{_base_line(plan)}", ""]
    if is_verbose:
        rows = [[str(move.action), move.source, move.target or "", move.reason] for move in plan.moves]
        lines.append(table(rows, ["", "source", "target", "why"]))
    else:
        lines.append(table(_role_rows(plan.moves), ["", "role", "entries", "source layers", "target layers", "why"]))
    lines += ["", _counts_text(plan)]
    return "\n".join(lines)


def _base_line(plan: TransferPlan) -> str:
    return f"{plan.source.id} ({plan.source.model_type}) -> {plan.target.id} ({plan.target.model_type})"


def _counts_text(plan: TransferPlan) -> str:
    return ", ".join(f"{count} {action}" for action, count in plan.counts().items())


def _role_rows(moves: tuple[Move, ...]) -> list[list[str]]:
    """Group the moves that share action, role and reason."""
    groups: dict[tuple[str, str, str], list[Move]] = {}
    for move in moves:
        role = _role_label(move)
        groups.setdefault((str(move.action), role, move.reason), []).append(move)
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
    if move.entry is None:
        return move.source
    return f"{move.entry.stack}.{move.entry.role}" if move.entry.stack else move.entry.role


def _report_document(report: TransferReport) -> dict[str, Any]:
    return {
        "method": report.method,
        "counts": report.plan.counts(),
        "dropped_because": report.plan.drop_reasons(),
        "energy_share": report.energy_share,
        "entries": [_entry_document(entry) for entry in report.entries],
    }


def _entry_document(entry: EntryReport) -> dict[str, Any]:
    """Leave out what only methods measure that this command does not offer."""
    return {key: value for key, value in dataclasses.asdict(entry).items() if key != "measures"}


def _report_text(report: TransferReport, path: str, digest: str) -> str:
    lines = [
        f"{_base_line(report.plan)} by {report.method}",
        "",
        table(_measure_rows(report), ["role", "entries", "energy kept", "norm ratio", "effective rank"]),
        "",
        _counts_text(report.plan),
        *(f"  dropped {count}: {reason}" for reason, count in report.plan.drop_reasons().items()),
        f"energy share {report.energy_share:.3f} reached the target's shapes; this says nothing about quality",
        f"wrote {path} ({size_text(Path(path).stat().st_size)})",
        digest,
    ]
    return "\n".join(lines)


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
