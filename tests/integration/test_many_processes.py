"""Several real processes at one registry, and processes that are killed."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.handmade import small_adapter
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import AliasRow, ArtifactRow, AuditRow, RevisionRow

ROOT = Path(__file__).parents[2]


def start(home: Path, folder: Path, count: int, name: str) -> subprocess.Popen[str]:
    """Start a process that adds."""
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.adding", str(home), str(folder), str(count), name],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Processes that are killed write no coverage, and those that are not cover nothing new.
        env={key: value for key, value in os.environ.items() if not key.startswith("COV")},
    )


def go(process: subprocess.Popen[str]) -> None:
    """Let a process that is ready begin."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def check(home: Path) -> Registry:
    """Check that every row has its blob and every number its predecessor."""
    registry = Registry.open(home)
    with registry.database.session() as session:
        artifacts = session.scalars(select(ArtifactRow.digest)).all()
        revisions = session.scalars(select(RevisionRow)).all()
        logged = session.scalars(select(AuditRow).where(AuditRow.action == "add")).all()
        newest = {row.adapter_id: row.revision_id for row in session.scalars(select(AliasRow))}
    for digest in artifacts:
        assert Digest.of_file(registry.blobs.find(Digest.parse(digest))) == Digest.parse(digest)
    by_adapter: dict[int, list[RevisionRow]] = {}
    for row in revisions:
        by_adapter.setdefault(row.adapter_id, []).append(row)
    for adapter, rows in by_adapter.items():
        rows.sort(key=lambda row: row.number)
        assert [row.number for row in rows] == list(range(1, len(rows) + 1))
        assert newest[adapter] == rows[-1].id  # the alias moves in the same transaction
    assert sorted(row.detail["digest"] for row in logged) == sorted(row.digest for row in revisions)
    return registry


def test_eight_processes_open_a_fresh_registry_at_once_and_add(tmp_path: Path) -> None:
    home = tmp_path / "home"
    processes = [start(home, tmp_path / str(index), 4, "shared") for index in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        go(process)
    results = [process.communicate(timeout=60) for process in processes]

    assert [errors for _, errors in results] == [""] * 8
    assert [process.returncode for process in processes] == [0] * 8
    numbers = [[int(line) for line in output.split()] for output, _ in results]
    assert sorted(number for own in numbers for number in own) == list(range(1, 33))
    assert all(own == sorted(own) for own in numbers)
    registry = check(home)
    assert [(record.name, record.revision_count, record.newest.number) for record in registry.list()] == [
        ("shared", 32, 32)
    ]
    assert list((home / "blobs" / "staging").iterdir()) == []


def test_a_process_killed_while_it_adds_leaves_no_row_without_its_blob(tmp_path: Path) -> None:
    """Two dozen kills at seeded moments, the first ones while the registry is being made."""
    chance = random.Random(20)
    home = tmp_path / "home"
    said, kills = 0, 24
    running = start(home, tmp_path / "0", 40, "shared")
    for index in range(kills):
        following = start(home, tmp_path / str(index + 1), 40, "shared")
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        go(running)
        time.sleep(chance.uniform(0, 0.3))
        running.send_signal(signal.SIGKILL)
        output, errors = running.communicate(timeout=30)
        assert (running.returncode, errors) == (-signal.SIGKILL, "")
        said += len(output.split())
        registry = check(home)
        found = registry.list()
        assert [record.name for record in found] == (["shared"] if found else [])
        # What a process said was done is done; one more may have been done and not said, at each kill.
        assert said <= (found[0].revision_count if found else 0) <= said + index + 1
        registry.database.engine.dispose()
        running = following
    running.kill()
    running.communicate()

    path = tmp_path / "last.air"
    write(small_adapter(description="last"), path)
    registry = check(home)
    before = registry.list()[0].revision_count
    assert registry.add(path, name="shared", aliases=["newest"]).number == before + 1
    assert check(home).list()[0].newest.digest == str(Digest.of_file(path))


def run_ual(*arguments: object, home: Path, limit_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line, with a limit on the size of files that it may write."""

    def limit() -> None:
        if limit_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.run(
        [sys.executable, "-m", "ual_registry", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
        env={key: value for key, value in os.environ.items() if not key.startswith("COV")} | {"UAL_HOME": str(home)},
    )


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    """A file larger than the limit of the tests below."""
    path = tmp_path / "large.air"
    write(small_adapter(description="x" * 60_000, annotations={f"example.k{i}": "y" * 60_000 for i in range(10)}), path)
    assert path.stat().st_size > 500_000
    return path


def test_a_full_disk_is_told_of_and_leaves_nothing(tmp_path: Path, large_file: Path) -> None:
    home = tmp_path / "home"
    assert run_ual("list", home=home).returncode == 0

    result = run_ual("add", large_file, "--name", "large", home=home, limit_bytes=300_000)

    staged = home / "blobs" / "staging"
    assert (result.returncode, result.stdout) == (11, "")
    assert result.stderr.startswith(f"error [storage]: cannot write {staged}/")
    assert result.stderr.endswith(": File too large\n")
    assert [path for path in (home / "blobs").rglob("*") if path.is_file()] == []
    assert Registry.open(home).list() == ()

    Registry.open(home).add(large_file, name="large")
    result = run_ual("get", "large", "-o", tmp_path / "out.air", home=home, limit_bytes=300_000)
    assert (result.returncode, result.stdout) == (11, "")
    assert result.stderr == f"error [storage]: cannot write {tmp_path / 'out.air'}: File too large\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "large.air"]


def test_a_disk_too_full_for_the_database_is_told_of(tmp_path: Path) -> None:
    result = run_ual("list", home=tmp_path / "home", limit_bytes=0)
    assert (result.returncode, result.stdout) == (8, "")
    assert result.stderr == (
        f"error [unavailable]: registry sqlite:///{tmp_path}/home/registry.db: disk I/O error\n"
        "hint: check that the database can be reached and written\n"
    )


@pytest.fixture
def read_only_home(tmp_path: Path) -> Iterator[Path]:
    """A registry that refuses to be written, where the system lets one be made."""
    home = tmp_path / "home"
    Registry.open(home).database.engine.dispose()
    if os.geteuid() != 0:
        home.chmod(0o500)
        yield home
        home.chmod(0o700)
        return
    mounted = subprocess.run(["mount", "--bind", "-o", "ro", str(home), str(home)], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("root ignores permissions, and mounting is not permitted here")
    yield home
    subprocess.run(["umount", str(home)], check=True)


def test_a_registry_that_cannot_be_written_is_told_of(large_file: Path, read_only_home: Path) -> None:
    result = run_ual("add", large_file, "--name", "large", home=read_only_home)
    assert (result.returncode, result.stdout) == (8, "")
    first, second = result.stderr.splitlines()  # which of its files SQLite cannot make depends on the system
    assert first.startswith(f"error [unavailable]: registry sqlite:///{read_only_home}/registry.db: ")
    assert second == "hint: check that the database can be reached and written"
