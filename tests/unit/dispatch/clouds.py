"""Embeddings made by hand: clouds round directions, so that what a router must find is known."""

from __future__ import annotations

import numpy as np

from ual_registry.air.router import Encoder
from ual_registry.dispatch.classifier import Floats
from ual_registry.dispatch.fit import DomainExamples, RouterFit, fit_router

DIMENSION = 12
ENCODER = Encoder(
    id="example/encoder",
    config_digest="sha256:" + "1" * 64,
    weights_digest="sha256:" + "2" * 64,
    dimension=DIMENSION,
    is_normalized=True,
)


def unit(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cloud(axes: tuple[int, ...], count: int, seed: int, spread: float = 0.15) -> Floats:
    """Return points round each of some axes in turn."""
    rng = np.random.default_rng(seed)
    centres = np.eye(DIMENSION)[[axes[place % len(axes)] for place in range(count)]]
    return unit(centres + spread * rng.standard_normal((count, DIMENSION)))


AXES = {"banking": (0, 1), "travel": (2, 3), "work": (4, 5)}
"""The directions of every domain; 6 to 11 belong to none."""
ADAPTERS = {"banking": "sha256:" + "a" * 64, "travel": "sha256:" + "b" * 64}


def domains(count: int = 40) -> tuple[list[DomainExamples], Floats]:
    """Return domains with their embeddings; they are not in order of name."""
    names = ["work", "banking", "travel"]
    found = [
        DomainExamples(name=name, texts=tuple(f"{name} {place}" for place in range(count)), adapter=ADAPTERS.get(name))
        for name in names
    ]
    return found, np.concatenate([cloud(AXES[name], count, seed) for seed, name in enumerate(names)])


def fitted(count: int = 40, **options: object) -> RouterFit:
    """Return a router that was fitted on the clouds."""
    own, embeddings = domains(count)
    return fit_router(own, embeddings, ENCODER, **options)  # type: ignore[arg-type]
