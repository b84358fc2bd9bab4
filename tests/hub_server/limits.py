"""Budgets of requests per window, told in the headers of every answer."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(slots=True)
class _Budget:
    quota: int
    window_s: float
    started: float
    used: int = 0


class Limits:
    """Budgets by kind of request, ``api`` and ``resolvers``; a kind without one is free."""

    def __init__(self) -> None:
        self._budgets: dict[str, _Budget] = {}
        self._lock = threading.Lock()

    def set(self, kind: str, *, quota: int, window_s: float) -> None:
        """Allow ``quota`` requests in each window of ``window_s`` seconds, from now."""
        with self._lock:
            self._budgets[kind] = _Budget(quota, window_s, time.monotonic())

    def clear(self) -> None:
        """Allow everything again."""
        with self._lock:
            self._budgets.clear()

    def use(self, kind: str) -> tuple[bool, dict[str, str]]:
        """Count a request: whether it is within its budget, and the headers that say how much is left."""
        with self._lock:
            budget = self._budgets.get(kind)
            if budget is None:
                return True, {}
            now = time.monotonic()
            if now - budget.started >= budget.window_s:
                budget.started, budget.used = now, 0
            within = budget.used < budget.quota
            budget.used += within
            left_s = math.ceil(budget.window_s - (now - budget.started))
            return within, {
                "RateLimit": f'"{kind}";r={budget.quota - budget.used};t={left_s}',
                "RateLimit-Policy": f'"fixed window";"{kind}";q={budget.quota};w={math.ceil(budget.window_s)}',
            }
