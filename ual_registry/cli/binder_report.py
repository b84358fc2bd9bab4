"""What was inferred or checked of a binder, in words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from ual_registry.cli.output import table

if TYPE_CHECKING:
    from ual_registry.tracing.infer import InferredBinder
    from ual_registry.workflows.check_binder import BinderReport

__all__ = ["inferred_text", "report_text"]


def inferred_text(found: InferredBinder, target: str | None) -> str:
    """Return what was seen of each module, what could not be told, and where the document went."""
    rows = [
        (item.path, role, reason, f"{item.confidence:g}")
        for item in found.evidence
        for role, reason in item.seen.items()
    ]
    lines = [
        f"{found.document['architecture']}  confidence {found.confidence:g}",
        "",
        table(rows, ("module", "role", "seen", "confidence")),
    ]
    if found.undecided:
        lines += ["", "not decided", *(f"  {item.what}: {item.reason}" for item in found.undecided)]
    file = target or "FILE"
    end = f"wrote {target}" if target else "nothing written; -o FILE writes the document"
    return "\n".join([*lines, "", f"{end}; `ual binder show {file}` draws it, `ual binder check {file}` checks it"])


def report_text(report: BinderReport) -> str:
    """Return every check with its outcome, those of one class that hold in one line, and a last line that counts."""
    return "\n".join([*_lines(report), "", _summary(report)])


def _lines(report: BinderReport) -> Iterator[str]:
    for subject, checks in groupby(report.checks, key=lambda item: item.subject):
        listed = list(checks)
        held = [item.name for item in listed if not item.faults and not item.undecided]
        if held:
            yield f"ok    {subject}: {', '.join(held)}"
        for item in listed:
            if item.faults:
                yield f"FAIL  {subject}: {item.name}"
                yield from (f"        {fault}" for fault in item.faults)
            if item.undecided:
                yield f"?     {subject}: {item.name} not checked"
                yield f"        {item.undecided}"


def _summary(report: BinderReport) -> str:
    undecided = f", {report.undecided} not checked" if report.undecided else ""
    faults = f"{report.faults} fault{'' if report.faults == 1 else 's'}"
    return f"binder {report.architecture}: {len(report.checks)} checks, {faults}{undecided}"
