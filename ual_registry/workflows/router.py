"""Routers: train one, open one, change one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.digest import Digest
from ual_registry.errors import FormatError, RegistryNotFoundError, RouteError
from ual_registry.registry.reference import check_name
from ual_registry.storage import check_target
from ual_registry.workflows.encoders import cached, find_encoder, matching_encoder
from ual_registry.workflows.extras import need_dispatch
from ual_registry.workflows.reading import read_adapter
from ual_registry.workflows.references import locate

if TYPE_CHECKING:
    from ual_registry.dispatch.fit import DomainExamples, FitReport
    from ual_registry.dispatch.queries import Query, RouterSettings
    from ual_registry.dispatch.router import Router

__all__ = [
    "RouterOrder",
    "TrainedRouter",
    "add_router_domain",
    "open_router",
    "remove_router_domain",
    "train_router",
]

Say = Callable[[str], None]

_NO_DOMAIN = "(no domain)"
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterOrder:
    """What a router is trained from.

    Attributes:
        config: File of settings; its domains alone are routed to.
        data: Files of examples, JSONL with ``text`` and ``domain``.
        encoder: Folder or Hub id of the encoder; the settings' where absent.
        output: Where the router file goes; nowhere where absent.
        name: The name that it is registered as; not registered where absent.
        keeps_examples: Whether the file keeps texts of examples, which decisions can show.
        seed: Seeds clusters and parts.
        force: Whether to replace what stands at ``output``.
    """

    config: Path
    data: tuple[Path, ...] = ()
    encoder: str | None = None
    output: Path | None = None
    name: str | None = None
    keeps_examples: bool = False
    seed: int = 0
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRouter:
    """A trained router.

    Attributes:
        router: The router.
        report: What was seen on held-out examples.
        digest: Digest of its file, where it was written.
        revision: ``name@number``, where it was registered.
        unused: Domains of the data that the settings do not name, with their numbers of examples.
    """

    router: Router
    report: FitReport
    digest: Digest | None = None
    revision: str | None = None
    unused: Mapping[str, int] = field(default_factory=dict)


def _silent(_: str) -> None:
    pass


def train_router(order: RouterOrder, *, say: Say = _silent) -> TrainedRouter:
    """Train a router and write or register it.

    Args:
        order: From what, and where to.
        say: Is told what is being done.

    Raises:
        RouteError: Settings or examples are wrong, or the target cannot be reached.
        RegistryError: An adapter is not in the registry.
        UALError: A file cannot be read or written.
    """
    need_dispatch("routers")
    from ual_registry.dispatch.calibration import Target  # noqa: PLC0415  # loads scikit-learn
    from ual_registry.dispatch.fit import check_domains, fit_router  # noqa: PLC0415  # loads scikit-learn
    from ual_registry.dispatch.queries import read_queries, read_settings  # noqa: PLC0415

    _check_place(order.output, order.name, force=order.force)
    settings = read_settings(order.config)
    queries = [query for path in order.data for query in read_queries(path)]
    domains = _domains(settings, queries)
    try:
        check_domains(domains)  # before an encoder is loaded, which takes seconds
    except RouteError as error:
        _tell_unused(error, _unused(settings, queries))
        raise
    encoder = cached(find_encoder(order.encoder or settings.encoder))
    texts = [text for domain in domains for text in domain.texts]
    say(f"encoding {len(texts)} examples with {encoder.identity.id}")
    embeddings = encoder.encode([*texts, *(domain.label for domain in domains)])
    say("fitting")
    kept = settings.kept if settings.precision is not None else settings.kept or Target().kept
    fitted = fit_router(
        domains,
        embeddings[: len(texts)],
        encoder.identity,
        names=embeddings[len(texts) :],
        sentence_width=encoder.sentence_width,
        target=Target(kept=kept, precision=settings.precision),
        has_own_thresholds=settings.has_own_thresholds,
        keeps_examples=order.keeps_examples,
        name=order.name or settings.name,
        seed=order.seed,
    )
    digest, revision = _stored(fitted.router, order.output, order.name)
    return TrainedRouter(
        router=fitted.router,
        report=fitted.report,
        digest=digest,
        revision=revision,
        unused=_unused(settings, queries),
    )


def _domains(settings: RouterSettings, queries: Sequence[Query]) -> list[DomainExamples]:
    from ual_registry.dispatch.fit import DomainExamples  # noqa: PLC0415  # loads scikit-learn

    found: dict[str, list[str]] = {name: list(own.examples) for name, own in settings.domains.items()}
    for query in queries:
        if query.domain in found:
            found[query.domain].append(query.text)
    return [
        DomainExamples(
            name=name,
            texts=tuple(dict.fromkeys(texts)),
            adapter=_adapter_digest(name, settings.domains[name].adapter),
            min_probability=settings.domains[name].min_probability,
        )
        for name, texts in found.items()
    ]


def _adapter_digest(domain: str, reference: str | None) -> str | None:
    """Return the digest of a domain's adapter, which the registry must hold, so that it is there when a query comes."""
    if reference is None:
        return None
    path = locate(reference)
    digest = str(Digest.of_file(path))
    from ual_registry.registry.registry import Registry  # noqa: PLC0415  # brings a database library along

    try:
        held = Registry.open().find(digest)
    except RegistryNotFoundError as error:
        raise RegistryNotFoundError(
            f"domain {domain!r}: the registry does not hold the adapter {reference}",
            context={"domain": domain, "adapter": reference, "digest": digest},
            hint=f"register it with 'ual add {reference} --name NAME'",
        ) from error
    with read_adapter(held):  # refuses a router
        return digest


def _unused(settings: RouterSettings, queries: Sequence[Query]) -> dict[str, int]:
    found: dict[str, int] = {}
    for query in queries:
        name = query.domain or _NO_DOMAIN
        if name not in settings.domains:
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def _tell_unused(error: RouteError, unused: Mapping[str, int]) -> None:
    """Name the domains of the data that the settings do not, which are likely the same ones in other words."""
    names = [name for name in unused if name != _NO_DOMAIN]
    if error.problem_code == "examples" and names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        error.hint = f"the data has examples of {', '.join(names[:_SHOWN])}{more}, which the settings do not name"


def _check_place(output: Path | None, name: str | None, *, force: bool) -> None:
    """Check where a router goes before any work is done for it."""
    if output is not None:
        check_target(output, force=force)
    if name is not None:
        check_name(name)


def _stored(router: Router, output: Path | None, name: str | None) -> tuple[Digest | None, str | None]:
    """Write a router and register it, as far as either is wanted."""
    if name is None:
        return (router.save(output) if output is not None else None), None
    from ual_registry.registry.registry import Registry  # noqa: PLC0415  # brings a database library along

    registry = Registry.open()
    with registry.blobs.private_folder() as folder:
        digest = router.save(folder / "router.air")
        if output is not None:
            router.save(output)
        added = registry.add(folder / "router.air", name=name)
    return digest, f"{added.name}@{added.number}"


def open_router(reference: str | Path) -> Router:
    """Read a router by its path or its reference in the registry.

    Raises:
        FormatError: The file is not a legal router.
        RouteError: Its tensors do not fit each other.
        RegistryError: The registry does not hold it.
    """
    need_dispatch("routers")
    from ual_registry.dispatch.router import Router  # noqa: PLC0415  # loads scikit-learn

    path = locate(str(reference))
    try:
        return Router.load(path)
    except (FormatError, RouteError) as error:
        error.reword(error.message.replace(str(path), str(reference)))  # not a place within the registry
        raise


def add_router_domain(
    reference: str | Path,
    name: str,
    data: Sequence[Path],
    *,
    adapter: str | None = None,
    encoder: str | Path | None = None,
    output: Path | None = None,
    register_as: str | None = None,
    force: bool = False,
) -> Router:
    """Give a router one more domain, without the examples of the others.

    Args:
        reference: The router.
        name: The new domain.
        data: Files of queries; those of this domain are its examples.
        adapter: Reference of the adapter that answers it.
        encoder: The encoder's folder; that of the router by its id where absent.
        output: Where the new router file goes.
        register_as: The name that it is registered as.
        force: Whether to replace what stands at ``output``.

    Raises:
        RouteError: The domain is there already or has too few examples.
        UALError: As ``open_router`` and ``find_encoder``.
    """
    _check_place(output, register_as, force=force)
    router = open_router(reference)
    from ual_registry.dispatch.change import add_domain  # noqa: PLC0415  # loads scikit-learn
    from ual_registry.dispatch.fit import DomainExamples  # noqa: PLC0415  # loads scikit-learn
    from ual_registry.dispatch.queries import read_queries  # noqa: PLC0415

    texts = [query.text for path in data for query in read_queries(path) if query.domain == name]
    domain = DomainExamples(name=name, texts=tuple(dict.fromkeys(texts)), adapter=_adapter_digest(name, adapter))
    changed = add_domain(router, domain, matching_encoder(router, encoder).encode(list(domain.texts)))
    _stored(changed, output, register_as)
    return changed


def remove_router_domain(
    reference: str | Path,
    name: str,
    *,
    output: Path | None = None,
    register_as: str | None = None,
    force: bool = False,
) -> Router:
    """Take a domain from a router.

    Raises:
        RouteError: There is no such domain, or no other.
        UALError: As ``open_router``.
    """
    _check_place(output, register_as, force=force)
    router = open_router(reference)
    from ual_registry.dispatch.change import remove_domain  # noqa: PLC0415  # loads scikit-learn

    changed = remove_domain(router, name)
    _stored(changed, output, register_as)
    return changed
