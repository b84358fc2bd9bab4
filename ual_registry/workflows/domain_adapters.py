"""The adapters that a user names for the domains of a router, looked at before anybody asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ual_registry.errors import RouteError

if TYPE_CHECKING:
    from ual_registry.dispatch.router import Router

__all__ = ["check_domains", "domains_without_adapter"]

_MOST_SHOWN = 20


def check_domains(router: Router, adapters: Mapping[str, str]) -> None:
    """Refuse an adapter for a domain that the router does not have: no query would ever reach it.

    Args:
        router: The router.
        adapters: References by domain.

    Raises:
        RouteError: So it is.
    """
    unknown = next((name for name in adapters if name not in router.domains), None)
    if unknown is None:
        return
    shown = ", ".join(router.names[:_MOST_SHOWN]) + (", ..." if len(router.names) > _MOST_SHOWN else "")
    raise RouteError(
        f"the router has no domain {unknown!r}",
        code="domains",
        context={"domain": unknown},
        hint=f"its domains: {shown}",
    )


def domains_without_adapter(router: Router, adapters: Mapping[str, str]) -> list[str]:
    """Return the domains that no adapter answers, neither one of the router nor one of ``adapters``."""
    return [name for name, domain in router.domains.items() if domain.adapter is None and name not in adapters]
