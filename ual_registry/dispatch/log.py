"""A log of decisions, one JSON object a line: to be replayed against another router, and to see traffic drift."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from ual_registry.dispatch.decision import Decision
from ual_registry.errors import RouteError, StorageError
from ual_registry.storage import read_file

__all__ = ["Change", "DecisionLog", "Drift", "LoggedDecision", "measure_drift", "read_log", "replay"]

_MAX_BYTES = 1 << 31
_LEAST = 20
"""Decisions on either side below which nothing is said about drift."""
_SIGNIFICANT = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDecision:
    """A line of a log.

    Attributes:
        query: The query.
        domain: The domain that it was given.
        adapter: The adapter that answered.
        reason: Why.
        probability: Of the domain; ``None`` where nothing was decided.
        distance: To the nearest prototype; ``None`` where nothing was decided.
    """

    query: str
    domain: str | None
    adapter: str | None
    reason: str
    probability: float | None
    distance: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A query that another router decides otherwise."""

    before: LoggedDecision
    after: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How newer traffic differs from older.

    Attributes:
        before: Decisions of the older part.
        after: Decisions of the newer part.
        domains: Share (0..1) of every domain before and after.
        abstained: Share not routed before and after.
        distance_p: p-value that the distances are of one distribution (two-sample Kolmogorov-Smirnov).
        has_drifted: Whether that is below 1 %.
    """

    before: int
    after: int
    domains: Mapping[str, tuple[float, float]]
    abstained: tuple[float, float]
    distance_p: float
    has_drifted: bool


class DecisionLog:
    """Appends decisions to a file; threads may share one.

    Args:
        path: The file; made where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, query: str, decision: Decision, **more: Any) -> None:
        """Append one decision.

        Args:
            query: The query.
            decision: What became of it.
            more: Further fields, such as the time.

        Raises:
            StorageError: The file cannot be written.
        """
        line = json.dumps({"query": query, **decision.document(), **more}, ensure_ascii=False)
        try:
            # One write of a whole line to a file opened for appending: lines of several processes do not mix.
            # Half of a surrogate pair, as an argument that is no UTF-8 gives, becomes its escape, which JSON reads.
            with self._lock, self._path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise StorageError.of("write", self._path, error) from error


def read_log(path: Path) -> list[LoggedDecision]:
    """Read a log; a last line that was cut off is left out.

    Raises:
        RouteError: A line is no decision; the message names it.
        StorageError: The file cannot be read.
    """
    lines = read_file(path, limit_bytes=_MAX_BYTES).decode("utf-8", "replace").split("\n")
    found = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
            nearest = row.get("nearest") or {}
            found.append(
                LoggedDecision(
                    query=str(row["query"]),
                    domain=row["domain"],
                    adapter=row["adapter"],
                    reason=str(row["reason"]),
                    probability=row.get("probability"),
                    distance=nearest.get("distance"),
                )
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RouteError(
                f"{path}: line {number}: is no decision", code="log", context={"path": str(path)}
            ) from error
    return found


def replay(logged: Sequence[LoggedDecision], decisions: Sequence[Decision]) -> list[Change]:
    """Return what a router decides otherwise than it was decided.

    Args:
        logged: What was decided.
        decisions: What the router decides about the same queries, in the same order.
    """
    return [
        Change(before=before, after=after)
        for before, after in zip(logged, decisions, strict=True)
        if (before.domain, before.adapter, before.reason) != (after.domain, after.adapter, str(after.reason))
    ]


def measure_drift(before: Sequence[LoggedDecision], after: Sequence[LoggedDecision]) -> Drift:
    """Compare newer traffic with older.

    Args:
        before: Older decisions.
        after: Newer ones.

    Raises:
        RouteError: Either side has fewer than 20 decisions with a distance.
    """
    sides = [[row for row in rows if row.distance is not None] for rows in (before, after)]
    if min(map(len, sides)) < _LEAST:
        raise RouteError(
            f"{len(sides[0])} older and {len(sides[1])} newer decisions, expected at least {_LEAST} of each",
            code="log",
        )
    counts = [Counter(str(row.domain) for row in rows) for rows in sides]
    sizes = [len(rows) for rows in sides]
    names = sorted(set(counts[0]) | set(counts[1]))
    abstained = [float(np.mean([row.adapter is None for row in rows])) for rows in sides]
    p_value = float(ks_2samp([row.distance for row in sides[0]], [row.distance for row in sides[1]]).pvalue)
    return Drift(
        before=sizes[0],
        after=sizes[1],
        domains={name: (counts[0][name] / sizes[0], counts[1][name] / sizes[1]) for name in names},
        abstained=(abstained[0], abstained[1]),
        distance_p=p_value,
        has_drifted=p_value < _SIGNIFICANT,
    )
