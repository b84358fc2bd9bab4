"""File systems that a test mounts for itself: small ones and read-only ones."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest

__all__ = ["mounted"]

_REFUSED = "mounting is not permitted here"


@contextlib.contextmanager
def mounted(*arguments: object) -> Iterator[None]:
    """Mount something for a block, at the last of the arguments of ``mount``.

    Where the system does not allow it, the test is skipped, or fails where everything must run (``CI=true``).
    """
    *_, place = arguments
    command = ["mount", *map(str, arguments)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        _give_up()
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _give_up() -> None:
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(_REFUSED, pytrace=False)
    pytest.skip(_REFUSED)
