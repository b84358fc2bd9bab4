"""Processes that add at once: ``python -m tests.integration.adding FOLDER PROCESSES COUNT NAME``.

The registry is the one that the environment names. Each process makes files of its own in FOLDER, waits for the others,
adds each file under NAME, and says the numbers that it got in one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from tests.handmade import small_adapter
from ual_registry.air.write import write
from ual_registry.registry.registry import Registry


def main(folder: Path, processes: int, count: int, name: str) -> int:
    """Start the processes, which are copies of this one, and wait for them; return how many failed."""
    starting, gun = os.pipe()
    copies = []
    for index in range(processes):
        paths = _make_files(folder, index, count)
        copies.append(os.fork())
        if copies[-1] == 0:
            os.close(gun)
            _add(starting, paths, name)
    os.close(starting)
    os.close(gun)  # all of them read its end at once
    return sum(os.waitpid(copy, 0)[1] != 0 for copy in copies)


def _make_files(folder: Path, index: int, count: int) -> list[Path]:
    paths = [folder / f"{index}-{number}.air" for number in range(count)]
    for path in paths:
        write(small_adapter(description=path.stem), path)
    return paths


def _add(starting: int, paths: list[Path], name: str) -> NoReturn:
    try:
        os.read(starting, 1)
        registry = Registry.open()
        numbers = [registry.add(path, name=name, aliases=["newest"]).number for path in paths]
        os.write(1, json.dumps(numbers).encode() + b"\n")
        os._exit(0)
    except BaseException:  # noqa: BLE001  # whatever it is, this copy must not go on as its original
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
