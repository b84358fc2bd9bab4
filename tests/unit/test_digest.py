"""The digest's form, and that it covers stored bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ual_registry.digest import Digest
from ual_registry.errors import FormatError, StorageError

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_digest_of_nothing_is_the_known_one() -> None:
    assert str(Digest.of_bytes(b"")) == EMPTY
    assert str(Digest.of_chunks([])) == EMPTY


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "a").write_bytes(data)
    assert Digest.of_file(tmp_path / "a").hex == hashlib.sha256(data).hexdigest()


def test_a_missing_file_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        Digest.of_file(tmp_path / "a")
    assert caught.value.message == f"cannot read {tmp_path / 'a'}: No such file or directory"


@pytest.mark.parametrize(
    "text",
    ["", EMPTY[7:], EMPTY.upper(), EMPTY[:-1], EMPTY + "0", EMPTY + "\n", " " + EMPTY, "sha512" + EMPTY[6:]],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        Digest.parse(text)
    assert caught.value.problem_code == "digest-form"
    assert caught.value.message == f"digest {text!r}: expected 'sha256:' and 64 lower-case hexadecimal digits"


def test_digests_are_ordered_by_their_digits() -> None:
    found = sorted([Digest("b" * 64), Digest("a" * 64)])
    assert found == [Digest("a" * 64), Digest("b" * 64)]
