"""How much of an adapter survives the move: `python -m benchmarks.transfer`.

Adapters are trained on SmolLM2-135M-Instruct, moved to Gemma-3-270M by every rung, and measured there against a
native adapter and against controls, on the same test items. Doses are chosen on the dev split, never on test.
Everything that takes time is a step that is kept in the cache, so a run that was cut off goes on.
This module decides the order of the steps; training, moving, measuring and wording are left to others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from benchmarks.transfer import document, gathered, results
from benchmarks.transfer.arms import SOURCE, TARGET, WRONG_TASK, adapter_file, identity_file, moved_file
from benchmarks.transfer.options import cache_option
from benchmarks.transfer.rungs import DEVICE, RUNGS, Rung, RungError, RungRefusedError, make
from benchmarks.transfer.seeds import seed_file
from benchmarks.transfer.side_by_side import one_at_a_time, run_parts
from benchmarks.transfer.tasks import TASKS, AbsentDataError, Task
from examples.materials import calm_threads, model_folder


@click.command()
@click.option("--task", "tasks", multiple=True, type=click.Choice(list(TASKS)), help="Only these tasks.")
@click.option(
    "--seed", "seeds", multiple=True, type=int, default=(0, 1, 2), show_default=True, help="Seeds of training."
)
@click.option(
    "--rung", "rungs", multiple=True, type=click.Choice([own.name for own in RUNGS]), help="Only these rungs."
)
@click.option("--references", is_flag=True, help="No rung: only train the adapters, and measure the bases.")
@click.option("--device", default="cpu", show_default=True, help="Where to compute, such as cuda.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="So many processes at once; for a GPU, or many cores.",
)
@click.option("--every-control", is_flag=True, help="Measure every control of rungs for which dev chose dose 0 too.")
@click.option("--identity", is_flag=True, help="Also move adapters to their own base, as a check of the rung.")
@click.option("--kept", is_flag=True, help="Train, move and measure nothing: tables of what is in the cache.")
@click.option(
    "--from",
    "numbers",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Do nothing but tables of the numbers in this file, which --save wrote; in several, put together.",
)
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Also put all numbers into this file.")
@cache_option()
@click.option(
    "--write",
    "report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the tables to this file, such as docs/transfer-results.md.",
)
def main(
    *,
    tasks: tuple[str, ...],
    seeds: tuple[int, ...],
    rungs: tuple[str, ...],
    every_control: bool,
    identity: bool,
    kept: bool,
    references: bool,
    device: str,
    jobs: int,
    cache: Path,
    numbers: tuple[Path, ...],
    save: Path | None,
    report: Path | None,
) -> None:
    """Train, move and measure; print one table for each task and seed."""
    calm_threads()
    os.environ[DEVICE] = device
    failed: list[str] = []
    if numbers:
        found = gathered.joined(own for file in numbers for own in gathered.load(file))
    else:
        present = {task.name: task for task in _tasks(tasks or tuple(TASKS))}
        chosen = [own for own in RUNGS if not references and (not rungs or own.name in rungs)]
        if jobs > 1 and not kept:
            flags = [name for name, is_set in (("--every-control", every_control), ("--identity", identity)) if is_set]
            run_parts(list(present), seeds, [own.name for own in chosen], cache, jobs=jobs, flags=flags)
        elif not kept:
            failed = _fill(present, seeds, chosen, cache, every=every_control, identity=identity)
        kept_ones = [gathered.gather(task, seed, cache) for seed in seeds for task in present.values()]
        found = [own for own in kept_ones if own is not None]
    _tell([results.result_of(own) for own in found], report)
    if save:
        gathered.save(found, save)
    if failed:
        raise click.ClickException("; ".join(failed))


def _tell(found: list[results.Result], report: Path | None) -> None:
    for own in found:
        click.echo(results.table(own))
    if report:
        report.write_text(document.document(found), encoding="utf-8")


def _tasks(names: tuple[str, ...]) -> Iterator[Task]:
    for name in names:
        try:
            yield TASKS[name]()
        except AbsentDataError as error:
            click.echo(f"{name}: skipped, {error}")


def _fill(
    tasks: Mapping[str, Task], seeds: tuple[int, ...], rungs: list[Rung], cache: Path, *, every: bool, identity: bool
) -> list[str]:
    """Do every step that was not done yet; say what a rung refused, and return what failed, with the reason."""
    from benchmarks.transfer import steps  # noqa: PLC0415 - torch loads here, after calm_threads
    from benchmarks.transfer.measure import Bench  # noqa: PLC0415 - torch, as above

    bench, failed = Bench.open(cache), []
    for seed in seeds:
        _train(tasks, seed, cache)
        for task in tasks.values():
            steps.measure_references(bench, task, seed, cache)
        for rung in rungs:
            names = dict.fromkeys([*tasks, *(WRONG_TASK[name] for name in tasks)])
            moves = [(name, TARGET) for name in names] + [(name, SOURCE) for name in tasks if identity]
            failed += [why for move in moves if (why := _tried(rung, *move, seed, cache)) is not None]
            for task in tasks.values():
                steps.measure_rung(bench, rung.name, task, seed, cache, every=every)
    return failed


def _train(tasks: Mapping[str, Task], seed: int, cache: Path) -> None:
    """Train what is not in the cache yet, one base after the other."""
    from benchmarks.transfer import training  # noqa: PLC0415 - torch, as above
    from benchmarks.transfer.place import load  # noqa: PLC0415 - torch, as above

    for base in (SOURCE, TARGET):
        missing = [task for task in tasks.values() if not adapter_file(cache, base, task.name, seed).is_file()]
        if not missing:
            continue
        folder = model_folder(base)
        loaded = load(folder)
        for task in missing:
            file = adapter_file(cache, base, task.name, seed)
            click.echo(f"training {file.stem}")
            training.train(loaded, task, training.recipe_for(task, seed), file, folder)


def _tried(rung: Rung, name: str, base: str, seed: int, cache: Path) -> str | None:
    """Move one adapter to a base, and say what the rung refused; return what failed, with the reason."""
    what = f"{rung.name}, {name}, seed {seed}, to {base}"
    try:
        _move(rung, name, seed, cache, base)
    except RungRefusedError as error:
        click.echo(f"{what} was refused: {error}")
    except RungError as error:
        return f"{what} was not made: {error}"
    return None


def _move(rung: Rung, name: str, seed: int, cache: Path, base: str) -> None:
    """Move one adapter to a base unless that was done, or there is none."""
    source = adapter_file(cache, SOURCE, name, seed)
    file = (identity_file if base == SOURCE else moved_file)(cache, rung.name, name, seed)
    with one_at_a_time(file):
        if not file.is_file() and source.is_file():
            click.echo(f"moving {file.stem}")
            make(rung.name, source, (model_folder(SOURCE), model_folder(base)), _taken(rung, name, seed, cache), file)


def _taken(rung: Rung, name: str, seed: int, cache: Path) -> Path | None:
    """Return the file of what a rung takes beside the adapter and the bases, where it takes anything."""
    if rung.takes == "text":
        from benchmarks.transfer.text import text_file  # noqa: PLC0415 - torch, as above

        return text_file(cache, TASKS[name](), seed, adapter_file(cache, SOURCE, name, seed), model_folder(SOURCE))
    return seed_file(cache, name, rung.takes) if rung.takes else None


if __name__ == "__main__":
    main()
