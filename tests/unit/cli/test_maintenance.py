"""gc, fsck, export and import on the command line: their words, their documents, their exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.handmade import small_adapter
from ual_registry.air.write import write
from ual_registry.cli.main import run
from ual_registry.digest import Digest
from ual_registry.registry.registry import Registry


@pytest.fixture
def one(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An embedded registry that holds one adapter; the current folder is an empty one."""
    write(small_adapter(description="one"), tmp_path / "one.air")
    registry = Registry.open()
    registry.add(tmp_path / "one.air", name="one", aliases=["good"])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return registry


def put(registry: Registry, data: bytes) -> Digest:
    digest = Digest.of_bytes(data)
    registry.blobs.place(digest).parent.mkdir(parents=True, exist_ok=True)
    registry.blobs.place(digest).write_bytes(data)
    return digest


def test_gc_says_what_it_would_delete_and_deletes_it_when_asked(
    one: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gc"]) == 0
    assert capsys.readouterr() == ("no garbage\n", "")
    digest = put(one, b"loose")
    line = f"blob           5 B  {digest}\n"
    assert run(["gc", "--grace", "0"]) == 0
    assert capsys.readouterr() == (f"{line}--apply deletes this and frees 5 B\n", "")
    assert run(["gc", "--grace", "0", "--apply"]) == 0
    assert capsys.readouterr() == (f"{line}freed 5 B\n", "")
    one.blobs.staging.mkdir(exist_ok=True)
    (one.blobs.staging / "left").write_bytes(b"x")
    assert run(["gc", "--grace", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "is_applied": False,
        "grace_s": 0,
        "size_bytes": 1,
        "garbage": [
            {"kind": "staged", "digest": None, "path": str(one.blobs.staging / "left"), "size_bytes": 1, "names": []}
        ],
    }


def test_a_duration_that_is_none_is_refused(one: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gc", "--grace", "soon"]) == 8
    assert capsys.readouterr().err == (
        "error [duration]: duration 'soon': expected a whole number of at most 9 digits and s, m, h, d or w\n"
        "hint: such as 24h or 7d\n"
    )
    assert run(["fsck", "--since", "x"]) == 8


def test_fsck_exits_with_8_until_what_is_wrong_is_repaired(
    one: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = one.find("one")
    size = place.stat().st_size
    assert run(["fsck", "--deep"]) == 0
    assert capsys.readouterr() == (f"1 blobs, {size / 1000:.3g} kB re-hashed: 0 faults\n", "")
    assert run(["export", "-o", "backup", "-q"]) == 0
    capsys.readouterr()
    place.write_bytes(b"short")

    assert run(["fsck"]) == 8
    line = f"wrong-size: {place} has 5 bytes, expected {size} (one@1)"
    assert capsys.readouterr() == (f"{line}\n1 blobs, 0 B re-hashed: 1 faults\n", "")
    assert run(["fsck", "--repair-from", "backup", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "is_sound": True,
        "blobs": 1,
        "hashed_bytes": 0,
        "faults": [
            {
                "kind": "wrong-size",
                "message": f"{place} has 5 bytes, expected {size}",
                "digest": str(one.resolve("one")),
                "names": ["one@1"],
                "is_repaired": True,
            }
        ],
        "notes": [],
    }
    assert run(["fsck"]) == 0


def test_export_replaces_only_an_export_and_only_when_asked(one: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "-o", "out"]) == 0
    size = one.find("one").stat().st_size
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"wrote out: 1 adapters, 1 revisions, {size / 1000:.3g} kB"
    assert run(["export", "-o", "out"]) == 11
    assert capsys.readouterr().err.startswith("error [exists]: cannot write out: it exists already\n")
    assert run(["export", "-o", "out", "--force", "--query", "name:none"]) == 0
    assert capsys.readouterr().out.startswith("wrote out: 0 adapters, 0 revisions, 0 B\n")
    Path("mine").mkdir()
    Path("mine/file").write_text("kept")
    assert run(["export", "-o", "mine", "--force"]) == 11
    assert Path("mine/file").read_text() == "kept"


def test_import_says_what_became_of_each_adapter(
    one: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", "-o", "out", "-q"]) == 0
    capsys.readouterr()
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "two"))
    assert run(["import", "out"]) == 0
    assert capsys.readouterr() == ("new one, added 1\n1 artifacts, 1 of them new\n", "")
    assert run(["import", "out"]) == 0
    assert capsys.readouterr() == ("1 artifacts, 0 of them new\n", "")

    monkeypatch.setenv("UAL_HOME", str(tmp_path / "three"))
    write(small_adapter(description="other"), tmp_path / "other.air")
    Registry.open().add(tmp_path / "other.air", name="one", aliases=["good"])
    assert run(["import", "out"]) == 8
    assert capsys.readouterr().err == (
        "error [conflict]: one@1 has other bytes here; nothing was imported\n"
        "hint: --on-conflict renumber gives new numbers, --on-conflict skip leaves such adapters out\n"
    )
    assert run(["import", "out", "--on-conflict", "skip"]) == 0
    assert capsys.readouterr().out == "skipped one: one@1 has other bytes here\n1 artifacts, 0 of them new\n"
    assert run(["import", "out", "--on-conflict", "renumber"]) == 0
    assert capsys.readouterr().out == (
        "extended one, added 2, 1 is 2 here; kept as it is here: alias good of one\n1 artifacts, 1 of them new\n"
    )
    assert run(["import", "out", "--on-conflict", "renumber", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "artifacts": 1,
        "new_artifacts": 0,
        "adapters": [
            {
                "name": "one",
                "outcome": "unchanged",
                "added": [],
                "renumbered": [{"from": 1, "to": 2}],
                "conflicts": ["one@1 is one@2 here"],
                "kept": ["alias good of one"],
            }
        ],
    }


@pytest.mark.parametrize("command", [["gc"], ["fsck"], ["export", "-o", "out"]])
def test_progress_is_shown_on_a_terminal_alone(
    one: Registry, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(command) == 0
    assert "blobs: 0 of 1" in capsys.readouterr().err
    assert run([*command, "-q", *(["--force"] if command[0] == "export" else [])]) == 0
    assert capsys.readouterr().err == ""
