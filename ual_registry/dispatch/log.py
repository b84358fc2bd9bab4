"""A log of decisions, one JSON object a line: to be replayed against another router, and to see traffic drift."""

from __future__ import annotations

import codecs
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from scipy.stats import chi2_contingency, ks_2samp

from ual_registry.dispatch.decision import Decision, Reason
from ual_registry.errors import RouteError, StorageError
from ual_registry.storage import read_file

__all__ = ["Change", "DecisionLog", "Drift", "LoggedDecision", "log_time", "measure_drift", "read_log", "replay"]

_MAX_BYTES = 1 << 31
_MAX_LINE_BYTES = 64 << 20
_LEAST = 20
"""Decisions on either side below which nothing is said about drift."""
_SIGNIFICANT = 0.005
_RARE = 10
"""Decisions of both sides below which a domain is taken together with others: the test holds for frequent ones."""
_ABSTAINED = frozenset({Reason.OUT_OF_SCOPE, Reason.AMBIGUOUS})


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
        abstained: Share before and after that was out of scope or ambiguous.
        distance_p: p-value of distances of one distribution (two-sample Kolmogorov-Smirnov).
        domains_p: p-value of domains in the same shares (chi-squared, rare domains together).
        has_drifted: Whether either is below half a per cent, so that one in a hundred says so by chance.
    """

    before: int
    after: int
    domains: Mapping[str, tuple[float, float]]
    abstained: tuple[float, float]
    distance_p: float
    domains_p: float
    has_drifted: bool


class DecisionLog:
    """Appends decisions to a file; threads may share one.

    Args:
        path: The file; made where it is not there.

    Raises:
        RouteError: The file holds something else than decisions.
        StorageError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.open("ab").close()
            if path.is_file():  # a pipe holds nothing to go on with
                _check_beginning(path)
        except OSError as error:
            raise StorageError.of("write", path, error) from error

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


def log_time() -> str:
    """Return what a decision's ``at`` says now: UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check_beginning(path: Path) -> None:
    """Refuse a file that is no log, and end its last line, which else took the next decision with it."""
    with path.open("rb") as stream:
        _check_first(path, stream)
        last = _unended(stream)
    if last:
        _end_line(path, last)


def _check_first(path: Path, stream: BinaryIO) -> None:
    """Refuse a file whose first line with something in it is no decision."""
    number, line = 1, stream.readline(_MAX_LINE_BYTES).removeprefix(codecs.BOM_UTF8)
    while line and not line.strip():
        number, line = number + 1, stream.readline(_MAX_LINE_BYTES)
    if line:
        _decision(path, number, line)


def _unended(stream: BinaryIO) -> bytes:
    """Return what stands behind the last end of a line."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 1))
    if stream.read() in (b"", b"\n"):
        return b""
    stream.seek(max(0, size - _MAX_LINE_BYTES))
    return stream.read().rpartition(b"\n")[2]


def _end_line(path: Path, last: bytes) -> None:
    """End the last line; one that was cut off becomes blank, for within a log it would be no decision.

    Nothing is cut away, since another process may append meanwhile.
    """
    if not _is_json(last):
        with path.open("r+b") as stream:
            stream.seek(-len(last), os.SEEK_END)
            stream.write(b" " * len(last))
    with path.open("ab") as stream:
        stream.write(b"\n")


def read_log(path: Path) -> list[LoggedDecision]:
    """Read a log; a last line that was cut off is left out, as are empty ones.

    Raises:
        RouteError: A line is no decision; the message names it.
        StorageError: The file cannot be read.
    """
    lines = read_file(path, limit_bytes=_MAX_BYTES).removeprefix(codecs.BOM_UTF8).split(b"\n")
    rows = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if lines[-1].strip() and not _is_json(lines[-1]):
        rows.pop()
    return [_decision(path, number, line) for number, line in rows]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _decision(path: Path, number: int, line: bytes) -> LoggedDecision:
    """Decode a line, in which what is no UTF-8 is replaced."""
    try:
        row = json.loads(line.decode("utf-8", "replace"))
        nearest = row.get("nearest") or {}
        found = LoggedDecision(
            query=row["query"],
            domain=row["domain"],
            adapter=row["adapter"],
            reason=row["reason"],
            probability=row.get("probability"),
            distance=nearest.get("distance"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_decision(path, number) from error
    texts, numbers = (found.query, found.reason, found.domain, found.adapter), (found.probability, found.distance)
    if not all(isinstance(text, str) for text in texts[:2]) or not all(map(_is_text, texts[2:])):
        raise _no_decision(path, number)
    if not all(map(_is_number, numbers)):
        raise _no_decision(path, number)
    return found


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_number(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _no_decision(path: Path, number: int) -> RouteError:
    return RouteError(
        f"{path}: line {number}: is no decision",
        code="log",
        context={"path": str(path), "line": number},
        hint="a log is what 'ual route --log' writes; remove a line that was cut off",
    )


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
            hint="only decisions of a router count; --since or --split say where the newer part begins",
        )
    counts = [Counter(str(row.domain) for row in rows) for rows in sides]
    sizes = [len(rows) for rows in sides]
    names = sorted(set(counts[0]) | set(counts[1]))
    abstained = [float(np.mean([row.reason in _ABSTAINED for row in rows])) for rows in sides]
    distance_p = float(ks_2samp([row.distance for row in sides[0]], [row.distance for row in sides[1]]).pvalue)
    domains_p = _domains_p(*counts)
    return Drift(
        before=sizes[0],
        after=sizes[1],
        domains={name: (counts[0][name] / sizes[0], counts[1][name] / sizes[1]) for name in names},
        abstained=(abstained[0], abstained[1]),
        distance_p=distance_p,
        domains_p=domains_p,
        has_drifted=min(distance_p, domains_p) < _SIGNIFICANT,
    )


def _domains_p(older: Mapping[str, int], newer: Mapping[str, int]) -> float:
    """Return the p-value of two counts of domains in the same shares."""
    table = np.array([[older.get(name, 0), newer.get(name, 0)] for name in sorted({*older, *newer})])
    is_rare = table.sum(axis=1) < _RARE
    table = np.concatenate([table[~is_rare], table[is_rare].sum(axis=0, keepdims=True)])
    table = table[table.sum(axis=1) > 0]
    return float(chi2_contingency(table).pvalue) if len(table) > 1 else 1.0
