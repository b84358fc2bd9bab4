"""The command line as real processes: pipes, signals, encodings, and interpreters without torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engines.databases import SqliteFiles
from tests.handmade import LLAMA_CONFIG, small_adapter
from tests.shell import run_here
from ual_registry.air.write import write

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path, sqlite_files: SqliteFiles) -> Path:
    """A folder with an adapter, a base model and an empty registry."""
    sqlite_files.ready(tmp_path / "home" / "registry.db")
    write(small_adapter(domain="médecine"), tmp_path / "small.air")
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide" / "config.json").write_text(json.dumps({**LLAMA_CONFIG, "intermediate_size": 8}))
    return tmp_path


def environment(place: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "UAL_HOME": str(place / "home"), **more}


def ual(place: Path, *arguments: str | bytes, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one command in ``place``."""
    return subprocess.run(
        [sys.executable, "-m", "ual_registry", *arguments],
        cwd=place,
        env=environment(place, **more),
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        timeout=60,
    )


def prepare(place: Path, *arguments: object) -> None:
    """Run a command that only makes what a test needs; no process of its own is needed for that."""
    done = run_here(*arguments, folder=place, environment=environment(place))
    assert done.returncode == 0, done.stderr


def shell(place: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which ``ual`` is the command."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'ual() {{ "{sys.executable}" -m ual_registry "$@"; }}; {line}'],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_exit_code_of_a_process_is_that_of_the_branch(place: Path) -> None:
    (place / "bad.air").write_bytes(b"x")
    codes = {
        ("--version",): 0,
        ("list",): 0,
        ("none",): 2,
        ("validate", "bad.air"): 3,
        ("transfer", "small.air", "--to", "bad.air", "--plan"): 4,
        ("show", "none"): 8,
        ("show", "none.air"): 11,
    }
    results = {words: ual(place, *words) for words in codes}
    assert {words: result.returncode for words, result in results.items()} == codes
    assert not any("Traceback" in result.stderr for result in results.values())


def test_a_document_is_all_there_is_on_standard_output(place: Path) -> None:
    prepare(place, "add", "small.air", "--name", "med")
    for words in (["list"], ["show", "med"], ["search", "rank:2"], ["lineage", "med"], ["validate", "small.air"]):
        result = ual(place, *words, "--json")
        assert (result.returncode, result.stderr) == (0, "")
        assert isinstance(json.loads(result.stdout), dict)
    assert "médecine" in ual(place, "list", "--json").stdout


def test_a_reader_that_goes_away_is_no_error(place: Path) -> None:
    prepare(place, "add", "small.air", "--name", "med")
    for line in ("ual list", "ual show med --json", "ual search -h", "ual --help", "ual show none --json 2>/dev/null"):
        result = shell(place, f"{{ sleep 0.2; {line}; echo $? >code; }} | true; exec true")
        assert result.stderr == ""
        expected = "8" if "none" in line else "0"
        assert (place / "code").read_text().strip() == expected, line
    assert shell(place, "ual list | head -1").stdout.split()[0] == "adapter"


def test_standard_output_that_cannot_be_written_is_told_of(place: Path) -> None:
    for line in ("ual list -q >/dev/full", "ual list -q --json >/dev/full"):
        result = shell(place, line)
        assert (result.returncode, result.stdout) == (11, "")
        assert result.stderr == "error [storage]: cannot write standard output: No space left on device\n"


def test_ctrl_c_ends_a_command_with_130(place: Path) -> None:
    """The command waits for a registry that another process migrates; a lock holds it there."""
    import filelock

    (place / "home" / "registry.db").unlink()
    with filelock.FileLock(f"{place / 'home' / 'registry.db'}.lock"):
        process = subprocess.Popen(
            [sys.executable, "-m", "ual_registry", "list"],
            env=environment(place),
            cwd=place,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(2.5)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors.strip()) == (130, "", "interrupted")


def test_a_terminal_without_the_characters_gets_escapes(place: Path) -> None:
    prepare(place, "add", "small.air", "--name", "med")
    prepare(place, "transfer", "med", "--to", "wide", "-o", "moved.air")
    prepare(place, "add", "moved.air", "--name", "moved")
    result = ual(place, "lineage", "moved", PYTHONIOENCODING="latin-1")
    assert (result.returncode, result.stdout.splitlines()[1].split()[0]) == (0, "\\u2514\\u2500")


def test_a_path_that_is_no_text_is_told_of(place: Path) -> None:
    result = ual(place, "show", b"\xff.air")
    assert (result.returncode, result.stdout) == (11, "")
    assert result.stderr.startswith("error [storage]: cannot read \\udcff.air: ")
    result = ual(place, "show", b"\xff.air", "--json")
    assert result.returncode == 11
    assert json.loads(result.stdout)["error"]["context"] == {"path": "\udcff.air"}
    (place / os.fsdecode(b"\xff.air")).write_bytes((place / "small.air").read_bytes())
    assert ual(place, "validate", b"\xff.air").returncode == 0
    assert ual(place, "add", b"\xff.air", "--name", "odd").returncode == 0


def test_what_a_file_says_cannot_command_a_terminal(place: Path) -> None:
    write(small_adapter(name="a\x1b[2Jb", domain="x\x07\u009by"), place / "evil.air")
    prepare(place, "add", "evil.air", "--name", "evil")
    result = ual(place, "show", "evil.air")
    assert "name       a\\x1b[2Jb\n" in result.stdout
    assert "x\\x07\\x9by" in ual(place, "list").stdout
    assert json.loads(ual(place, "show", "evil.air", "--json").stdout)["manifest"]["name"] == "a\x1b[2Jb"


BLOCKED = """
import sys
from importlib.abc import MetaPathFinder


class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "numpy", "transformers", "peft", "safetensors"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)




import importlib.util

genuine = importlib.util.find_spec


def find_spec(name, package=None):
    return None if name.partition(".")[0] in {"torch", "numpy"} else genuine(name, package)


importlib.util.find_spec = find_spec
sys.meta_path.insert(0, Refuse())
"""


def test_an_installation_without_torch_does_all_but_transfers(place: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKED)
    path = {"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}"}
    for words in (
        ("validate", "small.air"),
        ("show", "small.air"),
        ("add", "small.air", "--name", "med"),
        ("search", "rank:2"),
        ("lineage", "med"),
        ("get", "med", "-o", "out.air"),
        ("transfer", "med", "--to", "wide", "--plan"),
    ):
        result = ual(place, *words, **path)
        assert (result.returncode, result.stderr) == (0, ""), words
    result = ual(place, "transfer", "med", "--to", "wide", "-o", "moved.air", **path)
    assert (result.returncode, result.stdout) == (10, "")
    assert result.stderr == (
        "error [missing-extra]: transfer needs the extra 'torch', which is not installed\n"
        "hint: pip install 'ual-registry[torch]'\n"
    )
