"""What a dry run says beside what the run then takes, each in a process of its own, for ``benchmarks.training``.

A dry run counts weights, factors and activations, and not Python with its libraries. So the memory of the run is the
peak of its process, less what the process held before it loaded the base model.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from examples.materials import calm_threads

calm_threads()

import torch  # noqa: E402, F401  # loaded before memory is looked at

from benchmarks.measure import resident  # noqa: E402  # after the threads are calmed
from benchmarks.training_material import examples_of  # noqa: E402  # as above
from ual_registry.training import estimate as _estimate  # noqa: E402, F401  # as torch
from ual_registry.training import run as _run  # noqa: E402, F401  # as torch
from ual_registry.training.config import TrainingConfig  # noqa: E402  # as above
from ual_registry.training.examples import write_examples  # noqa: E402  # as above
from ual_registry.workflows.train import estimate_training, run_training  # noqa: E402  # as above
from ual_registry.workflows.train_order import TrainOrder  # noqa: E402  # as above

__all__ = ["compare", "dry", "real"]

_EXAMPLES = 320


def compare(data: Path, model: Path) -> None:
    """Print what a dry run says, and what the run took.

    Args:
        data: Folder that holds ``clinc150``.
        model: Folder of the base model.
    """
    print(f"\ndry run beside the run, {_EXAMPLES} requests of CLINC150 with their intents, one pass, default settings")
    print(f"{'':10}{'steps':>8}{'seconds':>10}{'memory, MB':>12}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ual-bench-") as place:
        file = Path(place) / "requests.jsonl"
        write_examples(file, examples_of(data, "completion", _EXAMPLES))
        for way in _WAYS:
            words = [sys.executable, "-m", "benchmarks.training_estimate", way, str(file), str(model)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{way:10}{found['steps']:8}{found['seconds']:10.1f}{found['memory'] / 1e6:12,.0f}", flush=True)


def _order(file: Path, model: Path) -> TrainOrder:
    config = TrainingConfig(epochs=1.0, device="cpu")
    return TrainOrder(base=str(model), data=file, config=config, output=file.with_suffix(".air"))


def dry(file: Path, model: Path) -> dict[str, float]:
    """Return what a dry run says: steps, seconds, and bytes of memory."""
    found = estimate_training(_order(file, model)).estimate
    return {"steps": found.steps, "seconds": found.seconds, "memory": found.memory_bytes}


def real(file: Path, model: Path) -> dict[str, float]:
    """Return what the run took: steps, seconds, and bytes of memory."""
    before = resident("VmRSS")
    result = run_training(_order(file, model))
    with result.adapter:
        steps, seconds = result.record.steps, result.record.wall_time_s
    return {"steps": steps, "seconds": seconds, "memory": resident("VmHWM") - before}


_WAYS: Mapping[str, Callable[[Path, Path], dict[str, float]]] = {"dry run": dry, "run": real}


if __name__ == "__main__":
    print(json.dumps(_WAYS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))))
