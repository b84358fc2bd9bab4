"""Tensors as bytes: where they lie, never what they mean.

A tensor is a dtype, a shape and a list of byte ranges in files or in memory. Splitting a fused module into roles,
and putting it together again, only rearranges ranges; nothing is copied until bytes are asked for, chunk by chunk.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from ual_registry.air.model import RowSlice
from ual_registry.digest import CHUNK_BYTES
from ual_registry.errors import StorageError

__all__ = [
    "DTYPE_BYTES",
    "FLOAT_DTYPES",
    "FileSource",
    "MemorySource",
    "Segment",
    "Shaped",
    "SizedSource",
    "Source",
    "Tensor",
    "TensorInfo",
    "TensorShape",
    "join_rows",
]

DTYPE_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}
"""Bytes of one element by dtype; sub-byte types are not part of AIR 1.0 (spec: tensors)."""

_READ_BYTES = 1 << 24  # no system fills more than 2 GiB by one call

FLOAT_DTYPES = frozenset({"F16", "BF16", "F32", "F64"})
"""What factors may be stored as."""


@dataclass(frozen=True, slots=True)
class TensorShape:
    """What rules need to know of a tensor."""

    dtype: str
    shape: tuple[int, ...]


class Shaped(Protocol):
    """What has a dtype and a shape."""

    @property
    def dtype(self) -> str:
        """A key of ``DTYPE_BYTES``."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        ...


class TensorInfo(NamedTuple):
    """One row of the tensor table; offsets are in bytes from the start of the tensor data.

    A file has a row and a segment for every tensor; named tuples are made twice as fast as frozen dataclasses.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Source(Protocol):
    """Something that bytes can be read from."""

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``."""
        ...


class SizedSource(Source, Protocol):
    """A whole file, near or far, of a known size."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole file."""
        ...

    @property
    def close(self) -> Callable[[], object]:
        """Let go of what it holds."""
        ...


class FileSource:
    """A file opened once for reading; closed with its owner."""

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            StorageError: The file cannot be opened.
        """
        self.path = path
        try:
            # A pipe or a device must not make the reader wait; for a regular file the flag means nothing.
            flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
            descriptor = os.open(path, flags)
            status = os.fstat(descriptor)
        except (OSError, ValueError) as error:  # no path of the system holds a NUL
            raise StorageError.of("read", path, error) from error
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            reason = "Is a directory" if stat.S_ISDIR(status.st_mode) else "it is no regular file"
            raise StorageError(
                f"cannot read {path}: {reason}",
                context={"path": str(path)},
                hint="give a file, not a folder, pipe or device",
            )
        self.size_bytes = status.st_size
        self._descriptor = descriptor
        self.close = weakref.finalize(self, os.close, descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``.

        Raises:
            StorageError: The file cannot be read, became shorter, or was closed.
        """
        self._check_open()
        try:
            data = os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise StorageError.of("read", self.path, error) from error
        if len(data) != length:
            raise self._changed(offset, length, len(data))
        return data

    def read_into(self, offset: int, place: memoryview) -> None:
        """Fill ``place`` with the bytes from ``offset``.

        Raises:
            StorageError: The file cannot be read, became shorter, or was closed.
        """
        self._check_open()
        try:
            count = os.preadv(self._descriptor, [place], offset)
        except OSError as error:
            raise StorageError.of("read", self.path, error) from error
        if count != len(place):
            raise self._changed(offset, len(place), count)

    def _check_open(self) -> None:
        if not self.close.alive:  # the descriptor's number may belong to another file by now
            raise StorageError(f"cannot read {self.path}: it was closed", context={"path": str(self.path)})

    def _changed(self, offset: int, expected: int, got: int) -> StorageError:
        return StorageError(
            f"cannot read {self.path}: {expected} bytes expected at {offset}, got {got}",
            context={"path": str(self.path)},
            hint="the file changed while it was read; try again",
        )


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Bytes held in memory that nobody changes."""

    data: bytes | memoryview

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``."""
        return bytes(self.data[offset : offset + length])


class Segment(NamedTuple):
    """A range of bytes in a source."""

    source: Source
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A dtype, a shape, and where the bytes lie, in C order and little endian.

    Attributes:
        dtype: A key of ``DTYPE_BYTES``.
        shape: Lengths of the axes.
        segments: The byte ranges that, one after the other, are the tensor.
    """

    dtype: str
    shape: tuple[int, ...]
    segments: tuple[Segment, ...]

    @classmethod
    def of_bytes(cls, dtype: str, shape: Sequence[int], data: bytes | memoryview) -> Tensor:
        """Wrap bytes in memory that nobody changes; a view is one of single bytes."""
        return cls(dtype, tuple(shape), (Segment(MemorySource(data), 0, len(data)),))

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return sum(segment.length for segment in self.segments)

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing of it has to be read from a file."""
        return all(isinstance(segment.source, MemorySource) for segment in self.segments)

    def views(self, limit_bytes: int = CHUNK_BYTES) -> Iterator[bytes | memoryview]:
        """Yield the bytes in order, at most ``limit_bytes`` at once; what lies in memory is not copied."""
        for source, offset, length in self.segments:
            held = memoryview(source.data) if isinstance(source, MemorySource) else None
            for start in range(offset, offset + length, limit_bytes):
                size = min(limit_bytes, offset + length - start)
                yield source.read(start, size) if held is None else held[start : start + size]

    def chunks(self, limit_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the bytes in order, at most ``limit_bytes`` at once."""
        return map(bytes, self.views(limit_bytes))

    def read_into(self, place: memoryview) -> None:
        """Fill a place of the size of the tensor with its bytes."""
        for source, offset, length in self.segments:
            for start in range(0, length, _READ_BYTES):
                part, place = place[: length - start][:_READ_BYTES], place[min(length - start, _READ_BYTES) :]
                if isinstance(source, FileSource):
                    source.read_into(offset + start, part)
                else:
                    part[:] = source.read(offset + start, len(part))

    def to_bytes(self) -> bytes:
        """Return the whole tensor."""
        return b"".join(self.chunks())

    def take_rows(self, rows: RowSlice) -> Tensor:
        """Return some rows (ranges along the first axis) as a tensor of their own.

        Raises:
            ValueError: The slice reaches beyond the tensor.
        """
        if rows.offset + (rows.count - 1) * rows.stride + rows.block > self.shape[0]:
            raise ValueError(f"{rows} reaches beyond the {self.shape[0]} rows of the tensor")
        row_bytes = self.size_bytes // self.shape[0]
        taken: list[Segment] = []
        for first, count in rows.runs():
            taken.extend(self._range(first * row_bytes, count * row_bytes))
        return Tensor(self.dtype, (rows.rows, *self.shape[1:]), _merged(taken))

    def _range(self, start: int, length: int) -> Iterator[Segment]:
        """Yield the segments of ``length`` bytes from ``start`` of the tensor."""
        for segment in self.segments:
            skipped = min(start, segment.length)
            taken = min(segment.length - skipped, length)
            if taken:
                yield Segment(segment.source, segment.offset + skipped, taken)
            start, length = start - skipped, length - taken


def join_rows(parts: Sequence[tuple[RowSlice, Tensor]]) -> Tensor:
    """Put the slices of a fused module together again; the inverse of ``Tensor.take_rows``.

    Args:
        parts: Each slice with its rows; together they must tile the rows of the result.

    Raises:
        ValueError: Dtypes or widths differ, or the slices overlap or leave a hole.
    """
    first = parts[0][1]
    if any((part.dtype, part.shape[1:]) != (first.dtype, first.shape[1:]) for _, part in parts):
        raise ValueError("the slices differ in dtype or width")
    placed: list[tuple[int, int, Tensor]] = []
    for rows, part in parts:
        done = 0
        for start, count in rows.runs():
            own = RowSlice(offset=done, block=count, stride=count, count=1)
            placed.append((start, count, part.take_rows(own)))
            done += count
    placed.sort(key=lambda item: item[0])
    end = 0
    for start, count, _ in placed:
        if start != end:
            raise ValueError(f"rows {min(start, end)} to {max(start, end)} are held twice or by no slice")
        end += count
    segments = [segment for _, _, part in placed for segment in part.segments]
    return Tensor(first.dtype, (end, *first.shape[1:]), _merged(segments))


def _merged(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Join neighbours that follow one another in the same source."""
    merged: list[Segment] = []
    for segment in segments:
        last = merged[-1] if merged else None
        if last and last.source is segment.source and last.offset + last.length == segment.offset:
            merged[-1] = Segment(last.source, last.offset, last.length + segment.length)
        else:
            merged.append(segment)
    return tuple(merged)
