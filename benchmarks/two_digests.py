"""Two digests of a file at once against one after the other, by processor time in one thread.

What is shown: SHA-256 of 10 MB, twice, by hashlib and by ``TwoLanes``; and the whole pass that takes a file in without
copying it, with and without the C extension.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import click

from benchmarks.measure import in_turns, machine
from benchmarks.validate_many import random_adapter
from ual_registry.air import lanes
from ual_registry.air.read import open_legal
from ual_registry.air.write import write
from ual_registry.registry.intake import take_in


@click.command(help=__doc__)
@click.option("--runs", default=30, show_default=True)
@click.option("--width", default=1792, show_default=True, help="Of the base model, which makes the size of the file.")
def main(runs: int, width: int) -> None:
    if lanes.advance is lanes.advance_in_python:  # hashlib would be timed against itself
        raise click.ClickException("the extension is not there: it was not built, or this processor cannot run it")
    extension = {"start": lanes.start, "advance": lanes.advance}
    in_python = {"start": lanes.start_in_python, "advance": lanes.advance_in_python}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.air"
        write(random_adapter(8, width, "F32"), path)
        data = path.read_bytes()

        def one_after_the_other() -> None:
            hashlib.sha256(data).digest()
            hashlib.sha256(data).digest()

        def take(way: dict[str, Any]) -> None:
            with mock.patch.multiple(lanes, **way):  # both ways alike, so that both bear what it costs
                found = open_legal(path)
                take_in(found, None, is_alone=False)
                found.source.close()

        tasks: dict[str, Callable[[], object]] = {
            "two digests by hashlib": one_after_the_other,
            "two digests at once": lambda: lanes.TwoLanes().take(data, (len(data),), data, (len(data),)),
            "a file looked at, by hashlib": lambda: take(in_python),
            "a file looked at, at once": lambda: take(extension),
        }
        print(f"machine: {machine()}; {len(data) / 1e6:.1f} MB; processor time, median [range], ms")
        for title, times in zip(tasks, in_turns(list(tasks.values()), runs=runs, clock=time.process_time), strict=True):
            print(f"  {title:32}{times.text(1e-3, 1)}")


if __name__ == "__main__":
    main()
