"""Answer queries, each with the adapter of its domain."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.errors import TransferError
from ual_registry.workflows.bases import find_base
from ual_registry.workflows.domain_adapters import check_domains
from ual_registry.workflows.encoders import matching_encoder
from ual_registry.workflows.extras import need_dispatch, need_transformers
from ual_registry.workflows.router import open_router
from ual_registry.workflows.transfer_bases import find_target

if TYPE_CHECKING:
    from ual_registry.dispatch.answer import Answer, AnswerPiece
    from ual_registry.dispatch.dispatcher import LoRADispatcher
    from ual_registry.dispatch.generate import Settings

__all__ = ["DispatchOrder", "dispatch", "dispatch_stream", "open_dispatcher"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchOrder:
    """How queries are answered.

    Attributes:
        router: The router, its path or its reference.
        base: Folder of the base model, or its repository where the Hub's cache has its weights.
        encoder: Folder or Hub id of the router's encoder; by its own id where absent.
        adapters: References of adapters by domain, which come before those of the router.
        adapter: Reference of the adapter that answers every query; nothing is routed then.
        fallback: What answers where no adapter does: ``base``, ``refuse`` or the reference of an adapter.
        max_tokens: Tokens of an answer at most.
        temperature: 0 takes the likeliest token each time.
        top_p: Share of the probability that is drawn from.
        seed: Seeds what is drawn.
        stop: Texts that end an answer and are left out of it.
        log: File that decisions are appended to.
        is_plain: Whether queries are given as they are, even where the base has a chat template.
        is_any_base: Whether adapters may run that were made for another base model.
    """

    router: str
    base: str
    encoder: str | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    adapter: str | None = None
    fallback: str = "base"
    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    log: Path | None = None
    is_plain: bool = False
    is_any_base: bool = False


def _silent(_: str) -> None:
    pass


def dispatch(query: str, order: DispatchOrder, *, say: Say = _silent) -> Answer:
    """Answer a query with the adapter of its domain.

    Args:
        query: The query.
        order: How.
        say: Is told what is being done.

    Raises:
        MissingExtraError: torch, transformers or what routers need is not installed.
        RouteError: Nothing answers, or a setting means nothing.
        UALError: A file cannot be read, or an adapter does not fit or act.
    """
    _need()
    settings = _settings(order)
    with open_dispatcher(order, say=say) as dispatcher:
        return dispatcher.generate(query, adapter=order.adapter, settings=settings, is_plain=order.is_plain)


@contextlib.contextmanager
def dispatch_stream(query: str, order: DispatchOrder, *, say: Say = _silent) -> Iterator[Iterator[AnswerPiece]]:
    """Answer a query piece by piece; the context gives the pieces. Otherwise as ``dispatch``."""
    _need()
    settings = _settings(order)
    with open_dispatcher(order, say=say) as dispatcher:
        yield dispatcher.stream(query, adapter=order.adapter, settings=settings, is_plain=order.is_plain)


def open_dispatcher(order: DispatchOrder, *, say: Say = _silent) -> LoRADispatcher:
    """Load what answers queries; close it.

    Raises:
        UALError: As ``dispatch``.
    """
    _need()
    from ual_registry.dispatch.dispatcher import LoRADispatcher  # noqa: PLC0415  # loads torch
    from ual_registry.dispatch.log import DecisionLog  # noqa: PLC0415  # loads scipy
    from ual_registry.models.loaded import load_base_model  # noqa: PLC0415  # loads torch

    router = open_router(order.router)
    check_domains(router, order.adapters)
    encoder = matching_encoder(router, order.encoder) if order.adapter is None else None
    folder = _folder(order.base)
    log = DecisionLog(order.log) if order.log is not None else None
    say(f"loading {order.base}")
    return LoRADispatcher(
        router,
        load_base_model(folder),
        encoder=encoder,
        adapters=order.adapters,
        fallback=order.fallback,
        log=log,
        is_any_base=order.is_any_base,
    )


def _need() -> None:
    need_dispatch("dispatch")
    need_transformers("dispatch")


def _settings(order: DispatchOrder) -> Settings:
    from ual_registry.dispatch.generate import Settings  # noqa: PLC0415  # loads torch

    return Settings(
        max_tokens=order.max_tokens,
        temperature=order.temperature,
        top_p=order.top_p,
        seed=order.seed,
        stop=order.stop,
    )


def _folder(base: str) -> Path:
    if Path(base).is_dir():
        return Path(base)
    place = find_target(base, find_base(base))
    if place.folder is None:
        raise TransferError(str(place.lacking), code="no-weights", hint="give the folder of the base model")
    return place.folder
