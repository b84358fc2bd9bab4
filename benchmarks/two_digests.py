"""Two digests of a file at once against one after the other, by processor time in one thread.

What is shown: SHA-256 of a file of 10 MB and of its tensors, by hashlib and by ``TwoLanes``; and the whole pass that
takes a file in without copying it, with and without the C extension.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks.measure import machine
from benchmarks.validate_many import random_adapter
from ual_registry.air import lanes
from ual_registry.air.read import open_legal
from ual_registry.air.write import write
from ual_registry.registry.intake import take_in


def _in_turns(tasks: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Return the processor times of each task, in milliseconds."""
    spent: dict[str, list[float]] = {title: [] for title in tasks}
    for run in range(runs + 1):
        for title, task in tasks.items():
            start_s = time.process_time()
            task()
            if run > 0:
                spent[title].append(1e3 * (time.process_time() - start_s))
    return spent


@click.command(help=__doc__)
@click.option("--runs", default=30, show_default=True)
@click.option("--width", default=1792, show_default=True, help="Of the base model, which makes the size of the file.")
def main(runs: int, width: int) -> None:
    extension = lanes.start, lanes.advance
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.air"
        write(random_adapter(8, width, "F32"), path)
        data = path.read_bytes()

        def one_after_the_other() -> None:
            hashlib.sha256(data).digest()
            hashlib.sha256(data).digest()

        def take(way: tuple[Callable[..., object], Callable[..., object]]) -> None:
            lanes.start, lanes.advance = way  # type: ignore[assignment]  # for this comparison alone
            found = open_legal(path)
            take_in(found, None, is_alone=False)
            found.source.close()

        tasks = {
            "two digests by hashlib": one_after_the_other,
            "two digests at once": lambda: lanes.TwoLanes().take(data, (len(data),), data, (len(data),)),
            "a file looked at, by hashlib": lambda: take((lanes.start_in_python, lanes.advance_in_python)),
            "a file looked at, at once": lambda: take(extension),
        }
        print(f"machine: {machine()}; {len(data) / 1e6:.1f} MB; processor time, median [range], ms")
        for title, times in _in_turns(tasks, runs).items():
            print(f"  {title:32}{statistics.median(times):.1f} [{min(times):.1f}, {max(times):.1f}]")


if __name__ == "__main__":
    main()
