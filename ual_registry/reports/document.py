"""The JSON document of ``ual validate --json``."""

from __future__ import annotations

from collections.abc import Sequence

from ual_registry.air.problem import ValidationReport
from ual_registry.reports.verdict import passes

__all__ = ["report_document"]


def report_document(reports: Sequence[ValidationReport], *, strict: bool) -> dict[str, object]:
    """Return everything that was found, file by file."""
    files = [_file_document(report, strict) for report in reports]
    return {"ok": all(passes(report, strict=strict) for report in reports), "files": files}


def _file_document(report: ValidationReport, strict: bool) -> dict[str, object]:
    problems = [
        {
            "code": problem.code,
            "severity": problem.severity,
            "place": problem.place,
            "message": problem.message,
            "hint": problem.hint,
        }
        for problem in report.problems
    ]
    return {"path": report.path, "ok": passes(report, strict=strict), "problems": problems, "facts": report.facts}
