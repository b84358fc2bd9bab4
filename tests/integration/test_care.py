"""Looking after a registry while others use it, when processes are killed, and on stores that refuse."""

from __future__ import annotations

import datetime
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.engines.server import Server
from tests.handmade import small_adapter
from tests.mounts import mounted
from tests.oci import check_layout
from tests.shell import run_here
from ual_registry.air.adapter import Adapter
from ual_registry.air.tensor import Segment, Tensor
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import ArtifactRow

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("UAL_FAULTS_KILLS", "4"))
LARGE_BYTES = int(os.environ.get("UAL_FAULTS_LARGE_BYTES", "300000000"))
"""``make faults`` asks for more of both."""

_EXTRA = "extra.base_model.model.score.weight"


class _Zeros:
    """A source of zeros that takes no memory."""

    def read(self, offset: int, length: int) -> bytes:
        return bytes(length)


def write_large(path: Path, size_bytes: int) -> None:
    """Write an adapter whose extra tensor has some bytes, in little memory."""
    small = small_adapter()
    extra = Tensor("I8", (size_bytes,), (Segment(_Zeros(), 0, size_bytes),))
    write(Adapter(small.manifest, {**small.tensors, _EXTRA: extra}), path)


def environment(**more: str) -> dict[str, str]:
    """Return what a child process sees; those that are killed write no coverage."""
    return {key: value for key, value in os.environ.items() if not key.startswith("COV")} | more


def start(*words: object, **more: str) -> subprocess.Popen[str]:
    """Start a process of ``tests.integration.caring``."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.caring", *map(str, words)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**more),
    )


def go_on(adding: subprocess.Popen[str]) -> None:
    """Let a process that adds take its next files."""
    assert adding.stdin is not None
    adding.stdin.write("\n")
    adding.stdin.flush()


def run_ual(*arguments: object, limit_bytes: int | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line; in a process of its own where that may write no file larger than ``limit_bytes``."""
    if limit_bytes is None:
        return run_here(*arguments, folder=ROOT, environment=environment(**more))
    return subprocess.run(
        [sys.executable, "-m", "tests.integration.limited", str(limit_bytes), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=environment(**more),
    )


def check(registry: Registry, said: list[str]) -> None:
    """Check that a registry is sound and holds everything that was said to be there."""
    report = registry.fsck(deep=True)
    assert report.faults == ()
    for digest in said:
        assert Digest.of_file(registry.find(digest)) == Digest.parse(digest)


def tombstones(registry: Registry) -> list[str]:
    """Return the digests of the artifacts whose bytes were deleted, sorted."""
    statement = select(ArtifactRow.digest).where(ArtifactRow.deleted_at.is_not(None)).order_by(ArtifactRow.digest)
    with registry.database.session() as session:
        return list(session.scalars(statement))


def test_gc_that_is_killed_over_and_over_loses_nothing_that_others_add(registry: Registry, tmp_path: Path) -> None:
    """One process adds what looks like garbage and yanks every other file; others collect garbage, and are killed.

    They collect without a grace, so that what is yanked goes at once and leaves a tombstone.
    """
    chance = random.Random(5)
    adding = start("add", tmp_path / "added", 10)
    for _ in range(KILLS):
        collecting = start("gc", tmp_path)
        assert collecting.stdout is not None
        collecting.stdout.readline()
        go_on(adding)  # so that there is something to collect whenever it is killed
        time.sleep(chance.uniform(0, 0.3))
        collecting.send_signal(signal.SIGKILL)
        _, errors = collecting.communicate(timeout=30)
        assert (collecting.returncode, errors) == (-signal.SIGKILL, "")
    output, errors = adding.communicate(timeout=60 + 10 * KILLS)

    assert (adding.returncode, errors) == (0, "")
    said = output.split()
    assert len(said) == 10 * KILLS
    kept, yanked = said[::2], said[1::2]
    check(registry, kept)
    buried = tombstones(registry)  # by those that were killed
    assert buried
    assert set(buried) <= set(yanked)
    done = run_ual("gc", "--grace", "0", "--yanked", "--apply")
    assert (done.returncode, done.stderr) == (0, "")
    check(registry, kept)
    assert registry.fsck().notes == ()
    assert tombstones(registry) == sorted(yanked)
    assert sorted(str(digest) for digest in registry.blobs.walk()) == sorted(kept)
    assert list(registry.blobs.walk_staging()) == []


def test_adding_that_is_killed_leaves_at_worst_garbage(registry: Registry, tmp_path: Path) -> None:
    chance = random.Random(6)
    said: list[str] = []
    for index in range(KILLS):
        adding = start("add", tmp_path / f"a{index}", 500)
        go_on(adding)
        assert adding.stdout is not None
        first = adding.stdout.readline()
        time.sleep(chance.uniform(0, 0.2))
        adding.send_signal(signal.SIGKILL)
        output, errors = adding.communicate(timeout=30)
        assert (adding.returncode, errors) == (-signal.SIGKILL, "")
        said += [line for line in [first.strip(), *output.split()] if len(line) == 71]
    check(registry, said)
    registry.gc(grace=datetime.timedelta(0), apply=True)
    check(registry, said)
    assert (registry.fsck().notes, list(registry.blobs.walk_staging())) == ((), [])


def memory_of(*words: object, **more: str) -> int:
    """Return how many bytes of memory a process of ``tests.integration.caring`` took at most."""
    process = start(*words, **more)
    output, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (0, "")
    return int(output)


def test_whatever_is_done_with_a_large_file_takes_little_memory(home: Path, tmp_path: Path) -> None:
    """One file goes all the way from registry to registry; what a step no longer needs is deleted, as it is large."""
    write_large(tmp_path / "big.air", LARGE_BYTES)
    taken = {"add": memory_of("add-big", tmp_path / "big.air")}
    (tmp_path / "big.air").unlink()
    taken["get"] = memory_of("get-big", tmp_path / "got.air")
    assert (tmp_path / "got.air").stat().st_size > LARGE_BYTES
    (tmp_path / "got.air").unlink()
    taken["fsck"] = memory_of("fsck-big", home)
    taken["export"] = memory_of("export-big", tmp_path / "out")
    shutil.rmtree(home)
    taken["import"] = memory_of("import-big", tmp_path / "out", UAL_HOME=str(tmp_path / "new"))
    assert Registry.open(tmp_path / "new").find("big").stat().st_size > LARGE_BYTES
    assert {step: size for step, size in taken.items() if size >= 100_000_000} == {}
    for folder in ("out", "new"):
        shutil.rmtree(tmp_path / folder)


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    """A file of three megabytes."""
    write_large(tmp_path / "large.air", 3_000_000)
    return tmp_path / "large.air"


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    """A small file."""
    write(small_adapter(description="small"), tmp_path / "small.air")
    return tmp_path / "small.air"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes, where the system lets one be made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", disk):
        yield disk


def files_of(folder: Path) -> list[Path]:
    """Return every file in a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_store_on_a_full_disk_refuses_and_keeps_what_it_has(
    registry: Registry, small_disk: Path, small_file: Path, large_file: Path, tmp_path: Path
) -> None:
    store = {"UAL_STORE_URL": str(small_disk / "blobs")}
    assert run_ual("add", small_file, "--name", "small", **store).returncode == 0

    done = run_ual("add", large_file, "--name", "large", **store)

    assert (done.returncode, done.stdout) == (11, "")
    assert done.stderr.startswith(f"error [storage]: cannot write {small_disk}/blobs/staging/")
    assert done.stderr.splitlines()[0].endswith(": No space left on device")
    assert len(files_of(small_disk)) == 1
    assert run_ual("get", "small", "-o", tmp_path / "out.air", **store).returncode == 0
    assert run_ual("fsck", "--deep", **store).returncode == 0
    assert run_ual("gc", "--grace", "0", "--apply", **store).returncode == 0


def test_an_export_to_a_full_disk_leaves_nothing(registry: Registry, small_disk: Path, large_file: Path) -> None:
    registry.add(large_file, name="large")
    done = run_ual("export", "-o", small_disk / "out")
    assert (done.returncode, done.stdout, files_of(small_disk)) == (11, "", [])
    assert done.stderr.splitlines()[0].endswith(": No space left on device")


def test_an_import_to_a_full_disk_leaves_no_names(
    registry: Registry, small_disk: Path, small_file: Path, large_file: Path, tmp_path: Path
) -> None:
    registry.add(small_file, name="small")
    registry.add(large_file, name="large")
    registry.export(tmp_path / "out")
    place = {"UAL_HOME": str(tmp_path / "new"), "UAL_STORE_URL": str(small_disk / "blobs"), "UAL_DATABASE_URL": ""}
    done = run_ual("import", tmp_path / "out", **place)
    assert (done.returncode, done.stdout) == (11, "")
    assert done.stderr.splitlines()[0].endswith(": No space left on device")
    assert run_ual("search", "--json", **place).stdout.count('"name"') == 0
    assert run_ual("fsck", **place).returncode == 0


@pytest.mark.parametrize("word", ["export", "import"])
def test_a_limit_on_the_size_of_files_is_told_of(
    registry: Registry, large_file: Path, tmp_path: Path, word: str
) -> None:
    registry.add(large_file, name="large")
    registry.export(tmp_path / "out")
    arguments = ["export", "-o", tmp_path / "again"] if word == "export" else ["import", tmp_path / "out"]
    home = {"UAL_HOME": str(tmp_path / "new"), "UAL_DATABASE_URL": ""} if word == "import" else {}
    assert run_ual("list", **home).returncode == 0
    done = run_ual(*arguments, limit_bytes=2_000_000, **home)
    assert (done.returncode, done.stdout) == (11, "")
    assert done.stderr.splitlines()[0].endswith(": File too large")
    assert not (tmp_path / "again").exists()
    assert files_of(tmp_path / "new" / "blobs") == []


@pytest.fixture
def read_only_store(registry: Registry, small_file: Path) -> Iterator[Path]:
    """The store of a registry that holds one adapter, a loose blob, and takes no writes any more."""
    registry.add(small_file, name="small")
    loose = registry.blobs.place(Digest.of_bytes(b"loose"))
    loose.parent.mkdir(exist_ok=True)
    loose.write_bytes(b"loose")
    root = registry.blobs.root
    with mounted("--bind", "-o", "ro", root, root):
        yield root


def test_a_read_only_store_can_be_read_and_says_what_it_refuses(
    read_only_store: Path, large_file: Path, tmp_path: Path
) -> None:
    done = run_ual("add", large_file, "--name", "large")
    assert (done.returncode, done.stdout) == (11, "")
    assert done.stderr.splitlines()[0].startswith(f"error [storage]: cannot write {read_only_store}/staging/")
    done = run_ual("gc", "--grace", "0", "--apply")
    assert (done.returncode, done.stdout) == (11, "")
    assert done.stderr.splitlines()[0].endswith(": Read-only file system")
    assert run_ual("gc", "--grace", "0").returncode == 0
    assert run_ual("fsck", "--deep").returncode == 0
    assert run_ual("get", "small", "-o", tmp_path / "out.air").returncode == 0
    assert run_ual("export", "-o", tmp_path / "out").returncode == 0
    check_layout(tmp_path / "out")


def test_a_server_that_goes_away_while_files_are_added_is_told_of(
    own_server: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UAL_DATABASE_URL", own_server.url)
    assert run_ual("db", "upgrade").returncode == 0
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(400):
        write(small_adapter(description=f"number {index}"), folder / f"{index}.air")
    adding = subprocess.Popen(
        [sys.executable, "-m", "ual_registry", "add", str(folder), "--name-from", "file"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    for _ in range(600):
        if len(files_of(home / "blobs" / "sha256")) > 20 or adding.poll() is not None:
            break
        time.sleep(0.05)
    os.kill(own_server.process, signal.SIGQUIT)  # ends at once, as a crash does
    output, errors = adding.communicate(timeout=120)

    assert adding.returncode == 8, (output, errors)
    assert errors.startswith("error [unavailable]: registry postgresql://")
    assert "Traceback" not in output + errors
    done = run_ual("fsck")
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr.startswith("error [unavailable]: ")
