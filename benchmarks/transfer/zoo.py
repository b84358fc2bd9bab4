"""How much of an adapter survives the move between small models of four families: `python -m benchmarks.transfer.zoo`.

Four base models are trained here on one corpus, one adapter on each, and every adapter is moved to the three other
bases by every rung: twelve directions. On each target the moved adapter is measured against the one that was trained
there, and against controls, in bits per byte of the same test documents.
Doses are chosen on the dev split of each direction; every other setting was chosen on the dev split of one or two
directions alone. Everything that takes time is a step that is kept in the cache, so a run that was cut off goes on.
This module decides the order of the steps; each is left to the other modules of the zoo.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.transfer.zoo_store import (
    ALONE,
    BASES,
    BEST_FREE,
    COLD,
    DIRECTIONS,
    DOMAIN,
    FREE,
    RUNGS,
    TEXTS,
    WARM,
    WRONG,
    Zoo,
    default_cache,
)
from examples.materials import calm_threads

if TYPE_CHECKING:
    from benchmarks.transfer.numbers import Measured

__all__ = ["main", "work"]

_NAMED = {f"{source}:{target}": (source, target) for source, target in DIRECTIONS}


@click.command()
@click.option("--direction", "directions", multiple=True, type=click.Choice(list(_NAMED)), help="Only these.")
@click.option("--rung", "rungs", multiple=True, type=click.Choice(RUNGS), help="Only these rungs.")
@click.option("--seconds", type=float, help="Begin no step after so many seconds; the next run goes on.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_cache,
    help="Folder of everything that is kept.  [default: in the user's cache]",
)
def main(directions: tuple[str, ...], rungs: tuple[str, ...], seconds: float | None, cache: Path) -> None:
    """Train, move and measure what is not kept yet, then print the tables."""
    calm_threads()
    from benchmarks.transfer.zoo_results import section  # noqa: PLC0415 - numpy loads here, after calm_threads

    zoo, start = Zoo(cache=cache), time.monotonic()
    last = start
    for said in work(zoo, [_NAMED[name] for name in directions or _NAMED], rungs or RUNGS):
        now = time.monotonic()
        if now - last >= 0.5:  # what was kept already goes by in silence
            click.echo(f"{said} ({now - last:.1f} s)")
        last = now
        if seconds is not None and now - start > seconds:
            click.echo("the time is over; the next run goes on from here")
            return
    click.echo(section(cache))


def work(zoo: Zoo, directions: list[tuple[str, str]], rungs: tuple[str, ...]) -> Iterator[str]:
    """Do one step after the other, and say each when it is done."""
    for base in BASES:
        yield from _trained(zoo, base)
    for source, target in directions:
        for arm in zoo.reference_arms(source, target):
            for split in ("dev", "test"):
                yield f"{arm.name} {arm.base} {split}: {_value(zoo.measure(arm, split)):.3f}"
        for rung in rungs:
            yield from _moved(zoo, rung, source, target)
    for base in BASES:
        for rung in (rung for rung in FREE if rung in rungs):
            yield from _identity(zoo, rung, base)
    for rung in (rung for rung in (*FREE, COLD, WARM) if rung in rungs):
        for source, target in directions:
            yield from _stranger(zoo, rung, source, target)


def _trained(zoo: Zoo, base: str) -> Iterator[str]:
    """Train a base, and an adapter of the domain on it."""
    from benchmarks.transfer.zoo_models import SHAPES, train_base  # noqa: PLC0415 - torch loads here

    if not zoo.folder(base).is_dir():
        train_base(SHAPES[base], zoo.prose()[0], zoo.folder(base))
    yield f"base {base}"
    _adapter(zoo, base, DOMAIN)
    yield f"adapter of {base}, {DOMAIN}"


def _adapter(zoo: Zoo, base: str, domain: str) -> Path:
    """Return the adapter of a base and a domain, trained where it is not there."""
    from benchmarks.transfer.zoo_adapters import train_adapter  # noqa: PLC0415 - torch, as above

    file = zoo.adapter(base, domain)
    if not file.is_file():
        train_adapter(zoo.base(base), zoo.folder(base), zoo.domain(domain), file)
    return file


def _moved(zoo: Zoo, rung: str, source: str, target: str) -> Iterator[str]:
    """Move an adapter and measure it and its controls."""
    file = zoo.moved(rung, source, target, DOMAIN)
    if rung in FREE:
        _move(zoo, rung, source, target, DOMAIN)
        yield f"{rung} {source} {target}"
    elif rung == ALONE:
        _train_alone(zoo, target)
        yield f"{rung} {target}"
    elif zoo.moved(BEST_FREE, source, target, DOMAIN).is_file():
        _distil(zoo, rung, source, target, DOMAIN)
        yield f"{rung} {source} {target}"
    if not file.is_file():
        return
    chosen = zoo.doses(rung, source, target)[0]
    yield f"{rung} {source} {target} on dev: best at {chosen:g}"
    for arm in zoo.rung_arms(rung, source, target):
        yield f"{arm.name} {source} {target}: {_value(zoo.measure(arm, 'test')):.3f}"


def _stranger(zoo: Zoo, rung: str, source: str, target: str) -> Iterator[str]:
    """Move the adapter of the other domain by the same rung, where that rung has an effect, and measure."""
    if not zoo.moved(rung, source, target, DOMAIN).is_file() or not zoo.doses(rung, source, target)[0]:
        return
    if rung in FREE:
        _move(zoo, rung, source, target, WRONG)
    else:
        _adapter(zoo, source, WRONG)
        _move(zoo, BEST_FREE, source, target, WRONG)
        _distil(zoo, rung, source, target, WRONG)
    for arm in zoo.rung_arms(rung, source, target):
        yield f"{arm.name} {source} {target}: {_value(zoo.measure(arm, 'test')):.3f}"


def _identity(zoo: Zoo, rung: str, base: str) -> Iterator[str]:
    """Move the adapter of a base to that base itself."""
    _move(zoo, rung, base, base, DOMAIN)
    for arm in zoo.identity_arms(rung, base):
        yield f"{arm.name} {base} {base}: {_value(zoo.measure(arm, 'test')):.3f}"


def _move(zoo: Zoo, rung: str, source: str, target: str, domain: str) -> None:
    from benchmarks.transfer.zoo_moves import Pair, move  # noqa: PLC0415 - torch loads here, after calm_threads

    file = zoo.moved(rung, source, target, domain)
    if not zoo.is_settled(file):
        pair = Pair(source=zoo.base(source), target=zoo.base(target), texts=zoo.domain(domain).text[:TEXTS])
        move(rung, _adapter(zoo, source, domain), pair, file)


def _distil(zoo: Zoo, rung: str, source: str, target: str, domain: str) -> None:
    file = zoo.moved(rung, source, target, domain)
    if file.is_file():
        return
    from benchmarks.transfer.zoo_distill import distil, teach  # noqa: PLC0415 - torch loads here, after calm_threads

    if (source, domain) not in zoo.teachers:
        folder = zoo.cache / "taught" / f"{source}-{domain}"
        zoo.teachers[source, domain] = teach(zoo.base(source), zoo.adapter(source, domain), folder)
    start = rung.removeprefix("distill ")
    distil(zoo.teachers[source, domain], zoo.base(target), start, file, zoo.moved(BEST_FREE, source, target, domain))


def _train_alone(zoo: Zoo, target: str) -> None:
    """Train an adapter as native ones are, on the unlabelled text of the rungs."""
    file = zoo.moved(ALONE, target, target, DOMAIN)
    if file.is_file():
        return
    from benchmarks.transfer import zoo_adapters, zoo_moves  # noqa: PLC0415 - torch, as above

    domain = zoo.domain(DOMAIN)
    with zoo_moves.watched() as cost:
        few = replace(domain, train=domain.text[:TEXTS])
        zoo_adapters.train_adapter(zoo.base(target), zoo.folder(target), few, file)
    zoo_moves.keep_cost(file, cost[0], {"texts": TEXTS})


def _value(measured: Measured) -> float:
    return next(iter(measured.values())).value


if __name__ == "__main__":
    main()
