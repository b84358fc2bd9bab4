"""Processes that add at once: ``python -m tests.integration.adding FOLDER PROCESSES COUNT [NAME]``.

The registry is the one that the environment names. Each process makes files of its own in FOLDER, waits for the others,
adds each file under NAME, and says the numbers that it got in one line of JSON.
Without NAME all of them add the same files, each in an order of its own and many at once, under three names; and each
says for every file by its name the number that it got and whether it made it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tests.handmade import small_adapter
from ual_registry.air.write import write
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.registry import Registry

__all__ = ["run_at_once"]


def main(folder: Path, processes: int, count: int, name: str | None) -> int:
    """Make the files and start the processes; return how many failed."""
    if name is not None:
        files = [_make_files(folder, index, count) for index in range(processes)]
        return run_at_once([partial(_add_each, own, name) for own in files])
    shared = _make_files(folder, processes, count)
    return run_at_once(
        [partial(_add_together, random.Random(index).sample(shared, count)) for index in range(processes)]
    )


def run_at_once(works: Sequence[Callable[[Callable[[], None]], Any]]) -> int:
    """Do each of some works in a copy of this process, say what it returns in a line of JSON, and wait for all.

    Args:
        works: Each is given what waits until all the others wait, too.

    Returns:
        How many failed.
    """
    starting, gun = os.pipe()
    preparing, ready = os.pipe()
    copies = []
    for work in works:
        copies.append(os.fork())
        if copies[-1] == 0:
            os.close(gun)
            _run(work, partial(_wait, ready, starting))
    os.close(starting)
    os.close(ready)
    os.read(preparing, 1)  # its end, when all of them are there
    os.close(gun)  # all of them read its end at once
    return sum(os.waitpid(copy, 0)[1] != 0 for copy in copies)


def _make_files(folder: Path, index: int, count: int) -> list[Path]:
    paths = [folder / f"{index}-{number}.air" for number in range(count)]
    for path in paths:
        write(small_adapter(description=path.stem), path)
    return paths


def _wait(ready: int, starting: int) -> None:
    os.close(ready)
    os.read(starting, 1)


def _run(work: Callable[[Callable[[], None]], Any], wait: Callable[[], None]) -> NoReturn:
    try:
        os.write(1, json.dumps(work(wait)).encode() + b"\n")
        os._exit(0)
    except BaseException:  # noqa: BLE001  # whatever it is, this copy must not go on as its original
        traceback.print_exc()
        os._exit(1)


def _add_each(paths: list[Path], name: str, wait: Callable[[], None]) -> list[int]:
    wait()
    registry = Registry.open()
    return [registry.add(path, name=name, aliases=["newest"]).number for path in paths]


def _add_together(paths: list[Path], wait: Callable[[], None]) -> dict[str, tuple[str, int, bool]]:
    wait()
    jobs = [(path, AddOrder(name=f"{int(path.stem.split('-')[1]) % 3}", tags={"run": "1"})) for path in paths]
    found = {}
    for outcome in Registry.open().add_many(jobs):
        if outcome.error is not None:
            raise outcome.error
        assert outcome.result is not None
        found[Path(outcome.path).stem] = (outcome.result.name, outcome.result.number, outcome.result.is_new)
    return found


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None))
