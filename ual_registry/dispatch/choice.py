"""From a decision to the adapter that answers now: references are resolved, bases compared, fallbacks taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ual_registry.air.model import BaseModel
from ual_registry.dispatch.answer import BASE, REFUSE, Fallback, decided, refusal
from ual_registry.dispatch.decision import Decision, Reason
from ual_registry.dispatch.sources import AdapterSource, other_base
from ual_registry.errors import BaseMismatchError, RegistryNotFoundError, StorageError

__all__ = ["AdapterChooser", "Choice", "Moment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What answers a query.

    Attributes:
        decision: The decision, with the digest of its adapter.
        adapter: Digest of what answers; ``None`` for the base model.
        is_fallback: Whether that is the fallback.
    """

    decision: Decision
    adapter: str | None
    is_fallback: bool


class AdapterChooser:
    """Chooses adapters for one base model.

    Args:
        source: Where adapters are.
        base: The base model; ``None`` compares with none.
    """

    def __init__(self, source: AdapterSource, base: BaseModel | None) -> None:
        self._source, self._base = source, base
        self._others: dict[str, str | None] = {}

    def moment(self) -> Moment:
        """Return what resolves references: each once, so that a batch sees one state of the registry."""
        return Moment(self._source.resolve, self._other_base)

    def _other_base(self, digest: str) -> str | None:
        """Say in what an adapter belongs to another base model; bytes never change, so neither does that."""
        if self._base is None:
            return None
        if digest not in self._others:
            with self._source.open(digest) as adapter:
                self._others[digest] = other_base(adapter.manifest.base_model, self._base)
        return self._others[digest]


class Moment:
    """Chooses with one state of the registry; see ``AdapterChooser.moment``.

    Args:
        resolve: Returns the digest of a reference.
        other: Says in what the adapter of a digest belongs to another base model; ``None`` where it does not.
    """

    def __init__(self, resolve: Callable[[str], str], other: Callable[[str], str | None]) -> None:
        self._resolve, self._other = resolve, other
        self._known: dict[str, str] = {}

    def digest(self, reference: str) -> str:
        """Return the digest of what a reference means.

        Raises:
            UALError: As ``AdapterSource.resolve``.
        """
        if reference not in self._known:
            self._known[reference] = self._resolve(reference)
        return self._known[reference]

    def fitting(self, reference: str) -> str:
        """Return the digest of an adapter that somebody named.

        Raises:
            BaseMismatchError: It is for another base model.
            UALError: As ``AdapterSource.resolve`` and ``AdapterSource.open``.
        """
        digest = self.digest(reference)
        found = self._other(digest)
        if found is not None:
            raise BaseMismatchError(
                f"{reference}: {found}",
                code="other-base",
                context={"reference": reference, "digest": digest},
                hint="give an adapter of this base model, or transfer it: 'ual transfer'",
            )
        return digest

    def forced(self, reference: str) -> Decision:
        """Return the decision that a caller took; errors as ``fitting``, which say the decision."""
        decision = Decision(reason=Reason.FORCED, domain=None, adapter=self.digest(reference))
        with decided([decision]):
            self.fitting(reference)
        return decision

    def settled(self, decision: Decision, references: Mapping[str, str]) -> Decision:
        """Return a router's decision with the adapter that its domain has now.

        Args:
            decision: The decision.
            references: References of domains, which come before the router's adapters.

        Raises:
            UALError: An adapter that is there cannot be read; the error says the decision.
        """
        if decision.reason not in (Reason.OK, Reason.NO_ADAPTER) or decision.domain is None:
            return decision
        reference = references.get(decision.domain) or decision.adapter
        if reference is None:
            return replace(decision, reason=Reason.NO_ADAPTER)
        try:
            digest = self.digest(reference)
            with decided([replace(decision, reason=Reason.OK, adapter=digest)]):
                found = self._other(digest)
        except (RegistryNotFoundError, StorageError) as error:
            return replace(decision, reason=Reason.NO_ADAPTER, adapter=None, detail=error.message)
        if found is not None:
            return replace(decision, reason=Reason.INCOMPATIBLE, adapter=None, detail=f"{reference}: {found}")
        return replace(decision, reason=Reason.OK, adapter=digest)

    def choice(self, query: str, decision: Decision, fallback: Fallback) -> Choice:
        """Return what answers a query.

        Raises:
            RouteError: The fallback is to refuse.
            UALError: The adapter of the fallback cannot be had; as ``fitting``.
        """
        if decision.adapter is not None:
            return Choice(decision=decision, adapter=decision.adapter, is_fallback=False)
        found = fallback if isinstance(fallback, str) else fallback(query, decision)
        if found == REFUSE:
            raise refusal(query, decision)
        adapter = None if found in (None, BASE) else self.fitting(str(found))
        return Choice(decision=decision, adapter=adapter, is_fallback=True)
