"""The domains of a dispatcher: their adapters, their examples, and the router that tells them apart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ual_registry.dispatch.calibration import Target
from ual_registry.dispatch.classifier import Floats
from ual_registry.dispatch.decision import Decision
from ual_registry.dispatch.encode import TextEncoder, View, load_encoder, require_encoder, sentence_width
from ual_registry.dispatch.fit import DomainExamples, FitReport, fit_router
from ual_registry.dispatch.overlap import Overlap, analyze_overlap
from ual_registry.dispatch.router import Router
from ual_registry.errors import RouteError

__all__ = ["Domains"]


class Domains:
    """Domains and what is known of them; threads may share it, since what changes is replaced as a whole.

    Args:
        router: The router, or its file; ``None`` until one is trained.
        encoder: Its sentence encoder, or the encoder's folder.
        references: References of adapters by domain.

    Attributes:
        router: The router.
        references: References of adapters by domain, which come before those of the router.
        examples: Registered queries by domain.

    Raises:
        RouteError: The encoder is not the router's.
        UALError: A file cannot be read.
    """

    def __init__(
        self,
        router: Router | str | Path | None,
        encoder: TextEncoder | str | Path | None,
        references: Mapping[str, str],
    ) -> None:
        self.router = Router.load(router) if isinstance(router, (str, Path)) else router
        self.references: Mapping[str, str] = dict(references)
        self.examples: Mapping[str, tuple[str, ...]] = {}
        self._encoder = _loaded(encoder, self.router)
        self._encoding, self._changing = threading.Lock(), threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The domains of the router and those registered since, sorted."""
        routed = self.router.names if self.router is not None else ()
        return tuple(sorted({*routed, *self.references, *self.examples}))

    def register(self, name: str, reference: str | None, examples: Sequence[str]) -> None:
        """Replace what is known of a domain, as far as it is given."""
        with self._changing:
            if reference is not None:
                self.references = {**self.references, name: reference}
            if examples:
                self.examples = {**self.examples, name: tuple(dict.fromkeys(examples))}

    def extend(self, examples: Mapping[str, Sequence[str]]) -> None:
        """Add queries to those that are registered, by domain."""
        with self._changing:
            joined = {name: (*self.examples.get(name, ()), *texts) for name, texts in examples.items()}
            new = {name: tuple(dict.fromkeys(texts)) for name, texts in joined.items() if texts}
            self.examples = {**self.examples, **new}

    def train(
        self,
        resolve: Callable[[str], str],
        *,
        target: Target | None,
        has_own_thresholds: bool,
        keeps_examples: bool,
        name: str | None,
        seed: int,
    ) -> FitReport:
        """Fit a router on the registered examples; it takes the place of the present one.

        Args:
            resolve: Returns the digest of a reference.
            target: As in ``fit_router``, and so are the others.
            has_own_thresholds: Likewise.
            keeps_examples: Likewise.
            name: Likewise.
            seed: Likewise.

        Raises:
            UALError: As ``fit_router`` and ``resolve``.
        """
        references = self.references
        domains = [
            DomainExamples(
                name=domain, texts=texts, adapter=resolve(references[domain]) if domain in references else None
            )
            for domain, texts in self.examples.items()
        ]
        encoder = self._need_encoder()
        texts = [text for domain in domains for text in domain.texts]
        embeddings = self._encoded([*texts, *(domain.label for domain in domains)])
        fitted = fit_router(
            domains,
            embeddings[: len(texts)],
            encoder.identity,
            names=embeddings[len(texts) :],
            sentence_width=sentence_width(encoder),
            target=target,
            has_own_thresholds=has_own_thresholds,
            keeps_examples=keeps_examples,
            name=name,
            seed=seed,
        )
        self.router = fitted.router
        return fitted.report

    def route(self, queries: Sequence[str]) -> list[Decision]:
        """Decide about queries, encoded together.

        Raises:
            RouteError: There is no router or encoder, or a query is empty.
        """
        router = self.need_router()
        for place, query in enumerate(queries, start=1):
            if not query.strip():
                raise RouteError(f"query {place} is empty", code="queries")
        return router.route(self._encoded(queries)) if queries else []

    def overlap(self, examples: Mapping[str, Sequence[str]] | None) -> Overlap:
        """Say which domains overlap on examples; on the registered ones where none are given.

        Raises:
            RouteError: There is no router, encoder or example, or the router does not know a domain.
        """
        router, given = self.need_router(), self.examples if examples is None else examples
        unknown = sorted(set(given) - set(router.names))
        if unknown or not any(given.values()):
            problem = f"the router has no domain {unknown[0]!r}" if unknown else "no example is given"
            raise RouteError(f"overlap: {problem}", code="domains", hint="train the router on these domains first")
        pairs = [(text, domain) for domain, texts in given.items() for text in texts]
        texts, labels = [text for text, _ in pairs], [domain for _, domain in pairs]
        return analyze_overlap(router, texts, labels, self._encoded(texts))

    def need_router(self) -> Router:
        """Return the router.

        Raises:
            RouteError: There is none.
        """
        if self.router is None:
            raise RouteError("there is no router", code="router", hint="give one, or call train_router")
        return self.router

    def _encoded(self, texts: Sequence[str]) -> Floats:
        with self._encoding:  # a tokenizer is no object for two threads
            return self._need_encoder().encode(texts)

    def _need_encoder(self) -> TextEncoder:
        if self._encoder is None:
            raise RouteError("there is no sentence encoder", code="encoder", hint="give encoder=FOLDER")
        return self._encoder


def _loaded(encoder: TextEncoder | str | Path | None, router: Router | None) -> TextEncoder | None:
    """Return the encoder, with the view that the router was fitted on."""
    if encoder is None:
        return None
    wanted = router.manifest.encoder if router is not None else None
    if not isinstance(encoder, (str, Path)):
        found = encoder
    else:
        found = load_encoder(encoder)
        if wanted is not None and found.identity.dimension != wanted.dimension:
            found = load_encoder(encoder, view=View.PLAIN)
    if wanted is not None:
        require_encoder(wanted, found.identity)
    return found
