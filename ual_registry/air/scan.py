"""One pass over tensor bytes: copy them, hash them, and see whether every number is finite.

The tensor digest recognises the same weights under another manifest: it covers names, dtypes, shapes and bytes of
the tensors, and nothing of the header (spec: digests). Tensors are read in chunks by a few threads, because hashing,
reading and writing leave the interpreter free; memory stays at one chunk per thread.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ual_registry.air.canonical import canonical_bytes
from ual_registry.air.finite import is_finite
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

    def write(self, chunk: bytes) -> None:
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

    def copy(name: str) -> None:
        for chunk in tensors[name].chunks():
            sinks[name].write(chunk)

    _for_each(copy, tensors, THREADS)


def _for_each(task: Callable[[str], T], tensors: Mapping[str, Tensor], threads: int) -> list[T]:
    """Run a task for every tensor on a few threads; the results are in the order of the names.

    Tensors are handed out in groups of about equal size, because a hand-over costs as much as hashing 50 kB.
    """
    if threads == 1:
        return [task(name) for name in sorted(tensors)]
    groups = _groups(tensors, threads)
    with ThreadPoolExecutor(threads) as pool:
        return [result for part in pool.map(lambda group: [task(name) for name in group], groups) for result in part]


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
    checked, sinks = frozenset(check_finite), sinks or {}
    names = sorted(tensors)
    found = _for_each(lambda name: _scan(tensors[name], name in checked, sinks.get(name)), tensors, threads)
    results = dict(zip(names, found, strict=True))
    digests = {name: hexadecimal for name, (hexadecimal, _) in results.items()}
    return TensorScan(
        tensor_digest=Digest.of_bytes(listing(tensors, digests)),
        non_finite=tuple(name for name, (_, finite) in results.items() if not finite),
    )


def listing(shapes: Mapping[str, Shaped], digests: Mapping[str, str]) -> bytes:
    """Return what the tensor digest is taken of: the canonical list of all tensors in the order of their names.

    Args:
        shapes: dtype and shape of every tensor.
        digests: The hexadecimal digest of the bytes of each.
    """
    table = [(name, shapes[name].dtype, shapes[name].shape, digests[name]) for name in sorted(shapes)]
    return canonical_bytes(table, is_plain=True)


def _scan(tensor: Tensor, check_finite: bool, sink: FileSink | None) -> tuple[str, bool]:
    state = hashlib.sha256()
    is_doubtful, finite = check_finite, True
    for chunk in tensor.chunks(_CHUNK_BYTES):
        if sink:
            sink.write(chunk)
        state.update(chunk)
        if is_doubtful and not is_finite(tensor.dtype, chunk):
            is_doubtful = finite = False
    return state.hexdigest(), finite
