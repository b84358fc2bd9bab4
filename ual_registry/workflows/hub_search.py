"""Search the adapters of the Hub: tags narrow the repositories, headers are read, and a query decides over them.

What was read is kept in an index of its own in the user's cache folder, by repository and commit, so that nothing is
read twice; without the Hub the index answers alone. The query means what it means in a registry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import platformdirs

from ual_registry.errors import HubError, HubUnavailableError
from ual_registry.hub.client import Hub
from ual_registry.hub.model import ListedModel
from ual_registry.registry.header_index import HeaderIndex, IndexedHeader, IndexedRepository
from ual_registry.registry.schema import SCHEMA_REVISION
from ual_registry.registry.views import RevisionRecord
from ual_registry.workflows.hub_candidates import find_candidates
from ual_registry.workflows.hub_headers import Bases, read_repository
from ual_registry.workflows.hub_query import check_askable

__all__ = ["HubHit", "HubSearch", "Unread", "index_folder", "search_hub"]

_THREADS = 4
"""Repositories that are looked at at once."""

_FORMAT = 1
"""Raised when headers are read to other rows; older indexes are left alone."""

_AWAY = {"hub-offline", "hub-unavailable", "hub-timeout"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubHit:
    """An adapter that the query holds for.

    Attributes:
        repository: Its repository.
        commit: The commit at which it was read.
        is_private: Whether others cannot see the repository.
        gated: ``auto`` or ``manual`` where access must be asked for, else ``None``.
        header: Its file.
        record: What the header says.
    """

    repository: str
    commit: str
    is_private: bool
    gated: str | None
    header: IndexedHeader
    record: RevisionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """What was not read, so that it may or may not be meant.

    Attributes:
        repository: The repository.
        path: The file; empty where the repository itself could not be looked at.
        code: Why, as a stable code.
        reason: The same in words.
    """

    repository: str
    path: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSearch:
    """What a search found.

    Attributes:
        hits: What the query holds for, in its order.
        has_more: Whether there are more than were asked for.
        looked_at: Repositories whose headers were read now or before.
        known: How many of them were known from before.
        listed: Repositories that the tags leave.
        is_complete: Whether the list of these was read to its end.
        unread: What could not be read.
        offline: Why the Hub was not asked; ``None`` where it was.
        oldest: When the oldest of what answered was looked at, UTC; ``None`` where nothing did.
    """

    hits: tuple[HubHit, ...]
    has_more: bool
    looked_at: int
    known: int
    listed: int
    is_complete: bool
    unread: tuple[Unread, ...]
    offline: str | None
    oldest: str | None


def index_folder(endpoint: str) -> Path:
    """Return the folder of the index of a Hub; it may be deleted at any time.

    It is named by all that decides its tables: an index of another migration is left alone, never migrated.
    """
    hub = hashlib.sha256(endpoint.encode()).hexdigest()[:16]
    name = f"{version('ual-registry')}-{_FORMAT}-{SCHEMA_REVISION}-{hub}"
    return Path(platformdirs.user_cache_dir("ual-registry", appauthor=False)) / "hub-index" / name


def search_hub(
    query: str,
    *,
    limit: int,
    limit_repositories: int,
    author: str | None = None,
    refresh: bool = False,
) -> HubSearch:
    """Find adapters on the Hub.

    Args:
        query: The search language, without what only a registry knows.
        limit: How many hits at most.
        limit_repositories: How many repositories to look at.
        author: Whose repositories; ``None`` for everybody's.
        refresh: Whether to read again what is known.

    Raises:
        QueryError: The query is not well formed, or asks for what only a registry knows.
        HubError: The Hub refuses; or it cannot be reached, and nothing is known from before.
        RegistryUnavailableError: The index cannot be used.
        StorageError: The cache folder cannot be written.
    """
    parsed = check_askable(query)
    hub = Hub.open()
    index = HeaderIndex.open(index_folder(hub.endpoint))
    try:
        candidates = find_candidates(hub, parsed, author=author, limit=limit_repositories)
    except HubUnavailableError as error:
        return _from_index(index, query, author, limit, error)
    chosen = candidates.repositories[:limit_repositories]
    known = {} if refresh else _known(index, chosen)
    fresh, failed = _read_all(hub, index, [item for item in chosen if item.repository not in known])
    found = [*known.values(), *fresh]
    hits, has_more = _hits(index, query, found, limit)
    return HubSearch(
        hits=hits,
        has_more=has_more,
        looked_at=len(found),
        known=len(known),
        listed=len(candidates.repositories),
        is_complete=candidates.is_complete,
        unread=_unread(found, failed),
        offline=None,
        oldest=_oldest(found),
    )


def _from_index(
    index: HeaderIndex, query: str, author: str | None, limit: int, error: HubUnavailableError
) -> HubSearch:
    """Answer from what is known, where the Hub is away."""
    owner = f"{author}/" if author is not None else ""
    found = [item for item in index.newest() if item.repository.startswith(owner)]
    if error.problem_code not in _AWAY or not found:
        raise error
    hits, has_more = _hits(index, query, found, limit)
    return HubSearch(
        hits=hits,
        has_more=has_more,
        looked_at=len(found),
        known=len(found),
        listed=len(found),
        is_complete=False,
        unread=_unread(found, ()),
        offline=error.message,
        oldest=_oldest(found),
    )


def _known(index: HeaderIndex, chosen: Sequence[ListedModel]) -> dict[str, IndexedRepository]:
    """Return what is known of repositories at the commits at which they are listed."""
    found = ((item, index.known(item.repository, item.commit)) for item in chosen if item.commit is not None)
    return {item.repository: repository for item, repository in found if repository is not None}


def _read_all(
    hub: Hub, index: HeaderIndex, wanted: Sequence[ListedModel]
) -> tuple[list[IndexedRepository], list[Unread]]:
    """Read the headers of repositories, a few at once, and keep each as it comes."""
    found: list[IndexedRepository] = []
    failed: list[Unread] = []
    bases = Bases(hub)
    pool = ThreadPoolExecutor(_THREADS)
    try:
        tasks = {pool.submit(read_repository, hub, item, bases): item for item in wanted}
        for task in as_completed(tasks):
            try:
                reading = task.result()
            except HubError as error:
                failed.append(_failed(tasks[task].repository, error))
                continue
            found.append(index.keep(reading.found, reading.descriptions, is_remembered=reading.is_whole))
    finally:
        pool.shutdown(cancel_futures=True)
    return found, failed


def _failed(repository: str, error: HubError) -> Unread:
    return Unread(repository=repository, path="", code=error.problem_code, reason=error.message)


def _hits(
    index: HeaderIndex, query: str, found: Sequence[IndexedRepository], limit: int
) -> tuple[tuple[HubHit, ...], bool]:
    wanted = {header.key: (item, header) for item in found for header in item.headers if header.artifact is not None}
    records, has_more = index.search(query, wanted.keys(), limit=limit)
    return tuple(_hit(*wanted[record.name, record.digest], record) for record in records), has_more


def _hit(item: IndexedRepository, header: IndexedHeader, record: RevisionRecord) -> HubHit:
    return HubHit(
        repository=item.repository,
        commit=item.commit,
        is_private=item.is_private,
        gated=item.gated,
        header=header,
        record=record,
    )


def _unread(found: Sequence[IndexedRepository], failed: Sequence[Unread]) -> tuple[Unread, ...]:
    return tuple(sorted((*_unread_headers(found), *failed), key=lambda item: (item.repository, item.path)))


def _unread_headers(found: Sequence[IndexedRepository]) -> Iterator[Unread]:
    for item in found:
        for header in item.headers:
            if header.artifact is None:
                yield Unread(
                    repository=item.repository, path=header.path, code=header.code or "", reason=header.reason or ""
                )


def _oldest(found: Sequence[IndexedRepository]) -> str | None:
    return min((item.looked_at for item in found), default=None)
