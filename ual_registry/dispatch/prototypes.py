"""Whether any domain: how far a query is from what the domains were shown.

A classifier must name a domain for every query, however foreign. The cosine distance to the nearest prototype of a
domain tells foreign queries apart much better than the classifier's own probability does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans

from ual_registry.dispatch.classifier import Floats, Indices

__all__ = ["Prototypes", "fit_prototypes"]

_MOST_PROTOTYPES = 32


@dataclass(frozen=True, slots=True)
class Prototypes:
    """Points that stand for the examples of domains.

    Attributes:
        vector: (prototypes, dimension) of unit length.
        domain: (prototypes,) index of the domain of each.
    """

    vector: Floats
    domain: Indices

    def distances(self, embeddings: Floats) -> tuple[Floats, Indices]:
        """Return the cosine distance (0..2) to the nearest prototype, (queries,), and which one it is."""
        cosines = embeddings @ self.vector.T
        nearest = cosines.argmax(axis=1)
        # Rounding may take a cosine beyond 1, and a distance is never negative.
        return np.maximum(1.0 - cosines[np.arange(len(embeddings)), nearest], 0.0), nearest


def fit_prototypes(embeddings: Floats, labels: Indices, domains: int, *, seed: int = 0) -> Prototypes:
    """Choose prototypes: the examples themselves where there are few, centres of clusters where there are many.

    Args:
        embeddings: (examples, dimension) of unit length.
        labels: (examples,) index of the domain of each.
        domains: Number of domains.
        seed: Seeds the clusters.
    """
    vectors, owner = [], []
    for domain in range(domains):
        own = embeddings[labels == domain]
        if len(own) > _MOST_PROTOTYPES:
            own = KMeans(_MOST_PROTOTYPES, n_init=1, random_state=seed).fit(own).cluster_centers_
        sizes = np.linalg.norm(own, axis=1, keepdims=True)
        vectors.append(own / np.maximum(sizes, np.finfo(np.float64).tiny))
        owner += [domain] * len(own)
    return Prototypes(np.concatenate(vectors), np.array(owner, dtype=np.int64))
