"""Processes that work on the registry of the environment: ``python -m tests.integration.caring WORD FOLDER [COUNT]``.

``add`` adds COUNT files of its own, each of which another process might take for garbage, and says each digest when
it is there to stay. ``gc`` collects garbage without end. ``big`` adds the file FOLDER and says how many bytes of
memory that took at most.
"""

from __future__ import annotations

import datetime
import re
import sys
from itertools import count
from pathlib import Path

from tests.handmade import small_adapter
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.registry.registry import Registry


def add(folder: Path, number: int) -> None:
    """Add files whose bytes lie in the store already, as a crash would have left them."""
    registry = Registry.open()
    folder.mkdir()
    for index in range(number):
        path = folder / f"{index}.air"
        write(small_adapter(description=f"{folder.name} {index}"), path)
        place = registry.blobs.place(Digest.of_file(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".loose").write_bytes(path.read_bytes())
        path.with_suffix(".loose").replace(place)
        print(registry.add(path, name=folder.name).digest, flush=True)


def gc() -> None:
    """Collect garbage until the process is killed."""
    registry = Registry.open()
    for index in count():
        registry.gc(grace=datetime.timedelta(0), apply=True, yanked=True)
        if index == 0:
            print("ready", flush=True)


def big(path: Path) -> None:
    """Add one file."""
    Registry.open().add(path, name="big")
    status = Path("/proc/self/status").read_text()  # getrusage also counts the process that started this one
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024)  # type: ignore[index]  # every process has one


if __name__ == "__main__":
    if sys.argv[1] == "add":
        add(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1] == "gc":
        gc()
    else:
        big(Path(sys.argv[2]))
