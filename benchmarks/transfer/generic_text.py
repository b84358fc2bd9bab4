"""Generic text, on which side effects are measured: prose of the help topics of Python, as `help("while")` shows them.

The topics are chapters of the reference of the language, under the licence of the PSF, and come with the interpreter
(`pydoc_data.topics`); nothing of them is redistributed. They are neither requests nor changelogs, so no adapter of the
benchmark was made for such text or saw it. Another release of Python says some things otherwise: the digest in the
results tells which text a number belongs to.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from ual_registry.digest import Digest

__all__ = ["SOURCE", "generic_texts", "prose", "text_digest"]

SOURCE = "help topics of Python (pydoc_data.topics, PSF licence)"

_TEXTS, _CHARACTERS = 40, 480
"""As long as the documents of `changelogs`."""

_NO_PROSE = ("::=", "***", "===", "---")
"""What stands in grammars, and in the lines below headings."""


def generic_texts() -> tuple[str, ...]:
    """Return the start of so many topics, one text of each; the digest of its name decides which topics."""
    topics: Any = importlib.import_module("pydoc_data.topics")
    return tuple(text for text, _ in zip(_starts(topics.topics), range(_TEXTS), strict=False))


def text_digest(texts: tuple[str, ...]) -> str:
    """Return the digest of texts in their order, lower-case hex."""
    return Digest.of_bytes("\0".join(texts).encode()).hex


def _starts(topics: Mapping[str, str]) -> Iterator[str]:
    """Yield the prose of long topics, cut to one length; of topics that begin alike the first."""
    seen = set()
    for name in sorted(topics, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        text = prose(topics[name])[:_CHARACTERS]
        if len(text) == _CHARACTERS and text not in seen:
            seen.add(text)
            yield text


def prose(topic: str) -> str:
    """Return the paragraphs of a topic, each as one line: no headings, no grammar, nothing that is indented."""
    parts = (part for part in topic.split("\n\n") if part[:1].strip() and not any(own in part for own in _NO_PROSE))
    return "\n\n".join(" ".join(part.split()) for part in parts)
