"""How much of an adapter survives the move between small models of four families: `python -m benchmarks.transfer.zoo`.

Four base models are trained here on one corpus, one adapter on each, and every adapter is moved to the three other
bases by every rung: twelve directions. On each target the moved adapter is measured against the one that was trained
there, and against controls, in bits per byte of the same test documents.
Doses are chosen on the dev split of each direction; every other setting was chosen on the dev split of one or two
directions alone. Everything that takes time is a step that is kept in the cache, so a run that was cut off goes on.
This module decides what is run; parts and steps are left to the other modules of the zoo.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.transfer.rungs import DEVICE
from benchmarks.transfer.zoo_jobs import run_at_once
from benchmarks.transfer.zoo_parts import Part, parts, run_part
from benchmarks.transfer.zoo_recipe import GRID, chosen_settings
from benchmarks.transfer.zoo_store import DIRECTIONS, RUNGS, Zoo, default_cache
from examples.materials import calm_threads

__all__ = ["main", "work"]

_NAMED = {f"{source}:{target}": (source, target) for source, target in DIRECTIONS}


@click.command()
@click.option("--direction", "directions", multiple=True, type=click.Choice(list(_NAMED)), help="Only these.")
@click.option("--rung", "rungs", multiple=True, type=click.Choice(RUNGS), help="Only these rungs.")
@click.option("--seconds", type=float, help="Begin no step after so many seconds; the next run goes on.")
@click.option("--device", default="cpu", show_default=True, help="Where to compute, such as cuda.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="So many processes at once, of one thread each; for a GPU, or many cores.",
)
@click.option("--pilot", is_flag=True, help="Only choose how distillations train, on dev of two directions.")
@click.option("--texts", type=click.IntRange(2), help="Texts of a distillation, instead of what a pilot chose.")
@click.option("--steps", type=click.IntRange(1), help="Its steps.")
@click.option("--batch", "batch_size", type=click.IntRange(1), help="Texts of one step.")
@click.option("--rate", "learning_rate", type=float, help="Its learning rate.")
@click.option("--temperature", type=float, help="How texts are drawn.")
@click.option("--top-p", type=float, help="From which share of the probability.")
@click.option("--rank", type=click.IntRange(1), help="Rank of every factor pair.")
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    help="When all is done, also put the tables into this file, such as benchmarks/transfer/zoo_tables.md.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_cache,
    help="Folder of everything that is kept.  [default: in the user's cache]",
)
def main(
    *,
    directions: tuple[str, ...],
    rungs: tuple[str, ...],
    seconds: float | None,
    device: str,
    jobs: int,
    pilot: bool,
    save: Path | None,
    cache: Path,
    **recipe: Any,
) -> None:
    """Train, move and measure what is not kept yet, then print the tables."""
    calm_threads()
    os.environ[DEVICE] = device
    given = {name: value for name, value in recipe.items() if value is not None}
    chosen = [_NAMED[name] for name in directions or _NAMED]
    if pilot:
        _pilot(cache, given, chosen if directions else None, jobs=jobs, seconds=seconds)
        return
    zoo = Zoo(cache=cache, settings=replace(chosen_settings(cache), **given))
    is_over = _run(parts(zoo, chosen, rungs or RUNGS), zoo, jobs=jobs, seconds=seconds)
    if is_over or jobs > 1:
        from benchmarks.transfer.zoo_results import tables  # noqa: PLC0415 - numpy loads here, after calm_threads

        found = tables(cache, zoo.settings)
        click.echo(found)
        if save and is_over:
            save.write_text(found, encoding="utf-8")


def _pilot(
    cache: Path, given: dict[str, Any], pairs: list[tuple[str, str]] | None, *, jobs: int, seconds: float | None
) -> None:
    """Try every recipe of the grid, keep the best one and print a table."""
    from benchmarks.transfer import zoo_pilot  # noqa: PLC0415 - numpy, as above

    grid, chosen = list(dict.fromkeys(replace(own, **given) for own in GRID)), pairs or list(zoo_pilot.PAIRS)
    _run(zoo_pilot.pilot_parts(grid, chosen), Zoo(cache=cache), jobs=jobs, seconds=seconds)
    click.echo(zoo_pilot.table(cache, grid, chosen))
    best = zoo_pilot.choose(cache, grid, chosen)
    click.echo("nothing was measured in every direction" if best is None else f"chosen: {best}")


def _run(todo: list[Part], zoo: Zoo, *, jobs: int, seconds: float | None) -> bool:
    """Do parts one after the other or side by side; return whether all were done."""
    if jobs > 1:
        left = run_at_once(todo, zoo.cache, jobs=jobs, seconds=seconds, say=click.echo)
        for name in left:
            click.echo(f"not done: {name}")
        return not left
    start = last = time.monotonic()
    for said in work(zoo, todo):
        now = time.monotonic()
        if now - last >= 0.5:  # what was kept already goes by in silence
            click.echo(f"{said} ({now - last:.1f} s)")
        last = now
        if seconds is not None and now - start > seconds:
            click.echo("the time is over; the next run goes on from here")
            return False
    return True


def work(zoo: Zoo, todo: list[Part]) -> Iterator[str]:
    """Do one part after the other, and say each step when it is done."""
    for part in todo:
        yield from run_part(zoo, part)


if __name__ == "__main__":
    main()
