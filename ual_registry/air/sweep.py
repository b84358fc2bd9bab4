"""One pass over the tensors of a file as they lie there: read through one window, digested and looked at on the way.

Where tensors are small, reading each by itself costs more than hashing it. Here whole windows are read into one buffer,
and the numbers of neighbours are looked at together. The answer is that of ``scan_tensors``.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ual_registry.air.finite import is_finite
from ual_registry.air.scan import TensorScan, listing
from ual_registry.air.tensor import DTYPE_BYTES, FileSource, TensorInfo
from ual_registry.digest import Digest

__all__ = ["WINDOW_BYTES", "Route", "plan_route", "sweep"]

WINDOW_BYTES = 1 << 20
"""What is read at once: it stays in the cache of a core while it is hashed and looked through.

A smaller one costs more calls than a better cache saves.
"""

_BUFFERS: list[bytearray] = []  # those that nobody uses; a new one costs as much as reading a small file


class _Window(NamedTuple):
    """A part of the tensor data.

    Attributes:
        offset: Where it begins, in bytes from the start of the tensor data.
        length: Its bytes.
        head: How many of them belong to a tensor that began before.
        is_end: Whether that tensor ends here.
        whole: Tensors that lie in it, as places in the window.
        tail: Where a tensor begins that ends later.
        numbers: Runs of numbers of one dtype that must be finite.
    """

    offset: int
    length: int
    head: int
    is_end: bool
    whole: tuple[slice, ...]
    tail: int | None
    numbers: tuple[tuple[str, slice], ...]


class _Checked(NamedTuple):
    """A tensor whose numbers must be finite; offsets are in bytes from the start of the tensor data."""

    start: int
    end: int
    dtype: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """How the tensors of a table are read.

    Attributes:
        windows: What is read, in order.
        listing: The canonical list of all tensors in the order of their names, with ``%s`` for each digest.
        order: Which ones these are in the order of the file.
        checked: The tensors whose numbers must be finite, in the order of the file.
    """

    windows: tuple[_Window, ...]
    listing: str
    order: tuple[int, ...]
    checked: tuple[_Checked, ...]


def plan_route(
    infos: Mapping[str, TensorInfo], check_finite: Collection[str], *, window_bytes: int = WINDOW_BYTES
) -> Route | None:
    """Work out how to read a table of tensors that lie one after another, without hole or overlap.

    Args:
        infos: The table.
        check_finite: Names of the tensors whose numbers must be finite.
        window_bytes: What to read at once, a multiple of the widest number and at most ``WINDOW_BYTES``.

    Returns:
        ``None`` where numbers could lie across two windows.
    """
    stored = sorted(infos, key=lambda name: (infos[name].start, infos[name].end))
    if any(info.start % DTYPE_BYTES[info.dtype] for info in infos.values()):
        return None
    checked = tuple(
        _Checked(infos[name].start, infos[name].end, infos[name].dtype, name) for name in stored if name in check_finite
    )
    return Route(
        windows=tuple(_windows([infos[name] for name in stored], _numbers(checked, window_bytes), window_bytes)),
        listing=_listing(infos),
        order=tuple(sorted(range(len(stored)), key=stored.__getitem__)),
        checked=checked,
    )


def _windows(
    stored: Sequence[TensorInfo], numbers: Mapping[int, Sequence[tuple[str, slice]]], window_bytes: int
) -> Iterator[_Window]:
    data_bytes, index = stored[-1].end if stored else 0, 0
    for start in range(0, max(data_bytes, 1), window_bytes):
        end = min(start + window_bytes, data_bytes)
        head, is_end, whole, tail = 0, False, [], None
        if index < len(stored) and stored[index].start < start:
            head, is_end = min(stored[index].end, end) - start, stored[index].end <= end
            index += is_end
        while index < len(stored) and stored[index].end <= end:
            whole.append(slice(stored[index].start - start, stored[index].end - start))
            index += 1
        if index < len(stored) and start <= stored[index].start < end:
            tail = stored[index].start - start
        yield _Window(start, end - start, head, is_end, tuple(whole), tail, tuple(numbers.get(start, ())))


def _numbers(checked: Sequence[_Checked], window_bytes: int) -> Mapping[int, Sequence[tuple[str, slice]]]:
    """Join neighbours of one dtype, and return what of them lies in each window, by its offset."""
    runs: list[tuple[int, int, str]] = []
    for start, end, dtype, _ in checked:
        is_next = bool(runs) and runs[-1][1:] == (start, dtype)
        runs.append((runs.pop()[0] if is_next else start, end, dtype))
    found: dict[int, list[tuple[str, slice]]] = defaultdict(list)
    for start, end, dtype in runs:
        for offset in range(start - start % window_bytes, end, window_bytes):
            part = slice(max(start - offset, 0), min(end - offset, window_bytes))
            found[offset].append((dtype, part))
    return found


def _listing(infos: Mapping[str, TensorInfo]) -> str:
    text = listing(infos, dict.fromkeys(infos, "\0")).decode()
    return text.replace("%", "%%").replace('"\\u0000"]', '"%s"]')


def sweep(source: FileSource, data_start: int, route: Route) -> TensorScan:
    """Read every tensor of a file once.

    Args:
        source: The file.
        data_start: Where its tensor data begins.
        route: What ``plan_route`` made of its table.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        buffer = _BUFFERS.pop()
    except IndexError:
        buffer = bytearray(WINDOW_BYTES)
    try:
        with memoryview(buffer) as memory:
            digests, non_finite = _read(source, data_start, route, memory)
    finally:
        _BUFFERS.append(buffer)
    text = route.listing % tuple([digests[number] for number in route.order])
    return TensorScan(tensor_digest=Digest.of_bytes(text.encode()), non_finite=tuple(sorted(non_finite)))


def _read(source: FileSource, data_start: int, route: Route, memory: memoryview) -> tuple[list[str], set[str]]:
    """Return the digest of every tensor in the order of the file, and the names of those that are not finite."""
    digests: list[str] = []
    non_finite: set[str] = set()
    sha256, state = hashlib.sha256, hashlib.sha256()
    for window in route.windows:
        view = memory[: window.length]
        source.read_into(data_start + window.offset, view)
        if window.head:
            state.update(view[: window.head])
            if window.is_end:
                digests.append(state.hexdigest())
        digests += [sha256(view[part]).hexdigest() for part in window.whole]
        if window.tail is not None:
            state = sha256(view[window.tail :])
        for dtype, part in window.numbers:
            if not is_finite(dtype, view[part]):
                non_finite.update(_not_finite(route.checked, window.offset, view))
    return digests, non_finite


def _not_finite(checked: Sequence[_Checked], offset: int, view: memoryview) -> Iterator[str]:
    """Yield which of the tensors in a window are not finite there."""
    first = bisect_left(checked, offset, key=lambda tensor: tensor.start) - 1  # it may reach into the window
    for index in range(max(first, 0), len(checked)):
        start, end, dtype, name = checked[index]
        if start >= offset + len(view):
            break
        if not is_finite(dtype, view[max(start - offset, 0) : max(end - offset, 0)]):
            yield name
