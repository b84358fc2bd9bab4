"""Larger reads from the network for the Hub's client.

It takes 64 KiB at a time, and each time costs it more than copying the bytes does: with 1 MiB, files come over plain
HTTP with less work. Over TLS nothing changes, since a record holds 16 KiB at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["READ_BYTES", "widen"]

READ_BYTES = 1 << 20
"""The most that is taken at once; what has come is never waited for."""


def widen(client: Any, is_meant: Callable[[], bool]) -> None:
    """Let a client read more at once; one that is built in another way stays as it is.

    Args:
        client: A client of the Hub's HTTP library; its connections are made later.
        is_meant: Whether that is wanted of the read that is about to be made.
    """
    for transport in (getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()):
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_network_backend"):
            pool._network_backend = _Backend(pool._network_backend, is_meant)  # noqa: SLF001  # no public way


class _Backend:
    """Makes connections as another one does."""

    def __init__(self, inner: Any, is_meant: Callable[[], bool]) -> None:
        self._inner = inner
        self._is_meant = is_meant

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connect_tcp(self, *words: Any, **named: Any) -> _Stream:
        return _Stream(self._inner.connect_tcp(*words, **named), self._is_meant)


class _Stream:
    """A connection; what TLS makes of it is another one."""

    def __init__(self, inner: Any, is_meant: Callable[[], bool]) -> None:
        self._inner = inner
        self._is_meant = is_meant

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read(self, max_bytes: int, timeout: float | None = None) -> Any:
        return self._inner.read(max(max_bytes, READ_BYTES) if self._is_meant() else max_bytes, timeout)
