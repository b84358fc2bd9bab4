"""SARIF 2.1.0, which code scanning shows beside the changes of a pull request.

Source: OASIS SARIF 2.1.0, errata 01.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ual_registry.air.problem import Problem, ValidationReport
from ual_registry.remote import is_url
from ual_registry.reports.verdict import is_fault, is_unreadable

__all__ = ["sarif_document"]

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif_document(reports: Sequence[ValidationReport], *, strict: bool) -> dict[str, Any]:
    """Return the log of one run: a rule per code, a result per problem."""
    codes = sorted({problem.code for report in reports for problem in report.problems})
    driver = {"name": "ual", "version": version("ual-registry"), "rules": [_rule(code) for code in codes]}
    results = [
        _result(report, problem, codes.index(problem.code), is_fault(problem, strict=strict))
        for report in reports
        for problem in report.problems
    ]
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": not any(is_unreadable(report) for report in reports)}],
        "artifacts": [{"location": {"uri": _uri(report.path)}} for report in reports],
        "results": results,
        "columnKind": "unicodeCodePoints",
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str) -> dict[str, Any]:
    return {
        "id": code,
        "shortDescription": {"text": code.replace("-", " ")},
        "help": {"text": f"See '{code}' in the page 'Errors' of ual-registry's documentation."},
    }


def _result(report: ValidationReport, problem: Problem, rule_index: int, is_error: bool) -> dict[str, Any]:
    text = f"{problem}\nhint: {problem.hint}" if problem.hint else str(problem)
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(report.path)},
            "region": {"startLine": 1},  # code scanning shows nothing without a line; an AIR file has none
        }
    }
    if problem.place:
        location["logicalLocations"] = [{"fullyQualifiedName": problem.place}]
    return {
        "ruleId": problem.code,
        "ruleIndex": rule_index,
        "level": "error" if is_error else "warning",
        "message": {"text": text},
        "locations": [location],
    }


def _uri(path: str) -> str:
    r"""Write a path as a URI; a relative one stays relative to the folder of the run.

    >>> _uri("a b/c#1.air"), _uri("/x y.air")
    ('a%20b/c%231.air', 'file:///x%20y.air')
    """
    if is_url(path):
        return quote(path, safe=":/?#[]@!$&'()*+,;=%")
    plain = quote(os.fsencode(Path(path).as_posix()))
    return f"file://{plain}" if path.startswith("/") else plain
