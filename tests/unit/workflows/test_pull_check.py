"""One pass over a fetched file says whether it is that of the commit, and what is in it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.handmade import small_adapter
from ual_registry.air.read import open_legal
from ual_registry.air.write import write
from ual_registry.hub.content import check_file
from ual_registry.hub.model import HubFile
from ual_registry.registry.intake import take_in
from ual_registry.workflows.pull_check import AirCheck


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    path = tmp_path / "x.air"
    write(small_adapter(), path)
    return path


def named(data: bytes) -> HubFile:
    """Return what the Hub tells of a large file."""
    return HubFile(path="x.air", size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), blob_id="0" * 40)


def test_a_file_that_is_that_of_the_commit_is_known_in_full(fetched: Path) -> None:
    check = AirCheck()

    assert check(named(fetched.read_bytes()), fetched) is None

    found = open_legal(fetched)
    assert check.intake == take_in(found, None)
    found.source.close()


@pytest.mark.parametrize("place", [0, 20, -1], ids=["length", "header", "tensor"])
def test_a_flipped_byte_is_told_as_it_is_of_any_file(fetched: Path, place: int) -> None:
    file = named(fetched.read_bytes())
    check = AirCheck()
    assert check(file, fetched) is None
    data = bytearray(fetched.read_bytes())
    data[place] ^= 1
    fetched.write_bytes(data)

    fault = check(file, fetched)

    assert fault == f"sha256 {hashlib.sha256(data).hexdigest()} (expected {file.sha256})"
    assert fault == check_file(file, fetched)
    assert check.intake is None


def test_a_file_of_another_length_is_told(fetched: Path) -> None:
    file = named(fetched.read_bytes() + b"more")

    assert AirCheck()(file, fetched) == f"{file.size_bytes - 4} bytes came (expected {file.size_bytes})"


def test_what_the_commit_holds_and_is_no_legal_file_came_as_it_is(fetched: Path) -> None:
    fetched.write_bytes(b"no adapter")
    check = AirCheck()

    assert (check(named(b"no adapter"), fetched), check.intake) == (None, None)
