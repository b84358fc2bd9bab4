"""Older majors become ours as documents, one small function per step, before any schema sees them (spec: versions).

There is one major so far, hence no step. A step takes the document of one major and returns that of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ual_registry.air.versions import AIR_VERSION, parse_version

__all__ = ["STEPS", "Step", "upgrade"]

Step = Callable[[dict[str, Any]], dict[str, Any]]

STEPS: dict[int, Step] = {}
"""The function that takes a document from a major to the next, by the major that it starts from."""


def upgrade(document: dict[str, Any], *, steps: Mapping[int, Step] = STEPS) -> dict[str, Any] | None:
    """Bring a document to our major.

    Args:
        document: A parsed manifest with a legal ``air_version``.
        steps: The steps that are known.

    Returns:
        The document of our major; ``None`` where no chain of steps leads there.
    """
    major, own = parse_version(document["air_version"])[0], parse_version(AIR_VERSION)[0]
    while major < own and major in steps:
        document = steps[major](document)
        major = parse_version(document["air_version"])[0]
    return document if major == own else None
