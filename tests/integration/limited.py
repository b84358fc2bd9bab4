"""Run the command line with a limit on the size of files: ``python -m tests.integration.limited BYTES ARGUMENT...``.

The limit is set by the process itself, before it becomes the command: code between a fork and what is executed may wait
for ever where the process that forks has threads.
"""

from __future__ import annotations

import os
import resource
import sys


def main(limit_bytes: str, *arguments: str) -> None:
    """Set the limit and become the command; Python ignores the signal that comes with it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit_bytes), int(limit_bytes)))
    os.execv(sys.executable, [sys.executable, "-m", "ual_registry", *arguments])  # no shell is wanted


if __name__ == "__main__":
    main(*sys.argv[1:])
