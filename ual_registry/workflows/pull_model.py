"""What to pull from the Hub, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ual_registry.errors import UALError
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.records import AddResult, AliasMove, HubPlace

__all__ = ["PullFailure", "PullOptions", "PullResult", "Pulled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """What to pull of a repository, and as what.

    Attributes:
        name: The adapter; by default after the repository. Of several, what comes before their own part.
        files: Paths in the repository, each an AIR file or the tensors of a PEFT pair.
        subfolder: Folder in the repository.
        all_of_them: Whether to pull every adapter that there is.
        base: The base model of PEFT pairs; by default the one that their configuration names.
        aliases: Aliases to point at the revision.
        tags: Tags to set on the revision; the value is empty where there is none.
    """

    name: str | None = None
    files: tuple[str, ...] = ()
    subfolder: str | None = None
    all_of_them: bool = False
    base: str | None = None
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def order(self, name: str | None, place: HubPlace | None) -> AddOrder:
        """Return what an adapter is added as."""
        return AddOrder(name=name, aliases=self.aliases, tags=self.tags, pulled_from=place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """An adapter that is in the registry now.

    Attributes:
        path: Its path in the repository: the AIR file, or the tensors of the PEFT pair.
        form: ``air`` or ``peft``.
        is_fetched: Whether its bytes came from the Hub just now.
        name: The adapter's name in the registry.
        number: The revision.
        digest: Digest of the AIR file.
        is_new: Whether the revision was made now.
        moves: The aliases that were set.
    """

    path: str
    form: str
    is_fetched: bool
    name: str
    number: int
    digest: str
    is_new: bool
    moves: tuple[AliasMove, ...] = ()

    @classmethod
    def of(cls, path: str, form: str, result: AddResult, *, is_fetched: bool) -> Pulled:
        """Join where an adapter came from and what it was added as."""
        return cls(
            path=path,
            form=form,
            is_fetched=is_fetched,
            name=result.name,
            number=result.number,
            digest=result.digest,
            is_new=result.is_new,
            moves=result.moves,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PullFailure:
    """An adapter of several that could not be pulled.

    Attributes:
        path: Its path in the repository.
        error: Why.
    """

    path: str
    error: UALError


@dataclass(frozen=True, slots=True, kw_only=True)
class PullResult:
    """What a pull did.

    Attributes:
        repository: The repository.
        commit: The commit.
        asked_hub: Whether the Hub was asked; otherwise the registry alone told everything.
        adapters: What is in the registry now, by path.
        failed: What could not be pulled, by path; never the only one.
        notes: What whoever pulls should know.
    """

    repository: str
    commit: str
    asked_hub: bool
    adapters: tuple[Pulled, ...]
    failed: tuple[PullFailure, ...] = ()
    notes: tuple[str, ...] = ()
