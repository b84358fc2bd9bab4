"""Calibration text: read from a file, and gone on with by source and adapter where that is asked for.

What an adapter would say never stands in a text that somebody else wrote, so nothing tells how to carry it. A few
tokens of its own after each text do. They are generated once and kept; an interrupted run goes on with the next batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ual_registry.air.canonical import canonical_bytes
from ual_registry.digest import Digest
from ual_registry.errors import FormatError, StorageError, TransferError
from ual_registry.storage import read_file

if TYPE_CHECKING:
    from ual_registry.distillation.report import Named
    from ual_registry.models.loaded import LoadedBase

__all__ = ["continued_texts", "read_texts", "usual_folder"]

_LIMIT_BYTES = 1 << 30
_KEYS = ("text", "prompt")
_END_OF_LINE = "\n"


def usual_folder() -> Path:
    """Return where transfers keep what an interrupted run goes on from."""
    import platformdirs  # noqa: PLC0415  # only where no folder is given

    return Path(platformdirs.user_cache_dir("ual-registry", appauthor=False)) / "transfers"


def read_texts(given: Iterable[str] | str | Path) -> tuple[str, ...]:
    """Return calibration texts: as they are given, or from a file.

    A file that ends in ``.jsonl`` has one JSON object a line, with the text under ``text`` or ``prompt``; whatever else
    it holds, labels above all, is not looked at. Any other file is plain text: paragraphs where there are empty lines,
    and otherwise one text a line.

    Args:
        given: Texts, or the file.

    Raises:
        FormatError: The file is empty, no UTF-8, or a line of it is of another form; the line is named.
        StorageError: The file cannot be read.
        TransferError: What is given is no text at all.
    """
    if not isinstance(given, str | Path):
        return _checked(tuple(given))
    path = Path(given)
    content = _decoded(path, read_file(path, limit_bytes=_LIMIT_BYTES))
    found = tuple(_objects(path, content) if path.suffix == ".jsonl" else _plain(content))
    if not found:
        raise _fault(path, 1, "expected calibration text, got an empty file")
    return found


def _checked(texts: tuple[Any, ...]) -> tuple[str, ...]:
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise TransferError(f"calibration: expected texts, got a {type(wrong).__name__}", code="bad-option")
    if not any(text.strip() for text in texts):
        raise TransferError(
            "the calibration text is empty",
            code="empty-text",
            hint="give text of the kind that the adapter is for; no labels are needed",
        )
    return texts


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _fault(path, line, "is no text in UTF-8") from error


def _plain(content: str) -> Iterator[str]:
    lines = [line.rstrip() for line in content.strip().splitlines()]
    parts = "\n".join(lines).split("\n\n") if "" in lines else lines
    yield from (part.strip("\n") for part in parts if part.strip())


def _objects(path: Path, content: str) -> Iterator[str]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _fault(path, number, f"is no JSON ({error})") from error
        if not isinstance(document, dict):
            raise _fault(path, number, f"is a {type(document).__name__}, expected an object")
        yield _text(path, number, document)


def _text(path: Path, number: int, document: dict[str, Any]) -> str:
    held = [key for key in _KEYS if key in document]
    if len(held) != 1:
        raise _fault(path, number, f"expected either text or prompt, got {' and '.join(held) or 'neither'}")
    value = document[held[0]]
    if not isinstance(value, str) or not value.strip():
        raise _fault(path, number, f"{held[0]}: expected a text that is not blank, got {repr(value)[:60]}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _fault(path, number, f"{held[0]}: expected a text, got half a surrogate pair, which has no bytes")
    return value


def _fault(path: Path, line: int, message: str) -> FormatError:
    return FormatError(
        f"{path}, line {line}: {message}",
        code="calibration-text",
        context={"path": str(path), "line": line},
        hint="docs/transfer.md shows the forms of calibration text",
    )


def continued_texts(
    texts: tuple[str, ...],
    source: LoadedBase,
    adapter: Named,
    *,
    tokens: int,
    folder: Path,
    say: Callable[[str], None],
) -> tuple[str, ...]:
    """Let source and adapter go on with every text, greedily, to the end of the line at most.

    Args:
        texts: The texts.
        source: The source base model.
        adapter: The source adapter.
        tokens: How many tokens to add at most.
        folder: Where generated texts are kept, and found again.
        say: Is told how far it is.

    Raises:
        UALError: As ``distillation.answers.answer``.
    """
    from ual_registry.distillation.answers import answer  # noqa: PLC0415  # loads torch
    from ual_registry.distillation.generate import Sampling  # noqa: PLC0415
    from ual_registry.distillation.material import model_settings  # noqa: PLC0415
    from ual_registry.distillation.texts import Kept, Rules  # noqa: PLC0415

    about = [*model_settings(source), str(adapter.digest), tokens, list(texts)]
    file = folder / "continued" / f"{Digest.of_bytes(canonical_bytes(about)).hex[:32]}.jsonl"
    sampling = Sampling(temperature=0.0, max_tokens=tokens, stop=(_END_OF_LINE,))
    every = Rules(min_characters=0, max_repetition=1.0, is_each_once=False)

    def told(kept: Kept) -> None:
        say(f"continued {kept.counts['generated']} of {len(texts)} texts")

    with _locked(file):
        kept = answer(source, adapter, texts, sampling, file, rules=every, on_batch=told)
    return tuple(text.whole for text in kept.texts)


def _locked(file: Path) -> FileLock:
    """Keep other processes from writing the same texts at the same time; they wait."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.of("write", file.parent, error) from error
    return FileLock(file.with_suffix(".lock"))
