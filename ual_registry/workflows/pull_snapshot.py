"""Pull adapters of a repository at one commit: what is missing is fetched side by side, and added as it comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ual_registry.ahead import done_ahead
from ual_registry.errors import (
    BinderError,
    FormatError,
    HubAccessError,
    HubUnavailableError,
    RegistryUnavailableError,
    StorageError,
    UALError,
)
from ual_registry.hub.address import HubAddress
from ual_registry.hub.choice import Choice, RepositoryAdapter, choose
from ual_registry.hub.client import Hub
from ual_registry.hub.model import Snapshot
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.progress import Progress, silent
from ual_registry.registry.records import AddOutcome, HubPlace
from ual_registry.registry.registry import Registry
from ual_registry.workflows.pull_fetch import Fetched, fetch
from ual_registry.workflows.pull_known import find_held, keep, local_base
from ual_registry.workflows.pull_model import Pulled, PullFailure, PullOptions, PullResult
from ual_registry.workflows.pull_names import adapter_names

__all__ = ["pull_snapshot"]

_THREADS = 4
_AHEAD = 8
"""How many adapters are fetched side by side, and how many wait on the disk for the registry."""

_FATAL = (HubUnavailableError, StorageError, RegistryUnavailableError)
"""What will not be better for the next adapter."""


def pull_snapshot(
    registry: Registry, hub: Hub, snapshot: Snapshot, options: PullOptions, *, progress: Progress = silent
) -> PullResult:
    """Pull adapters of a repository at a commit; see ``pull``.

    Args:
        registry: Where to.
        hub: The Hub.
        snapshot: The repository at one commit.
        options: What of it, and as what.
        progress: Is told how many bytes came, and of how many.
    """
    choice = choose(snapshot, files=options.files, subfolder=options.subfolder, all_of_them=options.all_of_them)
    work = _Pull(registry, hub, snapshot, options, choice=choice, progress=progress)
    work.run()
    if len(choice.adapters) == 1 and work.failed:
        raise next(iter(work.failed.values()))
    return PullResult(
        repository=snapshot.repository,
        commit=snapshot.commit,
        asked_hub=True,
        adapters=tuple(work.pulled[path] for path in sorted(work.pulled)),
        failed=tuple(PullFailure(path=path, error=work.failed[path]) for path in sorted(work.failed)),
        notes=(*(f"left out {text}" for text in choice.left_out), *work.notes),
    )


class _Pull:
    """One pull from a snapshot.

    Attributes:
        pulled: What is in the registry now, by path.
        failed: What could not be pulled, by path.
        notes: What whoever pulls should know.
    """

    def __init__(
        self,
        registry: Registry,
        hub: Hub,
        snapshot: Snapshot,
        options: PullOptions,
        *,
        choice: Choice,
        progress: Progress,
    ) -> None:
        self.pulled: dict[str, Pulled] = {}
        self.failed: dict[str, UALError] = {}
        self.notes: list[str] = []
        self._registry = registry
        self._hub = hub
        self._snapshot = snapshot
        self._options = options
        self._adapters = choice.adapters
        is_only = len(choice.adapters) == 1 and (choice.is_whole or options.name is not None)
        paths = [adapter.path for adapter in choice.adapters]
        self._names = adapter_names(snapshot.repository, paths, is_only=is_only, name=options.name)
        self._progress = progress

    def run(self) -> None:
        """Pull every adapter; what the registry holds is not fetched."""
        for adapter in self._adapters:
            self._order(adapter).check()
        missing = [adapter for adapter in self._adapters if not self._is_kept(adapter)]
        if not missing:
            return
        with self._registry.blobs.private_folder() as folder:
            fetching = _Fetching(
                self._hub, self._snapshot, missing, folder, base=self._options.base, progress=self._progress
            )
            by_path: dict[str, RepositoryAdapter] = {}
            for outcome in self._registry.add_many(self._jobs(fetching, by_path)):
                self._settle(by_path[outcome.path], outcome)

    def _order(self, adapter: RepositoryAdapter) -> AddOrder:
        snapshot = self._snapshot
        place = HubPlace(repository=snapshot.repository, commit=snapshot.commit, path=adapter.path)
        return self._options.order(self._names[adapter.path], place)

    def _is_kept(self, adapter: RepositoryAdapter) -> bool:
        base = self._options.base
        if adapter.form == "peft" and base is not None and local_base(base) is None:
            return False  # which config that is, the Hub would have to tell
        digest = find_held(self._registry, self._snapshot, adapter, base=local_base(base))
        if digest is None:
            return False
        result = keep(self._registry, digest, self._order(adapter))
        self.pulled[adapter.path] = Pulled.of(adapter.path, adapter.form, result, is_fetched=False)
        return True

    def _jobs(self, fetching: _Fetching, by_path: dict[str, RepositoryAdapter]) -> Iterator[tuple[Path, AddOrder]]:
        for adapter, fetched in fetching:
            if isinstance(fetched, UALError):
                self.failed[adapter.path] = fetched
                continue
            self.notes += fetched.notes
            by_path[str(fetched.path)] = adapter
            yield fetched.path, replace(self._order(adapter), is_moved=True, intake=fetched.intake)

    def _settle(self, adapter: RepositoryAdapter, outcome: AddOutcome) -> None:
        Path(outcome.path).unlink(missing_ok=True)
        if outcome.result is None:
            assert outcome.error is not None  # one of the two is there
            self.failed[adapter.path] = _named(outcome.error, Path(outcome.path), self._snapshot, adapter)
        else:
            self.pulled[adapter.path] = Pulled.of(adapter.path, adapter.form, outcome.result, is_fetched=True)


class _Fetching:
    """Fetches adapters a few ahead of what was asked for, and yields them in their order."""

    def __init__(
        self,
        hub: Hub,
        snapshot: Snapshot,
        adapters: Sequence[RepositoryAdapter],
        folder: Path,
        *,
        base: str | None,
        progress: Progress,
    ) -> None:
        self._hub = hub
        self._snapshot = snapshot
        self._adapters = adapters
        self._folder = folder
        self._base = base
        self._progress = progress
        self._lock = threading.Lock()
        self._done = 0
        self._total = sum(adapter.size_bytes for adapter in adapters)
        self._fatal: UALError | None = None

    def __iter__(self) -> Iterator[tuple[RepositoryAdapter, Fetched | UALError]]:
        if len(self._adapters) == 1:  # in this thread, which alone can be interrupted
            yield self._adapters[0], self._try(self._adapters[0], self._folder / "0")
        else:
            folders = ((adapter, self._folder / str(number)) for number, adapter in enumerate(self._adapters))
            threads = min(_THREADS, len(self._adapters))
            fetched = done_ahead(lambda job: self._try(*job), folders, threads=threads, ahead=_AHEAD)
            yield from ((adapter, result) for (adapter, _), result in fetched)

    def _try(self, adapter: RepositoryAdapter, folder: Path) -> Fetched | UALError:
        if self._fatal is not None:
            return self._fatal
        try:
            is_alone = len(self._adapters) == 1
            return fetch(
                self._hub, self._snapshot, adapter, folder, base=self._base, is_alone=is_alone, on_bytes=self._count
            )
        except UALError as error:
            if self._is_fatal(error):
                self._fatal = error
            return _named(error, folder / adapter.path, self._snapshot, adapter)

    def _is_fatal(self, error: UALError) -> bool:
        """Tell what will not be better for the next adapter; to be kept from one base model says nothing of others."""
        if isinstance(error, HubAccessError):
            return error.context.get("repository") == self._snapshot.repository
        return isinstance(error, _FATAL)

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self._done += size_bytes
            self._progress("bytes", min(self._done, self._total), self._total)


def _named(error: UALError, path: Path, snapshot: Snapshot, adapter: RepositoryAdapter) -> UALError:
    """Let an error speak of the file on the Hub, not of its copy here that is gone."""
    address = str(HubAddress(snapshot.repository, snapshot.commit, adapter.path))
    message = error.message.replace(str(path), address)
    if isinstance(error, (FormatError, BinderError)) and address not in message:
        message = f"{address}: {message}"
    error.reword(message)
    if error.context.get("path") in (str(path), str(path.parent)):
        error.context["path"] = address
    return error
