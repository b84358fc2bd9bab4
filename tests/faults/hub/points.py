"""Where a push and a pull can be cut: every request of a clean run, before, in and after it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["PULL", "PUSH", "Point", "drawn", "points"]

PUSH = {
    "lfs": (
        *("model-info", "create-repo", "model-info", "validate-yaml", "preupload", "lfs-batch", "lfs-put", "lfs-put"),
        *("lfs-verify", "lfs-verify", "validate-yaml", "commit", "model-info", "create-tag"),
    ),
    "xet": (
        *("model-info", "create-repo", "model-info", "validate-yaml", "preupload", "xet-write-token", "cas-chunk"),
        *("cas-chunk", "cas-grant", "cas-xorb-put", "cas-shard", "validate-yaml", "commit", "model-info", "create-tag"),
    ),
}
"""What a push into a repository that is not there asks, by transport; uploads run side by side, in any order."""

_LOOKING = ("model-info", "resolve-get", "model-info", "resolve-get")
PULL = {
    "lfs": (*_LOOKING, "resolve-get", "cdn-get"),
    "xet": (*_LOOKING, "paths-info", "xet-read-token", "cas-reconstruction", "cas-xorb-get"),
}
"""What a pull of a PEFT pair asks: the pair's commit and configuration, the base model's, and the tensors."""

_READING: dict[str, Mapping[str, Any]] = {
    "before": {"cut": True},
    "in the answer": {"cut_after": 10},
    "reset in the answer": {"cut_after": 10, "reset": True},
}
_WRITING: dict[str, Mapping[str, Any]] = {
    "before": {"cut": True},
    "in the request": {"cut_request_after": 10},
    "after": {"cut": True, "after_effect": True},
    "in the answer": {"cut_after": 1},
}
_WRITES = ("create-", "validate-", "preupload", "commit", "lfs-", "cas-grant", "cas-xorb-put", "cas-shard")
_BODILESS = {"resolve-head": ("before",), "lfs-put": ("before", "in the request", "after")}
"""Endpoints whose answers have no body that could be cut."""

_SHARE = os.environ.get("UAL_FAULTS_CUTS", "6")
"""How many points of each are cut, or ``all``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place where the connection is cut.

    Attributes:
        transport: How large files travel.
        endpoint: The endpoint.
        nth: Which of its calls.
        way: When, in words.
    """

    transport: str
    endpoint: str
    nth: int
    way: str

    def __str__(self) -> str:
        return f"{self.transport}-{self.endpoint}-{self.nth}-{self.way}"

    @property
    def fault(self) -> Mapping[str, Any]:
        """What goes wrong there."""
        return (_WRITING if self.endpoint.startswith(_WRITES) else _READING)[self.way]


_T = TypeVar("_T")


def drawn(cases: Sequence[_T], *, count: int, seed: int) -> list[_T]:
    """Return ``count`` of some cases, drawn by ``seed`` and in their order; all of them where all are asked for."""
    if _SHARE == "all" or count >= len(cases):
        return list(cases)
    return [cases[place] for place in sorted(random.Random(seed).sample(range(len(cases)), count))]


def points(requests: Mapping[str, tuple[str, ...]], *, seed: int, share: float = 1.0) -> list[Point]:
    """Return the points at which a run is cut: for each transport six of them drawn by ``seed``, or all.

    Args:
        requests: The endpoints that a clean run asks, by transport.
        seed: Draws them.
        share: What part of the usual number is drawn.
    """
    found: list[Point] = []
    for transport, endpoints in requests.items():
        every = list(_every(transport, endpoints))
        found += drawn(every, count=len(every) if _SHARE == "all" else round(share * int(_SHARE)), seed=seed)
    return found


def _every(transport: str, endpoints: tuple[str, ...]) -> Iterator[Point]:
    for place, endpoint in enumerate(endpoints):
        ways = _BODILESS.get(endpoint) or (_WRITING if endpoint.startswith(_WRITES) else _READING)
        nth = endpoints[: place + 1].count(endpoint)
        yield from (Point(transport=transport, endpoint=endpoint, nth=nth, way=way) for way in ways)
