"""The way from the Hub to the registry: every adapter of an owner, or those that a query holds for.

A repository whose commit the journal knows is not asked about again, as long as the registry holds what came of it. One
that was refused for what it holds is not either, until its commit changes, or what this program can read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ual_registry.errors import RegistryNotFoundError, UALError
from ual_registry.hub.choice import RepositoryAdapter, choose
from ual_registry.hub.client import Hub
from ual_registry.hub.limits import patiently
from ual_registry.hub.model import ListedModel, Snapshot
from ual_registry.registry.details import MAX_PAGE
from ual_registry.registry.progress import Progress
from ual_registry.registry.registry import Registry
from ual_registry.workflows.hub_search import HubSearch, search_hub
from ual_registry.workflows.mirror_journal import Journal, Mirrored, Settled
from ual_registry.workflows.mirror_names import take_name
from ual_registry.workflows.mirror_report import NO_ADAPTER, is_lasting, refusal, tool_mark
from ual_registry.workflows.pull_model import Pulled, PullOptions
from ual_registry.workflows.pull_snapshot import pull_snapshot

__all__ = ["PullJob", "PullSide", "list_all"]

_LIST_LIMIT = 100_000  # repositories of one owner
_MOST_SEARCHED = 1000  # repositories whose headers are read for a query


@dataclass(frozen=True, slots=True, kw_only=True)
class PullJob:
    """A repository that is to be looked at.

    Attributes:
        repository: Its id.
        commit: Its tip, where the list tells it.
        paths: The adapters that are meant, each with whether it is the only one; empty for all that there are.
    """

    repository: str
    commit: str | None
    paths: Mapping[str, bool] = field(default_factory=dict)

    @property
    def item(self) -> str:
        """What it is called in the journal."""
        return " ".join((self.repository, *sorted(self.paths)))

    @property
    def size(self) -> int:
        """How many things are to be done."""
        return 1


class PullSide:
    """What is to be pulled, and how.

    Args:
        owner: Whose adapters; ``None`` where a query says which.
        query: The query; the search language.
        base: The base model of PEFT pairs; by default the one that their configuration names.
        again: Whether to try again what was refused for good.
        registry: Where to.
        journal: What was done before.

    Attributes:
        notes: What whoever mirrors should know of the plan.
    """

    def __init__(
        self,
        *,
        owner: str | None,
        query: str,
        registry: Registry,
        journal: Journal,
        base: str | None = None,
        again: bool = False,
    ) -> None:
        self._owner = owner
        self._query = query
        self._registry = registry
        self._journal = journal
        self._base = base
        self._again = again
        self._received = _Counter()
        self.notes: list[str] = []

    @property
    def received_bytes(self) -> int:
        """Bytes that came from the Hub so far."""
        return self._received.total

    def plan(self) -> tuple[list[Settled], list[PullJob]]:
        """Return what is settled without asking about it, and what is to be done.

        Raises:
            QueryError: The query is not well formed, or asks for what only a registry knows.
            HubError: The repositories cannot be listed.
        """
        settled: list[Settled] = []
        jobs: list[PullJob] = []
        for job in self._listed() if self._owner is not None else self._found():
            known = self._known(job)
            if known is None:
                jobs.append(job)
            else:
                settled.append(known)
        return settled, jobs

    def _listed(self) -> list[PullJob]:
        found = list_all(str(self._owner))
        if not found:
            self.notes.append(f"hf:{self._owner} has no repository that you can see; check the name")
        return [PullJob(repository=item.repository, commit=item.commit) for item in found]

    def _found(self) -> list[PullJob]:
        """Search the Hub; headers are kept by commit, so that the same search again asks for the lists alone."""
        found = search_hub(self._query, limit=MAX_PAGE, limit_repositories=_MOST_SEARCHED)
        self.notes += _search_notes(found)
        jobs: dict[str, PullJob] = {}
        for hit in found.hits:
            job = jobs.get(hit.repository, PullJob(repository=hit.repository, commit=hit.commit))
            paths = {**job.paths, hit.header.path: hit.header.name == hit.repository}
            jobs[hit.repository] = replace(job, paths=paths)
        return list(jobs.values())

    def _known(self, job: PullJob) -> Settled | None:
        """Return what the journal knows of a repository, where that still holds."""
        known = self._journal.settled(job.item)
        if known is None or job.commit is None or known.commit != job.commit:
            return None
        is_refused = bool(known.refusals) or known.outcome == "no-adapter"
        if is_refused and (self._again or not known.is_lasting or known.tool != tool_mark()):
            return None
        if not all(self._is_held(item) for item in known.mirrored):
            return None
        outcome = "unchanged" if known.outcome == "new" else known.outcome
        return replace(known, outcome=outcome, mirrored=tuple(replace(item, is_new=False) for item in known.mirrored))

    def _is_held(self, item: Mirrored) -> bool:
        try:
            return (item.name, item.number) in self._registry.held_as(item.digest)
        except RegistryNotFoundError:
            return False

    def do(self, job: PullJob) -> list[Settled]:
        """Pull the adapters of a repository."""
        settled = self._pull(job)
        self._journal.write(settled)
        return [settled]

    def _pull(self, job: PullJob) -> Settled:
        hub = Hub.open(wait_limit_s=0)
        commit = job.commit
        try:
            snapshot = patiently(lambda: hub.pin(job.repository, job.commit))
            commit = snapshot.commit
            paths = job.paths or _paths(choose(snapshot, all_of_them=True).adapters)
        except UALError as error:
            return _settled(job, commit, [], [(None, error)])
        found: list[Mirrored] = []
        failed: list[tuple[str | None, UALError]] = []
        names: dict[str, str] = {}
        for path, is_only in paths.items():
            try:
                name = take_name(job.repository, path, names, is_only=is_only)
                names[name] = path
                found += self._pull_one(hub, snapshot, path, name)
            except UALError as error:
                failed.append((path, error))
        return _settled(job, commit, found, failed)

    def _pull_one(self, hub: Hub, snapshot: Snapshot, path: str, name: str) -> list[Mirrored]:
        options = PullOptions(name=name, files=(path,), base=self._base)
        tell = self._received.one()
        result = patiently(lambda: pull_snapshot(self._registry, hub, snapshot, options, progress=tell))
        return [_mirrored(item) for item in result.adapters]


def list_all(owner: str) -> list[ListedModel]:
    """List the repositories of an owner.

    Raises:
        HubError: The Hub refuses, or cannot be reached.
    """
    hub = Hub.open(wait_limit_s=0)
    return patiently(lambda: list(hub.list_models(author=owner, limit=_LIST_LIMIT)))


def _paths(adapters: Sequence[RepositoryAdapter]) -> dict[str, bool]:
    return {adapter.path: len(adapters) == 1 for adapter in adapters}


def _mirrored(item: Pulled) -> Mirrored:
    return Mirrored(name=item.name, number=item.number, digest=item.digest, path=item.path, is_new=item.is_new)


def _settled(
    job: PullJob, commit: str | None, found: Sequence[Mirrored], failed: Sequence[tuple[str | None, UALError]]
) -> Settled:
    outcome = "new" if any(item.is_new for item in found) else "unchanged"
    has_none = any(error.problem_code == NO_ADAPTER for _, error in failed)
    if failed:
        outcome = "no-adapter" if has_none else "refused"
    return Settled(
        item=job.item,
        repository=job.repository,
        commit=commit,
        outcome=outcome,
        mirrored=tuple(found),
        refusals=() if has_none else tuple(refusal(error, path=path) for path, error in failed),
        is_lasting=all(is_lasting(error) for _, error in failed),
        tool=tool_mark(),
    )


def _search_notes(found: HubSearch) -> Iterator[str]:
    """Say what may be missing."""
    if not found.is_complete or found.looked_at < found.listed:
        yield f"looked at {found.looked_at} of {found.listed} or more repositories; a narrower query reaches the others"
    if found.unread:
        first = found.unread[0]
        yield (
            f"{len(found.unread)} could not be read, so that the query may mean them too; the first: "
            f"{first.repository}: {first.reason}"
        )


class _Counter:
    """Adds up the bytes of many downloads, each of which tells its own sum."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def one(self) -> Progress:
        """Return what one download tells its sum to."""
        known = 0

        def tell(_: str, done: int, __: int | None) -> None:
            nonlocal known
            with self._lock:
                self.total += max(0, done - known)
                known = max(known, done)

        return tell
