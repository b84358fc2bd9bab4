"""The peak of a process that trains in one of the ways of ``benchmarks.training``, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from examples.materials import calm_threads

calm_threads()

from benchmarks.measure import resident  # noqa: E402  # after the threads are calmed
from benchmarks.training_arms import Arm, ours, plain, run_in_turns  # noqa: E402  # as above
from benchmarks.training_material import Material, config_of, examples_of, material_of  # noqa: E402  # as above

__all__ = ["WAYS", "peak_of"]

WAYS = ("padded to the longest", "grouped", "packed", "all weights", "LoRA, rank 16")
"""The second and the third are ours; all but the fourth train factors."""


def peak_of(way: str, *, data: Path, model: Path, size: tuple[int, int], steps: int) -> int:
    """Return the peak of a process that trains, in bytes.

    Args:
        way: One of ``WAYS``.
        data: Folder that holds ``clinc150``.
        model: Folder of the base model.
        size: Rows of a micro-batch, and micro-batches of a step.
        steps: Steps.
    """
    words = [way, str(data), str(model), *map(str, size), str(steps)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_memory", *words], check=True, capture_output=True, text=True
    )
    return int(done.stdout.split()[-1])


def _arm(way: str, material: Material) -> Arm:
    if way in ("grouped", "packed"):
        return ours(way, material, batching=way)
    return plain(way, material, is_full=way == "all weights")


def _main(way: str, data: Path, model: Path, size: tuple[int, int], steps: int) -> None:
    with tempfile.TemporaryDirectory(prefix="ual-bench-") as place:
        examples = examples_of(data, "text", steps * size[0] * size[1])
        run_in_turns([_arm(way, material_of(examples, config_of(steps, size), model, Path(place)))])
    print(resident("VmHWM"))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), (int(sys.argv[4]), int(sys.argv[5])), int(sys.argv[6]))
