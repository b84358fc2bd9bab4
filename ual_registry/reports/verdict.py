"""Whether a file passes, given how strictly warnings are taken; every report says the same."""

from __future__ import annotations

from ual_registry.air.problem import Problem, ValidationReport

__all__ = ["counts_text", "is_fault", "is_refused", "is_unreadable", "passes"]


def is_fault(problem: Problem, *, strict: bool) -> bool:
    """Tell whether a problem fails its file."""
    return strict or not problem.is_warning


def passes(report: ValidationReport, *, strict: bool) -> bool:
    """Tell whether a file is legal, and without a warning where warnings are errors."""
    return not any(is_fault(problem, strict=strict) for problem in report.problems)


def is_unreadable(report: ValidationReport) -> bool:
    """Tell whether nothing is known of a file, because it could not be read."""
    return any(problem.branch == "storage" for problem in report.problems)


def is_refused(report: ValidationReport) -> bool:
    """Tell whether nothing is known of a file, because the Hub did not give it."""
    return any(problem.branch == "hub" for problem in report.problems)


def counts_text(report: ValidationReport) -> str:
    """Count errors and warnings in words; empty where there are none."""
    counts = (_count(len(report.errors), "error"), _count(len(report.warnings), "warning"))
    return ", ".join(count for count in counts if count)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}" if number else ""
