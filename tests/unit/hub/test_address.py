"""Addresses on the Hub: what is one, what is none, and what its parts are."""

from __future__ import annotations

import pytest

from ual_registry.errors import HubError
from ual_registry.hub.address import HubAddress, is_hub, is_path, is_repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HINT = "write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION, or hf:OWNER/NAME@REVISION:PATH"


@pytest.mark.parametrize(
    ("text", "parts", "full"),
    [
        ("org/name", ("org/name", None, None), "hf:org/name"),
        ("hf:org/name", ("org/name", None, None), "hf:org/name"),
        ("hf:Org-1/na.me_2", ("Org-1/na.me_2", None, None), "hf:Org-1/na.me_2"),
        ("org/name@v1.0", ("org/name", "v1.0", None), "hf:org/name@v1.0"),
        ("org/name@refs/pr/7", ("org/name", "refs/pr/7", None), "hf:org/name@refs/pr/7"),
        (f"hf:org/name@{COMMIT}", ("org/name", COMMIT, None), f"hf:org/name@{COMMIT}"),
        ("hf:org/name:a.air", ("org/name", None, "a.air"), "hf:org/name:a.air"),
        ("org/name@dev:sub/a b.air", ("org/name", "dev", "sub/a b.air"), "hf:org/name@dev:sub/a b.air"),
        ("org/name:x@y.air", ("org/name", None, "x@y.air"), "hf:org/name:x@y.air"),
    ],
)
def test_an_address_has_a_repository_and_where_told_a_revision_and_a_path(
    text: str, parts: tuple[str, str | None, str | None], full: str
) -> None:
    address = HubAddress.parse(text)
    assert ((address.repository, address.revision, address.path), str(address)) == (parts, full)
    assert HubAddress.parse(full) == address


@pytest.mark.parametrize("end", ["", "/", "/tree/main"])
def test_the_address_of_a_page_is_refused_with_what_is_meant(end: str) -> None:
    with pytest.raises(HubError) as caught:
        HubAddress.parse(f"https://huggingface.co/org/name{end}")
    assert caught.value.hint == "write org/name, the end of its address"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is no repository (expected owner/name)"),
        ("hf:", "'' is no repository (expected owner/name)"),
        ("gpt2", "'gpt2' is no repository (expected owner/name)"),
        ("hf:a/b/c", "'a/b/c' is no repository (expected owner/name)"),
        ("hf://org/name", "'//org/name' is no repository (expected owner/name)"),
        ("org/../name", "'org/../name' is no repository (expected owner/name)"),
        ("org/na--me", "'org/na--me' is no repository (expected owner/name)"),
        ("org/name.git", "'org/name.git' is no repository (expected owner/name)"),
        ("-org/name", "'-org/name' is no repository (expected owner/name)"),
        ("org/name-", "'org/name-' is no repository (expected owner/name)"),
        ("org/na me", "'org/na me' is no repository (expected owner/name)"),
        ("org/name\n", "'org/name\\n' is no repository (expected owner/name)"),
        ("https://huggingface.co/org", "'https' is no repository (expected owner/name)"),
        ("org/name@", "'' is no revision (expected a branch, a tag or a commit)"),
        ("org/name@-x", "'-x' is no revision (expected a branch, a tag or a commit)"),
        ("org/name@a b", "'a b' is no revision (expected a branch, a tag or a commit)"),
        ("org/name@a..b", "'a..b' is no revision (expected a branch, a tag or a commit)"),
        ("org/name@v?x", "'v?x' is no revision (expected a branch, a tag or a commit)"),
        ("org/name:", "'' is no path in a repository"),
        ("org/name:../x", "'../x' is no path in a repository"),
        ("org/name:/etc", "'/etc' is no path in a repository"),
        ("org/name:a\x1b", "'a\\x1b' is no path in a repository"),
    ],
)
def test_what_is_no_address_is_refused_with_the_form_of_one(text: str, reason: str) -> None:
    with pytest.raises(HubError) as caught:
        HubAddress.parse(text)
    error = caught.value
    assert (error.problem_code, error.message, error.hint, error.context) == (
        "hub-address",
        f"cannot read the address {text!r}: {reason}",
        HINT,
        {"address": text},
    )


def test_a_very_long_address_is_refused_in_a_short_message() -> None:
    with pytest.raises(HubError) as caught:
        HubAddress.parse("a" * 100_000)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("text", "expected"), [("hf:org/name", True), ("hf:", True), ("org/name", False), ("HF:x/y", False), ("", False)]
)
def test_an_address_on_the_command_line_begins_with_its_mark(text: str, expected: bool) -> None:
    assert is_hub(text) is expected


def test_a_repository_has_an_owner_unless_old_ids_are_meant() -> None:
    ids = ("org/name", "gpt2", "a" * 97, "a/" + "b" * 94, "a/" + "b" * 95)
    assert [is_repository(text) for text in ids] == [True, False, False, True, False]
    assert [is_repository(text, owned=False) for text in ids] == [True, True, False, True, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", True),
        ("a/b.air", True),
        (".gitattributes", True),
        ("ä/ü.air", True),
        ("", False),
        ("a/", False),
        ("/a", False),
        ("a//b", False),
        ("./a", False),
        ("a/../b", False),
        ("..\\a", False),
        ("C:\\a", False),
        ("a\nb", False),
        ("a\x00b", False),
        ("a" * 1001, False),
    ],
)
def test_a_path_stays_in_its_repository(text: str, expected: bool) -> None:
    assert is_path(text) is expected
