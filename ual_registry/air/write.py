"""Write containers: the same adapter gives the same bytes, in every process, on every machine."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from ual_registry.air.adapter import Adapter
from ual_registry.air.canonical import parse_json
from ual_registry.air.document import MANIFEST_SCHEMA, encode_manifest, with_digests
from ual_registry.air.header import METADATA_KEY, canonical_order, encode_header, read_header
from ual_registry.air.problem import Problem
from ual_registry.air.rules import TensorShape, rule_problems
from ual_registry.air.scan import scan_tensors
from ual_registry.air.schema import schema_problems
from ual_registry.air.tensor import MemorySource, Tensor
from ual_registry.air.validate import factor_names
from ual_registry.air.versions import AIR_VERSION
from ual_registry.digest import Digest
from ual_registry.storage import atomic_file

__all__ = ["file_digest", "write", "write_container"]

_MAX_PENDING_CHUNKS = 4


def write(adapter: Adapter, path: str | Path) -> Digest:
    """Write an adapter as an AIR file.

    Args:
        adapter: The adapter; the version and the digests in its manifest are set anew.
        path: The file; it appears when it is complete, and what was there is replaced.

    Returns:
        The digest of the file.

    Raises:
        FormatError: The manifest is not legal, or a factor is not finite; nothing is written.
        StorageError: The file system refuses; nothing is left behind.
    """
    return write_container(Path(path), adapter.tensors, {METADATA_KEY: _sealed_manifest(adapter)})


def file_digest(adapter: Adapter) -> Digest:
    """Return the digest that an adapter's file has or would have; nothing is written.

    Raises:
        FormatError: The manifest is not legal, or a factor is not finite.
    """
    order, header = _layout(adapter.tensors, {METADATA_KEY: _sealed_manifest(adapter)})
    chunks = (chunk for name in order for chunk in adapter.tensors[name].chunks())
    return Digest.of_chunks(itertools.chain([header], chunks))


def _sealed_manifest(adapter: Adapter) -> str:
    """Return the text of the manifest with both digests filled in, once nothing is wrong with it."""
    tensors = dict(adapter.tensors)
    scan = scan_tensors(tensors, check_finite=factor_names(adapter.manifest, tensors))
    manifest = with_digests(replace(adapter.manifest, air_version=AIR_VERSION), scan.tensor_digest)
    text = encode_manifest(manifest)
    faults = [
        Problem(code="non-finite", place=name, message="holds a NaN or an infinity", branch="rule")
        for name in scan.non_finite
    ]
    faults += schema_problems(MANIFEST_SCHEMA, parse_json(text, what="manifest"), root="manifest")
    faults += [] if faults else _rule_faults(adapter)
    if faults:
        raise faults[0].to_error()
    return text.decode()


def _rule_faults(adapter: Adapter) -> list[Problem]:
    shapes = {name: TensorShape(tensor.dtype, tensor.shape) for name, tensor in adapter.tensors.items()}
    return [problem for problem in rule_problems(adapter.manifest, shapes) if not problem.is_warning]


def write_container(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Digest:
    """Write a safetensors file in AIR's order and alignment.

    Args:
        path: The file; it appears when it is complete.
        tensors: The tensors by name.
        metadata: ``__metadata__``; left out where empty.

    Returns:
        The digest of the file.

    Raises:
        ContainerError: A limit of the format is passed, or a tensor's bytes do not fill its shape.
        StorageError: The file system refuses; nothing is left behind.
    """
    order, header = _layout(tensors, metadata)
    with atomic_file(path) as stream, ThreadPoolExecutor(1) as pool:
        sink = _HashedStream(stream, pool)
        sink.write(header)
        for name in order:
            for chunk in tensors[name].chunks():
                sink.write(chunk)
        return sink.digest()


def _layout(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[list[str], bytes]:
    """Return the order of the tensors, and the header that describes it."""
    order = canonical_order((name, tensor.dtype) for name, tensor in tensors.items())
    document: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        tensor = tensors[name]
        document[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (end, end + tensor.size_bytes)}
        end += tensor.size_bytes
    header = encode_header(document)
    read_header(MemorySource(header), len(header) + end)  # what the reader would refuse is not written
    return order, header


class _HashedStream:
    """Writes chunks and hashes them beside; hashing leaves the interpreter free, so both go on at once."""

    def __init__(self, stream: BinaryIO, pool: ThreadPoolExecutor) -> None:
        self._stream = stream
        self._pool = pool
        self._state = hashlib.sha256()
        self._pending: list[Future[None]] = []

    def write(self, chunk: bytes) -> None:
        self._pending.append(self._pool.submit(self._state.update, chunk))
        self._stream.write(chunk)
        if len(self._pending) > _MAX_PENDING_CHUNKS:
            self._pending.pop(0).result()

    def digest(self) -> Digest:
        for future in self._pending:
            future.result()
        return Digest(self._state.hexdigest())
