"""An adapter unpacked for human eyes: its manifest as indented JSON, its tensors in one file, and a table of them.

The folder is known by a marker file of its own. The manifest may be edited by hand: on the way back it is checked
against schema and rules and sealed anew. Nothing else may be; the tensors keep the digest that the manifest names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.air.codec import encode
from ual_registry.air.document import decode_manifest
from ual_registry.air.header import MAX_HEADER_BYTES, open_header
from ual_registry.air.model import Manifest
from ual_registry.air.problem import Problem
from ual_registry.air.read import verify
from ual_registry.air.tensor import FileSource, Tensor
from ual_registry.air.write import write_container
from ual_registry.digest import Digest
from ual_registry.errors import ContainerError, DigestMismatchError, ForeignFormatError, FormatError, RuleError
from ual_registry.storage import atomic_folder, read_file

__all__ = ["FOLDER_FILES", "MARKER_FILE", "TENSORS_FILE", "from_folder", "is_unpacked", "to_folder"]

MARKER_FILE = "air-folder.json"
"""The file that makes a folder an unpacked adapter."""

MANIFEST_FILE = "manifest.json"
TABLE_FILE = "tensors.txt"
TENSORS_FILE = "tensors.safetensors"
FOLDER_FILES = (MARKER_FILE, MANIFEST_FILE, TABLE_FILE, TENSORS_FILE)
"""Everything that such a folder holds; the table is for people and is not read."""

_MARKER = {"format": "air-folder", "version": 1}
_MAX_MARKER_BYTES = 4096
_MAX_MANIFEST_BYTES = 4 * MAX_HEADER_BYTES  # indented, and then some
_UNKNOWN = str(Digest("0" * 64))


def is_unpacked(folder: Path) -> bool:
    """Tell whether a folder says of itself that it is an unpacked adapter."""
    return (folder / MARKER_FILE).is_file()


def to_folder(adapter: Adapter, folder: Path) -> None:
    """Write an adapter as a folder.

    Args:
        adapter: An adapter that was read from an AIR file.
        folder: The folder; it appears when it is complete.

    Raises:
        StorageError: The file system refuses; nothing is left behind.
    """
    with atomic_folder(folder) as place:
        (place / MARKER_FILE).write_text(_indented(_MARKER), encoding="utf-8")
        (place / MANIFEST_FILE).write_text(_indented(encode(adapter.manifest)), encoding="utf-8")
        (place / TABLE_FILE).write_text("\n".join(_table(adapter)) + "\n", encoding="utf-8")
        write_container(place / TENSORS_FILE, adapter.tensors, {})


def _indented(document: Mapping[str, Any]) -> str:
    return json.dumps(document, default=dict, indent=2, ensure_ascii=False) + "\n"


def _table(adapter: Adapter) -> Iterator[str]:
    rows = [("tensor", "dtype", "shape", "bytes", "module")]
    modules = {name: entry.source or "" for entry in adapter.entries for name in entry.tensor_names().values()}
    for name, tensor in sorted(adapter.tensors.items()):
        shape = " x ".join(str(length) for length in tensor.shape)
        rows.append((_line(name), tensor.dtype, shape, str(tensor.size_bytes), _line(modules.get(name, ""))))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _line(text: str) -> str:
    """Keep a name on its line of the table, whatever characters it holds."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def from_folder(folder: Path) -> Adapter:
    """Read an unpacked adapter, its manifest perhaps edited by hand.

    Args:
        folder: A folder with a marker.

    Returns:
        The adapter, to be sealed by writing it; close it, or use it as a context manager.

    Raises:
        ForeignFormatError: The marker is of another version.
        FormatError: The manifest is not legal, or the tensors are not those that it names.
        ContainerError: The tensor file is broken.
        StorageError: A file cannot be read.
    """
    _check_marker(folder)
    document = _document(folder)
    manifest = _manifest(folder, document)
    source, tensors = _open(folder)
    try:
        if "tensor_digest" in document:
            _check_tensors(folder, Adapter(manifest, tensors))
    except FormatError:
        source.close()
        raise
    return Adapter(replace(manifest, tensor_digest="", manifest_digest=""), tensors)


def _check_marker(folder: Path) -> None:
    marker = parse_json(read_file(folder / MARKER_FILE, limit_bytes=_MAX_MARKER_BYTES), what=MARKER_FILE)
    if marker != _MARKER:
        raise ForeignFormatError(
            f"{folder / MARKER_FILE}: {json.dumps(marker)[:200]}, expected {json.dumps(_MARKER)}",
            code="folder-marker",
            hint="use a version of ual-registry that knows it",
            context={"path": str(folder)},
        )


def _document(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    document = parse_json(read_file(path, limit_bytes=_MAX_MANIFEST_BYTES), what=str(path))
    if not isinstance(document, dict):
        raise FormatError(f"{path}: expected a JSON object", code="schema", context={"path": str(path)})
    return document


def _manifest(folder: Path, document: Mapping[str, Any]) -> Manifest:
    """Decode the manifest with its own digest set anew, so that every other fault shows."""
    unsealed = {"tensor_digest": _UNKNOWN, **document}
    unsealed.pop("manifest_digest", None)
    own = str(Digest.of_bytes(canonical_bytes(unsealed)))
    found = decode_manifest(canonical_bytes({**unsealed, "manifest_digest": own}).decode())
    faults = [problem for problem in found.problems if not problem.is_warning]
    if faults:
        raise _first(folder, faults)
    if not isinstance(found.manifest, Manifest):
        message = f"{folder / MANIFEST_FILE}: manifest.kind: {document['kind']!r}, expected 'adapter'"
        raise RuleError(message, code="kind", context={"path": str(folder)})
    return found.manifest


def _first(folder: Path, faults: list[Problem]) -> FormatError:
    error = faults[0].to_error()
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return type(error)(
        f"{folder / MANIFEST_FILE}: {error.message}{more}",
        code=error.problem_code,
        hint=error.hint,
        context={**error.context, "path": str(folder), "problems": [str(fault) for fault in faults]},
    )


def _open(folder: Path) -> tuple[FileSource, dict[str, Tensor]]:
    source = FileSource(folder / TENSORS_FILE)
    try:
        return source, open_header(source).tensors(source)
    except ContainerError as error:
        source.close()
        message = f"{source.path}: {error.message}"
        raise ContainerError(message, code=error.problem_code, hint=error.hint, context=error.context) from error


def _check_tensors(folder: Path, adapter: Adapter) -> None:
    try:
        verify(adapter, check_finite=False)
    except DigestMismatchError as error:
        error.hint = f"to seal changed tensors on purpose, remove tensor_digest from {folder / MANIFEST_FILE}"
        raise
