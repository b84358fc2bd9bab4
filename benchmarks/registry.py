"""The registry against MLflow's model registry: the same adapters, versions and tags on the same kinds of database.

Targets, at 100,000 revisions of 112 entries: 95 of 100 answers within 10 ms on SQLite and on PostgreSQL; at least 50
times faster than MLflow on the search by two attributes, and faster on every question that it can answer; 10 MB files
taken in at 80 % of the rate of copying and hashing them or more; small ones at 300 a second or more on SQLite.

Both are asked over their Python interfaces, warm, in turns, for pages of 100, and every answer of one is compared with
the other's. Times are of the call alone. Processor time is that of the caller and of the server's process that works
for it; on a busy machine it says more than the wall.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
from sqlalchemy import text

from benchmarks.latency import Clock
from benchmarks.measure import machine
from benchmarks.mlflow_peer import MlflowError, MlflowPeer, environment, prepare
from benchmarks.mlflow_rows import alike, fill_mlflow
from benchmarks.registry_data import fill
from benchmarks.registry_ingest import ingest_bulk, ingest_large, ingest_one_by_one
from benchmarks.registry_places import PLACES, Keeping, Place
from benchmarks.registry_questions import QUESTIONS, subjects
from benchmarks.registry_report import kept
from benchmarks.registry_turns import HEAD, Effort, Measured, Turns
from tests.engines.server import ServerError
from ual_registry.errors import UALError
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.registry import Registry
from ual_registry.registry.session import Database

_TWO_ATTRIBUTES = "search: base and domain"
_P95_TARGET_MS, _PEER_TARGET, _LARGE_TARGET, _BULK_TARGET = 10, 50, 0.8, 300


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def _megabytes(database: Database) -> float:
    query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    if not database.is_sqlite:
        query = "SELECT pg_database_size(current_database())"
    with database.engine.connect() as connection:
        return float(connection.scalar(text(query)) or 0) / 1e6


def _verdict(answered: Sequence[Measured], *, is_sqlite: bool) -> None:
    found = [each for each in answered if each.question.is_aimed]
    for cpu, what in ((False, "p95"), (True, "p95 of the processor time")):
        worst = max(found, key=lambda each: each.ours.quantile(0.95, cpu=cpu))
        late = [each for each in found if each.ours.quantile(0.95, cpu=cpu) > _P95_TARGET_MS / 1e3]
        print(
            f"longest {what}: {1e3 * worst.ours.quantile(0.95, cpu=cpu):.1f} ms, {worst.question.title}; "
            f"{len(found) - len(late)} of {len(found)} questions within {_P95_TARGET_MS} ms (target all)"
        )
    asked = [each for each in found if each.theirs.samples]
    for each in asked:
        if each.question.title == _TWO_ATTRIBUTES:
            print(f"two attributes: {each.ratio(0.5):.0f} times faster than MLflow", end="")
            if is_sqlite:  # a server's further processes, which MLflow's question makes it start, are not counted
                print(f", {each.ratio(0.5, cpu=True):.0f} times by processor time", end="")
            print(f" (target {_PEER_TARGET})")
    if asked:
        slower = [each.question.title for each in asked if min(each.ratio(0.5) or 0, each.ratio(0.95) or 0) < 1]
        print(f"slower than MLflow, at p50 or p95, in: {', '.join(slower) or 'nothing'} (target nothing)")


def _ask(engine: str, effort: Effort, python: Path | None, keeping: Keeping) -> list[str]:
    """Measure one engine; return the questions that our registry refused to answer."""
    with PLACES[engine](keeping) as place, tempfile.TemporaryDirectory() as blobs, contextlib.ExitStack() as stack:
        database, written = _filled(place, effort)
        size, entries = _megabytes(database), "of 112 entries" if effort.with_entries else "without their entries"
        print(f"\n{engine}: {effort.count:,} revisions {entries}, {size:,.0f} MB, {written}", flush=True)
        peer = None if python is None else _peer(stack, python, place, database, effort.count)
        if effort.samples == 0:
            return []
        registry, clock = Registry(database, BlobStore(Path(blobs))), Clock(database.engine)
        refused = _questions(engine, registry, clock, peer, effort) if effort.has_questions else []
        _ingest(registry, clock, peer, effort)
    return refused


def _questions(engine: str, registry: Registry, clock: Clock, peer: MlflowPeer | None, effort: Effort) -> list[str]:
    """Ask every question and tell of it; return those that were refused."""
    draw = subjects(Database(registry.database.url.render_as_string(hide_password=False)).engine)
    found, refused = [], []
    for question in QUESTIONS:
        try:
            found.append(Turns(registry, peer, question, effort, clock).run(draw(question.needs)))
        except UALError as error:
            refused.append(f"{engine}, {question.title}: {error}")
    _table(HEAD, [each.row() for each in found])
    _verdict(found, is_sqlite=registry.database.is_sqlite)
    return refused


def _filled(place: Place, effort: Effort) -> tuple[Database, str]:
    """Return a database with that many revisions, and how long it took to write them."""
    name = f"ours_{effort.count}" if effort.with_entries else f"ours_{effort.count}_without_entries"
    url = place.found(name)
    if url is not None:
        return Database.open(url), "kept from an earlier run"
    database = Database(place.make(name))
    database.upgrade()
    start_s = time.perf_counter()
    fill(database, effort.count, with_entries=effort.with_entries)
    spent_s = time.perf_counter() - start_s
    database.engine.dispose()
    place.keep(name)
    return database, f"written in {spent_s:.0f} s"


def _peer(stack: contextlib.ExitStack, python: Path, place: Place, database: Database, count: int) -> MlflowPeer:
    """Open an MLflow with the rows of a registry of ours, after a look at whether it writes such rows itself."""
    name = f"mlflow_{count}"
    url = place.found(name)
    if url is not None:
        peer = stack.enter_context(contextlib.closing(MlflowPeer(python, url)))
        print(f"MLflow {peer.version}: the same, kept from an earlier run", flush=True)
        return peer
    url = place.make(name)
    with contextlib.closing(MlflowPeer(python, url)) as peer:
        few = Database(place.make("few"))
        few.upgrade()
        fill(few, 25, with_entries=False)
        compared = alike(few, peer, url)
    start_s = time.perf_counter()
    fill_mlflow(database, url)
    spent_s = time.perf_counter() - start_s
    place.keep(name)
    peer = stack.enter_context(contextlib.closing(MlflowPeer(python, url)))
    print(
        f"MLflow {peer.version}: the same, written in {spent_s:.0f} s; "
        f"{compared} rows of 10 models are those that its own calls write",
        flush=True,
    )
    return peer


def _ingest(registry: Registry, clock: Clock, peer: MlflowPeer | None, effort: Effort) -> None:
    size, ours, theirs = ingest_one_by_one(registry, clock, peer, count=effort.singles)
    print(
        f"one adapter and its revision, {size / 1e3:.1f} kB, ms: ours {ours.text(0.5)}, p95 {ours.text(0.95)}", end=""
    )
    print(f", cpu {ours.cpu_text()}; its bytes copied, checked and flushed to disk")
    if theirs.samples:
        print(f"  MLflow, no bytes: {theirs.text(0.5)}, p95 {theirs.text(0.95)}, cpu {theirs.cpu_text()}", end="")
        print(f"; MLflow : ours {theirs.quantile(0.5) / ours.quantile(0.5):.1f}x")
    for layers in (1, 16):
        size, rate = ingest_bulk(registry, count=effort.bulk, rounds=min(3, effort.rounds), layers=layers)
        target = f" (target {_BULK_TARGET})" if layers == 1 and registry.database.is_sqlite else ""
        print(f"{effort.bulk:,} at once, {7 * layers} entries, {size / 1e3:.1f} kB: {rate.text()} a second{target}")


def _large(effort: Effort, rounds: int) -> None:
    size, rates = ingest_large(count=effort.large, rounds=rounds, width=effort.width)
    plain = rates["copy + sha256"].median
    print(f"\n{effort.large} files of {size / 1e6:.1f} MB into a fresh registry on SQLite, MB/s:")
    for title, rate in rates.items():
        print(f"  {title:24}{rate.text()}; {100 * rate.median / plain:.0f} % of copy + sha256")
    print(f"  (target {100 * _LARGE_TARGET:.0f} %)")


def _say_where() -> None:
    cores = len(os.sched_getaffinity(0))
    shown = "median [95 % interval; of files a second and MB/s the range]"
    print(f"machine: {machine()}, {cores} used; load {os.getloadavg()[0]:.1f}; {shown}")


def _try_to_ask(engine: str, effort: Effort, python: Path | None, keeping: Keeping) -> list[str]:
    try:
        return _ask(engine, effort, python, keeping)
    except ServerError as error:
        print(f"{engine} is not measured: {error}")
        return []


def _interpreter(wants_mlflow: bool, *, is_quick: bool) -> Path | None:
    """Return MLflow's interpreter; a quick run does not install it."""
    if not wants_mlflow:
        return None
    try:
        found = environment() if is_quick else prepare()
    except MlflowError as error:
        print(error)
        return None
    if found is None:
        print("MLflow is not measured: its environment is not there ('make bench-registry' makes it)")
    return found


@click.command(help=__doc__)
@click.option("--count", "counts", multiple=True, type=int, help="Revisions; may be repeated.  [default: 100000]")
@click.option("--engine", "engines", multiple=True, type=click.Choice(sorted(PLACES)), help="[default: both]")
@click.option("--mlflow/--no-mlflow", "wants_mlflow", default=True, show_default=True)
@click.option("--entries/--without-entries", "with_entries", default=True, show_default=True)
@click.option("--samples", default=300, show_default=True, help="Calls of each question; 0 only fills.")
@click.option("--large/--no-large", "with_large", default=True, help="Whether files of 10 MB are added, too.")
@click.option("--only-adding", is_flag=True, help="No question: adapters added one by one and many at once.")
@click.option("--only-large", is_flag=True, help="Files of 10 MB alone, and no question.")
@click.option("--files", type=click.IntRange(1), help="How many files of 10 MB at once.  [default: 20]")
@click.option("--rounds", type=click.IntRange(1), help="How often they are added each way.  [default: 9]")
@click.option("--write", "page", type=click.Path(path_type=Path), help="A page with a block for each result.")
@click.option("--keep", type=click.Path(path_type=Path), help="A folder in which filled databases are kept and found.")
@click.option("--server", help="URL of a PostgreSQL that is running; with --keep it keeps filled databases, too.")
@click.option("--quick", is_flag=True, help="Few calls and files: whether it runs, not how fast.")
def main(
    counts: tuple[int, ...],
    engines: tuple[str, ...],
    *,
    wants_mlflow: bool,
    with_entries: bool,
    samples: int,
    with_large: bool,
    only_adding: bool,
    only_large: bool,
    files: int | None,
    rounds: int | None,
    page: Path | None,
    keep: Path | None,
    server: str | None,
    quick: bool,
) -> None:
    python = _interpreter(wants_mlflow and not only_large, is_quick=quick)
    small = {"peer_s": 0, "peer_least": 3, "singles": 3, "bulk": 20, "large": 2, "width": 64, "rounds": 1}
    keeping = Keeping(folder=keep, server=server)
    refused: list[str] = []
    for count in counts or (100_000,):
        own = {"samples": 5, **small} if quick else {"samples": samples}
        effort = Effort(count=count, with_entries=with_entries, has_questions=not only_adding, **own)
        for engine in () if only_large else engines or tuple(PLACES):
            with kept(page, f"{engine} {count}"):
                _say_where()
                refused += _try_to_ask(engine, effort, python, keeping)
    if with_large or only_large:
        with kept(page, "large files"):
            _say_where()
            _large(replace(effort, large=files or effort.large), rounds or 2 * effort.rounds - 1)
    if refused:
        raise click.ClickException("not answered: " + "; ".join(refused))


if __name__ == "__main__":
    main()
