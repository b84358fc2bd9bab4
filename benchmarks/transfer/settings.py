"""Settings of `distill` compared on the dev split: `python -m benchmarks.transfer.settings`.

Each is one distillation of an adapter of the benchmark; what differs is how its texts come about, or how it trains.
They are measured on dev alone, at every dose, so that the settings of `distill` can be chosen without a look at test.
What is made is kept, so a run that was cut off goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from tabulate import tabulate

from benchmarks.transfer.arms import SOURCE, TARGET, adapter_file, dose_arms
from benchmarks.transfer.options import cache_option
from benchmarks.transfer.rungs import DEVICE, RungError, kept, make
from benchmarks.transfer.seeds import given
from benchmarks.transfer.tasks import TASKS
from examples.materials import calm_threads, model_folder

__all__ = ["SETTINGS", "main"]

_BATCH = 128
"""Texts written together: as many as a GPU likes, and few enough for ten such processes on one."""

_BOTH = ("source", "target")

_FAST = {"learning_rate": 3e-3, "is_soft": True}
_TWO_PASSES = {"batch_size": 16, "steps": 250, "evaluate_every": 25, "held_out_share": 0.05}
"""Of 2,000 requests; what `distill` chooses itself where no recipe is given."""

_REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "source": {},
    "source, rate 0.003": {"recipe": {**_FAST, **_TWO_PASSES}},
    "source, chunk loss": {"recipe": _TWO_PASSES},
    "source, chunk loss, tokens 0.7": {"recipe": {**_TWO_PASSES, "token_share": 0.7}},
    "source, texts 0.7": {"recipe": {**_TWO_PASSES, "is_soft": True, "sample_share": 0.7}},
    "target": {"manner": {"writers": ("target",)}},
    "target, fine": {"manner": {"writers": ("target",), "is_fine": True}},
    "source, opened": {"manner": {"opened": 0.5}},
    "both": {"manner": {"writers": _BOTH}},
    "both, fine": {"manner": {"writers": _BOTH, "is_fine": True}},
    "both, fine, warmer": {"manner": {"writers": _BOTH, "is_fine": True}, "sampling": {"temperature": 1.0}},
    "both, fine, two answers": {"manner": {"writers": _BOTH, "is_fine": True, "answers": 2}},
}

_AS_THEY_COME, _COOLER = {"temperature": 1.0, "top_p": 1.0}, {"temperature": 0.9, "top_p": 0.95}
_OF_DOCUMENTS = {"batch_size": 6, "steps": 267, "evaluate_every": 27, "held_out_share": 0.1}
"""Two passes over 800 documents of 256 tokens, as `distill` chooses itself."""

_DOCUMENTS: Mapping[str, Mapping[str, Any]] = {
    "200 of 160 tokens": {"texts": 200, "sampling": {"max_tokens": 160, **_AS_THEY_COME}},
    "200 of 160 tokens, cooler": {"texts": 200, "sampling": {"max_tokens": 160, **_COOLER}},
    "800 of 160 tokens": {"texts": 800, "sampling": {"max_tokens": 160, **_AS_THEY_COME}},
    "800 of 256 tokens": {"texts": 800, "sampling": {"max_tokens": 256, **_AS_THEY_COME}},
    "800 of 256 tokens, cooler": {"texts": 800, "sampling": {"max_tokens": 256, **_COOLER}},
    "800 of 256 tokens, rate 0.003": {
        "texts": 800,
        "sampling": {"max_tokens": 256, **_AS_THEY_COME},
        "recipe": {**_FAST, **_OF_DOCUMENTS},
    },
    "3200 of 256 tokens": {"texts": 3200, "sampling": {"max_tokens": 256, **_COOLER}},
}

SETTINGS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "topics": _REQUESTS,
    "banking": _REQUESTS,
    "changelogs": _DOCUMENTS,
}
"""The settings by task: what differs from those of `distill`, and from so many texts where they are given."""


@click.command()
@click.option("--task", "tasks", multiple=True, type=click.Choice(list(SETTINGS)), help="Only these tasks.")
@click.option("--setting", "names", multiple=True, help="Only these settings.")
@click.option("--texts", default=6000, show_default=True, help="Texts of a label task.")
@click.option("--seed", default=0, show_default=True, help="Seed of the adapters.")
@click.option("--device", default="cpu", show_default=True, help="Where to compute, such as cuda.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="So many processes at once.")
@cache_option("Folder of adapters and numbers; the adapters must be there.")
def main(
    *, tasks: tuple[str, ...], names: tuple[str, ...], texts: int, seed: int, device: str, jobs: int, cache: Path
) -> None:
    """Distil by every setting, measure on dev, and print one table for each task."""
    calm_threads()
    os.environ[DEVICE] = device
    parts = [(task, name) for task in tasks or SETTINGS for name in SETTINGS[task] if not names or name in names]
    if jobs > 1:
        _side_by_side(parts, texts, seed, cache, jobs)
        # What failed has said why, and is not tried again here.
        parts = [part for part in parts if kept("distill", _file(cache, *part, texts, seed))]
    found: dict[str, list[list[str]]] = {}
    for task, name in parts:
        found.setdefault(task, []).extend(_rows(task, name, texts, seed, cache))
    for task, rows in found.items():
        click.echo(f"{task}, dev\n\n{tabulate(rows, headers='firstrow', tablefmt='github', disable_numparse=True)}\n")


def _side_by_side(parts: list[tuple[str, str]], texts: int, seed: int, cache: Path, jobs: int) -> None:
    def run(part: tuple[str, str]) -> None:
        more = ["--texts", str(texts), "--seed", str(seed), "--device", os.environ[DEVICE], "--cache", str(cache)]
        command = [sys.executable, "-m", "benchmarks.transfer.settings", "--task", part[0], "--setting", part[1], *more]
        state = subprocess.run(command, check=False).returncode
        click.echo(f"{'done' if state == 0 else 'failed'}: {', '.join(part)}")

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, parts))


def _rows(task: str, name: str, texts: int, seed: int, cache: Path) -> Iterator[list[str]]:
    """Yield the header, then what a setting gave at every dose."""
    from benchmarks.transfer.measure import Bench  # noqa: PLC0415 - torch loads here, after calm_threads

    read, bench = TASKS[task](), Bench.open(cache)
    file = _file(cache, task, name, texts, seed)
    text = file.with_suffix(".given.json")
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text(json.dumps(_given(task, name, texts)), encoding="utf-8")
    bases = model_folder(SOURCE), model_folder(TARGET)
    try:
        made = make("distill", adapter_file(cache, SOURCE, task, seed), bases, text, file)
    except RungError as error:
        raise click.ClickException(f"{task}, {name}: {error}") from error
    measured = bench.measure(read, "dev", dose_arms(file))
    metrics = list(next(iter(measured.values())))
    yield ["setting", "metric", *(f"dose {arm.dose:g}" for arm in dose_arms(file)), "s"]
    for metric in metrics:
        values = (f"{measured[arm.name][metric].value:.3f}" for arm in dose_arms(file))
        yield [name, metric, *values, f"{made.wall_s:.0f}"]


def _given(task: str, name: str, texts: int) -> dict[str, Any]:
    """Return what a distillation by a setting is given."""
    usual, own = given(task, "seeds"), SETTINGS[task][name]
    plain = {"seeds": usual["seeds"], "texts": texts}
    sampling = {"batch_size": _BATCH, **usual.get("sampling", {}), **own.get("sampling", {})}
    return {**plain, **own, "sampling": sampling}


def _file(cache: Path, task: str, name: str, texts: int, seed: int) -> Path:
    return cache / "settings" / f"{task}-{seed}-{'-'.join(name.replace(',', '').split())}-{texts}.air"


if __name__ == "__main__":
    main()
