"""Where examples come from: JSONL, CSV, plain text, a folder of texts, and data sets of the Hub; read as they stream.

It decides how each is cut into records and says which line is broken. What a record means is left to ``fields``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ual_registry.air.canonical import parse_json
from ual_registry.errors import (
    FormatError,
    HubNotFoundError,
    HubUnavailableError,
    MissingExtraError,
    StorageError,
    UALError,
)
from ual_registry.training.elsewhere import file_hint
from ual_registry.training.fields import Record, fault

__all__ = ["MAX_LINE_BYTES", "records"]

MAX_LINE_BYTES = 64 << 20
"""What one line, or one file of a folder, may hold."""

_JSONL, _CSV, _TSV, _TEXT = (".jsonl", ".ndjson"), (".csv",), (".tsv",), (".txt", ".text", ".md")
_HUB = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:/(?P<subset>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?(?::(?P<split>[\w.]+))?"
)


def records(source: str | Path) -> Iterator[Record]:
    """Return the records of a data set, one after the other.

    Args:
        source: A file, a folder, or ``OWNER/NAME[/SUBSET][@REVISION][:SPLIT]`` on the Hub where there is no such file.

    Raises:
        StorageError: There is no such file, or it cannot be read.
        FormatError: The file is of no known format, or a line is broken.
        MissingExtraError: It is a data set of the Hub, and ``datasets`` is not installed.
        HubError: The Hub does not have it, or cannot be reached.
    """
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    on_hub = _HUB.fullmatch(str(source))
    if on_hub is None or path.suffix in {*_JSONL, *_CSV, *_TSV, *_TEXT}:
        raise StorageError(
            f"cannot read {source}: no such file or folder",
            context={"path": str(source)},
            hint="training data is given as a file, a folder of texts, or OWNER/NAME of a data set on the Hub",
        )
    return _hub(**on_hub.groupdict())


def _file(path: Path) -> Iterator[Record]:
    suffix = path.suffix.lower()
    if suffix in _JSONL:
        return _jsonl(path)
    if suffix in (*_CSV, *_TSV):
        return _csv(path, "\t" if suffix in _TSV else ",")
    if suffix in _TEXT:
        return _paragraphs(path)
    known = ", ".join((*_JSONL, *_CSV, *_TSV, *_TEXT))
    problem = f"expected a file that ends in {known}; got {suffix or 'no ending'}"
    raise fault(str(path), "", problem, hint=file_hint(suffix))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every line with its number, from 1, and its end."""
    try:
        with path.open("rb") as stream:
            number = 0
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                bare = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                yield number, _decoded(path, f"line {number}", bare)
    except OSError as error:
        raise StorageError.of("read", path, error) from error


def _decoded(path: Path, place: str, data: bytes) -> str:
    if len(data) > MAX_LINE_BYTES:
        raise fault(str(path), place, f"over the limit of {MAX_LINE_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise fault(
            str(path),
            place,
            f"expected UTF-8, got byte 0x{data[error.start]:02x} at offset {error.start}",
            hint="convert it first, as in `iconv -f latin1 -t utf-8`",
        ) from error


def _jsonl(path: Path) -> Iterator[Record]:
    for number, line in _lines(path):
        if line.strip():
            yield Record(source=str(path), place=f"line {number}", values=_object(path, f"line {number}", line))


def _object(path: Path, place: str, line: str) -> dict[str, Any]:
    try:
        found = parse_json(line.encode(), what="")
    except FormatError as error:
        raise fault(str(path), place, error.message.removeprefix(": ")) from error
    if not isinstance(found, dict):
        raise fault(str(path), place, f"expected a JSON object, got {type(found).__name__}")
    return found


def _csv(path: Path, delimiter: str) -> Iterator[Record]:
    """Yield the rows of a table whose first row names the columns."""
    reader = csv.reader((line for _, line in _lines(path)), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    try:
        for row in reader:
            place = f"line {reader.line_num}"
            if names is None:
                names = _columns(path, row)
            elif row:
                if len(row) != len(names):
                    raise fault(str(path), place, f"expected {len(names)} columns, got {len(row)}")
                yield Record(source=str(path), place=place, values=dict(zip(names, row, strict=True)))
    except csv.Error as error:
        raise fault(
            str(path),
            f"line {reader.line_num}",
            f"is no CSV: {error}",
            hint="quote fields that hold commas, quotes or line ends; give long texts as JSONL",
        ) from error


def _columns(path: Path, row: list[str]) -> list[str]:
    names = [name.strip() for name in row]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise fault(str(path), "line 1", f"column {twice!r} stands there twice")
    return names


def _paragraphs(path: Path) -> Iterator[Record]:
    """Yield the documents of a text file, which blank lines separate."""
    start, held = 0, list[str]()
    for number, line in _lines(path):
        if line.strip():
            start = start if held else number
            held.append(line)
        elif held:
            yield Record(source=str(path), place=f"line {start}", values={"text": "".join(held).rstrip("\r\n")})
            held = []
    if held:
        yield Record(source=str(path), place=f"line {start}", values={"text": "".join(held).rstrip("\r\n")})


def _folder(path: Path) -> Iterator[Record]:
    """Yield the files of a folder and of those in it, one document each, in the order of their names.

    Links are not followed, and hidden files are left out.
    """
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_symlink() or not file.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        if file.suffix.lower() in (*_JSONL, *_CSV, *_TSV):
            raise fault(str(path), str(name), "a folder holds plain texts", hint="give the file itself")
        try:
            with file.open("rb") as stream:
                text = _decoded(file, "", _whole(stream))
        except OSError as error:
            raise StorageError.of("read", file, error) from error
        yield Record(source=str(path), place=str(name), values={"text": text, "document": name.as_posix()})


def _whole(stream: BinaryIO) -> bytes:
    return stream.read(MAX_LINE_BYTES + 1).removeprefix(b"\xef\xbb\xbf")


def _hub(id: str, subset: str | None, revision: str | None, split: str | None) -> Iterator[Record]:
    """Yield the rows of a data set of the Hub; no code of it is run."""
    try:
        import datasets  # noqa: PLC0415  # an extra, and heavy
    except ImportError as error:
        what = f"the data set {id} of the Hub (no file or folder of this name is here)"
        raise MissingExtraError("data", needed_for=what) from error
    try:
        found = datasets.load_dataset(id, subset, split=split or "train", revision=revision, streaming=True)
        names = _label_names(found)
        for number, row in enumerate(found, start=1):
            yield Record(source=id, place=f"row {number}", values=_named_label(id, number, row, names))
    except (ValueError, FileNotFoundError, RuntimeError) as error:  # the latter where it is a script
        raise HubNotFoundError(_told(id, error), context={"dataset": id}) from error
    except UALError:
        raise
    except Exception as error:  # the library raises what it likes
        raise HubUnavailableError(_told(id, error), context={"dataset": id}) from error


def _label_names(found: Any) -> list[str]:
    feature = (getattr(found, "features", None) or {}).get("label")
    return list(getattr(feature, "names", None) or ())


def _named_label(id: str, number: int, row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return a row with the name of its label; -1 stands where a data set keeps its labels to itself."""
    label = row.get("label")
    if not names or not isinstance(label, int):
        return row
    if not 0 <= label < len(names):
        raise fault(id, f"row {number}", f"expected a number from 0 to {len(names) - 1}, got {label}", field="label")
    return {**row, "label": names[label]}


def _told(id: str, error: BaseException) -> str:
    reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return f"data set {id}: {reason} (nor is there a file or folder of this name)"
