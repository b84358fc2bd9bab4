"""Generated texts: what one is, the file that keeps them through an interruption, and which are good enough to use.

The file is one JSON object a line: first the settings that the texts come from, then the texts, each with its digest.
A batch is on the disk (``fsync``) before the next is begun. Nothing here loads a framework.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.digest import Digest
from ual_registry.errors import FormatError, StorageError

__all__ = ["Ended", "Kept", "Rules", "Text", "TextFile", "keep_texts", "repetition_ratio", "texts_digest"]

_FORM = "ual-registry/texts/1"
_GRAM = 8


class Ended(StrEnum):
    """Why a generated text stops where it does."""

    END = "end"
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One generated text.

    Attributes:
        batch: The batch that it was generated in, from 0.
        prompt: What was given.
        completion: What was added.
        ended: By the model's end token, by a stop text (which is left out), or by the length limit.
        tokens: Tokens of the completion in the generating model's tokenizer.
    """

    batch: int
    prompt: str
    completion: str
    ended: Ended
    tokens: int

    @property
    def whole(self) -> str:
        """Prompt and completion."""
        return self.prompt + self.completion

    @property
    def digest(self) -> Digest:
        """Digest of what it says, wherever it was generated."""
        return Digest.of_bytes(canonical_bytes([self.prompt, self.completion, str(self.ended)]))

    def document(self) -> dict[str, Any]:
        """Return the stored form."""
        return {
            "batch": self.batch,
            "prompt": self.prompt,
            "completion": self.completion,
            "ended": str(self.ended),
            "tokens": self.tokens,
            "digest": str(self.digest),
        }


def texts_digest(texts: Iterable[Text]) -> Digest:
    """Digest texts in their order."""
    return Digest.of_bytes(canonical_bytes([str(text.digest) for text in texts]))


class TextFile:
    """The file that texts are appended to, batch by batch.

    Args:
        path: The file; it is made by the first batch.
        settings: What the texts depend on; a file of other settings is refused.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._header = {"form": _FORM, "settings": dict(settings)}

    def read(self) -> list[Text]:
        """Return the texts that are whole; what an interruption tore off at the end is left out.

        Raises:
            FormatError: The file holds texts of other settings, or a line was changed.
            StorageError: The file cannot be read.
        """
        if not self._path.exists():
            return []
        try:
            data = self._path.read_bytes()
        except OSError as error:
            raise StorageError.of("read", self._path, error) from error
        lines = data.split(b"\n")[:-1]  # after the last line feed stands nothing, or half a line
        if not lines:
            return []
        if lines[0] != canonical_bytes(self._header):
            raise self._refusal(1, "the texts come from other settings", code="texts-settings")
        return [self._parse(number, line) for number, line in enumerate(lines[1:], 2)]

    def rewrite(self, texts: Sequence[Text]) -> None:
        """Cut the file after the given texts, with which it begins; whatever follows them is gone.

        Raises:
            StorageError: The file system refuses.
        """
        lines = [self._header, *(text.document() for text in texts)]
        size = sum(len(canonical_bytes(line)) + 1 for line in lines)
        if not self._path.exists() or self._path.stat().st_size < size:
            self._write("wb", lines)
            return
        try:
            with self._path.open("r+b") as stream:
                stream.truncate(size)
                os.fsync(stream.fileno())
        except OSError as error:
            raise StorageError.of("write", self._path, error) from error

    def append(self, texts: Sequence[Text]) -> None:
        """Add one batch and wait until it is on the disk.

        Raises:
            StorageError: The file system refuses.
        """
        self._write("ab", [text.document() for text in texts])

    def _write(self, mode: str, lines: Sequence[Mapping[str, Any]]) -> None:
        try:
            with self._path.open(mode) as stream:
                stream.write(b"".join(canonical_bytes(line) + b"\n" for line in lines))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise StorageError.of("write", self._path, error) from error

    def _parse(self, number: int, line: bytes) -> Text:
        document = parse_json(line, what=f"{self._path}, line {number}")
        try:
            text = Text(
                batch=document["batch"],
                prompt=document["prompt"],
                completion=document["completion"],
                ended=Ended(document["ended"]),
                tokens=document["tokens"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._refusal(number, "is no generated text", code="texts-line") from error
        if text.document() != document:
            raise self._refusal(number, "the text does not have the digest that names it", code="texts-line")
        return text

    def _refusal(self, number: int, problem: str, *, code: str) -> FormatError:
        return FormatError(
            f"{self._path}, line {number}: {problem}",
            code=code,
            context={"path": str(self._path), "line": number},
            hint="give another file, or remove this one",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which texts are used.

    Attributes:
        min_characters: Characters of a completion, white space at its ends left out.
        min_words: Words of a completion.
        is_whole: Whether a completion that the length limit cut off is left out.
        max_repetition: The highest repetition ratio; see ``repetition_ratio``.
        by_completion: Whether two texts of one completion are the same, whatever their prompts.
        is_each_once: Whether the same text is used but once; where an adapter has few things to say, leaving out what
            it says most often leaves the noise.
    """

    min_characters: int = 1
    min_words: int = 0
    is_whole: bool = False
    max_repetition: float = 0.5
    by_completion: bool = False
    is_each_once: bool = True


@dataclass(frozen=True, slots=True)
class Kept:
    """The texts that are used, in their order, and how many were left out for which reason."""

    texts: tuple[Text, ...]
    counts: Mapping[str, int]


def keep_texts(texts: Iterable[Text], rules: Rules) -> Kept:
    """Leave out texts that are too short, cut off, that repeat themselves, or that were there before."""
    seen: set[str] = set()
    kept: list[Text] = []
    counts = dict.fromkeys(("generated", "kept", "short", "cut", "repetitive", "duplicate"), 0)
    for text in texts:
        key = " ".join((text.completion if rules.by_completion else text.whole).casefold().split())
        reason = _reason(text, key, seen, rules)
        counts["generated"] += 1
        counts[reason] += 1
        if reason == "kept":
            seen.add(key)
            kept.append(text)
    return Kept(tuple(kept), counts)


def _reason(text: Text, key: str, seen: set[str], rules: Rules) -> str:
    if len(text.completion.strip()) < rules.min_characters or len(text.completion.split()) < rules.min_words:
        return "short"
    if rules.is_whole and text.ended is Ended.LENGTH:
        return "cut"
    if repetition_ratio(text.completion) > rules.max_repetition:
        return "repetitive"
    return "duplicate" if rules.is_each_once and key in seen else "kept"


def repetition_ratio(text: str) -> float:
    """Return the share (0..1) of the runs of eight characters that were there before.

    >>> repetition_ratio("every run of characters is new"), repetition_ratio("ab" * 50) > 0.97
    (0.0, True)
    """
    total = len(text) - _GRAM + 1
    if total < 1:
        return 0.0
    return 1 - len({text[start : start + _GRAM] for start in range(total)}) / total
