"""Run several parts of the benchmark at once, each as a process of its own, on one cache.

Parts that need the same adapter do not make it twice: who comes second waits for the first. This module decides what
is a part, and in which order parts begin; what a part does is left to `benchmarks.transfer`.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click
from filelock import FileLock

from benchmarks.transfer.rungs import DEVICE, RUNGS

__all__ = ["one_at_a_time", "run_parts"]


_PARTS = ("distill", "predictions", "free", "streams", "at once")
"""What rungs do together, the best and the longest first: no long part begins when all else is over."""


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Hold what is to become a file, so that no other process makes it at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        yield


def run_parts(
    tasks: Sequence[str],
    seeds: Sequence[int],
    rungs: Sequence[str],
    cache: Path,
    *,
    jobs: int,
    flags: Sequence[str] = (),
) -> None:
    """Train every adapter, then move and measure, so many parts at once.

    What failed is tried once more when the others are over, one part at a time: on a device that many share, memory is
    what lacks most often.

    Args:
        tasks: Names of the tasks.
        seeds: Seeds of training.
        rungs: Names of the rungs.
        cache: Folder of adapters and numbers.
        jobs: How many processes at most.
        flags: Further options of the parts that move and measure.

    Raises:
        click.ClickException: A part failed; its own output says why.
    """
    pairs = list(itertools.product(seeds, tasks))
    training = [["--task", task, "--seed", str(seed), "--references"] for seed, task in pairs]
    moving = [
        ["--task", task, "--seed", str(seed), *itertools.chain(*(("--rung", name) for name in group)), *flags]
        for group in _groups(rungs)
        for seed, task in pairs
    ]
    failed = [part for parts in (training, moving) for part in _run(_run(parts, cache, jobs), cache, 1)]
    if failed:
        raise click.ClickException("these parts failed: " + "; ".join(" ".join(part) for part in failed))


def _groups(rungs: Sequence[str]) -> list[list[str]]:
    """Return the rungs part by part."""
    groups = [[own.name for own in RUNGS if own.part == part and own.name in rungs] for part in _PARTS]
    return [group for group in groups if group]


def _run(parts: Sequence[Sequence[str]], cache: Path, jobs: int) -> list[Sequence[str]]:
    """Run parts, and return those that failed."""
    with ThreadPoolExecutor(jobs) as pool:
        states = pool.map(lambda part: _part(part, cache), parts)
        return [part for part, state in zip(parts, states, strict=True) if state != 0]


def _part(arguments: Sequence[str], cache: Path) -> int:
    log = cache / "parts" / ("".join(arguments).replace("--", "-").strip("-") + ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    more = ["--cache", str(cache), "--device", os.environ.get(DEVICE, "cpu")]
    command = [sys.executable, "-m", "benchmarks.transfer", *arguments, *more]
    with log.open("w", encoding="utf-8") as stream:
        state = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
    click.echo(f"{'done' if state == 0 else f'failed, see {log}'}: {' '.join(arguments)}")
    return state
