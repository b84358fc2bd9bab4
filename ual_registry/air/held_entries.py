"""Entries that were read before, known again by their bytes.

Adapters of one recipe differ in their digests and their history; their entries, by far the most of a manifest, are
the same. So those of the last few manifests are kept, and a manifest that holds the same bytes is read around them.
Only legal entries of our own version in canonical form are kept, so nothing is taken that would be refused.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ual_registry.air.model import Entry
from ual_registry.air.versions import AIR_VERSION

__all__ = ["HeldEntries", "find_held", "hold_entries"]

_START = f'{{"air_version":"{AIR_VERSION}",'.encode()
_NAME = b'"entries":'  # a quote inside a string is escaped, so this is a member wherever it stands
_LIMIT_BYTES = 1 << 18
_MOST_BYTES = 16 * _LIMIT_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class HeldEntries:
    """The entries of a manifest; never to be changed.

    Attributes:
        text: Their canonical text.
        document: What it says.
        entries: What was made of it.
    """

    text: bytes
    document: list[Any]
    entries: tuple[Entry, ...]


class _Shelf:
    """The entries that are kept; replaced as a whole, so that readers need no lock."""

    def __init__(self) -> None:
        self.held: tuple[HeldEntries, ...] = ()
        self._lock = threading.Lock()

    def put(self, new: HeldEntries) -> None:
        with self._lock:
            sizes = accumulate(len(own.text) for own in (new, *self.held))
            most = sum(size <= _MOST_BYTES for size in sizes)
            self.held = (new, *self.held)[:most]


_SHELF = _Shelf()


def find_held(data: bytes) -> tuple[HeldEntries, bytes] | None:
    """Return entries that a manifest holds, and its text with an empty list in their place.

    Args:
        data: The text of a manifest; it need not be legal.

    Returns:
        ``None`` where they were not read before, or a member of that name stands elsewhere too.
    """
    start = _place(data)
    if start is None:
        return None
    for held in _SHELF.held:
        if data.startswith(held.text, start):
            return held, data[:start] + b"[]" + data[start + len(held.text) :]
    return None


def hold_entries(data: bytes, document: Mapping[str, Any], entries: tuple[Entry, ...]) -> None:
    """Keep the entries of a legal manifest in canonical form.

    Args:
        data: Its text.
        document: What it says.
        entries: What was made of its member ``entries``.
    """
    start = _place(data)
    if start is None:
        return
    following = min(name for name in document if name > "entries")  # "kind", if nothing else
    end = data.find(f'],"{following}":'.encode(), start) + 1  # no entry has a member of that name, nor a list
    text = data[start:end]
    if len(text) <= _LIMIT_BYTES and text.count(b'"lora_A":') == len(entries):
        _SHELF.put(HeldEntries(text, document["entries"], entries))


def _place(data: bytes) -> int | None:
    """Return where the value of ``entries`` begins; ``None`` where that is not sure."""
    if not data.startswith(_START) or data.count(_NAME) != 1:
        return None
    return data.index(_NAME) + len(_NAME)
