"""Peak memory of one classic transfer, in an interpreter of its own that ``benchmarks.transfer_speed`` starts.

Linux alone tells a process its peak and forgets it when asked.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measure import resident
from benchmarks.transfer_speed import transfer


def main(few: Path, file: Path, target: Path, method: str, out: Path) -> None:
    """Carry a file over and print what it needed, after one of a few layers, which loads what is loaded once.

    The allocator keeps what a large file has needed, so a second time would seem to need less.
    """
    list(transfer(few, target, method, out))
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = resident("VmRSS")
    list(transfer(file, target, method, out))
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
