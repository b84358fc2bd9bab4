"""The router manifest: what an AIR file of kind ``router`` says about itself, and the rules that it must keep.

A router file holds a trained dispatch router (spec: router). Its tensors have fixed names; nothing here reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ual_registry.air.model import Lineage, Statement
from ual_registry.air.problem import Problem
from ual_registry.air.tensor import FLOAT_DTYPES, Shaped

__all__ = ["ROUTER_FACTORS", "Domain", "Encoder", "RouterManifest", "Thresholds", "router_problems"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """The sentence encoder whose embeddings the router was fitted on; another one is an error.

    Attributes:
        id: A label: Hub id or folder name.
        revision: Commit of the Hub repository.
        config_digest: Digest of its configuration.
        weights_digest: Digest of its weights, where known.
        dimension: Length of an embedding.
        is_normalized: Whether embeddings have length 1.
    """

    id: str
    revision: str | None = None
    config_digest: str
    weights_digest: str | None = None
    dimension: int
    is_normalized: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """One domain.

    Attributes:
        name: Its name.
        adapter: Digest of the adapter that serves it; absent where the base model does.
        examples: Examples that it was fitted on.
        min_probability: Its own threshold, before the router's.
    """

    name: str
    adapter: str | None = None
    examples: int
    min_probability: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When to abstain: distance to the nearest prototype, calibrated probability, lead over the second domain."""

    max_distance: float
    min_probability: float
    min_margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterManifest:
    """Everything that a router file says about itself; see ``schemas/1.0/router.json`` for each field."""

    air_version: str
    kind: str
    encoder: Encoder
    domains: tuple[Domain, ...]
    temperature: float
    thresholds: Thresholds
    tensor_digest: str
    manifest_digest: str
    name: str | None = None
    description: str | None = None
    license: str | None = None
    languages: tuple[str, ...] = ()
    created_at: str | None = None
    tags: tuple[str, ...] = ()
    lineage: Lineage | None = None
    provenance: tuple[Statement, ...] = ()
    features: tuple[str, ...] = ()
    annotations: Mapping[str, Any] = field(default_factory=dict)


ROUTER_FACTORS = {
    "classifier.weight": ("clusters", "dimension"),
    "classifier.bias": ("clusters",),
    "classifier.domain": ("clusters",),
    "prototypes.vector": ("prototypes", "dimension"),
    "prototypes.domain": ("prototypes",),
}
"""Every tensor of a router and what its axes stand for; the domains of clusters and prototypes are I32 indices."""


def router_problems(manifest: RouterManifest, tensors: Mapping[str, Shaped]) -> Iterator[Problem]:
    """Yield every fault of a router manifest that follows its schema.

    Args:
        manifest: The manifest.
        tensors: dtype and shape of every tensor of the file.
    """
    names = [domain.name for domain in manifest.domains]
    if names != sorted(set(names)):
        yield _fault("domains", "manifest.domains", "expected distinct names in order")
    if manifest.features:
        yield _fault("features", "manifest.features", f"expected none for a router, got {list(manifest.features)}")
    for name in sorted(ROUTER_FACTORS.keys() - tensors.keys()):
        yield _fault("missing-tensor", name, "a router needs this tensor, the file does not hold it")
    for name in sorted(tensors.keys() - ROUTER_FACTORS.keys()):
        yield _fault("unnamed-tensor", name, "a router has no such tensor")
    yield from _shapes(manifest, tensors)


def _shapes(manifest: RouterManifest, tensors: Mapping[str, Shaped]) -> Iterator[Problem]:
    sizes = {"dimension": manifest.encoder.dimension}
    for name, axes in ROUTER_FACTORS.items():
        found = tensors.get(name)
        if found is None:
            continue
        wanted = ["I32"] if name.endswith(".domain") else sorted(FLOAT_DTYPES)
        if found.dtype not in wanted:
            yield _fault("factor-dtype", name, f"dtype {found.dtype}, expected one of {', '.join(wanted)}")
        if len(found.shape) == len(axes):
            for axis, length in zip(axes, found.shape, strict=True):
                sizes.setdefault(axis, length)
        expected = tuple(sizes.get(axis, 0) for axis in axes)
        if found.shape != expected or 0 in expected:
            yield _fault("shape", name, f"shape {found.shape} does not match {axes} (expected {expected})")


def _fault(code: str, place: str, message: str) -> Problem:
    return Problem(code=code, place=place, message=message, branch="rule")
