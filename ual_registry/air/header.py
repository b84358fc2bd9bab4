"""The strict reader of the safetensors container, on the standard library alone.

The common readers accept a repeated tensor name and unknown fields; this one refuses whatever the container's
format does not say (spec: container). Nothing of the tensor data is read here.

``read_header`` serves every safetensors file; ``check_air_layout`` adds what AIR demands: one metadata key, canonical
header bytes, and the one order of tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.air.plain_header import (
    DATA_ALIGNMENT_BYTES,
    LENGTH_BYTES,
    MAX_AXES,
    MAX_NAME_LENGTH,
    MAX_TENSORS,
    plain_header,
)
from ual_registry.air.tensor import DTYPE_BYTES, Segment, SizedSource, Source, Tensor, TensorInfo
from ual_registry.errors import ContainerError, FormatError

__all__ = [
    "MAX_HEADER_BYTES",
    "METADATA_KEY",
    "Header",
    "canonical_order",
    "check_air_layout",
    "encode_header",
    "open_header",
    "read_header",
]

MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors format itself."""

METADATA_KEY = "air"
"""The one key of ``__metadata__`` in an AIR file; its value is the manifest."""

_MAX_SIZE = 2**63 - 1
_FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class Header:
    """A container's header, checked.

    Attributes:
        metadata: ``__metadata__``; empty where the file has none.
        infos: The tensor table, in the order of the file's header.
        data_start: Where the tensor data begins, in bytes from the start of the file.
        raw: The header bytes as stored, padding included.
        has_air_layout: Whether it was read as a header that keeps all that ``check_air_layout`` asks.
    """

    metadata: Mapping[str, str]
    infos: Mapping[str, TensorInfo]
    data_start: int
    raw: bytes
    has_air_layout: bool = False

    def tensors(self, source: Source) -> dict[str, Tensor]:
        """Return every tensor as a range of ``source``."""
        return {
            name: Tensor(
                info.dtype,
                info.shape,
                (Segment(source, self.data_start + info.start, info.end - info.start),),
            )
            for name, info in self.infos.items()
        }


def open_header(source: SizedSource) -> Header:
    """Read the header of an open file; see ``read_header``."""
    return read_header(source, source.size_bytes)


def read_header(source: Source, size_bytes: int) -> Header:
    """Read and check the header of a container.

    Args:
        source: The file.
        size_bytes: Its size.

    Raises:
        ContainerError: The bytes are no legal container; the code says which rule is broken.
    """
    if size_bytes < LENGTH_BYTES:
        raise _fault("truncated", f"file has {size_bytes} bytes, fewer than the 8 that hold the header's length")
    length = int.from_bytes(source.read(0, LENGTH_BYTES), "little")
    if length > MAX_HEADER_BYTES:
        raise _fault(
            "header-too-large",
            f"header of {length} bytes is over the limit of {MAX_HEADER_BYTES}",
            hint="this is probably not a safetensors file",
        )
    if LENGTH_BYTES + length > size_bytes:
        raise _fault("truncated", f"header of {length} bytes ends after the file, which has {size_bytes} bytes")
    raw = source.read(LENGTH_BYTES, length)
    data_start = LENGTH_BYTES + length
    plain = plain_header(raw, size_bytes - data_start)
    if plain is not None:
        return Header({METADATA_KEY: plain[0]}, plain[1], data_start, raw, has_air_layout=True)
    return _read_strictly(raw, data_start, size_bytes)


def _read_strictly(raw: bytes, data_start: int, size_bytes: int) -> Header:
    document = _parse(raw)
    metadata = _metadata(document.pop("__metadata__", {}))
    if len(document) > MAX_TENSORS:
        raise _fault("too-many-tensors", f"{len(document)} tensors are over the limit of {MAX_TENSORS}")
    infos = {name: _tensor_info(name, row) for name, row in document.items()}
    _check_tiling(infos, size_bytes - data_start)
    return Header(metadata, infos, data_start, raw)


def _fault(code: str, message: str, *, hint: str | None = None, tensor: str | None = None) -> ContainerError:
    context = {"tensor": tensor} if tensor is not None else {}
    return ContainerError(message, code=code, hint=hint, context=context)


def _parse(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise _fault(
            "header-not-object",
            f"header starts with {raw[:1]!r}, expected b'{{'",
            hint="this is probably not a safetensors file",
        )
    try:
        document = parse_json(raw, what="header")
    except FormatError as error:
        raise ContainerError(error.message, code=error.problem_code) from error
    if not isinstance(document, dict):  # pragma: no cover - text that starts with '{' is an object
        raise _fault("header-not-object", "header is not a JSON object")
    return document


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise _fault("metadata-form", "__metadata__: expected an object of strings")
    return value


def _tensor_info(name: str, row: Any) -> TensorInfo:
    if not name or len(name) > MAX_NAME_LENGTH:
        raise _fault("tensor-name", f"tensor name of {len(name)} characters: expected 1 to {MAX_NAME_LENGTH}")
    if not isinstance(row, dict) or set(row) != _FIELDS:
        got = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise _fault("tensor-form", f"{name}: expected exactly dtype, shape and data_offsets, got {got}", tensor=name)
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise _fault("unknown-dtype", f"{name}: dtype {dtype!r} (known: {', '.join(DTYPE_BYTES)})", tensor=name)
    if not _are_sizes(shape):
        raise _fault("shape-form", f"{name}: shape {shape!r}: expected a list of integers from 0", tensor=name)
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _fault("offsets-form", f"{name}: data_offsets {offsets!r}: expected [begin, end]", tensor=name)
    size = _size_bytes(name, dtype, shape)
    if offsets[1] - offsets[0] != size:
        raise _fault(
            "size-mismatch",
            f"{name}: {dtype} of shape {tuple(shape)} has {size} bytes, data_offsets hold {offsets[1] - offsets[0]}",
            tensor=name,
        )
    return TensorInfo(dtype, tuple(shape), offsets[0], offsets[1])


def _size_bytes(name: str, dtype: str, shape: list[int]) -> int:
    """Multiply step by step, so that a hostile shape costs no long arithmetic."""
    if len(shape) > MAX_AXES:
        raise _fault("shape-form", f"{name}: shape of {len(shape)} axes: expected at most {MAX_AXES}", tensor=name)
    size = DTYPE_BYTES[dtype]
    for length in shape:
        size *= length
        if size > _MAX_SIZE:
            raise _fault("shape-overflow", f"{name}: shape {tuple(shape)} is too large", tensor=name)
    return size


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_tiling(infos: Mapping[str, TensorInfo], data_bytes: int) -> None:
    """Check that the tensors cover the data without overlap, hole or rest."""
    end = 0
    for name, info in sorted(infos.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.end > data_bytes:
            raise _fault(
                "truncated",
                f"{name}: ends at byte {info.end} of the tensor data, which has {data_bytes}",
                hint="the file is cut short: fetch or copy it again",
                tensor=name,
            )
        if info.start < end:
            raise _fault(
                "overlap", f"{name}: starts at {info.start}, before the end {end} of its neighbour", tensor=name
            )
        if info.start > end:
            raise _fault(
                "hole", f"{name}: starts at {info.start}, {info.start - end} bytes after its neighbour", tensor=name
            )
        end = info.end
    if end != data_bytes:
        raise _fault("trailing-bytes", f"{data_bytes - end} bytes stand after the last tensor")


def canonical_order(infos: Iterable[tuple[str, str]]) -> list[str]:
    """Order tensors as AIR stores them: wide dtypes first, so that each is aligned, then by name.

    Args:
        infos: (name, dtype) of every tensor.
    """
    return [name for name, _ in sorted(infos, key=lambda item: (-DTYPE_BYTES[item[1]], item[0]))]


def encode_header(document: Mapping[str, Any], *, is_plain: bool = False) -> bytes:
    """Serialise a header: length, canonical JSON, and spaces up to the alignment of the data.

    Args:
        document: The header.
        is_plain: See ``canonical_bytes``.
    """
    text = canonical_bytes(document, is_plain=is_plain)
    padding = -(LENGTH_BYTES + len(text)) % DATA_ALIGNMENT_BYTES
    return (len(text) + padding).to_bytes(LENGTH_BYTES, "little") + text + b" " * padding


def check_air_layout(header: Header) -> None:
    """Check what AIR demands beyond safetensors: one metadata key, one order, canonical bytes.

    Raises:
        ContainerError: The header breaks one of them.
    """
    if header.has_air_layout:
        return
    if set(header.metadata) != {METADATA_KEY}:
        found = ", ".join(sorted(header.metadata)) or "none"
        raise _fault(
            "not-air",
            f"__metadata__: expected exactly the key '{METADATA_KEY}', found {found}",
            hint="a safetensors file but no AIR file; "
            "a PEFT folder becomes one by 'ual convert FOLDER FILE.air --base BASE'",
        )
    _check_order(header.infos)
    document: dict[str, Any] = {"__metadata__": dict(header.metadata)}
    for name, info in header.infos.items():
        document[name] = {"dtype": info.dtype, "shape": info.shape, "data_offsets": (info.start, info.end)}
    is_plain = "".join(header.infos).isascii()  # the rest is plain in every header that could be read
    if encode_header(document, is_plain=is_plain)[LENGTH_BYTES:] != header.raw:
        raise _fault("not-canonical", "header is not in canonical form (RFC 8785, padded with spaces to 64 bytes)")


def _check_order(infos: Mapping[str, TensorInfo]) -> None:
    for name, info in infos.items():
        if info.start % DTYPE_BYTES[info.dtype]:
            raise _fault("misaligned", f"{name}: {info.dtype} starts at byte {info.start}", tensor=name)
    expected = canonical_order((name, info.dtype) for name, info in infos.items())
    # Empty tensors can share a place; the sort is stable, so these stand as expected.
    stored = sorted(expected, key=lambda name: (infos[name].start, infos[name].end))
    for found, wanted in zip(stored, expected, strict=True):
        if found != wanted:
            raise _fault(
                "unsorted", f"{found}: stands where {wanted} belongs (wide dtypes first, then by name)", tensor=found
            )
