"""The two binary forms of the Xet protocol that a store must read.

A shard says which file is made of what.
It is a row of records of 48 bytes: its own head, then per file a head, the segments, their checks and the sha256.
A xorb holds chunks one after the other, each with a head of eight bytes.
A store needs the lengths alone, and never decompresses.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

RECORD = 48
END = b"\xff" * 32  # a record with this hash ends a section
HAS_CHECKS, HAS_SHA256 = 1 << 31, 1 << 30
CHUNK_HEAD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of chunks of one xorb.

    Attributes:
        xorb: Hash of the xorb.
        length: Bytes of the file that the run holds.
        first: Number of its first chunk in the xorb.
        end: Number after its last chunk.
    """

    xorb: str
    length: int
    first: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class XetFile:
    """A file as a row of segments.

    Attributes:
        hash: Xet hash of the file.
        sha256: Digest of its bytes; empty where the client gave none.
        segments: In the file's order.
    """

    hash: str
    sha256: str
    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return sum(segment.length for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Where a chunk lies.

    Attributes:
        start: Its first byte in the xorb, head included.
        end: The byte after its last in the xorb.
        length: Bytes of the file that it holds.
    """

    start: int
    end: int
    length: int


def hash_text(raw: bytes) -> str:
    """Write a hash of 32 bytes as Xet writes it: four little-endian numbers of eight bytes.

    Returns:
        64 hexadecimal digits.
    """
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def read_shard(data: bytes) -> tuple[XetFile, ...]:
    """Read the files of a shard, as the client uploads it (no footer).

    Returns:
        Every file that it describes.

    Raises:
        ValueError: The bytes are no shard of version 2, or end too early.
    """
    if len(data) < RECORD or data[:14] != b"HFRepoMetaData" or struct.unpack_from("<Q", data, 32) != (2,):
        raise ValueError("not a shard of version 2")
    records = [data[at : at + RECORD] for at in range(RECORD, len(data), RECORD)]  # the shard's own head is one long
    files = []
    while records and records[0][:32] != END:
        file, records = _file(records)
        files.append(file)
    return tuple(files)


def _file(records: list[bytes]) -> tuple[XetFile, list[bytes]]:
    """Read the first file of some records, and give the records that follow it."""
    flags, count = struct.unpack_from("<II", records[0], 32)
    checks = count if flags & HAS_CHECKS else 0
    used = 1 + count + checks + bool(flags & HAS_SHA256)
    if len(records) < used:
        raise ValueError("the shard ends in the middle of a file")
    segments = tuple(_segment(record) for record in records[1 : 1 + count])
    sha256 = hash_text(records[used - 1][:32]) if flags & HAS_SHA256 else ""
    return XetFile(hash=hash_text(records[0][:32]), sha256=sha256, segments=segments), records[used:]


def _segment(record: bytes) -> Segment:
    _, length, first, end = struct.unpack_from("<4I", record, 32)
    return Segment(xorb=hash_text(record[:32]), length=length, first=first, end=end)


def read_xorb(data: bytes) -> tuple[Chunk, ...]:
    """Find the chunks of a xorb.

    Returns:
        Every chunk, in order; what follows them (a footer) is left out.
    """
    chunks, at = [], 0
    while at + CHUNK_HEAD <= len(data) and data[at] == 0:  # version 0; a footer begins with a letter
        packed, length = (int.from_bytes(data[at + skip : at + skip + 3], "little") for skip in (1, 5))
        end = at + CHUNK_HEAD + packed
        chunks.append(Chunk(start=at, end=end, length=length))
        at = end
    return tuple(chunks)


def cut(segment: Segment, chunks: tuple[Chunk, ...], start: int, end: int) -> tuple[Segment, int]:
    """Narrow a segment to the chunks that hold a range of its bytes.

    Args:
        segment: The segment.
        chunks: Every chunk of its xorb.
        start: First byte wanted, counted from the segment's start.
        end: Byte after the last one wanted.

    Returns:
        The narrower segment, and how many bytes of it come before ``start``.
    """
    lengths = [chunk.length for chunk in chunks[segment.first : segment.end]]
    ends = list(accumulate(lengths))
    kept = [number for number, after in enumerate(ends) if after > start and after - lengths[number] < end]
    first, last = kept[0], kept[-1]
    before = ends[first] - lengths[first]
    narrow = Segment(
        xorb=segment.xorb, length=ends[last] - before, first=segment.first + first, end=segment.first + last + 1
    )
    return narrow, start - before


def runs(segments: Iterable[Segment]) -> tuple[tuple[str, int, int], ...]:
    """Join what overlaps or touches, so that each segment lies in one run, and no two runs share a chunk.

    A client takes two runs that begin at the same chunk for one.

    Returns:
        Per run its xorb, its first chunk and the chunk after its last.
    """
    joined: list[tuple[str, int, int]] = []
    for part in sorted(segments, key=lambda part: (part.xorb, part.first)):
        xorb, first, end = joined[-1] if joined else ("", 0, 0)
        if joined and part.xorb == xorb and part.first <= end:
            joined[-1] = (xorb, first, max(end, part.end))
        else:
            joined.append((part.xorb, part.first, part.end))
    return tuple(joined)
