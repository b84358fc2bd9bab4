"""The way from the registry to the Hub: every revision that a query holds for, each adapter to a place of its own.

Revisions of one adapter go one after the other, oldest first, so that the newest is what the repository holds in the
end. A revision that is in the repository by what the registry knows is not sent again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby

from ual_registry.errors import HubError, UALError
from ual_registry.hub.choice import is_air
from ual_registry.hub.client import Hub
from ual_registry.hub.limits import patiently
from ual_registry.registry.registry import Registry
from ual_registry.registry.views import RevisionRecord, on_all_pages
from ual_registry.workflows.mirror_journal import Journal, Mirrored, Settled
from ual_registry.workflows.mirror_names import place_there
from ual_registry.workflows.mirror_pull import list_all
from ual_registry.workflows.mirror_report import is_lasting, refusal, tool_mark
from ual_registry.workflows.push import PushOutcome, PushResult, push
from ual_registry.workflows.push_order import PushOptions

__all__ = ["PushJob", "PushSide"]

_PAGE = 1000

Push = Callable[..., PushResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class PushJob:
    """Revisions that are not in their repository yet, the oldest of each adapter first.

    Attributes:
        repository: Where they go.
        revisions: Each with the folder in the repository that it goes to; ``None`` for none.
    """

    repository: str
    revisions: tuple[tuple[RevisionRecord, str | None], ...]

    @property
    def size(self) -> int:
        """How many things are to be done."""
        return len(self.revisions)


class PushSide:
    """What is to be pushed, and how.

    Args:
        query: Which revisions; the search language of the registry.
        organisation: Whose repositories.
        options: How each is pushed.
        registry: Where the revisions are.
        journal: What was done before.
        push: What pushes one.

    Attributes:
        notes: What whoever mirrors should know of the plan.
        received_bytes: Bytes that came from the Hub; a push brings none.
    """

    received_bytes = 0

    def __init__(
        self,
        query: str,
        organisation: str,
        options: PushOptions,
        *,
        registry: Registry,
        journal: Journal,
        push: Push = push,
    ) -> None:
        self._query = query
        self._organisation = organisation
        self._options = options
        self._registry = registry
        self._journal = journal
        self._push = push
        self.notes: list[str] = []

    def plan(self) -> tuple[list[Settled], list[PushJob]]:
        """Return what is settled without asking about it, and what is to be done.

        Raises:
            QueryError: The query is not well formed.
            HubError: The repositories cannot be listed.
        """
        there = {item.repository for item in list_all(self._organisation)}
        settled: list[Settled] = []
        waiting: dict[str, list[tuple[RevisionRecord, str | None]]] = {}
        for name, records in groupby(self._revisions(), key=lambda record: record.name):
            try:
                repository, folder = place_there(name, self._organisation)
            except HubError as error:
                settled += [_refused(record, f"{self._organisation}/{name}", error) for record in records]
                continue
            known = self._known(repository, folder) if repository in there else {}
            for record in records:
                if record.digest in known:
                    settled.append(_unchanged(record, repository, known[record.digest]))
                else:
                    waiting.setdefault(repository, []).append((record, folder))
        return settled, [PushJob(repository=key, revisions=tuple(found)) for key, found in waiting.items()]

    def _revisions(self) -> list[RevisionRecord]:
        found = on_all_pages(lambda after: self._registry.search(self._query, limit=_PAGE, after=after))
        return sorted(found, key=lambda record: (record.name, record.number))

    def _known(self, repository: str, folder: str | None) -> dict[str, tuple[str, str]]:
        """Return the commit and path of each artifact that is in a folder of a repository as an AIR file."""
        links = [link for link in self._registry.linked(repository) if is_air(link.path)]
        return {
            link.digest: (link.commit, link.path) for link in links if link.path.rpartition("/")[0] == (folder or "")
        }

    def do(self, job: PushJob) -> list[Settled]:
        """Push revisions one by one; where one fails that might succeed later, those of its adapter wait for it."""
        done: list[Settled] = []
        failed: dict[str, RevisionRecord] = {}
        for record, folder in job.revisions:
            if record.name in failed:
                done.append(_waits(record, failed[record.name], job.repository))
                continue
            item, is_final = self._do(record, job.repository, folder)
            self._journal.write(item)
            done.append(item)
            if not is_final:
                failed[record.name] = record
        return done

    def _do(self, record: RevisionRecord, repository: str, folder: str | None) -> tuple[Settled, bool]:
        options = replace(self._options, subfolder=folder)
        try:
            hub = Hub.open(wait_limit_s=0)
            result = patiently(lambda: self._push(_item(record), repository, options, hub=hub))
        except UALError as error:
            return _refused(record, repository, error), is_lasting(error)
        path = next(file.path for file in result.files if is_air(file.path))
        is_new = result.outcome is PushOutcome.PUSHED
        return _settled(record, repository, result.commit, path, is_new=is_new), True


def _item(record: RevisionRecord) -> str:
    return f"{record.name}@{record.number}"


def _settled(record: RevisionRecord, repository: str, commit: str | None, path: str, *, is_new: bool) -> Settled:
    found = Mirrored(name=record.name, number=record.number, digest=record.digest, path=path, is_new=is_new)
    return Settled(
        item=_item(record),
        repository=repository,
        commit=commit,
        outcome="new" if is_new else "unchanged",
        mirrored=(found,),
        tool=tool_mark(),
    )


def _unchanged(record: RevisionRecord, repository: str, place: tuple[str, str]) -> Settled:
    commit, path = place
    return _settled(record, repository, commit, path, is_new=False)


def _refused(record: RevisionRecord, repository: str, error: UALError) -> Settled:
    return Settled(
        item=_item(record),
        repository=repository,
        commit=None,
        outcome="refused",
        refusals=(refusal(error),),
        tool=tool_mark(),
    )


def _waits(record: RevisionRecord, first: RevisionRecord, repository: str) -> Settled:
    error = HubError(
        f"{_item(record)}: waits for {_item(first)}, which could not be pushed",
        context={"repository": repository},
        code="mirror-order",
        hint="the same command again pushes what is left",
    )
    return _refused(record, repository, error)
