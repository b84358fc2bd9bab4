"""Which files are meant, and how many are checked at once."""

from __future__ import annotations

import io
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.handmade import small_adapter
from tests.legacy_files import document, record, write_document
from tests.web_server import serve
from ual_registry.air.policy import Policy
from ual_registry.air.problem import Problem, ValidationReport
from ual_registry.air.tensor import FileSource
from ual_registry.air.write import write
from ual_registry.errors import StorageError
from ual_registry.workflows import validate as workflow
from ual_registry.workflows.validate import find_files, validate, validate_many


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files and folders whose names say what they are."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.air", "a.air", "a.txt", "deep/er/c.air", "deep/b.air", "deep/[x].air", "none/of.txt", "-"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return tmp_path


def found(*words: str, listed: bytes = b"") -> list[str]:
    return find_files(words, standard_input=io.BytesIO(listed))


def test_a_folder_means_the_files_in_it_sorted(place: Path) -> None:
    assert found("deep") == ["deep/[x].air", "deep/b.air", "deep/er/c.air"]
    assert found("./deep/") == ["./deep/[x].air", "./deep/b.air", "./deep/er/c.air"]
    assert found(".") == ["./a.air", "./b.air", "./deep/[x].air", "./deep/b.air", "./deep/er/c.air"]


def test_a_folder_without_files_means_itself(place: Path) -> None:
    assert found("none") == ["none"]


def test_a_pattern_means_what_it_matches_sorted(place: Path) -> None:
    assert found("*.air") == ["a.air", "b.air"]
    assert found("deep/**/*.air") == ["deep/[x].air", "deep/b.air", "deep/er/c.air"]
    assert found("d*") == ["deep/[x].air", "deep/b.air", "deep/er/c.air"]
    assert found("*.none") == ["*.none"]


def test_a_file_is_no_pattern(place: Path) -> None:
    assert found("deep/[x].air") == ["deep/[x].air"]


def test_words_keep_their_order_and_nothing_is_found_twice(place: Path) -> None:
    assert found("b.air", "a.txt", "*.air", "missing", "b.air") == ["b.air", "a.txt", "a.air", "missing"]


@pytest.mark.parametrize("listed", [b"b.air\n\ndeep\n", b"b.air\r\ndeep", b"b.air\0\0deep\0"])
def test_standard_input_lists_paths(place: Path, listed: bytes) -> None:
    assert found("-", listed=listed) == ["b.air", "deep/[x].air", "deep/b.air", "deep/er/c.air"]


def test_standard_input_holds_neither_patterns_nor_addresses_nor_text(place: Path) -> None:
    assert found("a.air", "-", listed=b"*.air\nhttps://127.0.0.1/x.air\n-\n\xff.air") == [
        "a.air",
        "*.air",
        "./https://127.0.0.1/x.air",
        "-",
        os.fsdecode(b"\xff.air"),
    ]
    assert found("-") == []


def test_an_address_is_no_pattern(place: Path) -> None:
    assert found("https://127.0.0.1/*.air?x=[1]") == ["https://127.0.0.1/*.air?x=[1]"]


def test_an_address_is_read_by_its_header_even_where_all_is_asked_for(tmp_path: Path) -> None:
    write(small_adapter(), tmp_path / "x.air")
    local = validate(tmp_path / "x.air")
    data = bytearray((tmp_path / "x.air").read_bytes())
    data[-1] ^= 1
    with serve(bytes(data)) as site:
        report = validate(site.url, policy=Policy(require=("license",)))
        assert len(site.asked) == 1
    assert (report.path, report.facts) == (site.url, local.facts)
    assert [problem.code for problem in report.problems] == ["policy-license"]


def test_a_server_that_cannot_be_read_is_a_problem() -> None:
    with serve(b"", "missing") as site:
        report = validate(site.url)
    message = f"cannot read {site.url}: the server answered 404 Not Found"
    assert report == ValidationReport(
        path=site.url, problems=(Problem(code="remote-status", place="", message=message, branch="storage"),)
    )


def test_a_folder_that_cannot_be_listed_is_a_problem_of_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    message = f"cannot read {tmp_path}: Permission denied"
    hint = "check the permissions of the file and its folder"
    assert validate(tmp_path).problems == (
        Problem(code="storage", place="", message=message, hint=hint, branch="storage"),
    )


def test_headers_only_reads_the_header_and_not_a_byte_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(small_adapter(), tmp_path / "x.air")
    size = (tmp_path / "x.air").stat().st_size
    header_bytes = 8 + int.from_bytes((tmp_path / "x.air").read_bytes()[:8], "little")
    reads: list[int] = []
    plain, into = FileSource.read, FileSource.read_into

    def counted(self: FileSource, offset: int, length: int) -> bytes:
        reads.append(length)
        return plain(self, offset, length)

    def counted_into(self: FileSource, offset: int, place: memoryview) -> None:
        reads.append(len(place))
        into(self, offset, place)

    monkeypatch.setattr(FileSource, "read", counted)
    monkeypatch.setattr(FileSource, "read_into", counted_into)
    assert validate(tmp_path / "x.air", headers_only=True).ok
    assert (sum(reads), header_bytes < size) == (header_bytes, True)
    reads.clear()
    assert validate(tmp_path / "x.air").ok
    assert sum(reads) == size


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Enough files for processes; every fifth is broken and one is missing."""
    monkeypatch.chdir(tmp_path)
    write(small_adapter(), Path("0.air"))
    data = Path("0.air").read_bytes()
    for number in range(40):
        Path(f"{number}.air").write_bytes(data[: number if number % 5 == 1 else None])
    return [Path(f"{number}.air") for number in range(41)]


@pytest.mark.parametrize("headers_only", [False, True])
def test_processes_give_what_one_gives_in_the_same_order(many: list[Path], headers_only: bool) -> None:
    policy = Policy(require=("license",))
    alone = [validate(path, headers_only=headers_only, policy=policy) for path in many]
    assert sum(report.ok for report in alone) == 0
    for jobs in (None, 1, 2, 3):
        assert validate_many(many, headers_only=headers_only, policy=policy, jobs=jobs) == alone


def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of how many processes were started, time by time."""
    jobs: list[int] = []

    def pretend(_: object, paths: list[Path], count: int) -> list[ValidationReport]:
        jobs.append(count)
        return []

    monkeypatch.setattr(workflow, "_in_processes", pretend)
    return jobs


def test_a_few_files_start_no_process(many: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = started(monkeypatch)
    validate_many(many[:31], jobs=4)
    validate_many(many, jobs=1)
    validate_many([], jobs=4)
    assert jobs == []
    validate_many(many[:32], jobs=4)
    validate_many(many, jobs=100)
    monkeypatch.setattr(workflow, "_cores", lambda: 3)
    validate_many(many)
    assert jobs == [4, 41, 3]


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 7}, raising=False)
    assert workflow._cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert workflow._cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert workflow._cores() == 1


def test_a_process_is_copied_only_where_no_thread_can_hold_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(workflow.sys, "platform", "linux")
    assert workflow._start_method() == "fork"
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert workflow._start_method() == "spawn"
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(workflow.sys, "platform", "darwin")
    assert workflow._start_method() == "spawn"


def test_workers_prepare_worker() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        workflow._prepare_worker()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def end(*_: object, **__: object) -> None:
    os._exit(1)


def test_a_process_that_was_ended_from_outside_is_told(many: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "_start_method", lambda: "fork")
    monkeypatch.setattr(workflow, "_validate", end)
    with pytest.raises(StorageError) as caught:
        validate_many(many, jobs=2)
    error = caught.value
    assert (error.message, error.problem_code, error.hint) == (
        "a process that checked files was ended from outside",
        "worker-ended",
        "run again with --jobs 1",
    )


def test_a_file_of_the_predecessor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.air"
    write_document(path, document(record()))
    (problem,) = validate(path).problems
    assert problem.code == "header-too-large"
    hint = f"this is a JSON file of ual-adapter 0.1: 'ual convert {path} FILE.air --base BASE' first"
    assert problem.hint == hint


def test_an_unpacked_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "air-folder.json").touch()
    (problem,) = validate(tmp_path).problems
    assert problem.hint == f"this is an unpacked adapter: 'ual convert {tmp_path} FILE.air' first"


def test_addresses_on_the_hub_are_no_patterns_and_lists_name_files_alone() -> None:
    assert found("hf:org/name@v1:a*.air") == ["hf:org/name@v1:a*.air"]
    assert found("-", listed=b"hf:org/name\n") == ["./hf:org/name"]
