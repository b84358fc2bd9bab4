"""Which adapter answers each of some queries now: routed or named, with its fallback, and logged."""

from __future__ import annotations

from collections.abc import Sequence

from ual_registry.dispatch.answer import BASE, REFUSE, Fallback
from ual_registry.dispatch.choice import AdapterChooser, Choice, Moment
from ual_registry.dispatch.decision import Decision
from ual_registry.dispatch.domains import Domains
from ual_registry.dispatch.log import DecisionLog, log_time
from ual_registry.errors import RouteError

__all__ = ["LoggedChooser", "check_counts"]


def check_counts(queries: Sequence[str], **given: Sequence[object] | None) -> None:
    """Refuse what is given for more or fewer queries than there are; ``None`` is for all of them.

    Raises:
        RouteError: So it is.
    """
    for name, each in given.items():
        if each is not None and len(each) != len(queries):
            raise RouteError(
                f"{name}: expected one for each of {len(queries)} queries, got {len(each)}",
                code="queries",
                context={"argument": name},
            )


class LoggedChooser:
    """Chooses what answers queries, and keeps the decisions; threads may share it.

    Args:
        domains: Says which domain a query belongs to.
        chooser: Says which adapter a domain has now.
        log: Where decisions are logged.
    """

    def __init__(self, domains: Domains, chooser: AdapterChooser, log: DecisionLog | None) -> None:
        self._domains, self._chooser, self._log = domains, chooser, log

    def choose(self, queries: Sequence[str], adapters: Sequence[str | None] | None, fallback: Fallback) -> list[Choice]:
        """Return what answers every query now.

        Args:
            queries: The queries.
            adapters: The reference of the adapter to answer with, for every query; ``None`` among them is routed.
            fallback: What answers where no adapter does.

        Raises:
            UALError: As ``Domains.route``, ``Moment.forced`` and ``Moment.choice``.
        """
        forced = list(adapters) if adapters is not None else [None] * len(queries)
        moment, references = self._chooser.moment(), self._domains.references
        free = [query for query, reference in zip(queries, forced, strict=True) if reference is None]
        routed = iter(self._domains.route(free) if free else ())
        decisions = [
            moment.settled(next(routed), references) if reference is None else moment.forced(reference)
            for reference in forced
        ]
        return [
            self._logged(query, decision, moment, fallback) for query, decision in zip(queries, decisions, strict=True)
        ]

    def _logged(self, query: str, decision: Decision, moment: Moment, fallback: Fallback) -> Choice:
        now = log_time()
        try:
            choice = moment.choice(query, decision, fallback)
        except RouteError:
            if self._log is not None:
                self._log.write(query, decision, at=now, answered_by=REFUSE)
            raise
        if self._log is not None:
            self._log.write(query, decision, at=now, answered_by=choice.adapter or BASE)
        return choice
