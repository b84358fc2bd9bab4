"""A router changes without the examples of the domains that stay: a domain more, a domain less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.cluster import KMeans

from ual_registry.air.router import Domain
from ual_registry.dispatch.classifier import Classifier, Floats
from ual_registry.dispatch.fit import DomainExamples
from ual_registry.dispatch.prototypes import Prototypes, fit_prototypes
from ual_registry.dispatch.router import EXAMPLES_KEY, Router
from ual_registry.errors import RouteError

__all__ = ["add_domain", "remove_domain"]

_LEAST = 2
_MOST_CLUSTERS = 16
_LEAST_MEMBERS = 6
_PENALTY = 1e-3


def remove_domain(router: Router, name: str) -> Router:
    """Return the router without a domain; the probabilities of the others share what it had.

    Raises:
        RouteError: There is no such domain, or no other.
    """
    if name not in router.domains:
        raise RouteError(f"the router has no domain {name!r} (it has {', '.join(router.names)})", code="domains")
    if len(router.names) == 1:
        raise RouteError(f"{name!r} is the router's only domain", code="domains")
    gone = router.names.index(name)
    kept = tuple(domain for domain in router.manifest.domains if domain.name != name)
    clusters, owners = router.classifier.domain != gone, router.prototypes.domain != gone
    places = np.array([index - (index > gone) for index in range(len(router.names))])
    classifier = Classifier(
        router.classifier.weight[clusters],
        router.classifier.bias[clusters],
        places[router.classifier.domain[clusters]],
        len(kept),
    )
    prototypes = Prototypes(router.prototypes.vector[owners], places[router.prototypes.domain[owners]])
    return _changed(router, kept, classifier, prototypes)


def add_domain(router: Router, domain: DomainExamples, embeddings: Floats, *, seed: int = 0) -> Router:
    """Return the router with one more domain; the prototypes of the others stand for their examples.

    Only the weights of the new domain are fitted. Temperature and thresholds stay, since nothing is known about how
    well the new domain keeps them: train the router anew when the examples of all are at hand.

    Args:
        router: The router.
        domain: The new domain.
        embeddings: (examples, dimension) of its texts, by the router's encoder.
        seed: Seeds the clusters.

    Raises:
        RouteError: The domain is there already, has too few examples, or the embeddings are of another encoder.
    """
    router.check(embeddings)
    if domain.name in router.domains:
        raise RouteError(f"the router has a domain {domain.name!r} already; remove it first", code="domains")
    if len(domain.texts) < _LEAST:
        raise RouteError(
            f"domain {domain.name!r}: {len(domain.texts)} examples, expected at least {_LEAST}", code="examples"
        )
    new = Domain(
        name=domain.name,
        adapter=domain.adapter,
        examples=len(domain.texts),
        min_probability=domain.min_probability,
    )
    domains = tuple(sorted((*router.manifest.domains, new), key=lambda own: own.name))
    place = domains.index(new)
    places = np.array([index + (index >= place) for index in range(len(router.names))])
    weight, bias = _fit_rows(router, embeddings, seed)
    classifier = Classifier(
        np.concatenate([router.classifier.weight, weight]),
        np.concatenate([router.classifier.bias, bias]),
        np.concatenate([places[router.classifier.domain], np.full(len(bias), place)]),
        len(domains),
    )
    own = fit_prototypes(embeddings, np.zeros(len(embeddings), dtype=np.int64), 1, seed=seed).vector
    prototypes = Prototypes(
        np.concatenate([router.prototypes.vector, own]),
        np.concatenate([places[router.prototypes.domain], np.full(len(own), place)]),
    )
    return _changed(router, domains, classifier, prototypes)


def _changed(router: Router, domains: tuple[Domain, ...], classifier: Classifier, prototypes: Prototypes) -> Router:
    """Return the router with other parts; texts of prototypes would no longer fit, so they are left out."""
    annotations = {key: value for key, value in router.manifest.annotations.items() if key != EXAMPLES_KEY}
    return Router(replace(router.manifest, domains=domains, annotations=annotations), classifier, prototypes)


def _fit_rows(router: Router, embeddings: Floats, seed: int) -> tuple[Floats, Floats]:
    """Return weights and biases of new clusters; those of the old ones stay as they are.

    The likelihood is that of the whole classifier at the router's temperature, on the new examples and on the old
    prototypes; each side counts as much as the other.
    """
    temperature, dimension = router.manifest.temperature, embeddings.shape[1]
    count = max(1, min(_MOST_CLUSTERS, len(embeddings) // _LEAST_MEMBERS))
    labels = (
        KMeans(count, n_init=1, random_state=seed).fit_predict(embeddings) if count > 1 else np.zeros(len(embeddings))
    )
    labels = labels.astype(np.int64)
    points = np.concatenate([embeddings, router.prototypes.vector])
    old = router.classifier.logits(points) / temperature
    others = logsumexp(old, axis=1)
    is_new = np.arange(len(points)) < len(embeddings)
    weights = np.where(is_new, 0.5 / is_new.sum(), 0.5 / (~is_new).sum())
    size = float(np.abs(router.classifier.weight).mean()) or 1.0

    def loss(flat: Floats) -> tuple[float, Floats]:
        rows = flat.reshape(count, dimension + 1)
        logits = (points @ rows[:, :-1].T + rows[:, -1]) / temperature
        total = np.logaddexp(others, logsumexp(logits, axis=1))
        probabilities = np.exp(logits - total[:, None])
        true = np.where(is_new, 0.0, others)
        true[is_new] = logits[is_new][np.arange(is_new.sum()), labels]
        slope = probabilities * weights[:, None]
        slope[np.flatnonzero(is_new), labels] -= weights[is_new]
        gradient = np.concatenate([slope.T @ points, slope.sum(axis=0)[:, None]], axis=1) / temperature
        gradient[:, :-1] += _PENALTY * rows[:, :-1] / size**2 / dimension
        penalty = _PENALTY * float(np.sum(rows[:, :-1] ** 2)) / size**2 / dimension / 2
        return float(np.sum(weights * (total - true))) + penalty, gradient.ravel()

    found = minimize(loss, np.zeros(count * (dimension + 1)), jac=True, method="L-BFGS-B").x
    rows = found.reshape(count, dimension + 1)
    return rows[:, :-1], rows[:, -1]
