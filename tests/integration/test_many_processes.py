"""Several real processes at one registry, and disks that refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.model import snapshot
from tests.handmade import small_adapter
from tests.mounts import mounted
from tests.shell import run_here
from ual_registry.air.write import write
from ual_registry.registry.registry import Registry

ROOT = Path(__file__).parents[2]
REVISIONS = int(os.environ.get("UAL_FAULTS_REVISIONS", "20"))
"""How many revisions each of eight processes adds."""


def add_from_eight_processes(tmp_path: Path, count: int, *names: str) -> list[Any]:
    """Let eight processes add ``count`` files each, all at once; return what each of them says."""
    folder = tmp_path / "files"
    folder.mkdir()
    return run_processes("tests.integration.adding", folder, 8, count, *names)


def run_processes(module: str, *words: object) -> list[Any]:
    """Run a module that starts processes; return what each of them says in a line of JSON."""
    result = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        # What these processes run is measured elsewhere.
        env={key: value for key, value in os.environ.items() if not key.startswith("COV")},
    )
    assert (result.returncode, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def check(count: int, numbers: list[list[int]]) -> None:
    """Check that every number from 1 on was given once, in everybody's order, and everything is in its place."""
    assert sorted(number for own in numbers for number in own) == list(range(1, count + 1))
    assert all(own == sorted(own) for own in numbers)
    registry = Registry.open()
    report = registry.fsck(deep=True)
    assert (report.blobs, report.faults, report.notes) == (count, (), ())
    state = snapshot(registry)
    assert state["log"] == 2 * count  # each revision and each move of the alias
    (adapter,) = state["adapters"].values()
    assert len({revision["digest"] for revision in adapter["revisions"]}) == count
    assert adapter["aliases"] == {"newest": count}
    assert list(registry.blobs.staging.iterdir()) == []
    registry.database.engine.dispose()


def test_eight_processes_open_a_fresh_registry_at_once_and_add(home: Path, tmp_path: Path) -> None:
    numbers = add_from_eight_processes(tmp_path, 4, "shared")
    check(32, numbers)
    assert (home / "registry.db").is_file()


@pytest.mark.usefixtures("registry")
def test_eight_processes_that_add_to_one_name_get_every_number_once(tmp_path: Path) -> None:
    numbers = add_from_eight_processes(tmp_path, REVISIONS, "shared")
    check(8 * REVISIONS, numbers)


def test_eight_processes_that_add_the_same_files_in_batches_agree(registry: Registry, tmp_path: Path) -> None:
    """Each batch locks what the other batches want, in an order of its own; whoever comes late finds what is there."""
    said = add_from_eight_processes(tmp_path, REVISIONS)

    files = [f"8-{number}" for number in range(REVISIONS)]
    places = [{file: own[file][:2] for file in files} for own in said]
    assert all(own == places[0] for own in places)
    names = {name: sorted(number for own, number in places[0].values() if own == name) for name in "012"}
    assert names == {name: list(range(1, len(numbers) + 1)) for name, numbers in names.items()}
    assert [sum(own[file][2] for own in said) for file in files] == [1] * REVISIONS
    assert snapshot(registry)["log"] == REVISIONS
    assert registry.fsck(deep=True).faults == ()


@pytest.mark.parametrize("before", [None, 9], ids=["new", "moved"])
def test_of_eight_processes_that_move_one_alias_from_where_they_saw_it_one_does(
    registry: Registry, tmp_path: Path, before: int | None
) -> None:
    """All of them read the alias before the first one moves it; whoever comes late is told that it has moved."""
    for number in range(1, 10):
        write(small_adapter(description=str(number)), tmp_path / f"{number}.air")
        aliases = ["production"] if number == before else []
        assert registry.add(tmp_path / f"{number}.air", name="shared", aliases=aliases).number == number
    log = snapshot(registry)["log"]

    said = run_processes("tests.integration.aliasing", 8, "shared", "production")

    assert {own["expected"] for own in said} == {before or 0}
    assert sorted(own["wanted"] for own in said) == list(range(1, 9))
    (winner,) = [own for own in said if own["refusal"] is None]
    assert (winner["previous"], winner["number"]) == (before, winner["wanted"])
    refusals = [own["refusal"] for own in said if own is not winner]
    context = {"name": "shared", "alias": "production", "found": winner["number"], "expected": before or 0}
    assert refusals == [{"type": "RegistryConflictError", "code": "conflict", "context": context}] * 7
    state = snapshot(registry)
    assert state["adapters"]["shared"]["aliases"] == {"production": winner["number"]}
    assert state["log"] == log + 1
    assert registry.fsck(deep=True).faults == ()


def run_ual(*arguments: object, home: Path, limit_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line; in a process of its own where that may write no file larger than ``limit_bytes``."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    environment["UAL_HOME"] = str(home)
    if limit_bytes is None:
        return run_here(*arguments, folder=ROOT, environment=environment)
    return subprocess.run(
        [sys.executable, "-m", "tests.integration.limited", str(limit_bytes), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
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
    assert Registry.open(home).list().items == ()

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
        "hint: check the disk: it may be full, damaged or gone\n"
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
    with mounted("--bind", "-o", "ro", home, home):  # root ignores permissions
        yield home


def test_a_registry_that_cannot_be_written_is_told_of(large_file: Path, read_only_home: Path) -> None:
    result = run_ual("add", large_file, "--name", "large", home=read_only_home)
    assert (result.returncode, result.stdout) == (8, "")
    first, second = result.stderr.splitlines()  # which of its files SQLite cannot make depends on the system
    assert first.startswith(f"error [unavailable]: registry sqlite:///{read_only_home}/registry.db: ")
    assert second == "hint: check the permissions of the file and of its folder, which SQLite writes too"
