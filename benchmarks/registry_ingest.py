"""Adding to a registry: one small adapter, many small ones, and files of 10 MB against copying and hashing them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

from benchmarks.latency import Clock, Latencies, Sample
from benchmarks.mlflow_peer import MlflowPeer
from benchmarks.mlflow_rows import source_of
from benchmarks.validate_many import random_adapter
from ual_registry.air.adapter import Adapter
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.registry import Registry

__all__ = ["Rates", "ingest_bulk", "ingest_large", "ingest_one_by_one"]

_TAGS = {"team": "search", "stage": "draft"}
_WIDTH, _LAYERS = 16, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How much was taken in, round by round.

    Attributes:
        amount: Of one round, in whatever is counted.
        rounds: The times.
    """

    amount: float
    rounds: tuple[Sample, ...]

    @property
    def median(self) -> float:
        """Amount a second of the middle round."""
        return self.amount / Latencies(self.rounds).quantile(0.5)

    def text(self, digits: int = 0) -> str:
        """Write median and range of the rate, and the share of the time that was processor time."""
        times = sorted(sample.wall_s for sample in self.rounds)
        cpu = sum(sample.cpu_s for sample in self.rounds) / sum(times)
        low, high = self.amount / times[-1], self.amount / times[0]
        return f"{self.median:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}], processor {100 * cpu:.0f} %"


def _files(folder: Path, adapter: Adapter, count: int, mark: str) -> list[Path]:
    """Write copies that differ in their description, and so in every digest."""
    folder.mkdir(parents=True)
    paths = [folder / f"{mark}-{number}.air" for number in range(count)]
    for path in paths:
        write(Adapter(dataclasses.replace(adapter.manifest, description=path.stem), adapter.tensors), path)
    return paths


def ingest_one_by_one(
    registry: Registry, clock: Clock, peer: MlflowPeer | None, *, count: int
) -> tuple[int, Latencies, Latencies]:
    """Add ``count`` adapters of one revision each, in turns; ours with their bytes, checked.

    Returns:
        Size of a file in bytes, our times, and MLflow's.
    """
    own, theirs = [], []
    with tempfile.TemporaryDirectory() as name:
        paths = _files(Path(name) / "files", random_adapter(_LAYERS, _WIDTH, "F32"), count + 2, "one")
        for number, path in enumerate(paths):
            tags = {**_TAGS, "domain": "medical", "base": "example/base", "rank": "8"}
            if peer is not None:
                digest = str(Digest.of_bytes(path.name.encode()))
                sample = peer.ask("ingest", name=f"one-{number}", source=source_of(digest), tags=tags)
                theirs += [sample] * (number >= 2)
            add = partial(registry.add, path, name=path.stem, tags=_TAGS)
            own += [clock.time(add)] * (number >= 2)
        size = paths[0].stat().st_size
    return size, Latencies(tuple(own)), Latencies(tuple(theirs))


def ingest_bulk(registry: Registry, *, count: int, rounds: int, layers: int = _LAYERS) -> tuple[int, Rates]:
    """Add ``count`` small files at once, every round other ones.

    Returns:
        Size of a file in bytes, and files a second.
    """
    samples, size = [], 0
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            mark = f"bulk-{layers}-{number}"
            paths = _files(Path(name) / "files", random_adapter(layers, _WIDTH, "F32"), count, mark)
            size = paths[0].stat().st_size
            samples.append(Clock().time(partial(_add_many, registry, paths)))
    return size, Rates(amount=count, rounds=tuple(samples))


def _add_many(registry: Registry, paths: Sequence[Path]) -> None:
    outcomes = list(registry.add_many((path, AddOrder(name=path.stem, tags=_TAGS)) for path in paths))
    wrong = [outcome for outcome in outcomes if outcome.result is None or not outcome.result.is_new]
    assert not wrong, wrong[:3]


def ingest_large(*, count: int, rounds: int, layers: int = 8, width: int = 1792) -> tuple[int, dict[str, Rates]]:
    """Add large files to a fresh registry on SQLite, in turns with copying and hashing them.

    Returns:
        Size of a file in bytes, and megabytes a second of each way.
    """
    samples: dict[str, list[Sample]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = _files(folder / "files", random_adapter(layers, width, "F32"), count, "large")
        size = paths[0].stat().st_size
        for number in range(rounds + 1):
            for title, way in _WAYS.items():
                work = way(paths, folder / "out")
                os.sync()  # else a flush also waits for what the turn before left to be written or deleted
                sample = Clock().time(work)
                shutil.rmtree(folder / "out")
                if number > 0:
                    samples.setdefault(title, []).append(sample)
    amount = count * size / 1e6
    return size, {title: Rates(amount=amount, rounds=tuple(found)) for title, found in samples.items()}


def _ours_at_once(paths: Sequence[Path], target: Path) -> Callable[[], None]:
    registry = Registry.open(target)
    return lambda: _add_many(registry, paths)


def _ours_unflushed(paths: Sequence[Path], target: Path) -> Callable[[], None]:
    """Leave out the flush of files and folders, which the first peer leaves out, too; the database keeps its own."""
    work = _ours_at_once(paths, target)

    def unflushed() -> None:
        with mock.patch("os.fsync", return_value=None), mock.patch("os.posix_fadvise", return_value=None):
            work()

    return unflushed


def _ours_one_by_one(paths: Sequence[Path], target: Path) -> Callable[[], None]:
    registry = Registry.open(target)

    def work() -> None:
        for path in paths:
            registry.add(path, name=path.stem)

    return work


def _copy(paths: Sequence[Path], target: Path, *, is_durable: bool) -> Callable[[], None]:
    target.mkdir()

    def work() -> None:
        for path in paths:
            copy = target / path.name
            shutil.copyfile(path, copy)
            with copy.open("rb") as stream:
                hashlib.file_digest(stream, "sha256")
                if is_durable:
                    os.fsync(stream.fileno())

    return work


_WAYS: dict[str, Callable[[Sequence[Path], Path], Callable[[], None]]] = {
    "copy + sha256": lambda paths, target: _copy(paths, target, is_durable=False),
    "copy + sha256 + fsync": lambda paths, target: _copy(paths, target, is_durable=True),
    "ours, one by one": _ours_one_by_one,
    "ours, many at once": _ours_at_once,
    "ours, no flush of files": _ours_unflushed,
}
