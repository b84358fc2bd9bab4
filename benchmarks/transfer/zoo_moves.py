"""Move an adapter of the zoo from one base to another by one rung, and keep the file and what it took.

A rung is one step: its file gets its name when it is complete, with the figures of the run beside it. Both bases are
in memory before it starts, so its time and its peak of memory are those of the rung alone.
It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

import ctypes
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it comes without types

from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.errors import UALError
from ual_registry.models.loaded import LoadedBase
from ual_registry.transfers.effect_material import ResidualOptions
from ual_registry.transfers.module_fit import ActivationOptions, WriteKind
from ual_registry.transfers.plan import TransferPlan, make_plan
from ual_registry.transfers.prediction_fit import PredictionOptions
from ual_registry.transfers.result import TransferResult
from ual_registry.transfers.run import run_transfer
from ual_registry.transfers.run_activations import run_activations
from ual_registry.transfers.run_predictions import run_predictions
from ual_registry.transfers.run_residual import run_residual
from ual_registry.transfers.run_weights import run_weights

__all__ = ["RUNGS", "Cost", "Pair", "cost_of", "keep", "keep_cost", "move", "refusal_of", "watched"]

_SAMPLE_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two bases in memory and what rungs between them work on.

    Attributes:
        source: The base that the adapter was trained on.
        target: The base to go to.
        texts: Unlabelled text of the domain.
    """

    source: LoadedBase
    target: LoadedBase
    texts: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a rung took, beside the two bases in memory.

    Attributes:
        cpu_s: Processor time of the process.
        wall_s: Wall time.
        peak_bytes: Peak of resident memory over what it was before.
    """

    cpu_s: float
    wall_s: float
    peak_bytes: int


_Runner = Callable[[Adapter, TransferPlan, Pair, Digest], TransferResult]


def _by_shape(method: str) -> _Runner:
    return lambda adapter, plan, _, digest: run_transfer(adapter, plan, method=method, source_digest=digest)


def _by_weights(method: str) -> _Runner:
    return lambda adapter, plan, pair, digest: run_weights(
        adapter, plan, pair.source, pair.target, method=method, source_digest=digest, options=None
    )


def _by_activations(options: ActivationOptions) -> _Runner:
    return lambda adapter, plan, pair, digest: run_activations(
        adapter, plan, pair.source, pair.target, pair.texts, source_digest=digest, options=options
    )


def _residual(adapter: Adapter, plan: TransferPlan, pair: Pair, digest: Digest) -> TransferResult:
    return run_residual(adapter, plan, pair.source, pair.target, pair.texts, source_digest=digest, options=RESIDUAL)


def _predictions(adapter: Adapter, plan: TransferPlan, pair: Pair, digest: Digest) -> TransferResult:
    last = max(module.slots[0].layer or 0 for module in pair.target.binding.modules.values())
    options = replace(PREDICTIONS, layers=(last,))
    return run_predictions(adapter, plan, pair.source, pair.target, pair.texts, source_digest=digest, options=options)


RESIDUAL = ResidualOptions(max_rows=4000)
PREDICTIONS = PredictionOptions(sweeps=4, tokens=48, max_rows=1500, top_share=0.0, teacher_weight=0.5)
"""The last layer alone, positions at random, and half of what the source says: chosen on dev of the first direction."""

RUNGS: dict[str, _Runner] = {
    "svd": _by_shape("svd"),
    "subspace": _by_weights("subspace"),
    "vocab": _by_weights("vocab"),
    "activations": _by_activations(ActivationOptions()),
    "activations-joint": _by_activations(ActivationOptions(write=WriteKind.JOINT)),
    "residual": _residual,
    "predictions": _predictions,
}
"""The rungs without training, cheapest first."""


def move(rung: str, source: Path, pair: Pair, file: Path) -> bool:
    """Move the adapter `source` and write it to `file`, unless it is there; return whether there is one.

    Where the rung refuses, what it said is kept in its place.
    """
    if file.is_file() or file.with_suffix(".refused").is_file():
        return file.is_file()
    with read(source) as adapter:
        plan = make_plan(adapter.manifest, pair.target.config, target_id=pair.target.base.id)
        try:
            with watched() as cost:
                found = RUNGS[rung](adapter, plan, pair, Digest.of_file(source))
        except UALError as error:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_suffix(".refused").write_text(str(error).splitlines()[0], encoding="utf-8")
            return False
        keep(found.adapter, file, cost[0], _said(found))
    return True


def keep(adapter: Adapter, file: Path, cost: Cost, said: Mapping[str, Any]) -> None:
    """Write an adapter and, beside it, what it took and what was said of it."""
    keep_cost(file, cost, said)
    write(adapter, file)


def keep_cost(file: Path, cost: Cost, said: Mapping[str, Any]) -> None:
    """Write beside an adapter what it took and what was said of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    document = {"cpu_s": cost.cpu_s, "wall_s": cost.wall_s, "peak_bytes": cost.peak_bytes, "said": said}
    file.with_suffix(".cost.json").write_text(json.dumps(document), encoding="utf-8")


def cost_of(file: Path) -> tuple[Cost, Mapping[str, Any]]:
    """Return what a kept adapter took and what was said of it."""
    document = json.loads(file.with_suffix(".cost.json").read_text(encoding="utf-8"))
    said: Mapping[str, Any] = document.pop("said")
    return Cost(**document), said


def refusal_of(file: Path) -> str | None:
    """Return why there is no such adapter; `None` where nothing was said."""
    said = file.with_suffix(".refused")
    return said.read_text(encoding="utf-8") if said.is_file() else None


def _said(found: TransferResult) -> dict[str, Any]:
    report = found.report
    return {
        "settings": dict(report.settings),
        "warnings": list(report.warnings),
        "entries": len(report.entries),
        "left_out": len(report.left_out),
        "measures": {entry.target: dict(entry.measures) for entry in report.entries},
    }


@contextmanager
def watched() -> Iterator[list[Cost]]:
    """Watch the time and the memory of what happens inside; the list has the cost when that is over."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # what earlier work has left would hide what this one takes
    process = psutil.Process()
    before, peak, over = process.memory_info().rss, [0], threading.Event()

    def look() -> None:
        while not over.wait(_SAMPLE_S):
            peak[0] = max(peak[0], process.memory_info().rss - before)

    found: list[Cost] = []
    watcher = threading.Thread(target=look, daemon=True)
    wall, cpu = time.monotonic(), time.process_time()
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
    peak[0] = max(peak[0], process.memory_info().rss - before)
    found.append(Cost(cpu_s=time.process_time() - cpu, wall_s=time.monotonic() - wall, peak_bytes=max(peak[0], 0)))
