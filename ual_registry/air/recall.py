"""A short memory of what was worked out before, for many files that are alike.

The adapters of one recipe have the same entries and the same tensor table: what is made of these is made once for all.
Nothing is believed that would not be found out again: what is remembered depends on nothing but the key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["MEMORY_SIZE", "Memory", "Same"]

T = TypeVar("T")

MEMORY_SIZE = 16
"""How many different things a memory holds."""


_NOTHING = object()


class Same:
    """A key that is equal where it stands for the very same object, which must never change.

    Args:
        thing: The object; it lives as long as the key does, so that no other one can take its place.

    >>> one, other = [1000], [1000]
    >>> Same(one) == Same(one), Same(one) == Same(other)
    (True, False)
    """

    __slots__ = ("_thing",)

    def __init__(self, thing: object) -> None:
        self._thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._thing is other._thing

    def __hash__(self) -> int:
        return id(self._thing)


class Memory(Generic[T]):
    """Remembers the last few things that were made; safe in threads.

    >>> memory = Memory[str]()
    >>> memory.get("a", lambda: "made"), memory.get("a", lambda: "made again")
    ('made', 'made')
    """

    def __init__(self) -> None:
        self._held: dict[Hashable, T] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made for an equal key, or make it."""
        found = self._held.get(key, _NOTHING)
        if found is not _NOTHING:
            return found  # type: ignore[return-value]  # it is what was put there
        made = make()
        with self._lock:
            if len(self._held) >= MEMORY_SIZE:
                del self._held[next(iter(self._held))]
            self._held[key] = made
        return made
