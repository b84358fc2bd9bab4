"""One pass over tensor bytes: copy them, hash them, and see whether every number is finite.

The tensor digest recognises the same weights under another manifest: it covers names, dtypes, shapes and bytes of
the tensors, and nothing of the header (spec: digests). Tensors are read in chunks by a few threads, because hashing,
reading and writing leave the interpreter free; memory stays at one chunk per thread.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ual_registry.air.canonical import canonical_bytes
from ual_registry.air.finite import is_finite
from ual_registry.air.lanes import TwoLanes
from ual_registry.air.tensor import Shaped, Tensor
from ual_registry.digest import Digest

__all__ = ["THREADS", "FileSink", "TensorScan", "copy_tensors", "listing", "scan_tensors"]

T = TypeVar("T")

THREADS = min(4, os.cpu_count() or 1)
"""How many threads read tensors, unless told otherwise."""

_GROUPS_PER_THREAD = 8
_CHUNK_BYTES = 1 << 18  # what stays in the cache of a core while it is hashed and looked through


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorScan:
    """What a pass over all tensors found.

    Attributes:
        tensor_digest: The digest of all tensors together.
        non_finite: Names of the checked tensors that hold a NaN or an infinity, sorted.
    """

    tensor_digest: Digest
    non_finite: tuple[str, ...]


class FileSink:
    """A place in an open file that a tensor is copied to.

    Args:
        descriptor: The file, open for writing.
        offset: Where the tensor begins, in bytes.
    """

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset

    def write(self, chunk: bytes | memoryview) -> None:
        """Write the next chunk."""
        rest = memoryview(chunk)
        while rest:
            written = os.pwrite(self._descriptor, rest, self._offset)
            self._offset += written
            rest = rest[written:]


def copy_tensors(tensors: Mapping[str, Tensor], sinks: Mapping[str, FileSink]) -> None:
    """Copy every tensor to its sink.

    Raises:
        StorageError: A tensor cannot be read.
        OSError: A sink cannot be written.
    """

    def copy(names: Sequence[str]) -> None:
        for name in names:
            for chunk in tensors[name].views():
                sinks[name].write(chunk)

    _for_each_group(copy, tensors, THREADS)


def _for_each_group(task: Callable[[list[str]], T], tensors: Mapping[str, Tensor], threads: int) -> list[T]:
    """Run a task for groups of tensors on a few threads; the groups follow one another in the order of the names.

    Tensors are handed out in groups of about equal size, because a hand-over costs as much as hashing 50 kB.
    """
    if threads == 1:
        return [task(sorted(tensors))]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(task, _groups(tensors, threads)))


def _groups(tensors: Mapping[str, Tensor], threads: int) -> list[list[str]]:
    share = sum(tensor.size_bytes for tensor in tensors.values()) // (threads * _GROUPS_PER_THREAD) + 1
    groups: list[list[str]] = []
    room = 0
    for name in sorted(tensors):
        if room <= 0:
            groups.append([])
            room = share
        groups[-1].append(name)
        room -= tensors[name].size_bytes
    return groups


def scan_tensors(
    tensors: Mapping[str, Tensor],
    *,
    check_finite: Iterable[str] = (),
    sinks: Mapping[str, FileSink] | None = None,
    threads: int = THREADS,
) -> TensorScan:
    """Read every tensor once.

    Args:
        tensors: The tensors by name.
        check_finite: Names of the tensors whose numbers must be finite.
        sinks: Where to copy them.
        threads: How many threads read them.

    Raises:
        StorageError: A tensor cannot be read.
        OSError: A sink cannot be written.
    """
    checked, own_sinks, non_finite = frozenset(check_finite), sinks or {}, set[str]()

    def chunks(name: str) -> Iterator[bytes | memoryview]:
        return _looked_at(name, tensors[name], own_sinks.get(name), non_finite, is_checked=name in checked)

    parts = _for_each_group(lambda names: _digests(tensors, names, chunks), tensors, threads)
    digests = {name: hexadecimal for part in parts for name, hexadecimal in part.items()}
    return TensorScan(tensor_digest=Digest.of_bytes(listing(tensors, digests)), non_finite=tuple(sorted(non_finite)))


def listing(shapes: Mapping[str, Shaped], digests: Mapping[str, str]) -> bytes:
    """Return what the tensor digest is taken of: the canonical list of all tensors in the order of their names.

    Args:
        shapes: dtype and shape of every tensor.
        digests: The hexadecimal digest of the bytes of each.
    """
    table = [(name, shapes[name].dtype, shapes[name].shape, digests[name]) for name in sorted(shapes)]
    return canonical_bytes(table, is_plain=True)


def _digests(
    tensors: Mapping[str, Tensor], names: Sequence[str], chunks: Callable[[str], Iterator[bytes | memoryview]]
) -> dict[str, str]:
    """Return the digest of every tensor of a group: two at once, of about one size (ADR-0020)."""
    ordered = sorted(names, key=lambda name: tensors[name].size_bytes)
    found: dict[str, str] = {}
    for start in range(0, len(ordered), 2):
        pair, lanes = ordered[start : start + 2], TwoLanes()
        first, second = chunks(pair[0]), chunks(pair[1]) if len(pair) == 2 else iter(())
        for data, data_2 in itertools.zip_longest(first, second, fillvalue=b""):
            lanes.take(data, (), data_2, ())
        lanes.take(b"", (0,), b"", (0,))
        found |= {name: lanes.digests(lane)[0] for lane, name in enumerate(pair)}
    return found


def _looked_at(
    name: str, tensor: Tensor, sink: FileSink | None, non_finite: set[str], *, is_checked: bool
) -> Iterator[bytes | memoryview]:
    """Yield the chunks of a tensor, each copied to its sink and looked through while it lies in the cache."""
    for chunk in tensor.views(_CHUNK_BYTES):
        if sink:
            sink.write(chunk)
        if is_checked and not is_finite(tensor.dtype, chunk):
            non_finite.add(name)
            is_checked = False
        yield chunk
