"""A short memory of what was worked out before, for many files that are alike.

The adapters of one recipe have the same entries and the same tensor table: what is made of these is made once for all.
Nothing is believed that would not be found out again: what is remembered depends on nothing but the key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Memory", "Same"]

T = TypeVar("T")


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
    """Remembers the last things that were made, up to a weight in all; safe in threads.

    Args:
        most: The weight of what is held, in whatever unit the callers of ``get`` count.

    >>> memory = Memory[str](10)
    >>> memory.get("a", lambda: "made", weight=1), memory.get("a", lambda: "made again", weight=1)
    ('made', 'made')
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._held: dict[Hashable, tuple[T, int]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T], *, weight: int) -> T:
        """Return what was made for an equal key, or make it; the oldest go to make room.

        Args:
            key: Names all that the value follows from.
            make: Makes the value.
            weight: What the value counts for.
        """
        found = self._held.get(key)
        if found is not None:
            return found[0]
        made = make()
        with self._lock:
            if key not in self._held:
                self._held[key] = made, weight
                self._weight += weight
            while self._weight > self._most:
                self._weight -= self._held.pop(next(iter(self._held)))[1]
        return made
