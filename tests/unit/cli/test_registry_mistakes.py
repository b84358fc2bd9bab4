"""Silly mistakes with the commands of the registry: what the system refuses is told as that, what is odd is said."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Result, Ual
from ual_registry.workflows import store

LONG = "n" * 300
TOO_LONG = "File name too long"

REFUSED = {
    f"get med -o {LONG}/a.air": f"cannot read {{work}}/{LONG}: {TOO_LONG}",
    f"export -o {LONG}/a": f"cannot read {{work}}/{LONG}: {TOO_LONG}",
    f"export -o {LONG} --force": f"cannot read {LONG}: {TOO_LONG}",
    f"import {LONG}": f"cannot read {LONG}: {TOO_LONG}",
    f"fsck --repair-from {LONG}": f"cannot read {LONG}/sha256: {TOO_LONG}",
    f"add {LONG}/a.air --name a": f"cannot read {LONG}/a.air: {TOO_LONG}",
    f"add {LONG}/a.air --name-from file": f"cannot read {LONG}/a.air: {TOO_LONG}",
    f"show {LONG}/a.air": f"cannot read {LONG}/a.air: {TOO_LONG}",
}
"""What the system does not even tell the kind of, as in a folder that somebody may not enter."""


@pytest.fixture
def shelf(ual: Ual) -> Ual:
    """A registry of one adapter."""
    assert ual("add", "small.air", "--name", "med").code == 0
    return ual


@pytest.mark.parametrize("command", REFUSED)
def test_what_the_system_refuses_is_no_bug(shelf: Ual, folder: Path, command: str) -> None:
    result = shelf(*shlex.split(command))
    assert (result.code, result.err) == (11, f"error [storage]: {REFUSED[command].format(work=folder)}\n")


def test_a_store_that_cannot_be_looked_at_is_told_of(shelf: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = shelf("list", "--json").document["adapters"][0]["newest"]["digest"].removeprefix("sha256:")
    monkeypatch.setenv("UAL_STORE_URL", LONG)
    place = f"{LONG}/sha256/{digest[:2]}/{digest}"
    for command in ("get med -o out.air", "show med"):
        assert shelf(*shlex.split(command)) == Result(11, "", f"error [storage]: cannot read {place}: {TOO_LONG}\n")


def refused(*_: Any, **__: Any) -> Any:
    raise PermissionError(13, "Permission denied", "/somewhere/else")


def test_a_refusal_that_nobody_thought_of_is_told_as_one(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "list_adapters", refused)
    assert ual("list") == Result(
        11,
        "",
        "error [storage]: cannot use /somewhere/else: Permission denied\n"
        "hint: check the permissions of the file and its folder\n",
    )
    assert ual("list", "--json").document["error"]["context"] == {"path": "/somewhere/else"}


@pytest.mark.parametrize("command", ["add small.air --name med --tag a=1 --tag a=2", "tag med a=1 b a=2"])
def test_a_tag_has_one_value(shelf: Ual, command: str) -> None:
    result = shelf(*shlex.split(command))
    assert (result.code, result.out) == (2, "")
    assert result.err.endswith("a is given twice, as '1' and as '2'\n")
    assert shelf("tag", "med").out == "med@1\n"
    assert shelf("tag", "med", "a=1", "a=1").out == "med@1\n  a=1\n"


def test_a_second_yank_keeps_the_first_reason_and_says_so(shelf: Ual) -> None:
    assert shelf("yank", "med@1", "--why", "leaked").out == "med@1 is yanked: leaked\n"
    assert shelf("yank", "med@1", "--why", "too old").out == "med@1 was yanked before: leaked\n"


def test_what_is_said_of_an_adapter_cannot_look_like_another_line(shelf: Ual) -> None:
    result = shelf("describe", "med", "--owner", "me\nroot")
    assert (result.code, result.err) == (
        8,
        "error [text]: owner 'me\\nroot': expected up to 256 characters, none of them a control character\n",
    )
    told = shelf("describe", "med", "--description", "First.\nSecond.").out
    assert told.endswith("\n  description: First.\n    Second.\n")
    assert shelf("yank", "med@1", "--why", "leaked\nmed@2 is fine").out == (
        "med@1 is yanked: leaked\n    med@2 is fine\n"
    )


def test_an_adapter_is_not_written_to_standard_output(shelf: Ual) -> None:
    result = shelf("get", "med@1", "-o", "-")
    told = "Error: give the name of a file; an adapter is not written to standard output"
    assert (result.code, result.err.splitlines()[-1]) == (2, told)
    assert not Path("-").exists()


def test_a_tag_is_not_set_and_removed_at_once(shelf: Ual) -> None:
    result = shelf("tag", "med@1", "a=1", "--remove", "a")
    assert (result.code, result.err.splitlines()[-1]) == (2, "Error: a is to be set and to be removed")


def test_get_does_not_write_over_the_registry_nor_over_a_device(shelf: Ual) -> None:
    home = Path(os.environ["UAL_HOME"])
    before = (home / "registry.db").read_bytes()
    inside = next(path for path in (home / "blobs" / "sha256").rglob("*") if path.is_file())
    Path("link").symlink_to(home / "registry.db")
    for target in (home / "registry.db", home / "registry.db-wal", inside, home / "blobs" / "new.air", Path("link")):
        result = shelf("get", "med@1", "-o", str(target), "--force")
        assert (result.code, result.err.splitlines()) == (
            11,
            [
                f"error [exists]: cannot write {target}: it belongs to the registry",
                "hint: choose a place outside of the registry",
            ],
        )
    assert (home / "registry.db").read_bytes() == before
    os.mkfifo("pipe")
    for words in ((), ("--force",)):
        result = shelf("get", "med@1", "-o", "pipe", *words)
        assert (result.code, result.err.splitlines()) == (
            11,
            [
                "error [exists]: cannot write pipe: it is no file but a device, a pipe or a socket",
                "hint: choose the name of a file",
            ],
        )
    assert Path("pipe").is_fifo()


def test_a_list_of_nobody_says_so(shelf: Ual) -> None:
    for owner in ("", "nobody"):
        told = "no adapter has this owner; 'ual add FILE.air --name NAME' adds to it\n"
        assert shelf("list", "--owner", owner).err == told
    result = shelf("list", "--owner", "\udcff")
    assert (result.code, result.err) == (
        8,
        "error [text]: owner '\\udcff': expected up to 256 characters, none of them a control character\n",
    )


def test_a_blank_reason_is_no_reason(shelf: Ual) -> None:
    shelf("alias", "med", "production", "1", "--protect")
    result = shelf("alias", "med", "production", "--delete", "--force", "--why", " ")
    assert (result.code, result.err.splitlines()[-1]) == (2, "Error: --force needs --why TEXT")


def test_a_text_of_another_direction_stays_in_its_place(shelf: Ual) -> None:
    """Words of every script are shown as they are; what turns the rest of a line round is escaped."""
    tags = ["צוות=חיפוש", "a\u202eb=\u2066c\u2069"]
    assert shelf("tag", "med", *tags).out == "med@1\n  a\\u202eb=\\u2066c\\u2069\n  צוות=חיפוש\n"
    assert shelf("tag", "med", "--json").document["tags"] == {"a\u202eb": "\u2066c\u2069", "צוות": "חיפוש"}
