"""A room that is not counted as covered is not traced either: pytest-cov alone would go on tracing in a worker."""

from __future__ import annotations

import os
import sys
import threading

import coverage
import pytest

pytestmark = pytest.mark.no_cover


def test_a_room_that_is_not_counted_is_not_traced(request: pytest.FixtureRequest) -> None:
    """``coverage`` would set its tracer for this thread, for each new one, and for each new process."""
    assert request.node.get_closest_marker("no_cover") is not None
    assert (sys.gettrace(), threading.gettrace()) == (None, None)
    assert coverage.Coverage.current() is None  # it may count by sys.monitoring, which sets no tracer
    assert [name for name in os.environ if name.startswith("COVERAGE_PROCESS")] == []
