"""What a registry knows of the Hub: which of its artifacts were pushed where, and which came from where."""

from __future__ import annotations

from ual_registry.digest import Digest
from ual_registry.registry import links
from ual_registry.registry.queries import find_digest
from ual_registry.registry.records import HubLink, HubPlace
from ual_registry.registry.reference import Reference, check_name
from ual_registry.registry.session import Database
from ual_registry.registry.tombstones import revisions_of
from ual_registry.registry.transaction import transact

__all__ = ["RegistryLinks"]


class RegistryLinks:
    """The methods of a registry about its links to the Hub."""

    database: Database

    def link(
        self, digest: Digest | str, *, repository: str, commit: str, path: str, direction: str, name: str = ""
    ) -> None:
        """Note that an artifact was pushed to the Hub or pulled from it; the same again is noted once.

        Args:
            digest: The artifact.
            repository: The repository on the Hub, such as ``org/name``.
            commit: The commit, 40 hexadecimal digits.
            path: The file in the repository.
            direction: ``push`` or ``pull``.
            name: The adapter that it was done for, where there is one; for the audit log.

        Raises:
            RegistryNotFoundError: There is no such artifact.
            RegistryError: A text is too long, or the direction is none.
        """
        place = HubPlace(repository=repository, commit=commit, path=path)
        wanted, adapter = str(digest), check_name(name) if name else ""
        transact(
            self.database,
            lambda session: links.record_hub_link(session, wanted, place, direction=direction, name=adapter),
        )

    def links(self, reference: str) -> tuple[HubLink, ...]:
        """Return where an artifact was published and where it came from, oldest first.

        Raises:
            RegistryError: The reference is not well formed, or names nothing here.
        """
        parsed = Reference.parse(reference)
        with self.database.session() as session:
            return links.hub_links(session, find_digest(session.connection(), parsed))

    def held_as(self, digest: Digest | str) -> tuple[tuple[str, int], ...]:
        """Return name and number of every revision that holds an artifact, sorted; none where it is not here."""
        with self.database.session() as session:
            return tuple(revisions_of(session, str(digest)))

    def linked(
        self, repository: str, *, commit: str | None = None, path: str | None = None, direction: str | None = None
    ) -> tuple[HubLink, ...]:
        """Return what is here of a Hub repository, oldest first; artifacts whose bytes were deleted are left out.

        Args:
            repository: The repository, such as ``org/name``.
            commit: One commit of it; ``None`` for all.
            path: One file in it; ``None`` for all.
            direction: ``push`` or ``pull``; ``None`` for both.
        """
        with self.database.session() as session:
            return links.links_to(session, repository, commit=commit, path=path, direction=direction)
