"""What is counted as covered: tracing costs a good part of the time of whatever runs under it.

The rooms named here prove what the package does as a whole, on many materials. A line that they alone run counts as
not covered, and so does one that runs only in a process which a test starts.

pytest-cov leaves two measurements in each worker, one upon the other: that of the run and the worker's own. Where it
pauses the second for a test with ``no_cover``, the first goes on. So the first is ended before the second begins, and
the process that hands out the tests measures nothing.
"""

from __future__ import annotations

from pathlib import Path

import coverage
import pytest

__all__ = ["pytest_collection_modifyitems", "pytest_sessionstart"]

_UNCOUNTED = (
    *("faults", "ground_truth", "hostile", "hub_server", "integration", "property", "releases"),
    "unit/benchmarks",
)
_TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """End every measurement but the one that a worker is about to begin."""
    is_worker = hasattr(session.config, "workerinput")
    if is_worker or session.config.getoption("dist", "no") != "no":
        while (running := coverage.Coverage.current()) is not None:
            running.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the rooms that are not counted."""
    rooms = [_TESTS / name for name in _UNCOUNTED]
    for item in items:
        if any(item.path.is_relative_to(room) for room in rooms):
            item.add_marker(pytest.mark.no_cover)
