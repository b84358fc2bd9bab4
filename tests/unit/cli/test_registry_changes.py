"""The commands that change the registry, and the one that tells what was done: texts, documents, exit codes, whole."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import small_adapter
from tests.unit.cli.conftest import Result, Ual
from ual_registry.air.write import write
from ual_registry.digest import Digest

PROTECTED = (
    "error [protected]: adapter 'med' has the protected alias 'live': it changes only by force and with a reason\n"
    "hint: ask who protected it ('ual log' tells), or change it by 'ual alias med live REV --force --why TEXT'\n"
)


def make(file: str, **changes: Any) -> str:
    """Write an adapter whose bytes are its own, and return its digest."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    return str(write(small_adapter(description=file, **changes), path))


@pytest.fixture
def two(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> Ual:
    """A registry with an adapter of two revisions."""
    monkeypatch.setenv("UAL_ACTOR", "ada")
    for name in ("1.air", "2.air"):
        make(name)
        assert ual("add", name, "--name", "med").code == 0
    return ual


def usage(result: Result) -> str:
    """Return the last line of a complaint about usage."""
    assert (result.code, result.out) == (2, "")
    return result.err.splitlines()[-1]


def test_add_says_what_it_did(ual: Ual) -> None:
    digest = str(Digest.of_file(Path("small.air")))
    assert ual("add", "small.air", "--name", "med") == Result(0, f"added med@1\n{digest}\n", "")
    assert ual("add", "small.air", "--name", "med", "--alias", "a", "--alias", "b") == Result(
        0, f"already there: med@1 (a, b)\n{digest}\n", ""
    )
    ual("yank", "med@1", "--why", "old")
    again = ual("add", "small.air", "--name", "med")
    assert again == Result(0, f"already there, and yanked: med@1\n{digest}\n", "")
    result = ual("add", "small.air", "--name", "other", "--alias", "a", "--json")
    assert result == Result(0, result.out, "")
    assert result.document == {
        "name": "other",
        "number": 1,
        "digest": digest,
        "is_new": True,
        "moves": [{"name": "other", "alias": "a", "previous": None, "number": 1, "is_protected": False}],
        "is_yanked": False,
    }


def test_add_sets_tags_owner_and_description(ual: Ual) -> None:
    words = ["--tag", "team=search", "--tag", "a=b=c", "--tag", "reviewed", "--owner", "ada", "--description", "x y"]
    assert ual("add", "small.air", "--name", "med", *words).code == 0
    assert ual("tag", "med", "--json").document == {
        "name": "med",
        "number": 1,
        "tags": {"a": "b=c", "reviewed": "", "team": "search"},
    }
    assert ual("describe", "med", "--json").document == {"name": "med", "owner": "ada", "description": "x y"}


def test_add_takes_folders_patterns_and_lists_and_names_by_file(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("many/b.air", "many/deep/a.air", "run1/best.air", "run2/best.air", "listed.air"):
        make(name)

    class Standard:
        buffer = io.BytesIO(b"listed.air\n")

    monkeypatch.setattr(sys, "stdin", Standard)
    assert ual("add", "many", "run*/best.air", "-", "--name-from", "file") == Result(
        0,
        "added b@1  many/b.air\n"
        "added a@1  many/deep/a.air\n"
        "added best@1  run1/best.air\n"
        "added best@2  run2/best.air\n"
        "added listed@1  listed.air\n",
        "",
    )


def test_add_of_many_names_by_manifest_and_goes_on_after_a_bad_file(ual: Ual) -> None:
    good, again = make("x.air", name="medical"), make("y.air", name="medical")
    (Path("z.air")).write_bytes(b"1234567")
    words = ["z.air", "x.air", "none.air", "peft", "y.air", "--name-from", "manifest", "--alias", "live"]

    result = ual("add", *words, "--json")

    peft_hint = "a PEFT folder becomes an AIR file by 'ual convert peft FILE.air --base BASE'"
    failed = [
        ("peft", "folder", "peft: is a folder, expected an AIR file", peft_hint),
        ("z.air", "truncated", "z.air: file has 7 bytes, fewer than the 8 that hold the header's length", None),
        ("none.air", "storage", "cannot read none.air: No such file or directory", "check the path"),
    ]
    assert result.code == 3
    assert result.document == {
        "added": [
            {
                "path": path,
                "name": "medical",
                "number": number,
                "digest": digest,
                "is_new": True,
                "moves": [
                    {
                        "name": "medical",
                        "alias": "live",
                        "previous": number - 1 or None,
                        "number": number,
                        "is_protected": False,
                    }
                ],
                "is_yanked": False,
            }
            for number, (path, digest) in enumerate((("x.air", good), ("y.air", again)), start=1)
        ],
        "failed": [dict(zip(("path", "code", "message", "hint"), values, strict=True)) for values in failed],
    }
    assert result.err == "".join(
        f"error [{code}]: {message}\n" + (f"hint: {hint}\n" if hint else "") for _, code, message, hint in failed
    )


def test_add_of_many_where_none_is_good_says_so(ual: Ual) -> None:
    result = ual("add", "none.air", "--name-from", "file")
    assert result == Result(
        11,
        "nothing was added\n",
        "error [storage]: cannot read none.air: No such file or directory\nhint: check the path\n",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["small.air"], "Error: give either --name or --name-from"),
        (["small.air", "--name", "x", "--name-from", "file"], "Error: give either --name or --name-from"),
        (
            ["small.air", "broken.air", "--name", "x"],
            "Error: several paths need --name-from file, or --name-from manifest",
        ),
        (["--name", "x"], "Error: Missing argument 'PATH...'."),
    ],
)
def test_add_wants_one_way_to_name(ual: Ual, words: list[str], message: str) -> None:
    assert usage(ual("add", *words)) == message


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("peft", "a PEFT folder becomes an AIR file by 'ual convert peft FILE.air --base BASE'"),
        ("empty", "it holds no file whose name ends in .air"),
        ("full", "the AIR files in it are added by --name-from file, or --name-from manifest"),
    ],
)
def test_add_of_a_folder_under_one_name_is_refused_with_the_way_out(ual: Ual, place: str, hint: str) -> None:
    Path("full/inside").mkdir(parents=True)
    make("full/inside/x.air", name="medical")
    assert ual("add", place, "--name", "x") == Result(
        3, "", f"error [folder]: {place}: is a folder, expected an AIR file\nhint: {hint}\n"
    )


def test_alias_says_where_it_points_and_pointed(two: Ual) -> None:
    assert two("alias", "med", "production", "1") == Result(0, "med@production is revision 1\n", "")
    assert two("alias", "med", "production", "2") == Result(0, "med@production is revision 2 (was 1)\n", "")
    assert two("alias", "med", "new", "production", "--expected", "0", "--json").document == {
        "name": "med",
        "alias": "new",
        "previous": None,
        "number": 2,
        "is_protected": False,
    }
    assert two("alias", "med", "production", "1", "--expected", "1") == Result(
        8,
        "",
        "error [conflict]: adapter 'med' has alias 'production' on revision 2 (expected revision 1)\n"
        "hint: read it again and retry\n",
    )


def test_a_protected_alias_moves_only_by_force_and_with_a_reason(two: Ual) -> None:
    assert two("alias", "med", "live", "1", "--protect") == Result(0, "med@live is revision 1, protected\n", "")
    assert two("alias", "med", "live", "2") == Result(8, "", PROTECTED)
    assert two("alias", "med", "live", "--delete") == Result(8, "", PROTECTED)
    forced = ["--force", "--why", "it is better"]
    assert two("alias", "med", "live", "2", *forced) == Result(0, "med@live is revision 2 (was 1), protected\n", "")
    assert two("alias", "med", "live", "--unprotect", *forced) == Result(0, "med@live is revision 2\n", "")
    assert two("alias", "med", "live", "--delete", "--expected", "2", "--json").document == {
        "name": "med",
        "alias": "live",
        "previous": 2,
        "number": None,
        "is_protected": False,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Error: give REV, --protect, --unprotect or --delete"),
        (["1", "--force"], "Error: --force needs --why TEXT"),
        (["1", "--delete"], "Error: --delete goes with neither REV nor --protect"),
        (["--delete", "--protect"], "Error: --delete goes with neither REV nor --protect"),
    ],
)
def test_alias_wants_one_thing_to_do(ual: Ual, words: list[str], message: str) -> None:
    assert usage(ual("alias", "med", "live", *words)) == message


def test_tag_shows_what_is_set_then(two: Ual) -> None:
    assert two("tag", "med@1", "team=search", "reviewed") == Result(0, "med@1\n  reviewed\n  team=search\n", "")
    assert two("tag", "med@1", "--remove", "team", "--remove", "none") == Result(0, "med@1\n  reviewed\n", "")
    assert two("tag", "med@1", "a b") == Result(
        8, "", "error [name]: tag 'a b': expected a key of 1 to 128 characters without spaces and '='\n"
    )


def test_yank_hides_and_shows(two: Ual) -> None:
    assert two("yank", "med", "--why", "leaked data") == Result(0, "med@2 is yanked: leaked data\n", "")
    assert two("yank", "med@2", "--undo", "--json").document == {
        "name": "med",
        "number": 2,
        "is_yanked": False,
        "reason": None,
    }
    assert two("yank", "med@2", "--undo") == Result(0, "med@2 is not yanked\n", "")
    for words in ([], ["--why", "x", "--undo"]):
        assert usage(two("yank", "med@2", *words)) == "Error: give either --why TEXT or --undo"


def test_describe_sets_shows_and_clears(two: Ual) -> None:
    assert two("describe", "med") == Result(0, "med\n  owner: -\n  description: -\n", "")
    assert two("describe", "med", "--owner", "search", "--description", "for clinics") == Result(
        0, "med\n  owner: search\n  description: for clinics\n", ""
    )
    assert two("describe", "med", "--owner", "") == Result(0, "med\n  owner: -\n  description: for clinics\n", "")


def test_log_tells_what_was_done_newest_first_and_in_pages(two: Ual) -> None:
    two("alias", "med", "live", "1")
    two("yank", "med@2", "--why", "leaked data")

    result = two("log", "med", "--limit", "3")

    lines = [re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", line).split() for line in result.out.splitlines()]
    assert (result.code, lines) == (
        0,
        [
            ["when", "who", "what"],
            ["TIME", "ada", "yank", "med@2", "why", "leaked", "data"],
            ["TIME", "ada", "alias", "med@1", "alias", "live,", "previous", "null"],
            ["TIME", "ada", "add", "med@2"],
        ],
    )
    found = re.fullmatch(r"more: --after (\S+)\n", result.err)
    assert found is not None
    rest = two("log", "med", "--after", found[1], "--json").document
    assert (rest["next"], [entry["detail"] for entry in rest["entries"]]) == (None, [{"number": 1}])
    assert two("log", "--after", "x") == Result(
        8,
        "",
        "error [cursor]: cursor 'x': none that 'ual log' printed\n"
        "hint: take the one at the end of a page, or leave it out to begin\n",
    )
