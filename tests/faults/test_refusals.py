"""What a registry refuses: typed errors, exit codes, and nothing changed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.faults.model import snapshot
from tests.handmade import small_adapter
from tests.mounts import mounted
from ual_registry.air.write import write
from ual_registry.cli.main import run
from ual_registry.registry.registry import Registry

ROOT = Path(__file__).parents[2]


def ual(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line on the registry of the environment."""
    return subprocess.run(
        [sys.executable, "-m", "ual_registry", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if not key.startswith("COV")},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that may be added."""
    write(small_adapter(), tmp_path / "small.air")
    return tmp_path / "small.air"


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run a command in this process and return its exit code and what it said."""
    capsys.readouterr()
    code = run([str(word) for word in words])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc/passwd", f"sha256:../{'0' * 61}", f"sha256:{'0' * 63}/", f"sha256:{'A' * 64}"]
)
def test_a_digest_that_is_a_path_is_no_digest(
    registry: Registry, path: Path, tmp_path: Path, digest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.add(path, name="medical")
    before = snapshot(registry)
    target = tmp_path / "out.air"
    for words in (["get", digest, "-o", target], ["tag", digest, "a"], ["yank", digest, "--why", "x"], ["log", digest]):
        assert refusal(capsys, *words) == (
            3,
            "",
            f"error [digest-form]: digest {digest!r}: expected 'sha256:' and 64 lower-case hexadecimal digits\n",
        )
    assert not target.exists()
    assert snapshot(registry) == before


def test_a_writer_waits_until_another_process_has_ended_its_transaction(registry: Registry, path: Path) -> None:
    registry.add(path, name="medical")
    found = []
    with registry.database.session(writes=True) as session:
        session.execute(text("UPDATE adapters SET owner = 'ada' WHERE name = 'medical'"))
        waiting = threading.Thread(target=lambda: found.append(ual("describe", "medical", "--owner", "grace")))
        waiting.start()
        time.sleep(1.5)  # long enough to come to the lock, and no assertion hangs on it
    waiting.join(60)
    assert [(result.returncode, result.stderr) for result in found] == [(0, "")]
    assert registry.describe("medical").owner == "grace"


@pytest.fixture
def read_only_store(registry: Registry) -> Iterator[Path]:
    """A store that refuses to be written, where the system lets one be made."""
    store = registry.blobs.root
    store.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        store.chmod(0o500)
        yield store
        store.chmod(0o700)
        return
    with mounted("--bind", "-o", "ro", store, store):  # root ignores permissions
        yield store


def test_a_store_that_cannot_be_written_is_told_of_and_no_row_is_written(
    registry: Registry, path: Path, read_only_store: Path
) -> None:
    result = ual("add", path, "--name", "medical")
    assert (result.returncode, result.stdout) == (11, "")
    assert result.stderr.startswith(f"error [storage]: cannot write {read_only_store}")
    assert snapshot(registry) == {"adapters": {}, "log": 0}


def test_long_words_are_refused_by_name_and_change_nothing(
    registry: Registry, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.add(path, name="medical")
    before = snapshot(registry)
    long = "x" * 10_000_000
    for words in (
        ["add", path, "--name", long],
        ["add", path, "--name", "a", "--alias", long],
        ["add", path, "--name", "a", "--tag", long],
        ["add", path, "--name", "a", "--tag", f"a={long}"],
        ["add", path, "--name", "a", "--owner", long],
        ["add", path, "--name", "a", "--description", long],
        ["alias", "medical", long, "1"],
        ["tag", "medical", long],
        ["yank", "medical", "--why", long],
        ["describe", "medical", "--owner", long],
        ["log", long],
    ):
        code, out, err = refusal(capsys, *words)
        assert (code, out) == (8, "")
        assert err.startswith(("error [name]: ", "error [text]: "))
        assert len(err) < 400
    assert snapshot(registry) == before
