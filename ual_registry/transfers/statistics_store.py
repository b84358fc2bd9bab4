"""Statistics of pairs of modules on disk: kept once for two base models and a text, and used by every adapter.

A shelf belongs to one pair of base models, one text and one way of reading it. It holds a file for every pair of sites,
with the digest of its bytes beside it; what was damaged is not believed, and is collected again. What a run has
collected so far stands beside them under a name of its own, so that a run that was cut off goes on where it was.
Tensors are stored as safetensors, all else as JSON.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from ual_registry.digest import Digest
from ual_registry.errors import NumericalError, ShapeError, StorageError
from ual_registry.projection.moments import PairMoments
from ual_registry.storage import atomic_file, read_file
from ual_registry.transfers.sites import SitePair

__all__ = ["PairStatistics", "Progress", "Shelf", "StatisticsStore"]

VERSION = 1
"""Of the stored form; another one is another shelf."""

_MAX_JSON_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """Moments of pairs of rows.

    Attributes:
        fit: Of the passages that maps are fitted on.
        held_out: Of the others, on which the maps are judged.
    """

    fit: PairMoments
    held_out: PairMoments

    @classmethod
    def empty(cls, source_width: int, target_width: int, device: torch.device | str = "cpu") -> PairStatistics:
        """Return the moments of no rows."""
        made = (PairMoments(source_width, target_width, device=device) for _ in range(2))
        return cls(*made)

    def to(self, device: torch.device) -> PairStatistics:
        """Return the same moments on a device: those of a file come on the CPU."""
        return PairStatistics(self.fit.to(device), self.held_out.to(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run came.

    Attributes:
        passages: How many passages are in the moments.
        moments: By pair; empty where there are none yet.
    """

    passages: int = 0
    moments: Mapping[SitePair, PairStatistics] = field(default_factory=dict)


def _usual_folder() -> Path:
    import platformdirs  # noqa: PLC0415  # only where no folder is given

    return Path(platformdirs.user_cache_dir("ual-registry", appauthor=False)) / "statistics"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsStore:
    """A folder of shelves.

    Attributes:
        folder: The folder; by default in the platform's cache of this user.
    """

    folder: Path = field(default_factory=_usual_folder)

    def shelf(self, about: Mapping[str, Any]) -> Shelf:
        """Return the shelf for what ``about`` says, in JSON values: base models, text, way of reading."""
        data = json.dumps({"version": VERSION, **about}, sort_keys=True, indent=1).encode()
        return Shelf(folder=self.folder / Digest.of_bytes(data).hex[:32], about=data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The statistics of one pair of base models on one text.

    Attributes:
        folder: Where they are.
        about: What they are of, as JSON.
    """

    folder: Path
    about: bytes

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from collecting the same at the same time; they wait.

        Raises:
            StorageError: The folder cannot be made or written.
        """
        try:
            (self.folder / "pairs").mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            lock.acquire()
        except OSError as error:
            raise StorageError.of("write", self.folder, error) from error
        try:
            if not (self.folder / "about.json").exists():
                _write(self.folder / "about.json", self.about)
            yield
        finally:
            lock.release()

    def load(self, pair: SitePair) -> PairStatistics | None:
        """Return the finished statistics of a pair; ``None`` where there are none, or none that can be believed."""
        record = _read_json(self._record(pair))
        return _read_moments(self._finished(pair), record.get("digest"))

    def has(self, pair: SitePair) -> bool:
        """Tell whether the finished statistics of a pair are there and have their digest."""
        digest = _read_json(self._record(pair)).get("digest")
        return digest is not None and digest == _digest_of(self._finished(pair))

    def progress(self, pairs: Iterable[SitePair]) -> Progress:
        """Return what an earlier run had collected of just these pairs; nothing where some of it is damaged."""
        wanted = list(pairs)
        part = self._part(wanted)
        record = _read_json(part / "progress.json")
        passages, digests = record.get("passages"), record.get("digests")
        if not isinstance(passages, int) or not isinstance(digests, dict):
            return Progress()
        found: dict[SitePair, PairStatistics] = {}
        for pair in wanted:
            moments = _read_moments(part / str(passages) / f"{pair.name}.safetensors", digests.get(pair.name))
            if moments is None:
                return Progress()
            found[pair] = moments
        return Progress(passages=passages, moments=found)

    def save_progress(self, progress: Progress) -> None:
        """Keep what was collected so far; what was kept before stays until this is complete.

        Raises:
            StorageError: The folder cannot be written.
        """
        part = self._part(progress.moments)
        place = part / str(progress.passages)
        _make_folder(place)
        digests = {
            pair.name: _write_moments(place / f"{pair.name}.safetensors", moments)
            for pair, moments in progress.moments.items()
        }
        record = {"passages": progress.passages, "digests": digests}
        _write(part / "progress.json", json.dumps(record, sort_keys=True).encode())
        for older in part.iterdir():
            if older.is_dir() and older != place:
                shutil.rmtree(older, ignore_errors=True)

    def finish(self, moments: Mapping[SitePair, PairStatistics]) -> None:
        """Keep the finished statistics of some pairs, and forget how far the run had come.

        Raises:
            StorageError: The folder cannot be written.
        """
        for pair, found in moments.items():
            digest = _write_moments(self._finished(pair), found)
            record = {"digest": digest, "source": list(_words(pair)[0]), "target": list(_words(pair)[1])}
            _write(self._record(pair), json.dumps(record, sort_keys=True).encode())
        shutil.rmtree(self._part(moments), ignore_errors=True)

    def _finished(self, pair: SitePair) -> Path:
        return self.folder / "pairs" / f"{pair.name}.safetensors"

    def _record(self, pair: SitePair) -> Path:
        return self.folder / "pairs" / f"{pair.name}.json"

    def _part(self, pairs: Iterable[SitePair]) -> Path:
        names = "\n".join(sorted(pair.name for pair in pairs))
        return self.folder / f"part-{Digest.of_bytes(names.encode()).hex[:32]}"


def _words(pair: SitePair) -> tuple[tuple[str, str], tuple[str, str]]:
    return (pair.source.path, str(pair.source.side)), (pair.target.path, str(pair.target.side))


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.of("write", path, error) from error


def _write(path: Path, data: bytes) -> None:
    with atomic_file(path, durable=True) as out:
        out.write(data)


def _write_moments(path: Path, statistics: PairStatistics) -> str:
    tensors = {
        f"{name}.{part}": tensor.cpu()
        for name, moments in (("fit", statistics.fit), ("held_out", statistics.held_out))
        for part, tensor in moments.state().items()
    }
    data = safetensors_torch.save(tensors)
    _write(path, data)
    return str(Digest.of_bytes(data))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_file(path, limit_bytes=_MAX_JSON_BYTES))
    except (StorageError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest_of(path: Path) -> str | None:
    try:
        return str(Digest.of_file(path))
    except StorageError:
        return None


def _read_moments(path: Path, digest: object) -> PairStatistics | None:
    """Return stored moments; ``None`` unless the file has the digest that was written down for it."""
    if digest is None or _digest_of(path) != digest:
        return None
    try:
        tensors = safetensors_torch.load_file(path)
        parts = [
            PairMoments.from_state(
                {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            )
            for name in ("fit", "held_out")
        ]
    except (OSError, SafetensorError, ShapeError, NumericalError):
        return None
    return PairStatistics(*parts)
