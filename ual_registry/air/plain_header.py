"""Read a header that is exactly as AIR writes it, without a JSON parser and without writing it again to compare.

Nothing is decided here that the strict reader of ``header.py`` would decide otherwise: a header whose every byte is
accounted for by the canonical form is accepted, and of any other, legal or not, nothing is said. A property test holds
both readers to the same answer.
"""

from __future__ import annotations

import math
import re
from itertools import chain

from ual_registry.air.canonical import MAX_VALUES
from ual_registry.air.recall import Memory
from ual_registry.air.tensor import DTYPE_BYTES, TensorInfo

__all__ = ["DATA_ALIGNMENT_BYTES", "LENGTH_BYTES", "MAX_AXES", "MAX_NAME_LENGTH", "MAX_TENSORS", "plain_header"]

MAX_TENSORS = 200_000
"""Entries of the tensor table."""

MAX_NAME_LENGTH = 1024
"""Characters of a tensor name."""

MAX_AXES = 16
"""Axes of a tensor."""

DATA_ALIGNMENT_BYTES = 64
"""AIR pads its header with spaces so that the tensor data starts at a multiple of this."""

LENGTH_BYTES = 8
"""The header's length stands before it."""

_START = b'{"__metadata__":{"air":"'
_END = b'}"}'  # within the manifest's text every quote has a backslash before it
_CONTROLS = bytes(range(0x20))
_SIZE = r"(?:0|[1-9][0-9]{0,14})"  # every one below 2**53
_ROW = re.compile(
    rf',"([0-9A-Za-z_.\-]+)":\{{"data_offsets":\[({_SIZE}),({_SIZE})\],"dtype":"([0-9A-Z_]+)","shape":\[([0-9,]*)\]\}}'
)
_ROW_BYTES = len(',"":{"data_offsets":[,],"dtype":"","shape":[]}')
_SHAPE = re.compile(rf"{_SIZE}(?:,{_SIZE})*")

_REMEMBERED_BYTES = 1 << 18
_TABLES: Memory[dict[str, TensorInfo] | None] = Memory(16 * _REMEMBERED_BYTES)  # by their text

Row = tuple[str, str, str, str, str]


def plain_header(raw: bytes, data_bytes: int) -> tuple[str, dict[str, TensorInfo]] | None:
    """Return the manifest's text and the tensor table of a header in AIR's own form.

    Args:
        raw: The header, its padding included.
        data_bytes: How many bytes follow it.

    Returns:
        ``None`` where the header is not surely legal AIR: then the strict reader must say what it is.
    """
    end = raw.find(_END, len(_START))
    text = raw.rstrip(b" ")
    padding = -(LENGTH_BYTES + len(text)) % DATA_ALIGNMENT_BYTES
    if end < 0 or len(raw) > MAX_VALUES or not raw.startswith(_START) or len(raw) - len(text) != padding:
        return None
    manifest = _unescaped(text[len(_START) : end + 1])
    infos = _infos(text[end + len(_END) :], data_bytes)
    return None if manifest is None or infos is None else (manifest, infos)


def _unescaped(stored: bytes) -> str | None:
    """Undo the escapes of a JSON string where none but quotes are escaped."""
    text = stored.replace(b'\\"', b'"')
    escapes = len(stored) - len(text)
    if b"\\" in text or text.count(b'"') != escapes or len(text.translate(None, _CONTROLS)) != len(text):
        return None
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _infos(text: bytes, data_bytes: int) -> dict[str, TensorInfo] | None:
    """Read the tensor table, which nobody may change: adapters of one recipe have the same."""

    def read() -> dict[str, TensorInfo] | None:
        rows = _rows(text)
        return _table(rows, data_bytes) if rows else None

    if len(text) > _REMEMBERED_BYTES:
        return read()
    return _TABLES.get((text, data_bytes), read, weight=len(text))


def _rows(text: bytes) -> list[Row] | None:
    """Split the canonical text after ``__metadata__`` into its rows; their names come in order."""
    if not text.isascii():
        return None
    rows: list[Row] = _ROW.findall(text.decode())
    matched_bytes = sum(map(len, chain.from_iterable(rows))) + _ROW_BYTES * len(rows)
    if matched_bytes + 1 != len(text) or not text.endswith(b"}") or not 0 < len(rows) <= MAX_TENSORS:
        return None
    names = [row[0] for row in rows]
    is_sorted = names == sorted(set(names)) and names[0] > "__metadata__"
    return rows if is_sorted and max(map(len, names)) <= MAX_NAME_LENGTH else None


def _table(rows: list[Row], data_bytes: int) -> dict[str, TensorInfo] | None:
    """Build the tensor table where the tensors follow one another in AIR's order, which aligns them too."""
    forms = {form: _form(*form) for form in {row[3:] for row in rows}}  # few forms, many rows
    if None in forms.values():
        return None
    widths = {DTYPE_BYTES[dtype] for dtype, _ in forms}
    stored = rows if len(widths) == 1 else sorted(rows, key=lambda row: -DTYPE_BYTES[row[3]])
    infos, end = {}, 0
    for name, first, last, dtype, shape in stored:
        lengths, size_bytes = forms[dtype, shape]  # type: ignore[misc]  # none is None
        start, end = end, end + size_bytes
        if int(first) != start or int(last) != end:
            return None
        infos[name] = TensorInfo(dtype, lengths, start, end)
    if end != data_bytes:
        return None
    return infos if stored is rows else {row[0]: infos[row[0]] for row in rows}


def _form(dtype: str, shape: str) -> tuple[tuple[int, ...], int] | None:
    """Return the shape and the size of a tensor in bytes; of an empty one nothing is said."""
    if dtype not in DTYPE_BYTES or (shape and not _SHAPE.fullmatch(shape)) or shape.count(",") >= MAX_AXES:
        return None
    lengths = tuple(map(int, shape.split(","))) if shape else ()
    size_bytes = DTYPE_BYTES[dtype] * math.prod(lengths)
    return (lengths, size_bytes) if size_bytes else None
