"""The benchmark of the registry runs to its end on few rows; how fast is for ``make bench-registry``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.latency import Latencies, Sample
from benchmarks.mlflow_peer import environment
from benchmarks.registry_ingest import Rates
from benchmarks.registry_questions import QUESTIONS

_ROOT = Path(__file__).resolve().parents[2]


def _samples(*times: float) -> tuple[Sample, ...]:
    return tuple(Sample(wall_s=time, cpu_s=time / 2, found=None) for time in times)


@pytest.fixture(scope="module")
def quick_run() -> str:
    command = [sys.executable, "-m", "benchmarks.registry", "--count", "200", "--quick"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_quick_run_asks_every_question_and_finds_the_same_as_its_peer(quick_run: str) -> None:
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in quick_run.splitlines() if "|" in line]
    tables = [rows[start + 2 : start + 2 + len(QUESTIONS)] for start, row in enumerate(rows) if row[0] == "question"]
    assert tables
    has_peer = environment() is not None
    for table in tables:
        same = [(row[0], row[-1]) for row in table]
        expected = [(each.title, "yes" if has_peer and each.theirs is not None else "-") for each in QUESTIONS]
        assert same == expected, quick_run


def test_a_quick_run_says_which_engines_and_peers_it_left_out(quick_run: str) -> None:
    told = {name: f"\n{name}: 200 revisions" in quick_run for name in ("sqlite", "postgresql")}
    left_out = "postgresql is not measured: " in quick_run
    assert told == {"sqlite": True, "postgresql": not left_out}
    assert ("MLflow is not measured: its environment is not there" in quick_run) == (environment() is None)


def test_a_quick_run_ends_with_the_rates_of_large_files(quick_run: str) -> None:
    titles = [line[2:26].strip() for line in quick_run.splitlines()[-6:-1]]
    ours = ["ours, one by one", "ours, many at once", "ours, no flush of files"]
    assert titles == ["copy + sha256", "copy + sha256 + fsync", *ours]


def test_a_quantile_is_a_time_that_so_many_calls_kept_and_its_interval_holds_it() -> None:
    times = Latencies(_samples(*(number / 1000 for number in range(1, 101))))
    assert (times.quantile(0.5), times.interval(0.5)) == (0.05, (0.04, 0.061))
    assert (times.quantile(0.95), times.interval(0.95)) == (0.095, (0.09, 0.1))
    assert (times.text(0.95), times.cpu_text()) == ("95.0 [90.0, 100]", "25.0 / 47.5")


def test_a_rate_is_written_with_its_range_and_its_share_of_processor_time() -> None:
    rates = Rates(amount=100, rounds=_samples(0.2, 0.1, 0.4))
    assert (rates.median, rates.text()) == (500, "500 [250, 1,000], processor 50 %")
