"""Routers: train one, measure one, ask one, change one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.digest import Digest
from ual_registry.errors import RouteError
from ual_registry.storage import check_target
from ual_registry.workflows.encoders import cached, find_encoder
from ual_registry.workflows.extras import need_dispatch
from ual_registry.workflows.references import locate

if TYPE_CHECKING:
    from ual_registry.dispatch.decision import Decision
    from ual_registry.dispatch.encode import TextEncoder
    from ual_registry.dispatch.fit import DomainExamples, FitReport
    from ual_registry.dispatch.measure import RouterEvaluation
    from ual_registry.dispatch.queries import Query, RouterSettings
    from ual_registry.dispatch.router import Router

__all__ = [
    "RouterOrder",
    "TrainedRouter",
    "add_router_domain",
    "evaluate_router",
    "open_router",
    "remove_router_domain",
    "route",
    "train_router",
]

Say = Callable[[str], None]


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
    from ual_registry.dispatch.fit import fit_router  # noqa: PLC0415  # loads scikit-learn
    from ual_registry.dispatch.queries import read_queries, read_settings  # noqa: PLC0415

    if order.output is not None:
        check_target(order.output, force=order.force)
    settings = read_settings(order.config)
    queries = [query for path in order.data for query in read_queries(path)]
    domains = _domains(settings, queries)
    encoder = cached(find_encoder(order.encoder or settings.encoder))
    texts = [text for domain in domains for text in domain.texts]
    say(f"encoding {len(texts)} examples with {encoder.identity.id}")
    embeddings = encoder.encode(texts)
    say("fitting")
    kept = settings.kept if settings.precision is not None else settings.kept or Target().kept
    fitted = fit_router(
        domains,
        embeddings,
        encoder.identity,
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
            adapter=_digest_of(settings.domains[name].adapter),
            min_probability=settings.domains[name].min_probability,
        )
        for name, texts in found.items()
    ]


def _digest_of(reference: str | None) -> str | None:
    return None if reference is None else str(Digest.of_file(locate(reference)))


def _unused(settings: RouterSettings, queries: Sequence[Query]) -> dict[str, int]:
    found: dict[str, int] = {}
    for query in queries:
        name = query.domain or "(no domain)"
        if name not in settings.domains:
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


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

    return Router.load(locate(str(reference)))


def route(
    router: Router | str | Path,
    texts: Sequence[str],
    *,
    encoder: TextEncoder | str | Path | None = None,
) -> list[Decision]:
    """Decide which domain and adapter answers each query.

    Args:
        router: A router, its path or its reference.
        texts: The queries; all are encoded in one go.
        encoder: The encoder or its folder; that of the router by its id where absent.

    Raises:
        RouteError: The encoder is not the router's, or a query is empty.
        UALError: As ``open_router`` and ``find_encoder``.
    """
    own = router if not isinstance(router, (str, Path)) else open_router(router)
    for place, text in enumerate(texts, start=1):
        if not text.strip():
            raise RouteError(f"query {place} is empty", code="queries")
    return own.route(_matching(own, encoder).encode(list(texts)))


def _matching(router: Router, encoder: TextEncoder | str | Path | None) -> TextEncoder:
    from ual_registry.dispatch.encode import require_encoder  # noqa: PLC0415  # loads torch

    wanted = router.manifest.encoder
    if encoder is None:
        encoder = f"{wanted.id}@{wanted.revision}" if wanted.revision else wanted.id
    found = find_encoder(encoder, dimension=wanted.dimension) if isinstance(encoder, (str, Path)) else encoder
    require_encoder(wanted, found.identity)
    return found


def evaluate_router(
    router: Router | str | Path,
    data: Sequence[Path],
    *,
    encoder: TextEncoder | str | Path | None = None,
    plot: Path | None = None,
    force: bool = False,
) -> RouterEvaluation:
    """Measure a router on queries with known domains; queries without one are what no domain should answer.

    Args:
        router: A router, its path or its reference.
        data: Files of queries, JSONL with ``text`` and ``domain``.
        encoder: The encoder or its folder; that of the router by its id where absent.
        plot: Picture of coverage and confusion to write.
        force: Whether to replace what stands there.

    Raises:
        RouteError: A domain is unknown to the router, or no query has one.
        UALError: As ``route``.
    """
    if plot is not None:
        check_target(plot, force=force)
    own = router if not isinstance(router, (str, Path)) else open_router(router)
    from ual_registry.dispatch.measure import evaluate_router as measure  # noqa: PLC0415  # loads scikit-learn
    from ual_registry.dispatch.queries import read_queries  # noqa: PLC0415

    queries = [(path, query) for path in data for query in read_queries(path)]
    for path, query in queries:
        if query.domain is not None and query.domain not in own.domains:
            raise RouteError(
                f"{path}: line {query.line}: the router has no domain {query.domain!r} (it has {', '.join(own.names)})",
                code="domains",
            )
    inside = [(query.text, query.domain) for _, query in queries if query.domain is not None]
    outside = [query.text for _, query in queries if query.domain is None]
    if not inside:
        raise RouteError("no query has a domain; there is nothing to measure accuracy on", code="queries")
    by_text = cached_or_same(_matching(own, encoder))
    found = measure(
        own,
        [text for text, _ in inside],
        [domain for _, domain in inside],
        by_text.encode([text for text, _ in inside]),
        foreign_texts=outside,
        foreign_embeddings=by_text.encode(outside),
    )
    if plot is not None:
        from ual_registry.dispatch.plots import draw_evaluation  # noqa: PLC0415  # loads matplotlib

        draw_evaluation(found, plot)
    return found


def cached_or_same(encoder: TextEncoder) -> TextEncoder:
    """Return an encoder that keeps what it said; one that is not ours is left as it is."""
    from ual_registry.dispatch.encode import SentenceEncoder  # noqa: PLC0415  # loads torch

    return cached(encoder) if isinstance(encoder, SentenceEncoder) else encoder


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
    if output is not None:
        check_target(output, force=force)
    router = open_router(reference)
    from ual_registry.dispatch.change import add_domain  # noqa: PLC0415  # loads scikit-learn
    from ual_registry.dispatch.fit import DomainExamples  # noqa: PLC0415  # loads scikit-learn
    from ual_registry.dispatch.queries import read_queries  # noqa: PLC0415

    texts = [query.text for path in data for query in read_queries(path) if query.domain == name]
    domain = DomainExamples(name=name, texts=tuple(dict.fromkeys(texts)), adapter=_digest_of(adapter))
    changed = add_domain(router, domain, _matching(router, encoder).encode(list(domain.texts)))
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
    if output is not None:
        check_target(output, force=force)
    router = open_router(reference)
    from ual_registry.dispatch.change import remove_domain  # noqa: PLC0415  # loads scikit-learn

    changed = remove_domain(router, name)
    _stored(changed, output, register_as)
    return changed
