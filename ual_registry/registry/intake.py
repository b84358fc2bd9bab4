"""Taking a file in: one pass that copies it, digests it, digests its tensors, and looks at every number.

The header was checked before, from the same open file. The bytes that are copied begin with exactly those header
bytes, which is compared; the tensors are digested as they are copied. So what is said of the copy is true of the copy,
although its source was read once, and the copy not at all.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ual_registry.air.finite import is_finite
from ual_registry.air.header import Header
from ual_registry.air.scan import TensorScan, listing
from ual_registry.air.tensor import FileSource
from ual_registry.air.validate import Inspection, factor_names
from ual_registry.digest import CHUNK_BYTES, Digest
from ual_registry.errors import StorageError

__all__ = ["Intake", "take_in"]

_THREAD_FROM_BYTES = 1 << 22
"""From this size on a second thread digests the file, while the first one digests its tensors."""


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


@dataclass(frozen=True, slots=True)
class _Piece:
    """Whole numbers of one tensor in a block; ``start`` and ``end`` are offsets in the block."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Block:
    """Bytes of the file that are read at once."""

    offset: int
    length: int
    pieces: tuple[_Piece, ...]


def take_in(found: Inspection, out: BinaryIO | None, *, digest: Digest | None = None, is_alone: bool = True) -> Intake:
    """Copy a legal file to ``out``, and digest file and tensors on the way.

    Args:
        found: The open file, its header checked and without faults.
        out: Where its bytes go; ``None`` for a file that stays where it is.
        digest: Digest of its bytes, where they were digested on their way to this place; then only the tensors are.
        is_alone: Whether a large file may take a second thread; where many are taken in, others work meanwhile.

    Raises:
        StorageError: The file cannot be read, or was changed since its header was checked.
        OSError: ``out`` cannot be written.
    """
    header, manifest, source = found.header, found.manifest, found.source
    assert header is not None  # a legal file has both
    assert manifest is not None
    assert isinstance(source, FileSource)  # and is near
    has_thread = is_alone and digest is None and source.size_bytes >= _THREAD_FROM_BYTES
    state = _FileState(digest, has_thread=has_thread)
    tensors = _TensorStates(header, factor_names(manifest, found.tensors()))
    try:
        start = source.read(0, header.data_start)
        if start[-len(header.raw) :] != header.raw:
            raise _changed(source.path)
        write: Callable[[memoryview], object] = out.write if out is not None else len
        for data, pieces in _filled(source, header, memoryview(start), has_thread=has_thread):
            state.update(data)
            write(data)
            tensors.update(data, pieces)
        return Intake(digest=state.digest(), size_bytes=source.size_bytes, scan=tensors.scan())
    finally:
        state.close()


def _changed(path: Path) -> StorageError:
    return StorageError(
        f"cannot read {path}: it was changed meanwhile",
        code="changed",
        context={"path": str(path)},
        hint="add it again when nobody writes to it",
    )


def _filled(
    source: FileSource, header: Header, start: memoryview, *, has_thread: bool
) -> Iterator[tuple[memoryview, tuple[_Piece, ...]]]:
    """Yield the bytes of the file in order; a block is overwritten by the next, with a thread by the one after it.

    The same memory is used again and again: to get fresh memory for each block is dear beside digesting it.
    """
    yield start, ()
    size = min(CHUNK_BYTES, source.size_bytes)
    places = [memoryview(bytearray(size)) for _ in range(1 + has_thread)]
    for number, block in enumerate(_blocks(header)):
        data = places[number % len(places)][: block.length]
        source.read_into(block.offset, data)
        yield data, block.pieces


def _blocks(header: Header) -> Iterator[_Block]:
    """Yield the tensor data in order; a block holds many small tensors, or a part of a large one."""
    offset, length = header.data_start, 0
    pieces: list[_Piece] = []
    for name, info in sorted(header.infos.items(), key=lambda item: (item[1].start, item[1].end)):
        for start in range(info.start, info.end, CHUNK_BYTES):
            step = min(CHUNK_BYTES, info.end - start)
            if length + step > CHUNK_BYTES:
                yield _Block(offset, length, tuple(pieces))
                offset, length, pieces = offset + length, 0, []
            pieces.append(_Piece(name, length, length + step))
            length += step
    if length:
        yield _Block(offset, length, tuple(pieces))


class _FileState:
    """The digest of the whole file, computed unless it is known; where it has a thread, one block behind."""

    def __init__(self, known: Digest | None, *, has_thread: bool) -> None:
        self._state = hashlib.sha256()
        self._known = known
        self._pool = ThreadPoolExecutor(1) if has_thread else None
        self._pending: Future[None] | None = None

    def update(self, data: memoryview) -> None:
        """Take the next bytes."""
        if self._known is not None:
            return
        if self._pool is None:
            self._state.update(data)
            return
        self._wait()
        self._pending = self._pool.submit(self._state.update, data)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def digest(self) -> Digest:
        """Return the digest of all bytes."""
        self._wait()
        return self._known or Digest(self._state.hexdigest())

    def close(self) -> None:
        """End the thread."""
        if self._pool is not None:
            self._pool.shutdown()


class _TensorStates:
    """The digests of the tensors, and whether the numbers of some are finite."""

    def __init__(self, header: Header, checked: set[str]) -> None:
        self._infos = header.infos
        self._checked = checked
        self._states = {name: hashlib.sha256() for name in header.infos}
        self._non_finite: set[str] = set()

    def update(self, data: memoryview, pieces: tuple[_Piece, ...]) -> None:
        """Take the next bytes of some tensors."""
        for piece in pieces:  # whole pieces, so that threads seldom wait for each other
            self._states[piece.name].update(data[piece.start : piece.end])
        for dtype, run in itertools.groupby(pieces, key=self._checked_as):
            if dtype is not None:
                self._check(dtype, data, list(run))

    def _checked_as(self, piece: _Piece) -> str | None:
        """Return the dtype of numbers that must be finite."""
        return self._infos[piece.name].dtype if piece.name in self._checked else None

    def _check(self, dtype: str, data: memoryview, run: Sequence[_Piece]) -> None:
        """Look at all of a run at once, and at each tensor only where that finds something."""
        if is_finite(dtype, data[run[0].start : run[-1].end]):
            return
        for piece in run:
            if not is_finite(dtype, data[piece.start : piece.end]):
                self._non_finite.add(piece.name)

    def scan(self) -> TensorScan:
        """Return what was found, as ``scan_tensors`` does."""
        digests = {name: state.hexdigest() for name, state in self._states.items()}
        digest = Digest.of_bytes(listing(self._infos, digests))
        return TensorScan(tensor_digest=digest, non_finite=tuple(sorted(self._non_finite)))
