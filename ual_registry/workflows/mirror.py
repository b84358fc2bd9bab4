"""Keep many adapters at both ends: all of an owner on the Hub, or what a query holds for, in either direction.

What was settled is in a journal in the registry's folder, so that whoever is killed goes on where that was, and whoever
is done asks for the lists alone. No more is asked than the Hub says that may be.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ual_registry.errors import HubError, StorageError
from ual_registry.hub.address import PREFIX, is_repository
from ual_registry.hub.client import Hub
from ual_registry.hub.limits import Limits
from ual_registry.registry.place import parse_database_url, place_of, registry_home
from ual_registry.registry.registry import Registry
from ual_registry.workflows.mirror_crew import Crew
from ual_registry.workflows.mirror_journal import Journal, Settled, Task
from ual_registry.workflows.mirror_pull import PullSide
from ual_registry.workflows.mirror_push import PushSide
from ual_registry.workflows.mirror_report import MirrorReport, is_ending
from ual_registry.workflows.push_order import PushOptions

__all__ = ["DEFAULT_JOBS", "MirrorOptions", "MirrorState", "mirror_here", "mirror_there", "owner_of", "silent"]

DEFAULT_JOBS = 4
"""Repositories that are worked on at once, unless told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorState:
    """How far a mirror is.

    Attributes:
        done: Repositories or revisions that are settled.
        total: How many there are.
        received_bytes: Bytes that came from the Hub.
        wait_s: For how many seconds the Hub asks to wait now; 0 where it does not.
    """

    done: int
    total: int
    received_bytes: int
    wait_s: int


def silent(_: MirrorState) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorOptions:
    """How to mirror.

    Attributes:
        jobs: Repositories that are worked on at once.
        again: Whether to try again what was refused for what it holds.
        base: The base model of PEFT pairs that are pulled; by default the one that their configuration names.
        push: How each revision is pushed.
        progress: Is told how far the mirror is, some times a second.
    """

    jobs: int = DEFAULT_JOBS
    again: bool = False
    base: str | None = None
    push: PushOptions = field(default_factory=lambda: PushOptions(retry=True))
    progress: Callable[[MirrorState], None] = silent


class _Job(Protocol):
    @property
    def size(self) -> int: ...


J = TypeVar("J", bound=_Job)


class _Side(Protocol[J]):
    notes: list[str]

    @property
    def received_bytes(self) -> int: ...

    def plan(self) -> tuple[list[Settled], list[J]]: ...

    def do(self, job: J) -> list[Settled]: ...


def owner_of(text: str) -> str | None:
    """Return the owner in ``hf:OWNER``; ``None`` where ``text`` is a query.

    >>> owner_of("hf:team"), owner_of("base:llama rank>=16")
    ('team', None)

    Raises:
        HubError: It begins with ``hf:``, and no owner may be called so (``hub-address``).
    """
    if not text.startswith(PREFIX):
        return None
    owner = text.removeprefix(PREFIX)
    if is_repository(owner, owned=False) and "/" not in owner and "." not in owner:
        return owner
    raise HubError(
        f"cannot mirror {text[:100]!r}: expected hf:OWNER, a user or an organisation of the Hub",
        context={"address": text[:100]},
        code="hub-address",
        hint="'ual pull' and 'ual push' take one repository",
    )


def mirror_here(source: str, *, into: str | Path | None = None, options: MirrorOptions | None = None) -> MirrorReport:
    """Pull every adapter of an owner, or every one that a query holds for, into a registry.

    Args:
        source: ``hf:OWNER``, or a query.
        into: Folder of the registry; by default the one of the environment.
        options: How.

    Raises:
        HubError: The repositories cannot be listed.
        RegistryConflictError: Another process does the same now.
        UALError: The source is not well formed, or the registry cannot be used.
    """
    options = options or MirrorOptions()
    owner = owner_of(source)
    if into is not None and Path(into).is_file():
        raise StorageError(
            f"cannot use {into}: is a file, expected the folder of a registry",
            context={"path": str(into)},
            hint="one adapter is pulled by 'ual pull REPO', and written to a file by 'ual get NAME -o FILE.air'",
        )
    registry = Registry.open(into)

    def side(journal: Journal) -> PullSide:
        return PullSide(
            owner=owner,
            query=source,
            registry=registry,
            journal=journal,
            base=options.base,
            again=options.again,
        )

    return _mirror(_End("pull", source, _label(into), _home(into)), side, options)


def mirror_there(query: str, owner: str, *, options: MirrorOptions | None = None) -> MirrorReport:
    """Push every revision that a query holds for to repositories of an owner.

    Args:
        query: A query of the registry of the environment.
        owner: Whose repositories, as ``hf:OWNER``.
        options: How.

    Raises:
        HubError: The repositories cannot be listed.
        RegistryConflictError: Another process does the same now.
        UALError: A word is not well formed, or the registry cannot be used.
    """
    options = options or MirrorOptions()
    if query.startswith(PREFIX):
        raise HubError(
            f"cannot push {query[:100]!r}: it is on the Hub, expected a query of the registry",
            context={"address": query[:100]},
            code="hub-address",
            hint=f"'ual mirror {query[:100]}' pulls it; to push, name what is here, such as 'owner:search-team'",
        )
    organisation = owner_of(owner if owner.startswith(PREFIX) else f"{PREFIX}{owner}")
    assert organisation is not None  # it begins with the prefix
    registry = Registry.open()

    def side(journal: Journal) -> PushSide:
        return PushSide(query, organisation, options.push, registry=registry, journal=journal)

    return _mirror(_End("push", query, f"{PREFIX}{organisation}", _home(None)), side, options)


def _home(into: str | Path | None) -> Path:
    return Path(into) if into is not None else registry_home()


def _label(into: str | Path | None) -> str:
    """Name a registry by its database, without its password."""
    url = parse_database_url(place_of(into).database_url)
    return url.render_as_string(hide_password=True) if url.host else str(Path(url.database or "").parent)


@dataclass(frozen=True, slots=True)
class _End:
    """From where to where a mirror goes, and the folder of the registry that keeps its journal."""

    direction: str
    source: str
    target: str
    home: Path


def _mirror(end: _End, make: Callable[[Journal], _Side[J]], options: MirrorOptions) -> MirrorReport:
    endpoint, limits = Hub.open().endpoint, Limits()
    task = Task(endpoint=endpoint, source=end.source, target=end.target)
    with Journal.open(end.home / "mirrors", task) as journal, limits.installed():
        side = make(journal)
        settled, jobs = side.plan()
        work = _Work(side, limits, options, total=len(settled) + sum(job.size for job in jobs))
        left, is_interrupted = work.run(settled, jobs)
    return MirrorReport(
        direction=end.direction,
        endpoint=endpoint,
        source=end.source,
        target=end.target,
        settled=tuple(sorted(settled, key=lambda item: item.item)),
        left=left,
        is_interrupted=is_interrupted,
        notes=tuple(side.notes),
    )


class _Work:
    """The jobs of one mirror on their way, and what is told of them meanwhile."""

    def __init__(self, side: _Side[Any], limits: Limits, options: MirrorOptions, *, total: int) -> None:
        self._side = side
        self._limits = limits
        self._options = options
        self._total = total
        self._crew: Crew[Any, list[Settled]] = Crew(self._do, size=options.jobs, end=limits.stop)

    def run(self, settled: list[Settled], jobs: Sequence[_Job]) -> tuple[int, bool]:
        """Do the jobs, and add what becomes of them to ``settled``.

        Returns:
            How many things were left undone, and whether that is because of an interrupt.
        """
        ends = False
        try:
            self._tell(len(settled))
            for result in self._crew.run(jobs):
                settled += result or ()
                ends = ends or _ends(result or ())
                self._tell(len(settled))
        except KeyboardInterrupt:  # between two results
            if self._crew.is_interrupted:
                raise
        left = self._total - len(settled)
        return left, bool(left) and not ends

    def _do(self, job: Any) -> list[Settled]:
        """Do a job; where it ends all, whoever did it stops the others before it takes the next."""
        result = self._side.do(job)
        if _ends(result):
            self._crew.stop()
        return result

    def _tell(self, done: int) -> None:
        until = self._limits.waits_until
        wait_s = 0 if until is None else max(0, math.ceil(until - time.monotonic()))
        state = MirrorState(done=done, total=self._total, received_bytes=self._side.received_bytes, wait_s=wait_s)
        self._options.progress(state)


def _ends(settled: Sequence[Settled]) -> bool:
    return any(is_ending(reason) for item in settled for reason in item.refusals)
