"""The report of a conformance run: text for people, JSON and JUnit XML for pipelines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from xml.etree import ElementTree as ET  # only written, never read

from ual_registry.workflows.conformance import CaseResult, ConformanceReport

__all__ = ["report_text", "summary"]

_NAME = "ual conformance"
_MAX_SHOWN = 2000


def summary(report: ConformanceReport) -> str:
    """Count the vectors in words."""
    return f"{report.passed_count} passed, {len(report.failures)} failed"


def report_text(report: ConformanceReport, form: str, *, is_verbose: bool = False) -> str:
    """Return the report.

    Args:
        report: What became of every vector.
        form: ``text``, ``json`` or ``junit``.
        is_verbose: Whether the text names the vectors that passed.
    """
    return _FORMS[form](report, is_verbose)


def _text(report: ConformanceReport, is_verbose: bool) -> str:
    lines = [line for result in report.results for line in _lines(result, is_verbose)]
    return "\n".join([*lines, summary(report)])


def _lines(result: CaseResult, is_verbose: bool) -> Iterator[str]:
    if not result.passed:
        yield f"FAIL {result.case.name}: {result.case.description}"
        yield from _difference(result)
    elif is_verbose:
        yield f"ok   {result.case.name}"


def _difference(result: CaseResult) -> Iterator[str]:
    yield f"  expected {_shown(result.case.expected)}"
    yield f"  got      {'nothing: ' + str(result.reason) if result.got is None else _shown(result.got)}"


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]} ..."


def _json(report: ConformanceReport, _: bool) -> str:
    cases = [
        {
            "name": result.case.name,
            "operation": result.case.operation,
            "passed": result.passed,
            "reason": result.reason,
            "expected": result.case.expected,
            "got": result.got,
        }
        for result in report.results
    ]
    document = {"passed": report.passed_count, "failed": len(report.failures), "cases": cases}
    return json.dumps(document, indent=2)


def _junit(report: ConformanceReport, _: bool) -> str:
    counts = {"name": _NAME, "tests": str(len(report.results)), "failures": str(len(report.failures)), "errors": "0"}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", counts)
    for result in report.results:
        name = result.case.name.encode("ascii", "backslashreplace").decode()
        case = ET.SubElement(suite, "testcase", {"name": name, "classname": f"{_NAME}.{result.case.operation}"})
        if result.reason is not None:
            failure = ET.SubElement(case, "failure", {"type": "conformance", "message": ascii(result.reason)[1:-1]})
            failure.text = "\n".join(_difference(result))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


_FORMS: dict[str, Callable[[ConformanceReport, bool], str]] = {"text": _text, "json": _json, "junit": _junit}
