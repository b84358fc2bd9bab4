"""semantic-router over embeddings that were computed before; runs in an environment of its own.

    python semantic_router_worker.py QUESTION ANSWER

QUESTION is a numpy archive: texts and embeddings of examples with their routes, of queries to calibrate on with
theirs, and of queries to decide. ANSWER is one with the route of each of the last, and how sure the package is. All
settings are the package's own; its encoder hands out the embeddings, so that peers share one encoder.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def router_of(found: dict[str, Any]) -> Any:
    """Return a router of the package, calibrated where queries to calibrate on are given."""
    encoders = importlib.import_module("semantic_router.encoders")
    routes = importlib.import_module("semantic_router.route")
    routers = importlib.import_module("semantic_router.routers")
    known: dict[str, Any] = {}
    for part in ("train", "validation", "queries"):
        known |= dict(zip(found[f"{part}_texts"].tolist(), found[f"{part}_embeddings"], strict=True))

    class Known(encoders.DenseEncoder):  # type: ignore[misc, name-defined]  # a class of another environment
        """Hands out what was computed before."""

        def __call__(self, docs: list[Any]) -> list[Any]:
            return [known[text] for text in docs]

    texts: dict[str, list[str]] = {}
    for text, route in zip(found["train_texts"].tolist(), found["train_routes"].tolist(), strict=True):
        texts.setdefault(route, []).append(text)
    router = routers.IndexedRouter(
        encoder=Known(name="known"), routes=[routes.Route(name=name, utterances=own) for name, own in texts.items()]
    )
    if len(found["validation_texts"]):
        router.fit(found["validation_texts"].tolist(), found["validation_routes"].tolist())
    return router


def main(question: Path, answer: Path) -> None:
    """Decide every query."""
    with np.load(question) as archive:
        found = {name: archive[name] for name in archive.files}
    router = router_of(found)
    choices = [router(text, limit=1, threshold=float("-inf")) for text in found["queries_texts"].tolist()]
    np.savez(
        answer,
        routes=np.array([choice.name for choice in choices]),
        confidence=np.array([choice.confidence for choice in choices], dtype=np.float64),
        version=np.array(version("semantic-router")),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
