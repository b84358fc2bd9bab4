"""Keep what was measured: one JSON file for each arm, with one number for each item.

A run that was cut off goes on, nothing is measured twice, and tables are made from what is there without a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ual_registry.evaluation.series import Series

__all__ = ["Measured", "Numbers"]

Measured = Mapping[str, Series]
"""Every metric of one arm, by its name; the loss-like one first."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """A folder of kept numbers."""

    folder: Path

    def of(self, key: str) -> Measured | None:
        """Return what was kept under a key; ``None`` where nothing was."""
        file = self.folder / f"{key}.json"
        if not file.is_file():
            return None
        rows: list[Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return {str(row["metric"]): _series(row) for row in rows}

    def keep(self, key: str, found: Sequence[Series]) -> None:
        """Keep the metrics of an arm; the file appears when it is complete."""
        document = [
            {
                "metric": own.metric,
                "values": own.values.tolist(),
                "weights": own.weights.tolist(),
                "is_better_high": own.is_better_high,
                "is_share": own.is_share,
            }
            for own in found
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{key}.partial"
        partial.write_text(json.dumps(document), encoding="utf-8")
        partial.replace(self.folder / f"{key}.json")


def _series(row: Mapping[str, Any]) -> Series:
    return Series(
        metric=row["metric"],
        values=np.array(row["values"], dtype=np.float64),
        weights=np.array(row["weights"], dtype=np.float64),
        is_better_high=row["is_better_high"],
        is_share=row["is_share"],
    )
