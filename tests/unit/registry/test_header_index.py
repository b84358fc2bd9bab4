"""An index of headers: what is kept, what is found, and what is asked for again."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest

from tests.handmade import small_adapter
from ual_registry.errors import StorageError
from ual_registry.registry import header_index
from ual_registry.registry.describe import Description, describe
from ual_registry.registry.header_index import HeaderIndex, IndexedHeader, IndexedRepository


def description(artifact: str, **changes: object) -> Description:
    adapter = small_adapter(**changes)
    return describe(adapter.manifest, adapter.tensors, digest=artifact, size_bytes=7)


def header(artifact: str | None, name: str = "org/a") -> IndexedHeader:
    return IndexedHeader(name=name, path="adapter.air", form="air", size_bytes=7, digest=None, artifact=artifact)


def repository(*headers: IndexedHeader, commit: str = "1", is_lasting: bool = True) -> IndexedRepository:
    return IndexedRepository(
        repository="org/a", commit=commit, is_private=False, gated=None, headers=headers, is_lasting=is_lasting
    )


@pytest.fixture
def index(tmp_path: Path) -> HeaderIndex:
    return HeaderIndex.open(tmp_path / "index")


def names(index: HeaderIndex, query: str, *headers: IndexedHeader, limit: int = 10) -> tuple[list[str], bool]:
    records, has_more = index.search(query, {item.key for item in headers}, limit=limit)
    return [f"{record.name} {record.digest}" for record in records], has_more


def test_what_is_kept_is_known_at_its_commit_after_it_is_opened_again(index: HeaderIndex, tmp_path: Path) -> None:
    kept = index.keep(repository(header("x"), header(None, "org/a:b")), [("org/a", description("x"))])
    again = HeaderIndex.open(tmp_path / "index")
    assert again.known("org/a", "1") == kept
    assert (again.known("org/a", "2"), again.known("org/b", "1")) == (None, None)
    assert again.newest() == (kept,)


def test_only_what_is_wanted_is_found(index: HeaderIndex) -> None:
    old, new, other = header("x"), header("y"), header("x", "org/b")
    index.keep(repository(old), [("org/a", description("x", domain="law"))])
    index.keep(repository(new, commit="2"), [("org/a", description("y", domain="tax"))])
    index.keep(repository(other, commit="3"), [("org/b", description("x", domain="law"))])
    assert names(index, "", new) == (["org/a y"], False)
    assert names(index, "domain:law", new) == ([], False)
    assert names(index, "domain:law", old, other) == (["org/a x", "org/b x"], False)
    assert names(index, "rank:2 order:-name", new, other, limit=1) == (["org/b x"], True)
    assert [item.commit for item in index.newest()] == ["3"]


def test_what_is_not_remembered_is_found_and_not_known(index: HeaderIndex) -> None:
    index.keep(repository(header("x")), [("org/a", description("x"))], is_remembered=False)
    assert (index.known("org/a", "1"), names(index, "", header("x"))) == (None, (["org/a x"], False))


def test_what_was_refused_is_known_for_a_day(index: HeaderIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    lasting = index.keep(repository(header(None)), [])
    refused = index.keep(repository(header(None), commit="2", is_lasting=False), [])
    assert (index.known("org/a", "1"), index.known("org/a", "2")) == (lasting, refused)
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1, minutes=1)
    monkeypatch.setattr(header_index, "now", lambda: later)
    assert (index.known("org/a", "1"), index.known("org/a", "2")) == (lasting, None)


def test_what_is_known_is_replaced(index: HeaderIndex) -> None:
    index.keep(repository(header(None)), [])
    kept = index.keep(repository(header("x")), [("org/a", description("x"))])
    assert index.known("org/a", "1") == kept


def test_nobody_else_reads_the_folder(index: HeaderIndex, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "index").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        HeaderIndex.open(tmp_path / "file" / "index")
    assert caught.value.message == f"cannot write {tmp_path / 'file' / 'index'}: Not a directory"
