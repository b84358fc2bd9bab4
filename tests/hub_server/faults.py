"""Faults on purpose: what goes wrong, at which endpoint, at which call."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Fault", "Faults"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong; what is not set goes well.

    Attributes:
        status: Answer with this status instead of what the endpoint would answer.
        headers: Headers of that answer; without a status, headers that replace those of the good answer, or take
            one away by ``None``.
        content: Body of that answer; without a status, the body that replaces that of the good answer.
        after_effect: The request takes effect first; then the answer is lost by ``status``, ``cut`` or ``reset``.
        cut: Close the connection before a byte of the answer.
        cut_after: Close the connection after so many bytes of the answer's body.
        cut_request_after: Close the connection after so many bytes of the request's body; it takes no effect.
        reset: A cut is a TCP reset, not an orderly end.
        flip: Invert the byte at this place of the answer's body; negative counts from the end.
        ignore_range: Answer a range with the whole, status 200.
        delay_s: Wait so long before the answer.
        chunk_delay_s: Wait so long before each 4 KiB of the answer's body.
        call: Called with the request's path when the request has arrived, before anything else.
    """

    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    content: bytes | None = None
    after_effect: bool = False
    cut: bool = False
    cut_after: int | None = None
    cut_request_after: int | None = None
    reset: bool = False
    flip: int | None = None
    ignore_range: bool = False
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    call: Callable[[str], object] | None = None

    @property
    def answers(self) -> bool:
        """Whether the good answer never leaves."""
        return self.status is not None or self.cut or (self.reset and self.cut_after is None)

    @property
    def alters_body(self) -> bool:
        """Whether the body must be sent piece by piece."""
        return self.cut_after is not None or self.flip is not None or self.chunk_delay_s > 0

    def __str__(self) -> str:
        plain = Fault()
        set_here = {
            name: getattr(self, name) for name in Fault.__slots__ if getattr(self, name) != getattr(plain, name)
        }
        return " ".join(f"{name}={value}" for name, value in set_here.items() if name != "call") or "call"


@dataclass(slots=True)
class _Planned:
    fault: Fault
    endpoint: str
    path: re.Pattern[str] | None
    first: int
    last: int | None
    seen: int = 0


class Faults:
    """The faults that are to come; each counts the calls that it could strike."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []
        self._lock = threading.Lock()

    def add(self, endpoint: str, *, nth: int = 1, times: int | None = 1, path: str | None = None, **fault: Any) -> None:
        """Plan a fault.

        Args:
            endpoint: Name of the route, as in the log.
            nth: The first call that it strikes, counted from now and from 1.
            times: How many calls in a row it strikes; ``None``: all that follow.
            path: Only calls whose path and query match this regular expression somewhere count.
            fault: What goes wrong: the attributes of :class:`Fault`.
        """
        last = None if times is None else nth + times - 1
        plan = _Planned(Fault(**fault), endpoint, re.compile(path) if path else None, nth, last)
        with self._lock:
            self._planned.append(plan)

    def clear(self) -> None:
        """Let everything go well from now on."""
        with self._lock:
            self._planned.clear()

    def take(self, endpoint: str, path: str) -> Fault | None:
        """Count a call, and give what goes wrong with it; the fault planned first wins."""
        found = None
        with self._lock:
            for plan in self._planned:
                if plan.endpoint != endpoint or (plan.path and not plan.path.search(path)):
                    continue
                plan.seen += 1
                if found is None and plan.first <= plan.seen and (plan.last is None or plan.seen <= plan.last):
                    found = plan.fault
        return found
