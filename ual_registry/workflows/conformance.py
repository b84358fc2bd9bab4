"""Run the conformance vectors against an implementation, in this process or another (spec: conformance)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.errors import FormatError, StorageError
from ual_registry.storage import read_file
from ual_registry.workflows.answers import OPERATIONS
from ual_registry.workflows.implementation import Implementation, NoAnswerError

__all__ = ["Case", "CaseResult", "ConformanceReport", "judge", "load_cases", "run_conformance"]

_DEFAULT = Path(__file__).resolve().parents[2] / "spec" / "vectors"
_FILE = "case.json"
_PATHS = ("path", "binder", "config")
_OWN = {"description", "operation", "expected"}
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One vector.

    Attributes:
        name: Its folder, from the folder of all vectors.
        description: What it shows.
        operation: What is asked.
        request: The fields of the request, files by absolute paths.
        expected: The answer, its ``id`` left out.
    """

    name: str
    description: str
    operation: str
    request: Mapping[str, Any]
    expected: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What became of one vector.

    Attributes:
        case: The vector.
        got: The answer; ``None`` where there was none.
        reason: Why it failed; ``None`` where it passed.
    """

    case: Case
    got: Mapping[str, Any] | None
    reason: str | None

    @property
    def passed(self) -> bool:
        """Whether the answer is the expected one."""
        return self.reason is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformanceReport:
    """What became of every vector, in their order."""

    results: tuple[CaseResult, ...]

    @property
    def failures(self) -> tuple[CaseResult, ...]:
        """The vectors that failed."""
        return tuple(result for result in self.results if not result.passed)

    @property
    def passed_count(self) -> int:
        """How many passed."""
        return len(self.results) - len(self.failures)


def run_conformance(command: str, *, vectors: str | Path | None = None, timeout_s: float = 10.0) -> ConformanceReport:
    """Ask a command every vector.

    Args:
        command: The command line of an implementation.
        vectors: The folder of the vectors; by default that of the checkout.
        timeout_s: Seconds to wait for each answer.

    Raises:
        FormatError: A vector is no vector.
        StorageError: There are no vectors, or the command cannot be started.
    """
    cases = load_cases(vectors)
    with Implementation(command, timeout_s=timeout_s) as implementation:
        results = [_result(case, number, implementation.ask) for number, case in enumerate(cases, start=1)]
    return ConformanceReport(results=tuple(results))


def _result(case: Case, number: int, ask: Callable[[Mapping[str, Any]], dict[str, Any]]) -> CaseResult:
    try:
        got = ask({"id": number, "operation": case.operation, **case.request})
    except NoAnswerError as error:
        return CaseResult(case=case, got=None, reason=str(error))
    return judge(case, got)


def judge(case: Case, got: Mapping[str, Any]) -> CaseResult:
    """Compare an answer, its ``id`` left out, with the expected one."""
    is_same = _form(case, got, case.expected) == _form(case, case.expected, case.expected)
    return CaseResult(case=case, got=got, reason=None if is_same else "another answer")


def _form(case: Case, answer: Mapping[str, Any], expected: Mapping[str, Any]) -> bytes | None:
    """Bring what is compared of an answer into one form; ``None`` where it has none."""
    try:
        return canonical_bytes(_compared(case, answer, expected))
    except (AttributeError, FormatError, KeyError, TypeError):
        return None  # not of the form that the operation asks for


def _compared(case: Case, answer: Mapping[str, Any], expected: Mapping[str, Any]) -> Any:
    if case.operation == "validate":
        warnings = sorted({warning["code"] for warning in answer["warnings"]})
        return [answer["valid"], [_fault(fault) for fault in answer["faults"][:1]], warnings]
    return answer["code"] if "code" in expected else answer


def _fault(fault: Mapping[str, Any]) -> list[str]:
    """Take the code, and the place except of a schema, whose validators differ."""
    return [fault["code"]] if fault["code"] == "schema" else [fault["code"], fault["place"]]


def load_cases(vectors: str | Path | None = None) -> list[Case]:
    """Read every vector of a folder, at any depth, sorted by name.

    Args:
        vectors: The folder; by default that of the checkout.

    Raises:
        FormatError: A vector is no vector.
        StorageError: There is no such folder, or no vector in it.
    """
    if vectors is None and not _DEFAULT.is_dir():
        raise StorageError(
            "this installation carries no conformance vectors",
            hint="give --vectors FOLDER: the folder spec/vectors of the source",
        )
    folder = _DEFAULT if vectors is None else Path(vectors)
    files = sorted(folder.rglob(_FILE))
    if not files:
        raise StorageError(
            f"cannot read {folder}: no conformance vectors in it",
            context={"path": str(folder)},
            hint=f"give a folder with a {_FILE} at some depth",
        )
    return sorted((_load(file, folder) for file in files), key=lambda case: case.name)


def _load(file: Path, folder: Path) -> Case:
    document = parse_json(read_file(file, limit_bytes=_MAX_BYTES), what=str(file))
    if not isinstance(document, dict) or not document.keys() >= _OWN or document["operation"] not in OPERATIONS:
        raise FormatError(
            f"{file}: expected an object with description, expected and a known operation ({', '.join(OPERATIONS)})",
            context={"path": str(file)},
        )
    request = {
        key: str((file.parent / value).absolute()) if key in _PATHS else value
        for key, value in document.items()
        if key not in _OWN
    }
    return Case(
        name=file.parent.relative_to(folder).as_posix(),
        description=document["description"],
        operation=document["operation"],
        request=request,
        expected=document["expected"],
    )
