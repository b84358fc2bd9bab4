"""Which domain: a linear classifier on sub-clusters of every domain.

A domain is seldom one cloud of sentences: "travel" holds flights, visas and luggage. Each domain is cut into clusters
first, the classifier learns the clusters, and the probabilities of a domain's clusters are added up. That costs
nothing when a query comes and is more accurate than one class per domain.

Two logistic regressions learn them, one on the embeddings as they are and one on whitened embeddings, and the mean of
their logits decides: they err on different queries. Both are linear, so that the mean is one classifier again.

A domain of few examples beside those of many counts for more than its examples: it would hardly ever be named.

Of few examples the sentence embeddings tell more than whole ones do: the first regression sees them alone then, and
the name of every domain is one more example of it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

__all__ = ["Classifier", "Floats", "Indices", "fit_classifier"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_MOST_CLUSTERS = 16
_LEAST_MEMBERS = 6
"""Examples per cluster below which a domain is not cut further."""
_FEW = 12
"""Examples per domain below which they are few."""
_MOST_CLASSES = 160
"""Clusters of all domains together: with many narrow domains there is little left to cut."""
_INVERSE_PENALTY = 10.0
_SHRINKAGE = 5.0
"""Weight of the round scatter, times dimension over degrees of freedom."""
_ITERATIONS = 40
_LEAST_SHARE = 0.25
"""Weight that every domain has at least, as a share of the mean one."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """A linear classifier whose classes are clusters of domains.

    Attributes:
        weight: (clusters, dimension).
        bias: (clusters,).
        domain: (clusters,) index of the domain of each cluster.
        domains: Number of domains.
    """

    weight: Floats
    bias: Floats
    domain: Indices
    domains: int

    def logits(self, embeddings: Floats) -> Floats:
        """Return the logit of every cluster, (queries, clusters)."""
        found: Floats = embeddings @ self.weight.T + self.bias
        return found

    def log_probabilities(self, logits: Floats, temperature: float) -> Floats:
        """Return the logarithm of the probability of every domain, (queries, domains).

        Args:
            logits: (queries, clusters).
            temperature: Divides the logits before the softmax.
        """
        scaled = logits / temperature
        parts = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        order = np.argsort(self.domain, kind="stable")
        starts = np.searchsorted(self.domain[order], np.arange(self.domains))
        sums = np.add.reduceat(parts[:, order], starts, axis=1)
        # A domain far away has no probability that a float holds; its logarithm must stay finite to be compared.
        found: Floats = np.log(np.maximum(sums, np.finfo(np.float64).tiny)) - np.log(parts.sum(axis=1, keepdims=True))
        return found


def fit_classifier(
    embeddings: Floats,
    labels: Indices,
    domains: int,
    *,
    names: Floats | None = None,
    sentence_width: int | None = None,
    seed: int = 0,
) -> Classifier:
    """Fit a classifier.

    Args:
        embeddings: (examples, dimension) of unit length.
        labels: (examples,) index of the domain of each; every domain has one at least.
        domains: Number of domains.
        names: (domains, dimension) of unit length, of the domains' names, where they tell something.
        sentence_width: Columns at the front that are the sentence embedding; all where absent.
        seed: Seeds the clusters.
    """
    clusters, domain = _clusters(embeddings, labels, domains, seed)
    if len(domain) == 1:
        return Classifier(np.zeros((1, embeddings.shape[1])), np.zeros(1), domain, domains)
    width = embeddings.shape[1]
    if len(domain) == domains and len(embeddings) < _FEW * domains:  # none is cut: clusters are domains
        width = sentence_width or width
        if names is not None:
            embeddings, clusters = np.concatenate([embeddings, names]), np.concatenate([clusters, np.arange(domains)])
    weights = _weights(domain[clusters], domains)
    mean, whitening = _whitening(embeddings, clusters, len(domain))
    # Whitening is linear, so that it can be folded in: a query needs one product.
    white, offset = _regression((embeddings - mean) @ whitening, clusters, weights)
    white = white @ whitening.T
    plain = _front_regression(embeddings, clusters, weights, width)
    found = _mean_of(embeddings, plain, (white, offset - white @ mean))
    return Classifier(*found, domain, domains)


def _weights(labels: Indices, domains: int) -> Floats | None:
    """Return the weight of every example, which is more than 1 in small domains; ``None`` where no domain is small."""
    counts = np.bincount(labels, minlength=domains)
    least = _LEAST_SHARE * len(labels) / domains
    if counts.min() >= least:
        return None
    found: Floats = np.maximum(1.0, least / counts)[labels]
    return found


def _front_regression(
    embeddings: Floats, clusters: Indices, weights: Floats | None, width: int
) -> tuple[Floats, Floats]:
    """Return weight and bias of a regression on the first columns, brought to unit length; the others weigh nothing."""
    size = float(np.linalg.norm(embeddings[:, :width], axis=1).mean()) or 1.0
    weight, bias = _regression(embeddings[:, :width] / size, clusters, weights)
    return np.pad(weight / size, ((0, 0), (0, embeddings.shape[1] - width))), bias


def _regression(rows: Floats, clusters: Indices, weights: Floats | None) -> tuple[Floats, Floats]:
    """Return weight and bias of a logistic regression that learns the clusters."""
    # Half the width of the numbers is twice the speed; what is lost is far below the noise of the examples.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last iterations change no decision
        model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_ITERATIONS)
        model.fit(rows.astype(np.float32), clusters, sample_weight=weights)
    weight, bias = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
    if len(bias) == 1:  # one row tells two classes apart
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    return weight, bias


def _mean_of(embeddings: Floats, *pairs: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Return weight and bias of the mean of some classifiers' logits, each brought to the mean size of all."""
    sizes = [float((embeddings @ weight.T + bias).std()) or 1.0 for weight, bias in pairs]
    shares = [float(np.mean(sizes)) / size / len(pairs) for size in sizes]
    scaled = [(share * weight, share * bias) for share, (weight, bias) in zip(shares, pairs, strict=True)]
    return np.sum([weight for weight, _ in scaled], axis=0), np.sum([bias for _, bias in scaled], axis=0)


def _clusters(embeddings: Floats, labels: Indices, domains: int, seed: int) -> tuple[Indices, Indices]:
    """Return the cluster of every example, and the domain of every cluster."""
    found = np.empty(len(labels), dtype=np.int64)
    owner: list[int] = []
    for domain in range(domains):
        own = np.flatnonzero(labels == domain)
        count = max(1, min(_MOST_CLUSTERS, len(own) // _LEAST_MEMBERS, _MOST_CLASSES // domains))
        parts = KMeans(count, n_init=1, random_state=seed).fit_predict(embeddings[own]) if count > 1 else 0
        # Clusters that k-means left empty would be classes without an example.
        names, index = np.unique(np.broadcast_to(parts, len(own)), return_inverse=True)
        found[own] = index + len(owner)
        owner += [domain] * len(names)
    return found, np.array(owner, dtype=np.int64)


def _whitening(embeddings: Floats, clusters: Indices, count: int) -> tuple[Floats, Floats]:
    """Return the mean and the map that makes the scatter within clusters round.

    The scatter is shrunk towards a round one, since few examples tell little of it (Ledoit and Wolf, 2004, here with a
    weight by how many numbers are estimated from how many examples).
    """
    sums = np.zeros((count, embeddings.shape[1]))
    np.add.at(sums, clusters, embeddings)
    means = sums / np.bincount(clusters, minlength=count)[:, None]
    residuals = embeddings - means[clusters]
    scatter = residuals.T @ residuals / len(embeddings)
    mean = embeddings.mean(axis=0)
    size = float(np.trace(scatter)) / len(scatter)
    if size <= np.finfo(np.float64).eps:  # one example per cluster
        return mean, np.eye(embeddings.shape[1])
    scatter[np.diag_indices(len(scatter))] += size * _SHRINKAGE * embeddings.shape[1] / max(len(embeddings) - count, 1)
    # Whitened embeddings that are turned are as good: the penalty of the regression is round.
    factor = np.linalg.cholesky(scatter)
    whitening = solve_triangular(factor, np.eye(len(factor)), lower=True).T
    return mean, whitening / np.sqrt(np.mean(np.sum(((embeddings - mean) @ whitening) ** 2, axis=1)))
