"""A process that adds: ``python -m tests.integration.adding HOME FOLDER COUNT NAME``.

It makes files of its own in FOLDER and adds each under NAME, saying ``ready`` first, waiting for a line on standard
input, and saying every number that it got.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.handmade import small_adapter
from ual_registry.air.write import write
from ual_registry.registry.registry import Registry


def main(home: str, folder: str, count: int, name: str) -> None:
    """Add ``count`` files."""
    paths = [Path(folder) / f"{index}.air" for index in range(count)]
    for path in paths:
        write(small_adapter(description=f"{folder} {path.name}"), path)
    print("ready", flush=True)
    sys.stdin.readline()
    registry = Registry.open(home)
    for path in paths:
        print(registry.add(path, name=name, aliases=["newest"]).number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
