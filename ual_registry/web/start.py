"""From an order to a running server: everything is opened and the address taken before the first word is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI

from ual_registry.dispatch.log import DecisionLog
from ual_registry.errors import RouteError
from ual_registry.web.app import make_app
from ual_registry.web.choosing import DispatchChooser
from ual_registry.web.dispatching import DispatchEngine
from ual_registry.web.frame import LOG
from ual_registry.web.limits import Limits
from ual_registry.web.proxy import make_proxy
from ual_registry.web.serve import listen, run_server
from ual_registry.web.upstream import Supply, Upstream
from ual_registry.workflows.domain_adapters import domains_without_adapter
from ual_registry.workflows.serve import ServeOrder, open_routing, open_served, vllm_export

__all__ = ["Behind", "serve"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """The server behind a proxy.

    Attributes:
        url: Its address, without ``/v1``.
        supply: How adapters come to it.
        folder: Where adapters are written for it.
        base_name: The name under which it serves the base model.
        names: Names of its models by domain, where they are not those of the domains.
    """

    url: str
    supply: Supply = Supply.NONE
    folder: Path | None = None
    base_name: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)


def serve(order: ServeOrder, *, host: str, port: int, limits: Limits, behind: Behind | None = None, say: Say) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        order: What answers.
        host: The address of this machine to listen on.
        port: The port; 0 takes a free one.
        limits: How much is taken on.
        behind: The server behind, which makes this one its proxy.
        say: Is told where the server listens, once it does.

    Raises:
        RouteError: The address cannot be had, or the order contradicts itself.
        KeyboardInterrupt: SIGINT stopped it.
        UALError: As ``open_served``.
    """
    own = listen(host, port)
    try:
        app = _answering(order, limits) if behind is None else _proxy(order, limits, behind)
        shown = f"[{host}]" if ":" in host else host
        say(f"serving on http://{shown}:{own.getsockname()[1]}/v1")
        run_server(app, own, grace_s=limits.grace_s)
    finally:
        own.close()


def _answering(order: ServeOrder, limits: Limits) -> FastAPI:
    LOG.info("loading %s", order.base)
    served = open_served(order)
    router = served.dispatcher.router
    idle = domains_without_adapter(router, order.adapters) if router is not None else []
    if idle:
        LOG.warning("no adapter for %s: the fallback there is %s", ", ".join(idle), order.fallback)
    return make_app(DispatchEngine(served.dispatcher, served.registry), limits)


def _proxy(order: ServeOrder, limits: Limits, behind: Behind) -> FastAPI:
    if not behind.url.startswith(("http://", "https://")):
        raise RouteError(f"{behind.url}: expected an address that begins with http:// or https://", code="upstream")
    if behind.supply is not Supply.NONE and behind.folder is None:
        raise RouteError(
            "adapters are to be brought to the server behind, and no folder is given to write them to",
            code="upstream",
            hint="give --folder DIR, a folder that it sees too",
        )
    served = open_routing(order)
    upstream = Upstream(
        behind.url.removesuffix("/").removesuffix("/v1"),
        supply=behind.supply,
        folder=behind.folder,
        export=vllm_export(served.dispatcher.adapter_file, behind.base_name),
        names=behind.names,
        base=behind.base_name,
    )
    log = DecisionLog(order.log) if order.log is not None else None
    return make_proxy(
        DispatchChooser(served.dispatcher, served.registry, log), upstream, limits, fallback=order.fallback
    )
