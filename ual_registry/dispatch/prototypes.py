"""Whether any domain: how far a query is from what the domains were shown.

A classifier must name a domain for every query, however foreign. The cosine distance to the nearest prototype of a
domain tells foreign queries apart much better than the classifier's own probability does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from ual_registry.dispatch.classifier import Floats, Indices

__all__ = ["Prototypes", "fit_prototypes"]

_MOST_PROTOTYPES = 32
_MOST_IN_ALL = 1600
"""Prototypes of all domains: every one is compared with each query."""
_LEAST_PROTOTYPES = 4


@dataclass(frozen=True, slots=True)
class Prototypes:
    """Points that stand for the examples of domains.

    Attributes:
        vector: (prototypes, dimension) of unit length; as narrow as the file holds them, which is twice the speed.
        domain: (prototypes,) index of the domain of each.
    """

    vector: NDArray[np.float32]
    domain: Indices

    def distances(self, embeddings: Floats) -> tuple[Floats, Indices]:
        """Return the cosine distance (0..2) to the nearest prototype, (queries,), and which one it is."""
        cosines = embeddings.astype(np.float32) @ self.vector.T
        nearest = cosines.argmax(axis=1)
        found = 1.0 - cosines[np.arange(len(embeddings)), nearest].astype(np.float64)
        # Rounding may take a cosine beyond 1, and a distance is never negative.
        return np.maximum(found, 0.0), nearest


def fit_prototypes(embeddings: Floats, labels: Indices, domains: int, *, seed: int = 0) -> Prototypes:
    """Choose prototypes: the examples themselves where there are few, centres of clusters where there are many.

    Args:
        embeddings: (examples, dimension) of unit length.
        labels: (examples,) index of the domain of each.
        domains: Number of domains.
        seed: Seeds the clusters.
    """
    vectors, owner = [], []
    most = min(_MOST_PROTOTYPES, max(_LEAST_PROTOTYPES, _MOST_IN_ALL // domains))
    for domain in range(domains):
        own = embeddings[labels == domain]
        if len(own) > most:
            own = KMeans(most, n_init=1, random_state=seed).fit(own).cluster_centers_
        sizes = np.linalg.norm(own, axis=1, keepdims=True)
        vectors.append(own / np.maximum(sizes, np.finfo(np.float64).tiny))
        owner += [domain] * len(own)
    return Prototypes(np.concatenate(vectors).astype(np.float32), np.array(owner, dtype=np.int64))
