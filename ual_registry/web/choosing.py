"""Choosing for a proxy: a dispatcher that routes and leaves answering to the server behind."""

from __future__ import annotations

from ual_registry.dispatch.decision import Decision
from ual_registry.dispatch.dispatcher import LoRADispatcher
from ual_registry.dispatch.log import DecisionLog, log_time
from ual_registry.registry.registry import Registry
from ual_registry.web.engine import ServedModel
from ual_registry.web.listing import named_digest, named_model, registered_models

__all__ = ["DispatchChooser"]


class DispatchChooser:
    """Chooses with a dispatcher; threads share it.

    Args:
        dispatcher: A dispatcher without a base model; closed with the chooser.
        registry: Its registry.
        log: Where decisions are logged.
    """

    def __init__(self, dispatcher: LoRADispatcher, registry: Registry, log: DecisionLog | None = None) -> None:
        self._dispatcher, self._registry, self._log = dispatcher, registry, log

    def route(self, query: str) -> Decision:
        """Say which adapter answers a query now.

        Raises:
            UALError: As ``LoRADispatcher.route_query``.
        """
        return self._dispatcher.route_query(query)

    def digest(self, reference: str) -> str | None:
        """Return the digest of an adapter that a client named; ``None`` where it is none of the registry.

        Raises:
            RegistryUnavailableError: The registry cannot be asked.
        """
        return named_digest(self._registry, reference)

    def log(self, query: str, decision: Decision, answered_by: str) -> None:
        """Log what became of a query.

        Raises:
            StorageError: The log cannot be written.
        """
        if self._log is not None:
            self._log.write(query, decision, at=log_time(), answered_by=answered_by)

    def model(self, name: str) -> ServedModel | None:
        """Return the adapter of a reference."""
        return named_model(self._registry, name)

    def models(self) -> list[ServedModel]:
        """Return the adapters of the registry."""
        return registered_models(self._registry)

    def close(self) -> None:
        """Close the dispatcher."""
        self._dispatcher.close()
