"""Two SHA-256 digests at once in one thread: a lane of messages beside another.

The C extension ``_sha256`` takes both lanes block by block, which a processor does at nearly twice the rate of one;
where it was not built, or the processor lacks the instructions, ``advance_in_python`` gives the same answer by hashlib
(ADR-0020). A property test holds both to the same answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["TwoLanes", "advance_in_python", "start_in_python"]

_DIGEST_BYTES = 32

_Ends = tuple[int, ...]
_Advance = Callable[[Any, bytes | memoryview, _Ends, Any, bytes | memoryview, _Ends], tuple[bytes, bytes]]


def start_in_python() -> Any:
    """Return the state of a lane in which no message has begun."""
    return [hashlib.sha256()]


def advance_in_python(  # noqa: PLR0917  # the form of the extension's function
    state: Any,
    data: bytes | memoryview,
    ends: _Ends,
    state_2: Any,
    data_2: bytes | memoryview,
    ends_2: _Ends,
) -> tuple[bytes, bytes]:
    """Take data into two lanes.

    Args:
        state: State of the first lane; it is changed.
        data: Its next bytes.
        ends: Where messages end in them, rising.
        state_2: State of the second lane.
        data_2: Its next bytes.
        ends_2: Where messages end in those.

    Returns:
        The digests of the messages that ended in each lane, one after another.

    >>> advance_in_python(start_in_python(), b"air", (3,), start_in_python(), b"", ())[0].hex()[:8]
    '9fe430e5'
    """
    return _advanced(state, memoryview(data), ends), _advanced(state_2, memoryview(data_2), ends_2)


def _advanced(state: Any, data: memoryview, ends: _Ends) -> bytes:
    found, start = [], 0
    for end in ends:
        state[0].update(data[start:end])
        found.append(state[0].digest())
        state[0], start = hashlib.sha256(), end
    state[0].update(data[start:])
    return b"".join(found)


start: Callable[[], Any] = start_in_python
advance: _Advance = advance_in_python
with contextlib.suppress(ImportError):  # without a compiler it was not built; not every processor can
    _module = importlib.import_module("ual_registry.air._sha256")
    start, advance = _module.start, _module.advance


class TwoLanes:
    """Two lanes of messages, each digested one after another.

    >>> lanes = TwoLanes()
    >>> lanes.take(b"ai", (), b"airair", (3, 6))
    >>> lanes.take(b"r", (1,), b"", ())
    >>> lanes.digests(0) == lanes.digests(1)[:1] == lanes.digests(1)[1:] == [hashlib.sha256(b"air").hexdigest()]
    True
    """

    __slots__ = ("_found", "_states")

    def __init__(self) -> None:
        self._states = start(), start()
        self._found: tuple[list[bytes], list[bytes]] = [], []

    def take(self, data: bytes | memoryview, ends: _Ends, data_2: bytes | memoryview, ends_2: _Ends) -> None:
        """Take the next bytes of both lanes, and the places at which messages end in them."""
        found = advance(self._states[0], data, ends, self._states[1], data_2, ends_2)
        for own, new in zip(self._found, found, strict=True):
            own.append(new)

    def digests(self, lane: int) -> list[str]:
        """Return those of the messages that ended in a lane, in hexadecimal, in their order."""
        text = b"".join(self._found[lane]).hex()
        return [text[place : place + 2 * _DIGEST_BYTES] for place in range(0, len(text), 2 * _DIGEST_BYTES)]
