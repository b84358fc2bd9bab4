"""The runner tells implementations apart: those that answer wrongly, crash, hang, or write garbage."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Result
from tests.unit.reports.test_reports import check_junit
from ual_registry.cli.main import run
from ual_registry.workflows.conformance import Case, judge, load_cases

_ROOT = Path(__file__).resolve().parents[2]
_LOOP = """
import json, os, signal, sys, time
from ual_registry.workflows.answers import answer
for line in sys.stdin:
    request = json.loads(line)
    if request["id"] == 2:
        {trick}
    print(json.dumps(answer(request)), flush=True)
"""
_RIGHT = {"stack": None, "layer": 0, "role": "mlp_up", "expert": None, "factor": "lora_A"}


def _case(folder: Path, name: str, /, **document: Any) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "case.json").write_text(json.dumps(document))


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Three vectors of one operation that needs no file."""
    folder = tmp_path / "vectors"
    for name in ("a", "b", "c"):
        _case(
            folder,
            name,
            description=f"Case {name}.",
            operation="parse_name",
            name="layers.0.mlp_up.lora_A",
            expected=_RIGHT,
        )
    return folder


@pytest.fixture
def conformance(capfd: pytest.CaptureFixture[str], vectors: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run ``ual conformance`` in this process, with the three vectors."""
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))

    def call(*words: object) -> Result:
        code = run(["conformance", "--vectors", str(vectors), *map(str, words)])
        caught = capfd.readouterr()
        return Result(code, caught.out, caught.err)

    return call


@pytest.fixture
def program(tmp_path: Path) -> Any:
    """Write a program, and return the command that runs it."""

    def write(text: str) -> str:
        path = tmp_path / "program.py"
        path.write_text(text)
        return f"'{sys.executable}' '{path}'"

    return write


def _tricky(trick: str) -> str:
    return _LOOP.format(trick=trick)


def test_an_implementation_that_answers_as_expected_passes(conformance: Any, program: Any) -> None:
    command = program(_tricky("pass"))
    assert conformance("--implementation", command) == Result(0, "3 passed, 0 failed\n", "")
    assert conformance("--implementation", command, "-v").out == "ok   a\nok   b\nok   c\n3 passed, 0 failed\n"


@pytest.mark.parametrize(
    ("trick", "got"),
    [
        ("sys.exit(7)", "nothing: it ended with exit code 7"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "nothing: it was ended by signal 15"),
        ("os.close(1); time.sleep(60)", "nothing: it closed its output"),
        ("time.sleep(60)", "nothing: no answer within 2 s"),
        ("print('{\"id\": 2', end='', flush=True); time.sleep(60)", "nothing: no answer within 2 s"),
        ("print('hello', flush=True)", "nothing: no JSON object: 'hello'"),
        ("print('[1]', flush=True)", "nothing: no JSON object: '[1]'"),
        ('print(\'{"id":2,"id":2}\', flush=True)', 'nothing: no JSON object: \'{"id":2,"id":2}\''),
        ("request['id'] = 9", "nothing: an answer with id 9, expected 2"),
        ("request['id'] = True", "nothing: an answer with id true, expected 2"),
        ("print('{}', flush=True)", "nothing: an answer with id null, expected 2"),
        (
            "request['name'] = 'lm_head.bias'",
            '{"stack": null, "layer": null, "role": "lm_head", "expert": null, "factor": "bias"}',
        ),
        ("request['name'] = ''", '{"code": "tensor-name"}'),
    ],
)
def test_a_case_that_goes_wrong_fails_and_the_run_goes_on(conformance: Any, program: Any, trick: str, got: str) -> None:
    result = conformance("--implementation", program(_tricky(trick)), "--timeout", 2)
    assert result == Result(
        3,
        f"FAIL b: Case b.\n  expected {json.dumps(_RIGHT)}\n  got      {got}\n2 passed, 1 failed\n",
        "",
    )


def test_an_implementation_that_ends_at_once_fails_every_case(conformance: Any, program: Any) -> None:
    result = conformance("--implementation", program(""))
    assert result.code == 3
    assert result.out.count("got      nothing: it ended with exit code 0") == 3
    assert result.out.endswith("\n0 passed, 3 failed\n")


def test_an_answer_without_end_is_cut(conformance: Any, program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ual_registry.workflows.implementation._MAX_ANSWER_BYTES", 100)
    result = conformance("--implementation", program(_tricky("print('x' * 200, end='', flush=True); time.sleep(60)")))
    assert "got      nothing: an answer of more than 100 bytes\n2 passed, 1 failed\n" in result.out


def test_what_is_long_is_shortened_for_people(conformance: Any, program: Any) -> None:
    command = program(_tricky("print(json.dumps({'id': 2, 'x': 'y' * 9000}), flush=True); continue"))
    result = conformance("--implementation", command)
    assert result.out.splitlines()[2] == '  got      {"x": "' + "y" * (2000 - 7) + " ..."


def test_the_report_as_json_has_every_case(conformance: Any, program: Any) -> None:
    command = program(_tricky("sys.exit(7)"))
    result = conformance("--implementation", command, "--format", "json")
    common = {"operation": "parse_name", "expected": _RIGHT}
    assert result.code == 3
    assert result.document == {
        "passed": 2,
        "failed": 1,
        "cases": [
            {"name": "a", **common, "passed": True, "reason": None, "got": _RIGHT},
            {"name": "b", **common, "passed": False, "reason": "it ended with exit code 7", "got": None},
            {"name": "c", **common, "passed": True, "reason": None, "got": _RIGHT},
        ],
    }
    assert conformance("--implementation", command, "--json") == result


def test_the_report_as_junit_has_a_failure_per_failed_case(conformance: Any, program: Any, tmp_path: Path) -> None:
    target = tmp_path / "report.xml"
    words = ("--implementation", program(_tricky("sys.exit(7)")), "--format", "junit", "-o", target)
    assert conformance(*words) == Result(3, "2 passed, 1 failed\n", "")
    assert (
        check_junit(target.read_text())
        == f"""<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="ual conformance" tests="3" failures="1" errors="0">
  <testsuite name="ual conformance" tests="3" failures="1" errors="0">
    <testcase name="a" classname="ual conformance.parse_name" />
    <testcase name="b" classname="ual conformance.parse_name">
      <failure type="conformance" message="it ended with exit code 7">  expected {json.dumps(_RIGHT)}
  got      nothing: it ended with exit code 7</failure>
    </testcase>
    <testcase name="c" classname="ual conformance.parse_name" />
  </testsuite>
</testsuites>
"""
    )


def test_serving_answers_standard_input(capfdbinary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"id": 1, "operation": "parse_name", "name": ""}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(request).encode())))
    assert run(["conformance", "--serve"]) == 0
    assert capfdbinary.readouterr().out == b'{"id": 1, "code": "tensor-name"}\n'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give either --implementation CMD or --serve"),
        (("--implementation", "x", "--serve"), "give either --implementation CMD or --serve"),
        (("--implementation", "x", "--json", "--format", "text"), "--json and --format text contradict one another"),
        (("--implementation", "x", "--timeout", "0"), "0.0 is not in the range x>0."),
    ],
)
def test_a_wrong_call_is_told(conformance: Any, words: tuple[str, ...], message: str) -> None:
    result = conformance(*words)
    assert result.code == 2
    assert message in result.err


@pytest.mark.parametrize(
    ("command", "message", "hint"),
    [
        ("no-such-command", "cannot run no-such-command: No such file or directory", "check the path"),
        ("'", 'cannot run "\'": No closing quotation', "check the quotes"),
        (" ", "cannot run an empty command", "name the command of an implementation"),
    ],
)
def test_a_command_that_cannot_be_run_is_told(conformance: Any, command: str, message: str, hint: str) -> None:
    result = conformance("--implementation", command)
    assert result == Result(11, "", f"error [storage]: {message}\nhint: {hint}\n")


def test_a_folder_without_vectors_is_told(conformance: Any, tmp_path: Path) -> None:
    result = conformance("--implementation", "x", "--vectors", tmp_path / "none")
    assert result == Result(
        11,
        "",
        f"error [storage]: cannot read {tmp_path / 'none'}: no conformance vectors in it\n"
        "hint: give a folder with a case.json at some depth\n",
    )


def test_an_installation_without_vectors_asks_for_them(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ual_registry.workflows.conformance._DEFAULT", tmp_path / "none")
    assert run(["conformance", "--implementation", "x"]) == 11
    assert capfd.readouterr().err == (
        "error [storage]: this installation carries no conformance vectors\n"
        "hint: give --vectors FOLDER: the folder spec/vectors of the source\n"
    )


@pytest.mark.parametrize(
    "document",
    [[], {}, {"description": "x", "operation": "guess", "expected": {}}, {"description": "x", "operation": "validate"}],
)
def test_a_vector_that_is_none_is_told(conformance: Any, vectors: Path, document: Any) -> None:
    file = vectors / "b" / "case.json"
    file.write_text(json.dumps(document))
    expected = (
        f"error [format]: {file}: expected an object with description, expected and a known operation "
        "(validate, canonicalize, tensor_digest, parse_name, resolve)\n"
    )
    assert conformance("--implementation", "x") == Result(3, "", expected)


def _validation(**expected: Any) -> Case:
    return Case(name="x", description="X.", operation="validate", request={}, expected=expected)


_FAULT = {"code": "shape", "place": "w"}
_SCHEMA = {"code": "schema", "place": "manifest.kind"}
_WARNING = {"code": "newer-version", "place": "manifest.air_version"}


@pytest.mark.parametrize(
    ("expected", "got", "passed"),
    [
        (([], []), ([], []), True),
        (([], []), ([], [_WARNING]), False),
        (([], [_WARNING]), ([], [{"code": "newer-version", "place": "elsewhere"}] * 2), True),
        (([_FAULT], []), ([_FAULT, _SCHEMA], []), True),
        (([_FAULT], []), ([_SCHEMA, _FAULT], []), False),
        (([_FAULT], []), ([{"code": "shape", "place": "v"}], []), False),
        (([_FAULT], []), ([], []), False),
        (([{"code": "schema"}], []), ([_SCHEMA], []), True),
        (([{"code": "schema"}], []), ([_FAULT], []), False),
    ],
)
def test_a_validation_is_compared_by_its_first_fault_and_its_warnings(expected: Any, got: Any, passed: bool) -> None:
    case = _validation(valid=not expected[0], faults=expected[0], warnings=expected[1])
    result = judge(case, {"valid": not expected[0], "faults": got[0], "warnings": got[1]})
    assert result.passed is passed
    assert result.reason == (None if passed else "another answer")


@pytest.mark.parametrize(
    "got",
    [
        {},
        {"code": "storage"},
        {"valid": True, "faults": None, "warnings": []},
        {"valid": True, "faults": [], "warnings": [1]},
        {"valid": 1, "faults": [], "warnings": []},
        {"valid": True, "faults": [], "warnings": [{"code": []}]},
        {"valid": "\ud800", "faults": [], "warnings": []},
    ],
)
def test_a_validation_of_another_form_fails(got: dict[str, Any]) -> None:
    assert judge(_validation(valid=True, faults=[], warnings=[]), got).reason == "another answer"


@pytest.mark.parametrize(
    ("expected", "got", "passed"),
    [
        ({"digest": "x"}, {"digest": "x"}, True),
        ({"digest": "x"}, {"digest": "x", "more": 1}, False),
        ({"code": "truncated"}, {"code": "truncated", "message": "free"}, True),
        ({"code": "truncated"}, {"digest": "x"}, False),
        ({"layer": 1}, {"layer": 1.0}, True),
        ({"layer": 1}, {"layer": True}, False),
    ],
)
def test_other_answers_are_compared_whole_and_refusals_by_their_code(
    expected: dict[str, Any], got: dict[str, Any], passed: bool
) -> None:
    case = Case(name="x", description="X.", operation="parse_name", request={}, expected=expected)
    assert judge(case, got).passed is passed


def test_files_of_a_vector_are_asked_for_by_absolute_paths(tmp_path: Path) -> None:
    more = {"description": "X.", "operation": "resolve", "expected": {}}
    _case(tmp_path, "1.0/x", **more, binder="b.json", config="c.json", modules=["path"], model_class="X")
    place = tmp_path / "1.0" / "x"
    assert load_cases(tmp_path) == [
        Case(
            name="1.0/x",
            description="X.",
            operation="resolve",
            request={
                "binder": str(place / "b.json"),
                "config": str(place / "c.json"),
                "modules": ["path"],
                "model_class": "X",
            },
            expected={},
        )
    ]
