"""Processes killed at random moments of add, alias, tag and yank leave nothing half and lose nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ual_registry.registry.registry import Registry

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("UAL_FAULTS_KILLS", "40"))


@pytest.mark.parametrize("seed", [1])
def test_whoever_is_killed_leaves_everything_that_was_done_and_nothing_half(
    registry: Registry, tmp_path: Path, seed: int
) -> None:
    words = ["--count", str(KILLS), "--seed", str(seed), "--folder", str(tmp_path / "files")]
    result = subprocess.run(
        [sys.executable, "-m", "tests.faults.kill", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        # Processes that are killed write no coverage, and those that are not cover nothing new.
        env={key: value for key, value in os.environ.items() if not key.startswith("COV")},
    )
    assert (result.returncode, result.stderr) == (0, "")
    said = r"(\d+) kills, (\d+) actions done, (\d+) cut short, nothing lost, nothing wrong\n"
    counts = re.fullmatch(said, result.stdout)
    assert counts is not None
    kills, done, cut = map(int, counts.groups())
    assert kills == KILLS
    assert done > KILLS // 4  # the processes came to work at all
    assert cut > KILLS // 4  # and were killed at it
