"""Processes that work on the registry of the environment: ``python -m tests.integration.caring WORD PLACE [COUNT]``.

``add`` adds COUNT files of its own, which it makes in PLACE, for each line that it reads. Another process might take
each of them for garbage. It says the digest of each when that is there to stay, and then yanks every other one.
``gc`` collects garbage without end, what was yanked too.

``add-big``, ``get-big``, ``fsck-big``, ``export-big`` and ``import-big`` do one thing with a large file, or with a
registry that holds nothing else. PLACE is what they read or write. They say how many bytes of memory that took at most.
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from tests.handmade import small_adapter
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.registry.registry import Registry


def add(folder: Path, number: int) -> None:
    """Add files whose bytes lie in the store already, as a crash would have left them, and yank every other one."""
    registry = Registry.open()
    folder.mkdir()
    for index in (number * line + own for line, _ in enumerate(sys.stdin) for own in range(number)):
        path = folder / f"{index}.air"
        write(small_adapter(description=f"{folder.name} {index}"), path)
        place = registry.blobs.place(Digest.of_file(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".loose").write_bytes(path.read_bytes())
        path.with_suffix(".loose").replace(place)
        added = registry.add(path, name=folder.name)
        print(added.digest, flush=True)
        if index % 2:
            registry.yank(f"{added.name}@{added.number}", why="every other one goes")


def gc() -> None:
    """Collect garbage until the process is killed."""
    registry = Registry.open()
    for index in count():
        registry.gc(grace=datetime.timedelta(0), apply=True, yanked=True)
        if index == 0:
            print("ready", flush=True)


def add_big(path: Path) -> None:
    """Add one file."""
    Registry.open().add(path, name="big")


def get_big(path: Path) -> None:
    """Get that file."""
    Registry.open().get("big", path)


def fsck_big(home: Path) -> None:
    """Check all there is."""
    report = Registry.open(home).fsck(deep=True)
    assert (report.blobs, report.faults) == (1, ()), report


def export_big(folder: Path) -> None:
    """Export all there is."""
    assert Registry.open().export(folder).size_bytes > 0


def import_big(folder: Path) -> None:
    """Import what was exported."""
    Registry.open().import_(folder)


BIG: dict[str, Callable[[Path], None]] = {
    "add-big": add_big,
    "get-big": get_big,
    "fsck-big": fsck_big,
    "export-big": export_big,
    "import-big": import_big,
}


def say_memory() -> None:
    """Say how many bytes this process took at most; getrusage also counts the process that started it."""
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024)  # type: ignore[index]  # every process has one


if __name__ == "__main__":
    if sys.argv[1] == "add":
        add(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1] == "gc":
        gc()
    else:
        BIG[sys.argv[1]](Path(sys.argv[2]))
        say_memory()
