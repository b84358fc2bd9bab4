"""Tensors as byte ranges in files and in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.handmade import floats
from ual_registry.air.model import RowSlice
from ual_registry.air.tensor import FileSource, MemorySource, Segment, Tensor, join_rows
from ual_registry.errors import StorageError


def rows(offset: int, block: int, stride: int, count: int) -> RowSlice:
    return RowSlice(offset=offset, block=block, stride=stride, count=count)


def u8(text: bytes, width: int = 1) -> Tensor:
    return Tensor.of_bytes("U8", (len(text) // width, width), text)


def test_a_file_is_read_in_ranges_until_it_is_closed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    source = FileSource(tmp_path / "a")
    assert (source.size_bytes, source.read(2, 3), source.read(0, 10)) == (10, b"234", b"0123456789")
    source.close()
    with pytest.raises(StorageError) as caught:
        source.read(0, 1)
    assert caught.value.message == f"cannot read {tmp_path / 'a'}: it was closed"


def test_a_path_that_the_system_has_no_file_for_is_a_storage_error() -> None:
    with pytest.raises(StorageError) as caught:
        FileSource(Path("a\0b"))
    assert (caught.value.message, caught.value.hint) == ("cannot read a\0b: embedded null byte", "check the path")


def test_a_file_that_became_shorter_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    source = FileSource(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"0123")
    with pytest.raises(StorageError) as caught:
        source.read(2, 5)
    assert caught.value.message == f"cannot read {tmp_path / 'a'}: 5 bytes expected at 2, got 2"
    assert caught.value.hint == "the file changed while it was read; try again"


def test_a_tensor_is_its_segments_one_after_the_other() -> None:
    first, second = MemorySource(b"abcdef"), MemorySource(b"uvwxyz")
    tensor = Tensor("U8", (5,), (Segment(first, 1, 3), Segment(second, 0, 2)))
    assert (tensor.size_bytes, tensor.to_bytes(), list(tensor.chunks(2))) == (5, b"bcduv", [b"bc", b"d", b"uv"])


def test_what_lies_in_memory_is_shown_without_a_copy_and_what_lies_in_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    memory, file = MemorySource(memoryview(b"abcdef")), FileSource(tmp_path / "a")
    tensor = Tensor("U8", (7,), (Segment(memory, 1, 3), Segment(file, 4, 4)))
    shown = list(tensor.views(2))
    assert [bytes(part) for part in shown] == [b"bc", b"d", b"45", b"67"]
    assert [type(part) for part in shown] == [memoryview, memoryview, bytes, bytes]
    assert (tensor.is_in_memory, u8(b"abc").is_in_memory) == (False, True)
    assert (tensor.to_bytes(), memory.read(1, 2)) == (b"bcd4567", b"bc")


def test_a_place_is_filled_from_files_and_memory_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ual_registry.air.tensor._READ_BYTES", 3)
    (tmp_path / "a").write_bytes(b"0123456789")
    file = FileSource(tmp_path / "a")
    tensor = Tensor("U8", (11,), (Segment(file, 2, 7), Segment(MemorySource(b"abcdef"), 1, 4)))
    place = bytearray(11)
    tensor.read_into(memoryview(place))
    assert bytes(place) == b"2345678bcde"


def test_rows_are_taken_across_segments() -> None:
    first, second = MemorySource(b"abc"), MemorySource(b"def")
    tensor = Tensor("U8", (6, 1), (Segment(first, 0, 3), Segment(second, 0, 3)))
    taken = tensor.take_rows(rows(1, 2, 3, 2))
    assert (taken.shape, taken.to_bytes()) == ((4, 1), b"bcef")


def test_neighbouring_ranges_of_one_source_are_joined() -> None:
    whole = u8(b"abcdef")
    parts = [
        (rows(3, 3, 3, 1), whole.take_rows(rows(3, 3, 3, 1))),
        (rows(0, 3, 3, 1), whole.take_rows(rows(0, 3, 3, 1))),
    ]
    assert join_rows(parts) == whole


@pytest.mark.parametrize("wanted", [rows(5, 2, 2, 1), rows(0, 2, 3, 3), rows(6, 1, 1, 1)])
def test_rows_beyond_the_tensor_are_refused(wanted: RowSlice) -> None:
    with pytest.raises(ValueError, match="reaches beyond the 6 rows of the tensor"):
        u8(b"abcdef").take_rows(wanted)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([(rows(0, 2, 2, 1), u8(b"ab")), (rows(3, 1, 1, 1), u8(b"c"))], "rows 2 to 3 are held twice or by no slice"),
        ([(rows(0, 2, 2, 1), u8(b"ab")), (rows(1, 1, 1, 1), u8(b"c"))], "rows 1 to 2 are held twice or by no slice"),
        ([(rows(1, 2, 2, 1), u8(b"ab"))], "rows 0 to 1 are held twice or by no slice"),
        ([(rows(0, 1, 1, 1), u8(b"ab", 2)), (rows(1, 1, 1, 1), u8(b"c"))], "the slices differ in dtype or width"),
        (
            [(rows(0, 2, 2, 1), floats(2, 1)), (rows(2, 1, 1, 1), u8(b"c"))],
            "the slices differ in dtype or width",
        ),
    ],
)
def test_slices_that_do_not_tile_are_refused(parts: list[tuple[RowSlice, Tensor]], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        join_rows(parts)
