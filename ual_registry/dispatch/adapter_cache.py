"""Adapters in memory, at most so many bytes of them: the least recently used one goes first, never one in use."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from ual_registry.dispatch.acting import LoadedAdapter
from ual_registry.errors import RouteError

__all__ = ["AdapterCache", "CacheStatistics"]

Load = Callable[[], LoadedAdapter]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatistics:
    """What a cache holds and did.

    Attributes:
        adapters: Adapters held.
        pinned: Those of them that stay.
        size_bytes: Memory of their factors.
        limit_bytes: Memory that they may take.
        hits: Times that an adapter was there, or was being loaded already.
        misses: Times that it was not.
        loads: Adapters loaded, those in the background included.
        failures: Adapters that could not be loaded.
        evictions: Adapters that made room.
    """

    adapters: int
    pinned: int
    size_bytes: int
    limit_bytes: int
    hits: int
    misses: int
    loads: int
    failures: int
    evictions: int

    @property
    def hit_rate(self) -> float | None:
        """Share (0..1) of hits; ``None`` before the first question."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "hit_rate": self.hit_rate}


@dataclass(slots=True)
class _Slot:
    """One adapter, or the promise of it; ``holds`` counts who uses it now."""

    promise: Future[LoadedAdapter] = field(default_factory=Future)
    holds: int = 0
    size_bytes: int = 0


class AdapterCache:
    """A cache of loaded adapters by digest; threads may share it.

    An adapter that many ask for at once is loaded once. One in use stays until it is let go, even where the cache is
    over its limit for as long.

    Args:
        limit_bytes: Memory that the factors may take.

    Raises:
        RouteError: The limit is negative.
    """

    def __init__(self, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise RouteError(f"cache limit: expected 0 bytes or more, got {limit_bytes}", code="generation")
        self._limit_bytes = limit_bytes
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._pins: set[str] = set()
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("hits", "misses", "loads", "failures", "evictions"), 0)
        self._worker: ThreadPoolExecutor | None = None
        self._is_closed = False

    @contextlib.contextmanager
    def hold(self, digest: str, load: Load) -> Iterator[LoadedAdapter]:
        """Give an adapter, and keep it for as long as the context lasts.

        Args:
            digest: Its digest.
            load: Loads it where it is not there.

        Raises:
            UALError: What ``load`` raises; the next who asks tries again.
        """
        slot = self._taken(digest, load, is_counted=True)
        try:
            yield slot.promise.result()
        finally:
            self._let_go(slot)

    @contextlib.contextmanager
    def keep(self, digest: str, loaded: LoadedAdapter) -> Iterator[None]:
        """Keep an adapter that ``hold`` gave before for as long as the context lasts, without loading it again."""
        with self._lock:
            slot = self._slots.get(digest)
            if slot is None:
                slot = self._slots[digest] = _Slot(size_bytes=loaded.size_bytes)
                slot.promise.set_result(loaded)
            slot.holds += 1
            self._slots.move_to_end(digest)
            self._make_room()
        try:
            yield
        finally:
            self._let_go(slot)

    def pin(self, digest: str) -> None:
        """Keep an adapter, once it is loaded, whatever comes."""
        with self._lock:
            self._pins.add(digest)

    def unpin(self, digest: str) -> None:
        """Let an adapter go again when its turn comes."""
        with self._lock:
            self._pins.discard(digest)
            self._make_room()

    def preload(self, digest: str, load: Load) -> Future[None]:
        """Load an adapter in the background; the future says when it is there, or why not."""

        def run() -> None:
            slot = self._taken(digest, load, is_counted=False)
            try:
                slot.promise.result()
            finally:
                self._let_go(slot)

        with self._lock:
            if self._is_closed:
                raise RouteError("the cache is closed", code="closed")
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="ual-adapters")
            return self._worker.submit(run)

    def holds(self, digest: str) -> bool:
        """Tell whether an adapter is loaded."""
        with self._lock:
            slot = self._slots.get(digest)
            return slot is not None and slot.promise.done()

    def statistics(self) -> CacheStatistics:
        """Return what the cache holds and did."""
        with self._lock:
            loaded = [digest for digest, slot in self._slots.items() if slot.promise.done()]
            return CacheStatistics(
                adapters=len(loaded),
                pinned=len(self._pins.intersection(loaded)),
                size_bytes=self._size_bytes(),
                limit_bytes=self._limit_bytes,
                **self._counts,
            )

    def close(self) -> None:
        """Stop loading in the background, and let all adapters go."""
        with self._lock:
            worker, self._worker, self._is_closed = self._worker, None, True
        if worker is not None:
            worker.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            self._slots.clear()

    def _taken(self, digest: str, load: Load, *, is_counted: bool) -> _Slot:
        """Return the slot of an adapter, held; whoever comes first loads it."""
        with self._lock:
            slot = self._slots.get(digest)
            is_first = slot is None
            if slot is None:
                slot = self._slots[digest] = _Slot()
            slot.holds += 1
            self._slots.move_to_end(digest)
            if is_counted:
                self._counts["misses" if is_first else "hits"] += 1
        if is_first:
            self._fill(digest, slot, load)
        return slot

    def _fill(self, digest: str, slot: _Slot, load: Load) -> None:
        try:
            loaded = load()
        except BaseException as error:
            with self._lock:
                self._counts["failures"] += 1
                if self._slots.get(digest) is slot:
                    del self._slots[digest]
            slot.promise.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        with self._lock:
            self._counts["loads"] += 1
            slot.size_bytes = loaded.size_bytes
            slot.promise.set_result(loaded)
            self._make_room()

    def _let_go(self, slot: _Slot) -> None:
        with self._lock:
            slot.holds -= 1
            self._make_room()

    def _make_room(self) -> None:
        """Drop what was least recently used, until the rest keeps the limit; the lock is held."""
        over = self._size_bytes() - self._limit_bytes
        for digest, slot in list(self._slots.items()):
            if over <= 0:
                return
            if slot.holds == 0 and digest not in self._pins:
                del self._slots[digest]
                over -= slot.size_bytes
                self._counts["evictions"] += 1

    def _size_bytes(self) -> int:
        return sum(slot.size_bytes for slot in self._slots.values())
