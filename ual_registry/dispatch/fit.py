"""Fitting a router: from examples and their embeddings to classifier, prototypes, temperature and thresholds.

Everything that makes a promise is fitted on examples that were held out of the rest; the parts that know domains are
fitted once more on all examples at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

from ual_registry.air.canonical import canonical_bytes
from ual_registry.air.model import Statement
from ual_registry.air.rounding import rounded
from ual_registry.air.router import Domain, Encoder, RouterManifest, Thresholds
from ual_registry.air.versions import AIR_VERSION
from ual_registry.digest import Digest
from ual_registry.dispatch.calibration import (
    HeldOut,
    Target,
    domain_probabilities,
    fit_temperature,
    fit_thresholds,
    measured,
)
from ual_registry.dispatch.classifier import Classifier, Floats, Indices, fit_classifier
from ual_registry.dispatch.prototypes import Prototypes, fit_prototypes
from ual_registry.dispatch.router import EXAMPLES_KEY, Router
from ual_registry.errors import RouteError

__all__ = ["DomainExamples", "FitReport", "RouterFit", "check_domains", "fit_router"]

_MOST_FOLDS = 5
_MANY = 100
"""Examples per domain from which one part held out says enough, and folds only cost time."""
_MANY_IN_ALL = 5000
"""Likewise, of all domains together."""
_LEAST_OWN = 50
"""Held-out examples that a domain needs for a threshold of its own."""
_LEAST = 2
_SEPARATORS = re.compile(r"[_/-]")

Fit = Callable[[Floats, Indices], Classifier]


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainExamples:
    """A domain to route to.

    Attributes:
        name: Its name.
        texts: Queries that belong to it.
        adapter: Digest of the adapter that answers them; ``None`` where the base model does.
        min_probability: Its own threshold, chosen by hand.
    """

    name: str
    texts: tuple[str, ...]
    adapter: str | None = None
    min_probability: float | None = None

    @property
    def label(self) -> str:
        """The name as words, which tells a classifier with few examples what the domain is about."""
        return " ".join(_SEPARATORS.sub(" ", self.name).split()) or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What was seen on held-out examples.

    Attributes:
        examples: Examples in all.
        held_out: Examples that thresholds were fitted on.
        folds: How often a part was held out; 1 is a single part.
        accuracy: Share (0..1) of held-out examples whose domain is right.
        kept: Share (0..1) that the thresholds route.
        precision: Share (0..1) of the routed ones whose domain is right.
        duplicates: Texts that stand in several domains, with their domains.
    """

    examples: int
    held_out: int
    folds: int
    accuracy: float
    kept: float
    precision: float
    duplicates: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RouterFit:
    """A router, and what was seen while it was fitted."""

    router: Router
    report: FitReport


def fit_router(
    domains: Sequence[DomainExamples],
    embeddings: Floats,
    encoder: Encoder,
    *,
    names: Floats | None = None,
    sentence_width: int | None = None,
    target: Target | None = None,
    has_own_thresholds: bool = False,
    keeps_examples: bool = False,
    name: str | None = None,
    seed: int = 0,
) -> RouterFit:
    """Fit a router.

    Args:
        domains: The domains with their examples.
        embeddings: (examples, dimension) of unit length, in the order of the domains and of their texts.
        encoder: Where they come from.
        names: (domains, dimension) of unit length, of the domains' ``label``; where examples are few they count as
            examples, unless most of them are nearer to other domains.
        sentence_width: Columns at the front that are the sentence embedding; all where absent.
        target: What thresholds are to keep; 95 % of in-scope queries where absent.
        has_own_thresholds: Whether every domain with enough examples gets a probability of its own.
        keeps_examples: Whether the file keeps the text of every prototype, so that decisions can show it.
        name: Name of the router.
        seed: Seeds clusters and parts; the same seed and examples give the same bytes.

    Raises:
        RouteError: A name is empty or given twice, a domain has too few examples, or the target cannot be reached.
    """
    check_domains(domains)
    order = sorted(range(len(domains)), key=lambda index: domains[index].name)
    texts = [text for domain in domains for text in domain.texts]
    rank = {index: place for place, index in enumerate(order)}
    labels = np.repeat([rank[i] for i in range(len(domains))], [len(domain.texts) for domain in domains])
    known = None if names is None else _telling(names[order], embeddings, labels)
    fit = partial(fit_classifier, domains=len(domains), names=known, sentence_width=sentence_width, seed=seed)
    folds, held_out, temperature = _held_out(embeddings, labels, fit, seed)
    chosen = target or Target()
    thresholds = fit_thresholds(held_out, chosen)
    share = 1 - chosen.kept if chosen.kept is not None else 0.05
    own = (
        domain_probabilities(held_out, len(domains), share, _LEAST_OWN) if has_own_thresholds else [None] * len(domains)
    )
    prototypes = fit_prototypes(embeddings, labels, len(domains), seed=seed)
    report = _report(domains, held_out, thresholds, folds)
    manifest = RouterManifest(
        air_version=AIR_VERSION,
        kind="router",
        encoder=encoder,
        domains=tuple(_domain(domains[index], own[place]) for place, index in enumerate(order)),
        temperature=temperature,
        thresholds=thresholds,
        tensor_digest="",
        manifest_digest="",
        name=name,
        provenance=(_statement(texts, labels, report, chosen, seed),),
        annotations=_annotations(texts, embeddings, labels, prototypes) if keeps_examples else {},
    )
    return RouterFit(Router(manifest, fit(embeddings, labels), prototypes), report)


def _report(domains: Sequence[DomainExamples], held_out: HeldOut, thresholds: Thresholds, folds: int) -> FitReport:
    is_kept = held_out.is_kept(thresholds)
    is_right = held_out.predicted == held_out.labels
    return FitReport(
        examples=sum(len(domain.texts) for domain in domains),
        held_out=len(held_out.labels),
        folds=folds,
        accuracy=float(is_right.mean()),
        kept=float(is_kept.mean()),
        precision=float(is_right[is_kept].mean()) if is_kept.any() else 0.0,
        duplicates=_duplicates(domains),
    )


def _telling(names: Floats, embeddings: Floats, labels: Indices) -> Floats | None:
    """Return the names where most of them are nearest to their own domain's mean; names like ``d17`` tell nothing."""
    means = np.stack([embeddings[labels == domain].mean(axis=0) for domain in range(len(names))])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    is_own = (names @ means.T).argmax(axis=1) == np.arange(len(names))
    return names if is_own.mean() > 0.5 else None


def check_domains(domains: Sequence[DomainExamples]) -> None:
    """Refuse domains that no router can be fitted on.

    Raises:
        RouteError: There is none, a name is empty or given twice, or a domain has too few examples.
    """
    if not domains:
        raise RouteError("no domain is given", code="domains", hint="give two or more, each with examples")
    seen: set[str] = set()
    for domain in domains:
        if not domain.name or domain.name in seen:
            problem = "is given twice" if domain.name else "has no name"
            raise RouteError(f"domain {domain.name!r} {problem}", code="domains")
        seen.add(domain.name)
        if len(domain.texts) < _LEAST:
            raise RouteError(
                f"domain {domain.name!r}: {len(domain.texts)} examples, expected at least {_LEAST}",
                code="examples",
                hint="thresholds are fitted on examples that are held out; give five or more",
            )


def _held_out(embeddings: Floats, labels: Indices, fit: Fit, seed: int) -> tuple[int, HeldOut, float]:
    """Measure examples with what was fitted on the others; return also the number of parts and the temperature."""
    counts = np.bincount(labels)
    domains, smallest = len(counts), int(counts.min())
    parts = min(_MOST_FOLDS, smallest)
    splits = StratifiedKFold(parts, shuffle=True, random_state=seed).split(embeddings, labels)
    folds = 1 if smallest >= _MANY or len(labels) >= _MANY_IN_ALL else parts
    temperatures, rows, logs, distances = [], [], [], []
    for _, (train, test) in zip(range(folds), splits, strict=False):
        classifier = fit(embeddings[train], labels[train])
        logits = classifier.logits(embeddings[test])
        temperatures.append(fit_temperature(classifier, logits, labels[test]))
        prototypes = fit_prototypes(embeddings[train], labels[train], domains, seed=seed)
        rows.append(test)
        logs.append((classifier, logits))
        distances.append(prototypes.distances(embeddings[test])[0])
    temperature = float(np.exp(np.mean(np.log(temperatures))))
    probabilities = np.concatenate([np.exp(own.log_probabilities(logits, temperature)) for own, logits in logs])
    return folds, measured(probabilities, np.concatenate(distances), labels[np.concatenate(rows)]), temperature


def _domain(domain: DomainExamples, fitted: float | None) -> Domain:
    chosen = fitted if domain.min_probability is None else domain.min_probability
    return Domain(name=domain.name, adapter=domain.adapter, examples=len(domain.texts), min_probability=chosen)


def _duplicates(domains: Sequence[DomainExamples]) -> dict[str, tuple[str, ...]]:
    places: dict[str, list[str]] = {}
    for domain in domains:
        for text in dict.fromkeys(" ".join(text.split()) for text in domain.texts):
            places.setdefault(text, []).append(domain.name)
    return {text: tuple(own) for text, own in places.items() if len(own) > 1}


def _statement(texts: Sequence[str], labels: Indices, report: FitReport, target: Target, seed: int) -> Statement:
    data = canonical_bytes([[text, int(label)] for text, label in zip(texts, labels, strict=True)])
    settings: dict[str, Any] = {
        "target": {"kept": target.kept} if target.kept is not None else {"precision": target.precision},
        "held_out_examples": report.held_out,
        "held_out_accuracy": rounded(report.accuracy),
        "held_out_kept": rounded(report.kept),
        "held_out_precision": rounded(report.precision),
    }
    return Statement(
        type="training",
        builder={"name": "ual-registry", "version": version("ual-registry")},
        parameters={"steps": 0, "seed": seed, "settings": settings},
        materials=({"name": "examples", "digest": str(Digest.of_bytes(data))},),
    )


def _annotations(texts: Sequence[str], embeddings: Floats, labels: Indices, prototypes: Prototypes) -> dict[str, Any]:
    """Return the text of the example next to every prototype, of the same domain."""
    found = []
    for vector, domain in zip(prototypes.vector, prototypes.domain, strict=True):
        own = np.flatnonzero(labels == domain)
        found.append(texts[own[int(np.argmax(embeddings[own] @ vector))]])
    return {EXAMPLES_KEY: found}
