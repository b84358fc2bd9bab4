"""Taking a file in: one pass that copies it, digests it, digests its tensors, and looks at every number.

The header was checked before, from the same open file. The bytes that are copied begin with exactly those header
bytes, which is compared; the tensors are digested as they are copied. So what is said of the copy is true of the copy,
although its source was read once, and the copy not at all.

The digest of the file and those of its tensors are taken at once (``lanes``).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ual_registry.air.finite import is_finite
from ual_registry.air.header import Header
from ual_registry.air.lanes import TwoLanes
from ual_registry.air.scan import TensorScan, listing
from ual_registry.air.tensor import FileSource, TensorInfo
from ual_registry.air.validate import Inspection, factor_names
from ual_registry.digest import CHUNK_BYTES, Digest
from ual_registry.errors import StorageError
from ual_registry.registry.flushing import Writer

__all__ = ["Intake", "take_in"]

_THREAD_FROM_BYTES = 1 << 22
"""From this size on a second thread digests what the first one reads, looks at, and copies."""

_EMPTY = hashlib.sha256().hexdigest()

_BUFFERS: list[bytearray] = []  # those that nobody uses; fresh memory for each file is dear beside digesting it


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What one pass over a file found.

    Attributes:
        digest: Digest of the bytes.
        size_bytes: Their number.
        scan: What it found in the tensors.
    """

    digest: Digest
    size_bytes: int
    scan: TensorScan


class _Piece(NamedTuple):
    """Whole numbers of one tensor in a block; ``start`` and ``end`` are offsets in the block."""

    name: str
    start: int
    end: int


class _Block(NamedTuple):
    """Bytes of the file that are read at once; ``ends`` are where tensors end in it."""

    offset: int
    length: int
    pieces: tuple[_Piece, ...]
    ends: tuple[int, ...]


def take_in(found: Inspection, out: Writer | None, *, is_alone: bool = True) -> Intake:
    """Copy a legal file to ``out``, and digest file and tensors on the way.

    Args:
        found: The open file, its header checked and without faults.
        out: Where its bytes go; ``None`` for a file that stays where it is.
        is_alone: Whether a large file may take a second thread; where many are taken in, others work meanwhile.

    Raises:
        StorageError: The file cannot be read, or was changed since its header was checked.
        OSError: ``out`` cannot be written.
    """
    header, manifest, source = found.header, found.manifest, found.source
    assert header is not None  # a legal file has both
    assert manifest is not None
    assert isinstance(source, FileSource)  # and is near
    start = source.read(0, header.data_start)
    if start[-len(header.raw) :] != header.raw:
        raise _changed(source.path)
    numbers = _Numbers(header.infos, factor_names(manifest, found.tensors()))
    with _Reading(source, has_thread=is_alone and source.size_bytes >= _THREAD_FROM_BYTES) as reading:
        digest, digests = _digest_all(reading, header, start, numbers, out)
    return Intake(digest=digest, size_bytes=source.size_bytes, scan=_scan(header.infos, digests, numbers.non_finite))


def _changed(path: Path) -> StorageError:
    return StorageError(
        f"cannot read {path}: it was changed meanwhile",
        code="changed",
        context={"path": str(path)},
        hint="add it again when nobody writes to it",
    )


class _Reading:
    """Reads blocks of a file and digests them, where it has a thread in that, while the next ones are read.

    The same memory is used again and again, with a thread two places in turns.

    Args:
        source: The file.
        has_thread: Whether there is a thread that digests.
    """

    def __init__(self, source: FileSource, *, has_thread: bool) -> None:
        self._source = source
        self._lanes = TwoLanes()
        self._pool = ThreadPoolExecutor(1) if has_thread else None
        self._pending: Future[None] | None = None
        self._places = [_buffer() for _ in range(1 + has_thread)]

    def read(self, block: _Block) -> memoryview:
        """Read a block; what was read before the last one is gone then."""
        self._places.reverse()
        data = memoryview(self._places[0])[: block.length]
        self._source.read_into(block.offset, data)
        return data

    def digest(
        self, data: bytes | memoryview, ends: tuple[int, ...], data_2: bytes | memoryview, ends_2: tuple[int, ...]
    ) -> None:
        """Take the next bytes of both lanes; with a thread, when it has taken those before."""
        if self._pool is None:
            self._lanes.take(data, ends, data_2, ends_2)
            return
        self._wait()
        self._pending = self._pool.submit(self._lanes.take, data, ends, data_2, ends_2)

    def digests(self, lane: int) -> list[str]:
        """Return what was digested in a lane."""
        self._wait()
        return self._lanes.digests(lane)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        _BUFFERS.extend(self._places)


def _buffer() -> bytearray:
    try:
        return _BUFFERS.pop()
    except IndexError:
        return bytearray(CHUNK_BYTES)


def _digest_all(
    reading: _Reading, header: Header, start: bytes, numbers: _Numbers, out: Writer | None
) -> tuple[Digest, dict[str, str]]:
    """Read the whole file in its order; return its digest and those of its tensors."""
    tensors = _stored(header.infos)
    reading.digest(start, (), b"", ())
    if out is not None:
        out.write(start)
    for block in _blocks(header.data_start, tensors):
        data = reading.read(block)
        reading.digest(data, (), data, block.ends)
        if out is not None:
            out.write(data)
        numbers.look(data, block.pieces)
    reading.digest(b"", (0,), b"", ())
    return Digest(reading.digests(0)[0]), _named(tensors, reading.digests(1))


_Tensors = Sequence[tuple[str, TensorInfo]]


def _stored(infos: Mapping[str, TensorInfo]) -> _Tensors:
    """Return the tensors that have bytes, in the order of the file."""
    return sorted((item for item in infos.items() if item[1].start < item[1].end), key=lambda item: item[1].start)


def _blocks(data_start: int, tensors: _Tensors) -> Iterator[_Block]:
    """Yield neighbours in the order of the file; a block holds many small tensors, or a part of a large one."""
    if not tensors:
        return
    offset, length = data_start + tensors[0][1].start, 0
    pieces: list[_Piece] = []
    ends: list[int] = []
    for name, info in tensors:
        for start in range(info.start, info.end, CHUNK_BYTES):
            step = min(CHUNK_BYTES, info.end - start)
            if length + step > CHUNK_BYTES:
                yield _Block(offset, length, tuple(pieces), tuple(ends))
                offset, length, pieces, ends = offset + length, 0, [], []
            pieces.append(_Piece(name, length, length + step))
            length += step
        ends.append(length)
    yield _Block(offset, length, tuple(pieces), tuple(ends))


def _named(tensors: _Tensors, digests: Sequence[str]) -> dict[str, str]:
    return {name: digest for (name, _), digest in zip(tensors, digests, strict=True)}


class _Numbers:
    """Whether the numbers of some tensors are finite.

    Attributes:
        non_finite: The names of those that are not.
    """

    def __init__(self, infos: Mapping[str, TensorInfo], checked: set[str]) -> None:
        self.non_finite: set[str] = set()
        self._infos = infos
        self._checked = checked

    def look(self, data: memoryview, pieces: Sequence[_Piece]) -> None:
        """Look at the next bytes of some tensors."""
        for dtype, run in itertools.groupby(pieces, key=self._checked_as):
            if dtype is not None:
                self._look(dtype, data, list(run))

    def _checked_as(self, piece: _Piece) -> str | None:
        """Return the dtype of numbers that must be finite."""
        return self._infos[piece.name].dtype if piece.name in self._checked else None

    def _look(self, dtype: str, data: memoryview, run: Sequence[_Piece]) -> None:
        """Look at all of a run at once, and at each tensor only where that finds something."""
        if is_finite(dtype, data[run[0].start : run[-1].end]):
            return
        for piece in run:
            if not is_finite(dtype, data[piece.start : piece.end]):
                self.non_finite.add(piece.name)


def _scan(infos: Mapping[str, TensorInfo], digests: Mapping[str, str], non_finite: set[str]) -> TensorScan:
    """Return what was found, as ``scan_tensors`` does."""
    of_all = dict.fromkeys(infos, _EMPTY) | dict(digests)
    return TensorScan(tensor_digest=Digest.of_bytes(listing(infos, of_all)), non_finite=tuple(sorted(non_finite)))
