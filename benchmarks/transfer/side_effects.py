"""What adapters do to text that they were not made for: `python -m benchmarks.transfer.side_effects`.

It measures what the cache of `benchmarks.transfer` holds of a task and seed: both trained adapters on their own bases,
and every moved one as it is and at the dose that dev chose, beside a random update of its norm. Every arm is a step
that is kept in the cache, so a run that was cut off goes on. This module decides which arms there are; measuring and
wording are left to others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from benchmarks.transfer import gathered, side_effects_numbers
from benchmarks.transfer.arms import (
    RANDOM,
    TARGET,
    Arm,
    adapter_file,
    choose_dose,
    dosed,
    moved_file,
    reference_arms,
)
from benchmarks.transfer.generic_text import SOURCE, generic_texts, text_digest
from benchmarks.transfer.options import cache_option
from benchmarks.transfer.rungs import DEVICE, RUNGS
from benchmarks.transfer.side_effects_numbers import Effect, Generic, Measurement
from benchmarks.transfer.side_effects_results import table
from benchmarks.transfer.tasks import TASKS, AbsentDataError
from examples.materials import calm_threads

__all__ = ["arms_of", "chosen_doses", "put"]

_NUMBERS = Path(__file__).resolve().parent / "numbers.json.gz"


@click.command()
@click.option("--task", required=True, type=click.Choice(list(TASKS)), help="Whose adapters.")
@click.option("--seed", default=0, show_default=True, help="Seed of their training.")
@click.option(
    "--rung", "rungs", multiple=True, type=click.Choice([own.name for own in RUNGS]), help="Measure only these rungs."
)
@click.option("--device", default="cpu", show_default=True, help="Where to compute, such as cuda.")
@cache_option()
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Put what the cache has into this file, beside what it holds of other tasks and seeds.",
)
def main(*, task: str, seed: int, rungs: tuple[str, ...], device: str, cache: Path, save: Path | None) -> None:
    """Measure bits per byte and divergence on generic text; print a table."""
    calm_threads()
    os.environ[DEVICE] = device
    if not all(own.file.is_file() for own in reference_arms(cache, task, seed) if own.file is not None):
        raise click.ClickException(
            f"{adapter_file(cache, TARGET, task, seed).parent}: expected the trained adapters of {task}, seed {seed}; "
            f"`python -m benchmarks.transfer --task {task} --seed {seed} --references` makes them"
        )
    chosen = chosen_doses(_kept(task, seed, cache), task, seed)
    measurement = _measured(task, seed, cache, rungs or tuple(own.name for own in RUNGS), chosen)
    click.echo(table(measurement))
    if save:
        found = side_effects_numbers.load(save) if save.is_file() else []
        side_effects_numbers.save(put(found, measurement), save)


def _kept(task: str, seed: int, cache: Path) -> Iterator[gathered.Gathered]:
    """Yield the published numbers, then those of the cache, which are of its own adapters."""
    yield from gathered.load(_NUMBERS) if _NUMBERS.is_file() else ()
    try:
        own = gathered.gather(TASKS[task](), seed, cache)
    except AbsentDataError:
        return
    if own is not None:
        yield own


def chosen_doses(found: Iterable[gathered.Gathered], task: str, seed: int) -> dict[str, float]:
    """Return for each rung the dose that dev chose; what comes last counts."""
    return {
        rung: choose_dose(curve)
        for own in found
        if (own.task, own.seed) == (task, seed)
        for rung, curve in own.curves.items()
    }


def arms_of(cache: Path, task: str, seed: int, chosen: Mapping[str, float]) -> list[Arm]:
    """Return both trained adapters on their bases, then of every rung that was made what is measured.

    Args:
        cache: Folder of adapters.
        task: Name of the task.
        seed: Seed of training.
        chosen: For each rung the dose that dev chose; where that is not known, dose 1 counts.
    """
    arms = [own for own in reference_arms(cache, task, seed) if own.file is not None]
    for rung in RUNGS:
        file = moved_file(cache, rung.name, task, seed)
        if file.is_file():
            arms += _rung_arms(rung.name, file, chosen.get(rung.name, 1.0))
    return arms


def _rung_arms(rung: str, file: Path, dose: float) -> Iterator[Arm]:
    """Yield a rung as it is, at the dose that dev chose, and a random update of its norm at that dose.

    Dose 0 is the base, which needs neither.
    """
    for own in dict.fromkeys((1.0, dose)):
        if own:
            yield Arm(name=dosed(rung, own), base=TARGET, file=file, dose=own)
    if dose:
        control = f"{RANDOM} 0"
        yield Arm(name=f"{rung}: {control}", base=TARGET, file=file, control=control, dose=dose)


def _rung(arm: Arm) -> str | None:
    """Return the rung that an arm is of; the trained adapters are of none."""
    name = arm.name.partition(":")[0].partition(" x")[0]
    return name if any(own.name == name for own in RUNGS) else None


def _measured(task: str, seed: int, cache: Path, rungs: tuple[str, ...], chosen: Mapping[str, float]) -> Measurement:
    """Measure the arms of some rungs; return them, and those of others that were measured before."""
    from benchmarks.transfer.measure import Bench  # noqa: PLC0415 - torch loads here, after calm_threads
    from benchmarks.transfer.side_effects_measure import measure, update_norm  # noqa: PLC0415 - torch, as above

    bench, texts = Bench.open(cache), generic_texts()
    digest = text_digest(texts)
    arms = [
        own
        for own in arms_of(cache, task, seed, chosen)
        if _rung(own) in (None, *rungs) or bench.numbers.of(_key(own, digest)) is not None
    ]
    return Measurement(
        task=task,
        seed=seed,
        generic=Generic(source=SOURCE, digest=digest, documents=len(texts)),
        chosen=chosen,
        effects=tuple(
            Effect(
                arm=own.name,
                base=own.base,
                dose=own.dose,
                norm=update_norm(own),
                metrics=measure(bench, own, texts, _key(own, digest)),
            )
            for own in arms
        ),
    )


def _key(arm: Arm, digest: str) -> str:
    return arm.key("generic", digest[:8])


def put(found: Iterable[Measurement], new: Measurement) -> list[Measurement]:
    """Return measurements with a new one in place of that of the same task and seed, in the order of tasks."""
    others = [own for own in found if (own.task, own.seed) != (new.task, new.seed)]
    return sorted([*others, new], key=lambda own: (own.seed, list(TASKS).index(own.task)))


if __name__ == "__main__":
    main()
