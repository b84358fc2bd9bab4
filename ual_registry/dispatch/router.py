"""A router in memory: scores of queries by their embeddings, and the way from and to its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ual_registry.air.router import Domain, RouterManifest
from ual_registry.air.router_file import RouterFile, read_router
from ual_registry.air.tensor import Tensor
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.dispatch.classifier import Classifier, Floats
from ual_registry.dispatch.decision import Decision, DomainScores, Nearest, decide
from ual_registry.dispatch.prototypes import Prototypes
from ual_registry.errors import RouteError

__all__ = ["EXAMPLES_KEY", "Router"]

EXAMPLES_KEY = "io.ual-registry.prototype-examples"
"""The annotation that holds the text of every prototype, where the router keeps texts."""

_NUMBERS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4"}


@dataclass(frozen=True)
class Router:
    """A fitted router.

    Attributes:
        manifest: What it says about itself.
        classifier: Which domain.
        prototypes: Whether any domain.
    """

    manifest: RouterManifest
    classifier: Classifier
    prototypes: Prototypes

    @cached_property
    def domains(self) -> Mapping[str, Domain]:
        """The domains by name, in the router's order."""
        return {domain.name: domain for domain in self.manifest.domains}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the domains, in the order of the columns of scores."""
        return tuple(self.domains)

    @cached_property
    def _examples(self) -> Sequence[str] | None:
        found: Any = self.manifest.annotations.get(EXAMPLES_KEY)
        is_fitting = isinstance(found, (list, tuple)) and len(found) == len(self.prototypes.domain)
        return [str(text) for text in found] if is_fitting else None

    def probabilities(self, embeddings: Floats) -> Floats:
        """Return the calibrated probability of every domain, (queries, domains).

        Args:
            embeddings: (queries, dimension) of unit length.
        """
        logits = self.classifier.logits(embeddings)
        found: Floats = np.exp(self.classifier.log_probabilities(logits, self.manifest.temperature))
        return found

    def score(self, embeddings: Floats) -> list[DomainScores]:
        """Measure queries.

        Args:
            embeddings: (queries, dimension) of unit length.

        Raises:
            RouteError: The dimension is not the router's, or a number is not finite.
        """
        self.check(embeddings)
        probabilities = self.probabilities(embeddings)
        distances, nearest = self.prototypes.distances(embeddings)
        return [
            DomainScores(
                probabilities=dict(zip(self.names, own.tolist(), strict=True)),
                nearest=self._nearest(float(distance), int(prototype)),
            )
            for own, distance, prototype in zip(probabilities, distances, nearest, strict=True)
        ]

    def route(self, embeddings: Floats) -> list[Decision]:
        """Decide about queries; see ``decision.decide``.

        Args:
            embeddings: (queries, dimension) of unit length.

        Raises:
            RouteError: As ``score``.
        """
        return [decide(scores, self.domains, self.manifest.thresholds) for scores in self.score(embeddings)]

    def check(self, embeddings: Floats) -> None:
        """Refuse embeddings that are none of this router's encoder.

        Raises:
            RouteError: The dimension is not the router's, or a number is not finite.
        """
        expected = self.manifest.encoder.dimension
        if embeddings.ndim != 2 or embeddings.shape[1] != expected:
            raise RouteError(
                f"embeddings of shape {embeddings.shape} do not match dimension {expected} (expected (n, {expected}))",
                code="encoder",
                hint=f"use the router's encoder, {self.manifest.encoder.id}",
            )
        if not np.isfinite(embeddings).all():
            raise RouteError("an embedding holds a NaN or an infinity", code="encoder")

    def _nearest(self, distance: float, prototype: int) -> Nearest:
        domain = self.names[int(self.prototypes.domain[prototype])]
        example = self._examples[prototype] if self._examples is not None else None
        return Nearest(domain=domain, distance=distance, example=example)

    @classmethod
    def load(cls, path: str | Path) -> Router:
        """Read a router file.

        Raises:
            FormatError: The file is not a legal router, or not what its digests say.
            RouteError: An index of its tensors names no domain, or a domain has no cluster.
            StorageError: The file cannot be read.
        """
        return cls.of_file(read_router(path), str(path))

    @classmethod
    def of_file(cls, file: RouterFile, label: str) -> Router:
        """Decode the tensors of a router file; ``label`` names it in errors. Raises as ``load``."""
        arrays = {name: _array(tensor) for name, tensor in file.tensors.items()}
        count = len(file.manifest.domains)
        clusters = _indices(arrays["classifier.domain"], count, f"{label}: classifier.domain")
        owners = _indices(arrays["prototypes.domain"], count, f"{label}: prototypes.domain")
        lacking = sorted(set(range(count)) - set(clusters.tolist()))
        if lacking:
            name = file.manifest.domains[lacking[0]].name
            raise RouteError(f"{label}: classifier.domain: no cluster belongs to domain {name!r}", code="router")
        classifier = Classifier(
            _floats(arrays["classifier.weight"]), _floats(arrays["classifier.bias"]), clusters, count
        )
        return cls(file.manifest, classifier, Prototypes(arrays["prototypes.vector"].astype(np.float32), owners))

    def file(self) -> RouterFile:
        """Return the router as its file holds it: numbers in float32."""
        return RouterFile(
            self.manifest,
            {
                "classifier.weight": _tensor(self.classifier.weight, "F32"),
                "classifier.bias": _tensor(self.classifier.bias, "F32"),
                "classifier.domain": _tensor(self.classifier.domain, "I32"),
                "prototypes.vector": _tensor(self.prototypes.vector, "F32"),
                "prototypes.domain": _tensor(self.prototypes.domain, "I32"),
            },
        )

    def save(self, path: str | Path) -> Digest:
        """Write the router file; the same router gives the same bytes.

        Raises:
            FormatError: The manifest is not legal.
            StorageError: The file system refuses; nothing is left behind.
        """
        return write(self.file(), path)


def _array(tensor: Tensor) -> NDArray[Any]:
    data = tensor.to_bytes()
    if tensor.dtype == "BF16":  # the upper half of a float32
        wide = np.frombuffer(data, dtype="<u2").astype("<u4") << 16
        return wide.view("<f4").reshape(tensor.shape)
    return np.frombuffer(data, dtype=_NUMBERS[tensor.dtype]).reshape(tensor.shape)


def _floats(array: NDArray[Any]) -> Floats:
    return array.astype(np.float64)


def _indices(array: NDArray[Any], count: int, label: str) -> NDArray[np.int64]:
    outside = array[(array < 0) | (array >= count)]
    if len(outside):
        raise RouteError(f"{label}: index {int(outside[0])}, expected 0 to {count - 1}", code="router")
    return array.astype(np.int64)


def _tensor(array: NDArray[Any], dtype: str) -> Tensor:
    return Tensor.of_bytes(dtype, array.shape, np.ascontiguousarray(array, dtype=_NUMBERS[dtype]).tobytes())
