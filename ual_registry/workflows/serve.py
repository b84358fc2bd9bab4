"""Open what a server answers with: a dispatcher that generates, or one that routes for a server behind."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.errors import StorageError, TransferError
from ual_registry.registry.registry import Registry
from ual_registry.workflows.bases import find_base
from ual_registry.workflows.domain_adapters import check_domains
from ual_registry.workflows.encoders import matching_encoder
from ual_registry.workflows.engines import convert_to_vllm
from ual_registry.workflows.extras import need_dispatch, need_transformers, need_web
from ual_registry.workflows.router import open_router
from ual_registry.workflows.transfer_bases import find_target

if TYPE_CHECKING:
    from ual_registry.dispatch.dispatcher import LoRADispatcher
    from ual_registry.models.loaded import LoadedBase

__all__ = ["ServeOrder", "Served", "open_routing", "open_served", "vllm_export"]

CACHE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOrder:
    """What a server answers with.

    Attributes:
        router: The router, its path or its reference; without one, clients name an adapter.
        base: Folder of the base model, or its repository where the Hub's cache has its weights.
        encoder: Folder or Hub id of the router's encoder; by its own id where absent.
        adapters: References of adapters by domain, which come before those of the router.
        fallback: What answers where no adapter does: ``base``, ``refuse`` or the reference of an adapter.
        log: File that decisions are appended to, with their queries.
        cache_bytes: Memory that adapters may take.
        is_any_base: Whether adapters may run that were made for another base model.
    """

    router: str | None = None
    base: str | None = None
    encoder: str | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    fallback: str = "base"
    log: Path | None = None
    cache_bytes: int = CACHE_BYTES
    is_any_base: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a server answers with.

    Attributes:
        dispatcher: The dispatcher.
        base: Its base model; ``None`` where it only routes.
        registry: Its registry.
    """

    dispatcher: LoRADispatcher
    base: LoadedBase | None
    registry: Registry


def open_served(order: ServeOrder) -> Served:
    """Load a dispatcher that generates.

    Raises:
        MissingExtraError: What servers, dispatchers or models need is not installed.
        TransferError: The weights of the base model are not at hand.
        RouteError: The router has no domain of a name that an adapter is given for.
        StorageError: The log cannot be written.
        UALError: A file cannot be read, or an adapter that was named is not in the registry or does not fit.
    """
    need_web("a server")
    need_dispatch("a server")
    need_transformers("a server")
    from ual_registry.models.loaded import load_base_model  # noqa: PLC0415  # loads torch

    folder = _folder(str(order.base))
    return _opened(order, lambda: load_base_model(folder))


def open_routing(order: ServeOrder) -> Served:
    """Load a dispatcher that routes; errors as ``open_served``."""
    need_web("a proxy")
    need_dispatch("a proxy")
    return _opened(order, lambda: None)


def vllm_export(find: Callable[[str], Path], served_name: str | None = None) -> Callable[[str, Path], None]:
    """Return what writes the adapter of a digest to a folder that vLLM loads; it is there as a whole or not at all.

    Threads and processes may write one digest at once: whoever is second takes the folder of the first.

    Args:
        find: Returns the file of a digest.
        served_name: The name under which vLLM serves the base model.
    """

    def export(digest: str, folder: Path) -> None:
        draft = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.part")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            convert_to_vllm(find(digest), draft, served_name=served_name)
            draft.replace(folder)
        except OSError as error:
            if not folder.is_dir():  # otherwise somebody else wrote the same bytes
                raise StorageError.of("write", folder, error) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    return export


def _opened(order: ServeOrder, load: Callable[[], LoadedBase | None]) -> Served:
    from ual_registry.dispatch.answer import BASE, REFUSE  # noqa: PLC0415  # loads torch
    from ual_registry.dispatch.dispatcher import LoRADispatcher  # noqa: PLC0415  # likewise
    from ual_registry.dispatch.log import DecisionLog  # noqa: PLC0415  # loads scipy

    registry = Registry.open()
    # What takes long comes last, so that what is wrong with anything else is told at once.
    router = open_router(order.router) if order.router is not None else None
    if router is not None:
        check_domains(router, order.adapters)
    log = DecisionLog(order.log) if order.log is not None else None
    encoder = matching_encoder(router, order.encoder) if router is not None else None
    base = load()
    dispatcher = LoRADispatcher(
        router,
        base,
        registry,
        encoder=encoder,
        adapters=order.adapters,
        fallback=order.fallback,
        cache_bytes=order.cache_bytes,
        log=log,
        is_any_base=order.is_any_base,
    )
    # A proxy's fallback is a model of the server behind, and its adapters may all be there.
    if base is not None:
        named = [] if order.fallback in (BASE, REFUSE) else [order.fallback]
        for reference in (*named, *order.adapters.values()):
            dispatcher.digest(reference)
    return Served(dispatcher=dispatcher, base=base, registry=registry)


def _folder(base: str) -> Path:
    if Path(base).is_dir():
        return Path(base)
    place = find_target(base, find_base(base))
    if place.folder is None:
        raise TransferError(str(place.lacking), code="no-weights", hint="give the folder of the base model")
    return place.folder
