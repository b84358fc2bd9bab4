"""The factors of one parameter that holds the matrices of all experts: PEFT stacks them, AIR has an entry for each.

With rank r and E experts, PEFT's ``lora_A`` is (r * E, in), its rows grouped by expert, and its ``lora_B`` is
(out, r * E), its columns by turns: column ``i * E + e`` is column i of expert e (peft 0.21, ``ParamWrapper``). So the
elements of expert e are every E-th of ``lora_B``, from the e-th. Bytes are only moved; no number is read.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ual_registry.air.model import RowSlice
from ual_registry.air.tensor import DTYPE_BYTES, Segment, Tensor

__all__ = ["ExpertFactors", "RolePart", "pad_columns", "stack_experts", "unstack_experts"]

_FORMATS: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""What an element of some width is to ``memoryview``; only its width counts."""

_KEPT_BYTES = 64 << 20
"""How much of what was rearranged stays in memory; files are checked by several threads, which read several."""


@dataclass(frozen=True, slots=True)
class RolePart:
    """The ``lora_B`` of one role of one expert.

    Attributes:
        rows: Its rows in the expert's matrix.
        lora_B: Shape (rows, rank).
    """

    rows: RowSlice
    lora_B: Tensor


@dataclass(frozen=True, slots=True)
class ExpertFactors:
    """The factors of one expert: one ``lora_A``, shape (rank, in), and a ``lora_B`` for each role of the matrix."""

    lora_A: Tensor
    parts: tuple[RolePart, ...]


def unstack_experts(
    lora_A: Tensor, lora_B: Tensor, rows: Sequence[RowSlice], *, experts: int, is_flipped: bool = False
) -> list[ExpertFactors]:
    """Take the stacked factors of a parameter apart.

    Args:
        lora_A: Shape (rank * experts, in).
        lora_B: Shape (out, rank * experts).
        rows: The rows of each role in an expert's matrix.
        experts: How many there are.
        is_flipped: Whether the factors are those of the transposed matrices, so that ``lora_A`` ends in out and
            ``lora_B`` begins with in.
    """
    rank = lora_A.shape[0] // experts
    width_a, width_b = DTYPE_BYTES[lora_A.dtype], DTYPE_BYTES[lora_B.dtype]
    into, out = (lora_B.shape[0], lora_A.shape[1]) if is_flipped else (lora_A.shape[1], lora_B.shape[0])
    row_bytes = rank * (width_a if is_flipped else width_b)

    def matrices_a() -> list[bytes]:
        found = _every(lora_B.to_bytes(), experts, width_b)
        return [_transposed(matrix, into, rank, width_b) for matrix in found]

    def matrices_b() -> list[bytes]:
        if not is_flipped:
            return _every(lora_B.to_bytes(), experts, width_b)
        return [_transposed(matrix, rank, out, width_a) for matrix in _cut(lora_A.to_bytes(), experts)]

    def all_rows() -> bytes:
        return b"".join(_take(matrix, part, row_bytes) for matrix in matrices_b() for part in rows)

    first = _cut_rows(lora_A, experts)
    if is_flipped:
        source = _Rearranged(lambda: b"".join(matrices_a()))
        size = rank * into * width_b
        first = [Tensor(lora_B.dtype, (rank, into), (Segment(source, e * size, size),)) for e in range(experts)]
    dtype = lora_A.dtype if is_flipped else lora_B.dtype
    parts = _role_parts(_Rearranged(all_rows), rows, rank, dtype, experts)
    return [ExpertFactors(own, roles) for own, roles in zip(first, parts, strict=True)]


def _role_parts(
    source: _Rearranged, rows: Sequence[RowSlice], rank: int, dtype: str, experts: int
) -> list[tuple[RolePart, ...]]:
    """Return the parts of every expert, which follow one another in a source."""
    found, start = [], 0
    for _ in range(experts):
        parts = []
        for item in rows:
            size = item.rows * rank * DTYPE_BYTES[dtype]
            tensor = Tensor(dtype, (item.rows, rank), (Segment(source, start, size),))
            parts.append(RolePart(item, tensor))
            start += size
        found.append(tuple(parts))
    return found


def stack_experts(factors: Sequence[ExpertFactors], *, is_flipped: bool = False) -> tuple[Tensor, Tensor]:
    """Put the factors of every expert together as PEFT stores them; the inverse of ``unstack_experts``.

    Args:
        factors: Those of each expert, in order; the parts of each must tile the rows of its matrix.
        is_flipped: Whether to store the factors of the transposed matrices.

    Raises:
        ValueError: Shapes or dtypes differ between the experts.
    """
    first = factors[0]
    rank, into = first.lora_A.shape
    out = sum(part.rows.rows for part in first.parts)
    dtype_a, dtype_b = first.lora_A.dtype, first.parts[0].lora_B.dtype
    _check_alike(factors, (rank, into), dtype_a, dtype_b)
    width_a, width_b, experts = DTYPE_BYTES[dtype_a], DTYPE_BYTES[dtype_b], len(factors)

    def matrices_b() -> list[bytes]:
        return [_put(item.parts, out, rank * width_b) for item in factors]

    if not is_flipped:
        segments = tuple(segment for item in factors for segment in item.lora_A.segments)
        whole_a = Tensor(dtype_a, (rank * experts, into), segments)
        return whole_a, _lazy(dtype_b, (out, rank * experts), lambda: _by_turns(matrices_b(), width_b))

    def flipped_a() -> bytes:
        return b"".join(_transposed(matrix, out, rank, width_b) for matrix in matrices_b())

    def flipped_b() -> bytes:
        turned = [_transposed(item.lora_A.to_bytes(), rank, into, width_a) for item in factors]
        return _by_turns(turned, width_a)

    return (
        _lazy(dtype_b, (rank * experts, out), flipped_a),
        _lazy(dtype_a, (into, rank * experts), flipped_b),
    )


def pad_columns(matrix: Tensor, *, before: int, after: int) -> Tensor:
    """Put columns of zeros before and after those of a matrix; the bytes are made when they are asked for.

    Args:
        matrix: Shape (rows, columns).
        before: Columns to put before.
        after: Columns to put after.
    """
    width, (rows, columns) = DTYPE_BYTES[matrix.dtype], matrix.shape

    def make() -> bytes:
        left, right = bytes(before * width), bytes(after * width)
        return b"".join(left + row + right for row in _cut(matrix.to_bytes(), rows))

    return _lazy(matrix.dtype, (rows, before + columns + after), make)


def _check_alike(factors: Sequence[ExpertFactors], shape: tuple[int, ...], dtype_a: str, dtype_b: str) -> None:
    for expert, item in enumerate(factors):
        found = {(part.lora_B.dtype, part.lora_B.shape[1]) for part in item.parts}
        if (item.lora_A.dtype, item.lora_A.shape) != (dtype_a, shape) or found != {(dtype_b, shape[0])}:
            raise ValueError(f"expert {expert} differs from expert 0 in rank, width or dtype")


def _lazy(dtype: str, shape: tuple[int, ...], make: Callable[[], bytes]) -> Tensor:
    size = DTYPE_BYTES[dtype] * shape[0] * shape[1]
    return Tensor(dtype, shape, (Segment(_Rearranged(make), 0, size),))


class _Rearranged:
    """Bytes that are put in order when they are first asked for; of all of them only the latest are kept.

    Entries are written and checked in the order of their names, so those of one parameter follow one another, and
    memory holds the factors of a few parameters at a time.
    """

    _lock: ClassVar[threading.RLock] = threading.RLock()  # one that is made may read another
    _kept: ClassVar[list[weakref.ref[_Rearranged]]] = []

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        self._data: bytes | None = None

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``."""
        with self._lock:
            if self._data is None:
                self._data = self._make()
                self._forget_oldest()
            return self._data[offset : offset + length]

    def _forget_oldest(self) -> None:
        """Let go of the bytes that were made first; they are made again where they are asked for again."""
        self._kept.append(weakref.ref(self))
        alive = [item for item in (reference() for reference in self._kept) if item is not None]
        sizes = [item.size_bytes for item in alive]
        while len(alive) > 1 and sum(sizes) > _KEPT_BYTES:
            alive.pop(0).forget()
            sizes.pop(0)
        self._kept[:] = [weakref.ref(item) for item in alive]

    @property
    def size_bytes(self) -> int:
        """Bytes that it holds at present."""
        return len(self._data or b"")

    def forget(self) -> None:
        """Let go of the bytes."""
        self._data = None


def _cut(data: bytes, count: int) -> list[bytes]:
    size = len(data) // count
    return [data[start : start + size] for start in range(0, size * count, size)]


def _cut_rows(tensor: Tensor, count: int) -> list[Tensor]:
    size = tensor.shape[0] // count
    return [
        tensor.take_rows(RowSlice(offset=start, block=size, stride=size, count=1))
        for start in range(0, size * count, size)
    ]


def _every(data: bytes, count: int, element: int) -> list[bytes]:
    """Deal the elements out to ``count`` matrices by turns."""
    view = memoryview(data).cast(_FORMATS[element])
    return [view[first::count].tobytes() for first in range(count)]


def _by_turns(matrices: Sequence[bytes], element: int) -> bytes:
    """Take elements of every matrix by turns; the inverse of ``_every``."""
    whole = bytearray(sum(map(len, matrices)))
    view = memoryview(whole).cast(_FORMATS[element])
    for first, matrix in enumerate(matrices):
        view[first :: len(matrices)] = memoryview(matrix).cast(_FORMATS[element])
    return bytes(whole)


def _transposed(data: bytes, rows: int, columns: int, element: int) -> bytes:
    """Turn a matrix of (rows, columns) into one of (columns, rows)."""
    if rows < columns:
        return _by_turns(_cut(data, rows), element)
    return b"".join(_every(data, columns, element))


def _take(matrix: bytes, rows: RowSlice, row_bytes: int) -> bytes:
    return b"".join(matrix[start * row_bytes : (start + count) * row_bytes] for start, count in rows.runs())


def _put(parts: Sequence[RolePart], rows: int, row_bytes: int) -> bytes:
    """Put the rows of every role into one matrix; the inverse of ``_take``."""
    matrix = bytearray(rows * row_bytes)
    for part in parts:
        data, done = part.lora_B.to_bytes(), 0
        for start, count in part.rows.runs():
            size = count * row_bytes
            matrix[start * row_bytes : start * row_bytes + size] = data[done : done + size]
            done += size
    return bytes(matrix)
