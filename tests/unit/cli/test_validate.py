"""``ual validate``: what it takes, what it prints, and the code it ends with."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import base_model, small_adapter
from tests.unit.cli.conftest import Result, Ual
from tests.unit.reports.test_reports import check_junit, check_sarif
from tests.web_server import serve
from ual_registry.air.problem import ValidationReport
from ual_registry.air.write import write
from ual_registry.cli import validate as command

REGISTERED = "check the path; what is registered is checked by 'ual fsck', or as a file: 'ual get {} -o FILE.air'"


@pytest.fixture
def shelf(ual: Ual) -> Ual:
    """The working folder with more files: one unpinned, one deep in a folder."""
    Path("deep/er").mkdir(parents=True)
    write(small_adapter(license="MIT"), Path("deep/er/inner.air"))
    write(small_adapter(base_model=base_model(revision=None)), Path("loose.air"))
    return ual


def ok(name: str, end: str = "") -> str:
    size = f"{Path(name).stat().st_size / 1e3:.3g} kB"
    return f"{name}: ok (AIR 1.0 adapter for gpt_neox, 3 entries, 6 tensors, {size}{end})\n"


PIN = (
    "  warning [unpinned-base] manifest.base_model.revision: the base model is not pinned to a commit\n"
    "      hint: convert again with --base-revision COMMIT\n"
)
NEEDS_LICENSE = (
    "  error [policy-license] manifest.license: the policy requires a license\n"
    "      hint: convert again with --license SPDX-EXPRESSION\n"
)


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Put bytes on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_folders_patterns_and_lists_are_files(shelf: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ok("deep/er/inner.air") + ok("small.air")
    assert shelf("validate", "deep", "small.air") == Result(0, expected, "")
    assert shelf("validate", "deep/**/*.air", "sm*.air") == Result(0, expected, "")
    give(monkeypatch, b"deep\nsmall.air\n")
    assert shelf("validate", "-") == Result(0, expected, "")


def test_an_empty_list_is_no_fault_and_is_told(shelf: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, b"")
    assert shelf("validate", "-") == Result(0, "", "no files to check\n")
    give(monkeypatch, b"")
    result = shelf("validate", "-", "--json")
    assert (result.code, result.document, result.err) == (0, {"ok": True, "files": []}, "no files to check\n")
    give(monkeypatch, b"")
    assert shelf("validate", "-", "-q") == Result(0, "", "")


def test_json_is_the_short_form_of_its_format(shelf: Ual) -> None:
    short = shelf("validate", "loose.air", "none.air", "--json")
    assert short == shelf("validate", "loose.air", "none.air", "--format", "json")
    assert short == shelf("validate", "loose.air", "none.air", "--format", "json", "--json")
    assert [(file["path"], file["ok"]) for file in short.document["files"]] == [
        ("loose.air", True),
        ("none.air", False),
    ]
    assert (short.code, list(short.document)) == (11, ["ok", "files"])


def test_two_formats_at_once_are_wrong_usage(shelf: Ual) -> None:
    result = shelf("validate", "small.air", "--json", "--format", "sarif")
    message = "--json and --format sarif contradict one another"
    assert (result.code, result.err.splitlines()[-1]) == (2, f"Error: {message}")
    assert result.document == {"error": {"code": "usage", "message": message, "hint": None, "context": {}}}


@pytest.mark.parametrize("words", [("--format", "json"), ("--format=json",), ("--json",)])
def test_an_error_is_a_document_where_json_was_asked_for(shelf: Ual, words: tuple[str, ...]) -> None:
    result = shelf("validate", "small.air", "--policy", "none.toml", *words)
    assert result.code == 11
    assert result.document["error"]["code"] == "storage"
    assert shelf("validate", "small.air", "--policy", "none.toml", "--format", "sarif").out == ""


def test_sarif_is_what_code_scanning_takes(shelf: Ual) -> None:
    result = shelf("validate", "small.air", "loose.air", "--format", "sarif")
    assert (result.code, result.err) == (0, "")
    (run,) = check_sarif(result.document)["runs"]
    assert [(found["ruleId"], found["level"]) for found in run["results"]] == [("unpinned-base", "warning")]
    result = shelf("validate", "loose.air", "--format", "sarif", "--strict")
    assert (result.code, check_sarif(result.document)["runs"][0]["results"][0]["level"]) == (3, "error")


def test_junit_is_what_test_reports_take(shelf: Ual) -> None:
    result = shelf("validate", "small.air", "loose.air", "none.air", "--format", "junit", "--strict")
    assert (result.code, result.err) == (11, "")
    assert '<testsuites name="ual validate" tests="3" failures="1" errors="1">' in check_junit(result.out)
    assert shelf("validate", "small.air", "loose.air", "--format", "junit").code == 0


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("none.air", "check the path"),
        ("deep/none", "check the path; what is on the Hub is written hf:deep/none"),
        ("deep/er/none", "check the path"),
        ("triage", REGISTERED.format("triage")),
        ("triage@1", REGISTERED.format("triage@1")),
    ],
)
def test_what_is_no_path_is_told_with_what_it_may_be(shelf: Ual, word: str, hint: str) -> None:
    assert shelf("validate", word) == Result(
        11,
        f"{word}: 1 error\n  error [storage] cannot read {word}: No such file or directory\n      hint: {hint}\n",
        "",
    )


def test_requirements_are_joined_from_options_and_file(shelf: Ual) -> None:
    fault = "loose.air: 1 error, 1 warning\n" + PIN + NEEDS_LICENSE
    assert shelf("validate", "loose.air", "--require", "license") == Result(3, fault, "")
    Path("policy.toml").write_text('require = ["license"]')
    assert shelf("validate", "loose.air", "--policy", "policy.toml") == Result(3, fault, "")
    result = shelf("validate", "loose.air", "--policy", "policy.toml", "--require", "lineage, evaluation", "--json")
    assert result.code == 3
    assert [problem["code"] for problem in result.document["files"][0]["problems"]] == [
        "unpinned-base",
        "policy-license",
        "policy-lineage",
        "policy-evaluation",
    ]
    twice = shelf("validate", "loose.air", "--require", "license", "--require", "pinned-base")
    assert (twice.code, twice.out.count("policy-")) == (3, 2)
    assert shelf("validate", "small.air", "--require", "license,pinned-base").code == 0


def test_a_policy_may_be_strict_and_limit_size_license_and_base(shelf: Ual) -> None:
    Path("policy.toml").write_text("strict = true")
    assert shelf("validate", "loose.air", "--policy", "policy.toml") == Result(3, "loose.air: 1 warning\n" + PIN, "")
    Path("policy.toml").write_text("strict = false")
    assert shelf("validate", "loose.air", "--policy", "policy.toml").code == 0
    assert shelf("validate", "loose.air", "--policy", "policy.toml", "--strict").code == 3
    Path("policy.toml").write_text(
        'allowed_licenses = ["Apache-2.0"]\nallowed_base_models = ["org/*"]\nmax_size_bytes = 10\n'
    )
    size = Path("small.air").stat().st_size
    assert shelf("validate", "small.air", "--policy", "policy.toml") == Result(
        3,
        "small.air: 3 errors\n"
        "  error [policy-license-allowed] manifest.license: 'MIT' is not allowed by the policy (allowed: Apache-2.0)\n"
        "  error [policy-base-model] manifest.base_model.id: 'tiny' is not allowed by the policy (allowed: org/*)\n"
        f"  error [policy-size] file of {size} bytes is over the policy's limit of 10\n",
        "",
    )


def test_a_wrong_policy_is_an_error_before_any_file_is_read(shelf: Ual) -> None:
    Path("policy.toml").write_text("licences = []")
    assert shelf("validate", "none.air", "--policy", "policy.toml") == Result(
        3,
        "",
        "error [policy-file]: policy.toml: unknown key 'licences'\n"
        "hint: known: require, strict, allowed_licenses, allowed_base_models, max_size_bytes\n",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--require", "license,licence"),
            "Invalid value for '--require': 'licence' is not one of 'pinned-base', 'license', 'lineage', 'evaluation'.",
        ),
        (("--jobs", "0"), "Invalid value for '--jobs': 0 is not in the range x>=1."),
        (
            ("--format", "xml"),
            "Invalid value for '--format': 'xml' is not one of 'text', 'json', 'junit', 'sarif'.",
        ),
    ],
)
def test_a_wrong_option_is_wrong_usage(shelf: Ual, words: tuple[str, ...], message: str) -> None:
    result = shelf("validate", "small.air", *words)
    assert (result.code, result.out, result.err.splitlines()[-1]) == (2, "", f"Error: {message}")


def test_the_text_says_where_only_headers_were_read(shelf: Ual) -> None:
    assert shelf("validate", "small.air", "--headers-only") == Result(0, ok("small.air", "; header only"), "")
    with serve(Path("small.air").read_bytes()) as site:
        result = shelf("validate", site.url)
    assert result == Result(0, ok("small.air", "; header only").replace("small.air", site.url), "")


def test_a_server_that_cannot_be_read_ends_with_code_11(shelf: Ual) -> None:
    with serve(b"", "whole") as site:
        assert shelf("validate", site.url) == Result(
            11,
            f"{site.url}: 1 error\n"
            f"  error [remote-no-ranges] cannot read {site.url}: the server sends whole files only\n"
            "      hint: download the file first\n",
            "",
        )


def test_jobs_and_options_reach_the_workflow(shelf: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def record(paths: list[str], **options: Any) -> list[ValidationReport]:
        given.append((paths, options["jobs"], options["headers_only"], options["policy"].require))
        return []

    monkeypatch.setattr(command, "validate_many", record)
    shelf("validate", "small.air", "--jobs", "3", "--headers-only", "--require", "license")
    shelf("validate", "small.air")
    assert given == [(["small.air"], 3, True, ("license",)), (["small.air"], None, False, ())]


class Terminal(io.StringIO):
    """Standard output that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_words_have_colours_on_a_terminal_only(shelf: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown() -> str:
        screen = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", screen)
            shelf("validate", "loose.air", "small.air", "--require", "license")
        return screen.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    red, yellow, green, plain = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"
    coloured = shown()
    text = "loose.air: 1 error, 1 warning\n" + PIN + NEEDS_LICENSE + ok("small.air")
    assert re.sub(r"\x1b\[\d+m", "", coloured) == text
    assert coloured.startswith(
        f"loose.air: {red}1 error, 1 warning{plain}\n  {yellow}warning{plain} [unpinned-base] manifest"
    )
    assert f"\n  {red}error{plain} [policy-license] manifest" in coloured
    assert f"\nsmall.air: {green}ok{plain} (AIR 1.0" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown() == text
    monkeypatch.setenv("NO_COLOR", "")
    assert shown() == coloured


def test_what_a_file_says_of_itself_commands_no_terminal(shelf: Ual) -> None:
    name = "\x1b[2J.air"
    Path(name).write_bytes(b"x")
    assert shelf("validate", name).out.startswith("\\x1b[2J.air: 1 error\n  error [truncated] file has 1 bytes")


def test_a_router_is_told_by_its_domains(shelf: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"air_version": "1.0", "kind": "router", "domains": 3, "tensors": 5, "size_bytes": 2000}
    report = ValidationReport(path="r.air", problems=(), facts=facts)
    monkeypatch.setattr(command, "validate_many", lambda *_, **__: [report])
    assert shelf("validate", "r.air").out == "r.air: ok (AIR 1.0 router, 3 domains, 5 tensors, 2 kB)\n"


def test_many_files_over_processes_come_in_order(shelf: Ual) -> None:
    data = Path("small.air").read_bytes()
    Path("many").mkdir()
    for number in range(33):
        Path(f"many/{number:02}.air").write_bytes(data)
    result = shelf("validate", "many", "--jobs", "2")
    assert result == Result(0, "".join(ok(f"many/{number:02}.air") for number in range(33)), "")
    document = json.loads(shelf("validate", "many", "--json", "--jobs", "1").out)
    assert [file["path"] for file in document["files"]] == [f"many/{number:02}.air" for number in range(33)]
