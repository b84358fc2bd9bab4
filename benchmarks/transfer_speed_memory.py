"""Peak memory of one classic transfer, in an interpreter of its own that ``benchmarks.transfer_speed`` starts.

Linux alone tells a process its peak and forgets it when asked.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.transfer_speed import transfer

_STATUS = Path("/proc/self/status")


def resident(name: str) -> int:
    """Return a line of this process's status, in bytes: ``VmRSS`` is resident memory, ``VmHWM`` its peak."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def main(file: Path, target: Path, method: str, out: Path) -> None:
    """Carry the file over twice and print what the second time needed: the first loads what is loaded once."""
    list(transfer(file, target, method, out))
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = resident("VmRSS")
    list(transfer(file, target, method, out))
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
