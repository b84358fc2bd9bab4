"""Write containers: the same adapter gives the same bytes, in every process, on every machine.

Tensors of files are copied, hashed and checked in one pass; the header, whose digests are known only then, is written
last into the room that was left for it. Tensors in memory are hashed and checked first, and nothing is read again: the
digest of the file, which begins with the header, is taken of memory by another thread while it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from ual_registry.air.adapter import Adapter
from ual_registry.air.canonical import parse_canonical, parse_json
from ual_registry.air.document import MANIFEST_SCHEMA, ROUTER_SCHEMA, AnyManifest, encode_manifest, seal_draft
from ual_registry.air.header import METADATA_KEY, canonical_order, encode_header, read_header
from ual_registry.air.model import Manifest
from ual_registry.air.problem import Problem
from ual_registry.air.router import RouterManifest, router_problems
from ual_registry.air.router_file import RouterFile
from ual_registry.air.rules import rule_problems
from ual_registry.air.scan import FileSink, TensorScan, copy_tensors, scan_tensors
from ual_registry.air.schema import schema_problems
from ual_registry.air.tensor import MemorySource, Tensor, TensorShape
from ual_registry.air.validate import factor_names, non_finite_problems
from ual_registry.air.versions import lowest_version
from ual_registry.digest import Digest
from ual_registry.storage import atomic_file

__all__ = ["file_digest", "write", "write_container", "write_sealed"]

_UNKNOWN = Digest("0" * 64)
"""Stands for a digest that is not known yet; it has the length of every other."""


def write(adapter: Adapter | RouterFile, path: str | Path) -> Digest:
    """Write an adapter or a router as an AIR file.

    Args:
        adapter: The adapter or router; the version and the digests in its manifest are set anew.
        path: The file; it appears when it is complete, and what was there is replaced.

    Returns:
        The digest of the file.

    Raises:
        FormatError: The manifest is not legal, or a factor is not finite; nothing is written.
        StorageError: The file system refuses; nothing is left behind.
    """
    if not all(tensor.is_in_memory for tensor in adapter.tensors.values()):
        write_sealed(adapter, Path(path))
        return Digest.of_file(Path(path))
    return _write_held(adapter, Path(path))


def _write_held(adapter: Adapter | RouterFile, path: Path) -> Digest:
    """Write tensors that lie in memory; another thread takes the file's digest of them meanwhile."""
    draft = _Draft.of(adapter)
    _, metadata = draft.sealed(_scan(adapter, {}))
    layout = _Layout.of(adapter.tensors, metadata)
    header = layout.header(metadata)
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(Digest.of_chunks, layout.file_chunks(header, adapter.tensors))
        with atomic_file(path, size_bytes=layout.file_bytes) as stream:
            sink = FileSink(stream.fileno(), 0)
            for chunk in layout.file_chunks(header, adapter.tensors):
                sink.write(chunk)
        return digest.result()


@overload
def write_sealed(adapter: Adapter, path: Path) -> Manifest: ...
@overload
def write_sealed(adapter: RouterFile, path: Path) -> RouterManifest: ...
@overload
def write_sealed(adapter: Adapter | RouterFile, path: Path) -> AnyManifest: ...
def write_sealed(adapter: Adapter | RouterFile, path: Path) -> AnyManifest:
    """Do what ``write`` does, and leave the file's digest to whoever needs it.

    Returns:
        The manifest as it is stored, its digests filled in.

    Raises:
        UALError: As ``write``.
    """
    draft = _Draft.of(adapter)
    layout = _Layout.of(adapter.tensors, draft.metadata)
    with atomic_file(path, size_bytes=layout.file_bytes) as stream:
        manifest, metadata = draft.sealed(_scan(adapter, layout.sinks(stream.fileno())))
        FileSink(stream.fileno(), 0).write(layout.header(metadata))
    return manifest


def file_digest(adapter: Adapter | RouterFile) -> Digest:
    """Return the digest that the file of an adapter or a router has or would have; nothing is written.

    Raises:
        FormatError: The manifest is not legal, or a factor is not finite.
    """
    _, metadata = _Draft.of(adapter).sealed(_scan(adapter, {}))
    layout = _Layout.of(adapter.tensors, metadata)
    return Digest.of_chunks(layout.file_chunks(layout.header(metadata), adapter.tensors))


@dataclass(frozen=True, slots=True)
class _Draft:
    """A manifest with its digests unknown, and its canonical text."""

    manifest: AnyManifest
    text: bytes

    @classmethod
    def of(cls, adapter: Adapter | RouterFile) -> _Draft:
        """Write the manifest of an adapter or a router, once nothing but its digests is wrong with it."""
        draft = replace(
            adapter.manifest,
            air_version=lowest_version(adapter.manifest.features),
            tensor_digest=str(_UNKNOWN),
            manifest_digest=str(_UNKNOWN),
        )
        text = encode_manifest(draft)
        document = parse_canonical(text, what="manifest") or parse_json(text, what="manifest")
        schema = ROUTER_SCHEMA if isinstance(draft, RouterManifest) else MANIFEST_SCHEMA
        faults = list(schema_problems(schema, document, root="manifest"))
        faults += [] if faults else _rule_faults(adapter)
        if faults:
            raise faults[0].to_error()
        return cls(draft, text)

    @property
    def metadata(self) -> dict[str, str]:
        """What the header holds of it; as long as what it will hold."""
        return {METADATA_KEY: self.text.decode()}

    def sealed(self, scan: TensorScan) -> tuple[AnyManifest, dict[str, str]]:
        """Return the manifest with its digests filled in, and what the header holds of it."""
        for problem in non_finite_problems(scan):
            raise problem.to_error()
        manifest, text = seal_draft(self.manifest, self.text, scan.tensor_digest)
        return manifest, {METADATA_KEY: text.decode()}


def _scan(adapter: Adapter | RouterFile, sinks: Mapping[str, FileSink]) -> TensorScan:
    tensors = dict(adapter.tensors)
    return scan_tensors(tensors, check_finite=factor_names(adapter.manifest, tensors), sinks=sinks)


def _rule_faults(adapter: Adapter | RouterFile) -> list[Problem]:
    shapes = {name: TensorShape(tensor.dtype, tensor.shape) for name, tensor in adapter.tensors.items()}
    manifest = adapter.manifest
    problems = (
        router_problems(manifest, shapes) if isinstance(manifest, RouterManifest) else rule_problems(manifest, shapes)
    )
    return [problem for problem in problems if not problem.is_warning]


def write_container(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file in AIR's order and alignment.

    Args:
        path: The file; it appears when it is complete.
        tensors: The tensors by name.
        metadata: ``__metadata__``; left out where empty.

    Raises:
        ContainerError: A limit of the format is passed, or a tensor's bytes do not fill its shape.
        StorageError: The file system refuses; nothing is left behind.
    """
    layout = _Layout.of(tensors, metadata)
    with atomic_file(path, size_bytes=layout.file_bytes) as stream:
        copy_tensors(tensors, layout.sinks(stream.fileno()))
        FileSink(stream.fileno(), 0).write(layout.header(metadata))


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything stands in a file.

    Attributes:
        order: The tensors as they follow one another.
        table: The tensor table of the header.
        header_bytes: Length of the header, the eight bytes before it included.
        file_bytes: Length of the whole file.
    """

    order: list[str]
    table: dict[str, dict[str, Any]]
    header_bytes: int
    file_bytes: int

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> _Layout:
        """Lay out tensors; ``metadata`` has the length that it will have, whatever its digests."""
        order = canonical_order((name, tensor.dtype) for name, tensor in tensors.items())
        table, end = {}, 0
        for name in order:
            tensor = tensors[name]
            offsets = (end, end + tensor.size_bytes)
            table[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
            end += tensor.size_bytes
        header = _encode(table, metadata)
        read_header(MemorySource(header), len(header) + end)  # what the reader would refuse is not written
        return cls(order, table, len(header), len(header) + end)

    def header(self, metadata: Mapping[str, str]) -> bytes:
        """Return the bytes before the tensors."""
        header = _encode(self.table, metadata)
        assert len(header) == self.header_bytes  # digests are all of one length
        return header

    def file_chunks(self, header: bytes, tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
        """Yield the bytes of the file from its start."""
        yield header
        for name in self.order:
            yield from tensors[name].views()

    def sinks(self, descriptor: int) -> dict[str, FileSink]:
        """Return where each tensor goes in an open file."""
        return {
            name: FileSink(descriptor, self.header_bytes + row["data_offsets"][0]) for name, row in self.table.items()
        }


def _encode(table: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    return encode_header({**({"__metadata__": dict(metadata)} if metadata else {}), **table})
