"""The journal of a mirror keeps every whole line, whatever happened to the last one, and belongs to one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ual_registry.errors import RegistryConflictError, RegistryError, StorageError
from ual_registry.workflows.mirror_journal import Journal, Mirrored, Refusal, Settled, Task

TASK = Task(endpoint="http://127.0.0.1:1", source="hf:org", target="registry")
FIRST = {"form": 1, "endpoint": "http://127.0.0.1:1", "source": "hf:org", "target": "registry"}
NEW = Settled(
    item="org/a",
    repository="org/a",
    commit="c" * 40,
    outcome="new",
    mirrored=(Mirrored(name="a", number=1, digest="sha256:" + "0" * 64, path="adapter.air", is_new=True),),
    tool="0.1.0",
)
REFUSED = Settled(
    item="org/b",
    repository="org/b",
    commit=None,
    outcome="refused",
    refusals=(Refusal(code="peft-pickle", message="org/b: ü \ud800", hint="convert it", path="sub"),),
    is_lasting=True,
)


def file_of(folder: Path, task: Task = TASK) -> Path:
    return folder / task.file_name


def lines(folder: Path) -> list[object]:
    return [json.loads(line) for line in file_of(folder).read_bytes().splitlines()]


def test_what_is_written_is_read_again_and_the_newest_counts(tmp_path: Path) -> None:
    newer = Settled(item="org/a", repository="org/a", commit="d" * 40, outcome="unchanged")
    with Journal.open(tmp_path / "mirrors", TASK) as journal:
        assert journal.settled("org/a") is None
        for settled in (NEW, REFUSED, NEW, newer, newer):
            journal.write(settled)
    with Journal.open(tmp_path / "mirrors", TASK) as journal:
        found = [journal.settled(item) for item in ("org/a", "org/b", "org/c")]
    assert found == [newer, REFUSED, None]
    assert lines(tmp_path / "mirrors")[0] == FIRST
    assert len(lines(tmp_path / "mirrors")) == 4


def test_each_task_has_a_journal_of_its_own(tmp_path: Path) -> None:
    tasks = [
        TASK,
        Task(endpoint="http://127.0.0.1:2", source="hf:org", target="registry"),
        Task(endpoint="http://127.0.0.1:1", source="hf:other", target="registry"),
        Task(endpoint="http://127.0.0.1:1", source="hf:org", target="other"),
    ]
    for task in tasks:
        with Journal.open(tmp_path, task) as journal:
            assert journal.settled("org/a") is None
            journal.write(NEW)
    assert len(list(tmp_path.glob("*.jsonl"))) == 4


@pytest.mark.parametrize("kept", range(1, 5))
def test_a_line_that_was_torn_at_any_place_is_cut_off_and_nothing_else_is_lost(tmp_path: Path, kept: int) -> None:
    with Journal.open(tmp_path, TASK) as journal:
        journal.write(NEW)
        whole = file_of(tmp_path).stat().st_size
        journal.write(REFUSED)
    size = file_of(tmp_path).stat().st_size
    os.truncate(file_of(tmp_path), whole + (size - whole - 1) * kept // 4)
    with Journal.open(tmp_path, TASK) as journal:
        assert (journal.settled("org/a"), journal.settled("org/b")) == (NEW, None)
        journal.write(REFUSED)
    with Journal.open(tmp_path, TASK) as journal:
        assert journal.settled("org/a") == NEW
        assert journal.settled("org/b") is not None


@pytest.mark.parametrize("size", [0, 1, 40])
def test_a_torn_first_line_is_begun_again(tmp_path: Path, size: int) -> None:
    with Journal.open(tmp_path, TASK):
        pass
    os.truncate(file_of(tmp_path), size)
    with Journal.open(tmp_path, TASK) as journal:
        journal.write(NEW)
    assert lines(tmp_path)[0] == FIRST
    assert len(lines(tmp_path)) == 2


@pytest.mark.parametrize(
    "line", [b"", b"\xff\xfe", b"null", b"[]", b'{"item": "org/x"}', b'{"mirrored": [1], "refusals": []}', b"{"]
)
def test_a_line_that_cannot_be_read_counts_as_not_there(tmp_path: Path, line: bytes) -> None:
    with Journal.open(tmp_path, TASK) as journal:
        journal.write(NEW)
    with file_of(tmp_path).open("ab") as stream:
        stream.write(line + b"\n")
    with Journal.open(tmp_path, TASK) as journal:
        assert journal.settled("org/a") == NEW
        journal.write(REFUSED)
        assert journal.settled("org/b") == REFUSED


@pytest.mark.parametrize("first", [b"hello", json.dumps({**FIRST, "form": 2}).encode(), b"{}"])
def test_a_file_that_is_another_journal_is_refused_and_left_alone(tmp_path: Path, first: bytes) -> None:
    file_of(tmp_path).write_bytes(first + b"\n")
    with pytest.raises(RegistryError) as caught, Journal.open(tmp_path, TASK):
        pass
    path = file_of(tmp_path)
    assert caught.value.message == f"{path}: is no journal of form 1 for this mirror"
    assert (caught.value.problem_code, path.read_bytes()) == ("mirror-journal", first + b"\n")


def test_a_second_one_is_refused_while_the_first_has_it(tmp_path: Path) -> None:
    with (
        Journal.open(tmp_path, TASK),
        pytest.raises(RegistryConflictError) as caught,
        Journal.open(tmp_path, TASK),
    ):
        pass
    assert caught.value.message == "another process mirrors hf:org to registry now"
    assert caught.value.problem_code == "mirror-busy"
    with Journal.open(tmp_path, TASK):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught, Journal.open(tmp_path / "file" / "mirrors", TASK):
        pass
    assert caught.value.message == f"cannot write {tmp_path}/file/mirrors/{TASK.file_name}: Not a directory"


def test_a_full_disk_takes_back_the_line_that_did_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.open(tmp_path, TASK) as journal:
        journal.write(NEW)
        before = file_of(tmp_path).read_bytes()

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StorageError, match="No space left on device"):
                journal.write(REFUSED)
        assert (file_of(tmp_path).read_bytes(), journal.settled("org/b")) == (before, None)
        journal.write(REFUSED)
    assert len(lines(tmp_path)) == 3


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    with Journal.open(tmp_path, TASK) as journal:

        def work(number: int) -> None:
            for index in range(20):
                item = f"org/{number}-{index}"
                journal.write(Settled(item=item, repository=item, commit=None, outcome="unchanged"))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Journal.open(tmp_path, TASK) as journal:
        found = [journal.settled(f"org/{number}-{index}") for number in range(6) for index in range(20)]
    assert [settled.item for settled in found if settled] == [f"org/{i}-{j}" for i in range(6) for j in range(20)]


WRITER = """
import sys
from pathlib import Path
from ual_registry.workflows.mirror_journal import Journal, Settled, Task

task = Task(endpoint="http://127.0.0.1:1", source="hf:org", target="registry")
with Journal.open(Path(sys.argv[1]), task) as journal:
    for index in range(100_000):
        journal.write(Settled(item=f"org/{index}", repository="org/x", commit=None, outcome="unchanged"))
        print(index, flush=True)
"""


def test_what_was_said_to_be_written_is_there_after_a_kill(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    said += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    with Journal.open(tmp_path, TASK) as journal:  # the lock went with the process
        assert [index for index in said if journal.settled(f"org/{index}") is None] == []
