"""The items of an evaluation, read from JSONL: one JSON object a line, and nothing guessed.

It decides which forms are legal and says which line is wrong. How items are scored is left to ``tasks``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ual_registry.digest import Digest
from ual_registry.errors import FormatError
from ual_registry.storage import read_file

__all__ = ["DataFile", "Document", "ExactItem", "LabelItem", "contents", "read_documents", "read_exact", "read_labels"]

_LIMIT_BYTES = 1 << 30
_SHOWN = 5
_NOT_SAID = ("line", "labels")

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelItem:
    """A question with a closed set of answers.

    Attributes:
        line: Its line in the file, from 1.
        prompt: The question; ``{labels}`` in it stands for the labels, in the order of the item.
        labels: The answers to choose from.
        gold: The right one of them.
    """

    line: int
    prompt: str
    labels: tuple[str, ...]
    gold: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text whose bits per byte are measured.

    Attributes:
        line: Its line in the file, from 1.
        text: The text.
    """

    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactItem:
    """A question with an open answer.

    Attributes:
        line: Its line in the file, from 1.
        prompt: The question.
        references: The answers that count as right.
    """

    line: int
    prompt: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """The items of a file.

    Attributes:
        path: The file.
        digest: Digest of its bytes.
        items: Its items, in order; all of one kind.
    """

    path: str
    digest: str
    items: tuple[Any, ...]


def contents(file: DataFile) -> set[tuple[Any, ...]]:
    """Return what the items of a file say, wherever they stand in it and whatever there is to choose from."""
    return {
        tuple(getattr(item, own.name) for own in dataclasses.fields(item) if own.name not in _NOT_SAID)
        for item in file.items
    }


def read_labels(path: Path) -> DataFile:
    """Read ``{"prompt": ..., "label": ..., "labels": [...]}``.

    Where an item has no ``labels``, those of the file stand: every ``label`` that occurs in it, sorted.

    Raises:
        FormatError: A line is not of this form, or the file holds fewer than two labels.
        StorageError: The file cannot be read.
    """
    found = _read(path, _label_item)
    every = tuple(sorted({item.gold for item in found.items}))
    items = tuple(item if item.labels else _with_labels(item, every) for item in found.items)
    for item in items:
        if len(item.labels) < 2:
            raise _fault(path, item.line, "has one label, expected at least two to choose from")
    return DataFile(path=found.path, digest=found.digest, items=items)


def read_documents(path: Path) -> DataFile:
    """Read ``{"text": ...}``, one document a line.

    Raises:
        FormatError: A line is not of this form.
        StorageError: The file cannot be read.
    """
    return _read(path, _document)


def read_exact(path: Path) -> DataFile:
    """Read ``{"prompt": ..., "reference": ...}``, or ``"references": [...]`` where several answers are right.

    Raises:
        FormatError: A line is not of this form.
        StorageError: The file cannot be read.
    """
    return _read(path, _exact_item)


def _with_labels(item: LabelItem, labels: tuple[str, ...]) -> LabelItem:
    return LabelItem(line=item.line, prompt=item.prompt, labels=labels, gold=item.gold)


def _read(path: Path, decode: Callable[[Path, int, dict[str, Any]], ItemT]) -> DataFile:
    data = read_file(path, limit_bytes=_LIMIT_BYTES)
    items = tuple(decode(path, line, document) for line, document in _objects(path, data))
    if not items:
        raise FormatError(
            f"{path}: holds no items",
            code="evaluation-data",
            context={"path": str(path)},
            hint="docs/evaluate.md shows the forms of the items",
        )
    return DataFile(path=str(path), digest=str(Digest.of_bytes(data)), items=items)


def _objects(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the object of every line that is not empty, with its number from 1."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise _fault(path, number, "is no text in UTF-8") from error
        except (ValueError, RecursionError) as error:
            raise _fault(path, number, f"is no JSON ({error})") from error
        if not isinstance(document, dict):
            raise _fault(path, number, f"is a {type(document).__name__}, expected an object")
        yield number, document


def _label_item(path: Path, line: int, document: dict[str, Any]) -> LabelItem:
    _only(path, line, document, ("prompt", "label", "labels"))
    gold, labels = _text(path, line, document, "label"), _texts(path, line, document, "labels")
    if len(set(labels)) < len(labels):
        raise _fault(path, line, "labels: one occurs twice")
    if labels and gold not in labels:
        raise _fault(path, line, f"label {gold!r} is not one of its labels ({_listed(labels)})")
    return LabelItem(line=line, prompt=_text(path, line, document, "prompt"), labels=labels, gold=gold)


def _document(path: Path, line: int, document: dict[str, Any]) -> Document:
    _only(path, line, document, ("text",))
    return Document(line=line, text=_text(path, line, document, "text"))


def _exact_item(path: Path, line: int, document: dict[str, Any]) -> ExactItem:
    _only(path, line, document, ("prompt", "reference", "references"))
    if ("reference" in document) == ("references" in document):
        raise _fault(path, line, "expected either reference or references")
    key = "reference" if "reference" in document else "references"
    references = _texts(path, line, document, key) if key == "references" else (_text(path, line, document, key),)
    if not references:
        raise _fault(path, line, "references: is empty")
    return ExactItem(line=line, prompt=_text(path, line, document, "prompt"), references=references)


def _only(path: Path, line: int, document: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in document:
        if key not in known:
            raise _fault(path, line, f"unknown property {key!r} (expected {', '.join(known)})")


def _text(path: Path, line: int, document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value.strip() or not _is_unicode(value):
        got = "nothing" if key not in document else repr(value)[:60]
        raise _fault(path, line, f"{key}: expected a text that is not blank, got {got}")
    return value


def _texts(path: Path, line: int, document: dict[str, Any], key: str) -> tuple[str, ...]:
    values = document.get(key, [])
    if not isinstance(values, list):
        raise _fault(path, line, f"{key}: expected a list of texts, got {repr(values)[:60]}")
    return tuple(_text(path, line, {key: value}, key) for value in values)


def _is_unicode(text: str) -> bool:
    """Tell whether a text has bytes: half a surrogate pair, which JSON can write, has none."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _listed(labels: tuple[str, ...]) -> str:
    more = ", ..." if len(labels) > _SHOWN else ""
    return ", ".join(labels[:_SHOWN]) + more


def _fault(path: Path, line: int, message: str) -> FormatError:
    return FormatError(
        f"{path}, line {line}: {message}",
        code="evaluation-data",
        context={"path": str(path), "line": line},
        hint="docs/evaluate.md shows the forms of the items",
    )
