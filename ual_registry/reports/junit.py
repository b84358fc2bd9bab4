"""JUnit XML, which pipelines show as test results: one test case per file.

There is no standard; the form is the one that Jenkins reads, with at most one failure or error per case,
because some readers show only one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET  # only written, never read

from ual_registry.air.problem import Problem, ValidationReport
from ual_registry.reports.verdict import counts_text, is_fault, is_unreadable, passes

__all__ = ["junit_text"]

_NAME = "ual validate"


def junit_text(reports: Sequence[ValidationReport], *, strict: bool) -> str:
    """Return the XML document; a file that cannot be read is an error, one that fails otherwise a failure."""
    unreadable = sum(is_unreadable(report) for report in reports)
    failed = sum(not passes(report, strict=strict) for report in reports) - unreadable
    counts = {"name": _NAME, "tests": str(len(reports)), "failures": str(failed), "errors": str(unreadable)}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", counts)
    for report in reports:
        case = ET.SubElement(suite, "testcase", {"name": _legal(report.path), "classname": _NAME})
        _add_problems(case, report, strict)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _add_problems(case: ET.Element, report: ValidationReport, strict: bool) -> None:
    faults = [problem for problem in report.problems if is_fault(problem, strict=strict)]
    if faults:
        kind = "error" if is_unreadable(report) else "failure"
        found = ET.SubElement(case, kind, {"type": faults[0].code, "message": counts_text(report)})
        found.text = _legal("\n".join(_line(problem) for problem in report.problems))
    elif report.problems:
        ET.SubElement(case, "system-out").text = _legal("\n".join(_line(problem) for problem in report.problems))


def _line(problem: Problem) -> str:
    hint = f"\n  hint: {problem.hint}" if problem.hint else ""
    return f"{problem.severity} [{problem.code}] {problem}{hint}"


_ILLEGAL = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _legal(text: str) -> str:
    r"""Escape what XML 1.0 cannot carry, and control characters.

    >>> _legal("a\tb" + chr(0) + chr(0xFFFF))
    'a\tb\\x00\\uffff'
    """
    return _ILLEGAL.sub(
        lambda match: (
            match[0].encode("ascii", "backslashreplace").decode() if ord(match[0]) > 127 else f"\\x{ord(match[0]):02x}"
        ),
        text,
    )
