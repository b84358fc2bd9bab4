from __future__ import annotations

import struct

import pytest

from tests.hub_server.xet_formats import Chunk, Segment, XetFile, cut, hash_text, read_shard, read_xorb, runs

HEAD = b"HFRepoMetaData".ljust(32, b"\0") + struct.pack("<QQ", 2, 0)
END = b"\xff" * 32 + bytes(16)


def named(letter: str) -> bytes:
    return letter.encode() * 32


def record(hash_: bytes, *numbers: int) -> bytes:
    return (hash_ + struct.pack(f"<{len(numbers)}I", *numbers)).ljust(48, b"\0")


def chunk(packed: bytes, length: int, scheme: int = 0) -> bytes:
    return bytes([0, *len(packed).to_bytes(3, "little"), scheme, *length.to_bytes(3, "little")]) + packed


def test_a_hash_is_written_as_four_little_endian_numbers() -> None:
    assert hash_text(bytes(range(32))) == "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"


def test_a_shard_tells_the_files_with_and_without_checks_and_sha256() -> None:
    shard = b"".join(
        [
            HEAD,
            record(named("a"), 1 << 31 | 1 << 30, 2),
            record(named("x"), 0, 100, 0, 3),
            record(named("y"), 0, 50, 7, 8),
            record(named("!")),
            record(named("?")),
            record(named("s")),
            record(named("b"), 0, 1),
            record(named("x"), 0, 10, 1, 2),
            END,
            record(named("x"), 0, 3, 110, 110),
        ]
    )
    segments = [
        Segment(xorb="78" * 32, length=100, first=0, end=3),
        Segment(xorb="79" * 32, length=50, first=7, end=8),
        Segment(xorb="78" * 32, length=10, first=1, end=2),
    ]
    files = read_shard(shard)
    assert files == (
        XetFile(hash="61" * 32, sha256="73" * 32, segments=(segments[0], segments[1])),
        XetFile(hash="62" * 32, sha256="", segments=(segments[2],)),
    )
    assert [file.size for file in files] == [150, 10]


@pytest.mark.parametrize("data", [b"", HEAD[:47], b"X" + HEAD[1:], HEAD[:32] + struct.pack("<QQ", 3, 0)])
def test_what_is_no_shard_of_version_2_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not a shard of version 2$"):
        read_shard(data)


def test_a_shard_that_ends_in_the_middle_of_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the shard ends in the middle of a file$"):
        read_shard(HEAD + record(named("a"), 1 << 30, 2) + record(named("x"), 0, 100, 0, 3))


@pytest.mark.parametrize("footer", [b"", b"XETBLOB and more"])
def test_a_xorb_tells_where_its_chunks_lie(footer: bytes) -> None:
    assert read_xorb(chunk(b"abc", 3) + chunk(b"packed", 900, scheme=1) + footer) == (
        Chunk(start=0, end=11, length=3),
        Chunk(start=11, end=25, length=900),
    )


CHUNKS = tuple(Chunk(start=number, end=number + 1, length=10) for number in range(6))
WHOLE = Segment(xorb="x", length=40, first=1, end=5)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 40, (1, 5, 40, 0)),
        (0, 1, (1, 2, 10, 0)),
        (9, 10, (1, 2, 10, 9)),
        (10, 11, (2, 3, 10, 0)),
        (15, 31, (2, 5, 30, 5)),
        (39, 40, (4, 5, 10, 9)),
    ],
)
def test_a_segment_is_narrowed_to_whole_chunks(start: int, end: int, expected: tuple[int, int, int, int]) -> None:
    narrow, before = cut(WHOLE, CHUNKS, start, end)
    assert (narrow.xorb, narrow.first, narrow.end, narrow.length, before) == ("x", *expected)


def part(xorb: str, first: int, end: int) -> Segment:
    return Segment(xorb=xorb, length=1, first=first, end=end)


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([], ()),
        ([part("x", 2, 4), part("x", 2, 4)], (("x", 2, 4),)),
        ([part("x", 0, 3), part("x", 0, 7)], (("x", 0, 7),)),
        ([part("x", 0, 7), part("x", 1, 2)], (("x", 0, 7),)),
        ([part("x", 3, 5), part("x", 0, 3)], (("x", 0, 5),)),
        ([part("x", 0, 2), part("y", 2, 4), part("x", 3, 4)], (("x", 0, 2), ("x", 3, 4), ("y", 2, 4))),
    ],
)
def test_segments_that_overlap_or_touch_are_one_run(
    segments: list[Segment], expected: tuple[tuple[str, int, int], ...]
) -> None:
    assert runs(segments) == expected
