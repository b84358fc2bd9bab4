"""What follows from entries and tensor table alone, worked out once for all files of one recipe.

Files of one recipe share these two as the very same objects, because whoever reads them knows them again by their
bytes (``held_entries``, ``plain_header``). Of larger ones nothing is remembered, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ual_registry.air.model import Manifest
from ual_registry.air.problem import Problem
from ual_registry.air.recall import Memory, Same
from ual_registry.air.rules import rule_problems
from ual_registry.air.sweep import Route, plan_route
from ual_registry.air.tensor import Shaped, TensorInfo

__all__ = ["recipe_problems", "recipe_route"]

_MOST_ENTRIES = 1024
_MOST_ROWS = 16 * 5 * _MOST_ENTRIES  # entries and tensors together, as many as 16 of the largest have
_PROBLEMS: Memory[tuple[Problem, ...]] = Memory(_MOST_ROWS)
_ROUTES: Memory[Route | None] = Memory(_MOST_ROWS)


def recipe_problems(manifest: Manifest, shapes: Mapping[str, Shaped]) -> tuple[Problem, ...]:
    """Return every fault and warning of a manifest that follows its schema; see ``rule_problems``.

    Args:
        manifest: The manifest.
        shapes: dtype and shape of every tensor of the file.
    """
    if not _is_small(manifest, shapes):
        return tuple(rule_problems(manifest, shapes))
    # The rules get nothing but what stands in the key.
    bare = Manifest(
        air_version=manifest.air_version,
        kind=manifest.kind,
        base_model=manifest.base_model,
        method=manifest.method,
        entries=manifest.entries,
        extra=manifest.extra,
        features=manifest.features,
    )
    key = (bare.air_version, bare.kind, bare.base_model, bare.method, bare.extra, bare.features)
    return _PROBLEMS.get(
        (*key, *_same(manifest, shapes)), lambda: tuple(rule_problems(bare, shapes)), weight=_rows(manifest, shapes)
    )


def recipe_route(
    manifest: Manifest, infos: Mapping[str, TensorInfo], check_finite: Callable[[], Collection[str]]
) -> Route | None:
    """Return how to read the tensors of a file; see ``plan_route``.

    Args:
        manifest: The manifest.
        infos: The tensor table.
        check_finite: Tells the names of the tensors whose numbers must be finite, from the entries and the table.
    """
    if not _is_small(manifest, infos):
        return plan_route(infos, check_finite())
    return _ROUTES.get(_same(manifest, infos), lambda: plan_route(infos, check_finite()), weight=_rows(manifest, infos))


def _is_small(manifest: Manifest, shapes: Mapping[str, Shaped]) -> bool:
    return len(manifest.entries) <= _MOST_ENTRIES and len(shapes) <= 4 * _MOST_ENTRIES


def _rows(manifest: Manifest, shapes: Mapping[str, Shaped]) -> int:
    return len(manifest.entries) + len(shapes)


def _same(manifest: Manifest, shapes: Mapping[str, Shaped]) -> tuple[Same, Same]:
    return Same(manifest.entries), Same(shapes)
