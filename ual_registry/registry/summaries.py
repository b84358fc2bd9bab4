"""What a hit shows of an artifact's entries and measurements: one JSON text each, written once."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ual_registry.registry.making import maker
from ual_registry.registry.views import Measurement, RoleSummary

__all__ = ["NO_TARGETS", "Targets", "measurements_of", "measurements_text", "read_targets", "targets_text"]

_TARGET = ("stack", "role", "rank", "entry_count", "layer_min", "layer_max")
_MEASUREMENT = ("metric", "value", "low", "high", "sample_count", "arm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The entries of an artifact in short."""

    summaries: tuple[RoleSummary, ...] = ()
    ranks: tuple[int, ...] = ()
    roles: tuple[str, ...] = ()


NO_TARGETS = Targets()
"""Those of an artifact without entries."""


def targets_text(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Return rows of ``artifact_roles`` as a text; ``None`` where there are none."""
    return _text(sorted(([row.get(name) for name in _TARGET] for row in rows), key=lambda row: row[:3]))


def measurements_text(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Return rows of ``evaluations``, in their order, as a text; ``None`` where there are none."""
    return _text([[row.get(name) for name in _MEASUREMENT] for row in rows])


def _text(rows: list[list[Any]]) -> str | None:
    return json.dumps(rows, separators=(",", ":")) if rows else None


@functools.lru_cache(maxsize=1024)
def read_targets(text: str) -> Targets:
    """Read what ``targets_text`` wrote; most artifacts share theirs with others."""
    rows = json.loads(text)
    return Targets(
        summaries=tuple(
            RoleSummary(
                stack=stack or None, role=role, rank=rank, entry_count=count, first_layer=first, last_layer=last
            )
            for stack, role, rank, count, first, last in rows
        ),
        ranks=tuple(sorted({row[2] for row in rows})),
        roles=tuple(sorted({row[1] for row in rows})),
    )


_measurement = maker(Measurement)


def measurements_of(rows: Iterable[Iterable[Any]]) -> tuple[Measurement, ...]:
    """Return what ``measurements_text`` wrote, once that is read."""
    return tuple([_measurement(*row) for row in rows])
