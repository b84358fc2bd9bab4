"""Find which fields of a config give the dimensions, by what happens to the sizes when fields change.

A way is kept where it yields the right number for the config and for every changed config. Of several ways that are
right everywhere the simplest is taken, and among equally simple ones the one whose field is named like the dimension.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ual_registry.binders.model import Way
from ual_registry.tracing.fields import candidates, evaluate, fields_of, is_number
from ual_registry.tracing.perturb import ROTATED, Sample

__all__ = ["Solution", "rank", "solve"]

_WORDS = {
    "hidden_size": ("hidden", "embd", "d_model", "dim"),
    "num_layers": ("layer", "depth", "block"),
    "num_attention_heads": ("attention_heads", "heads", "head"),
    "num_key_value_heads": ("key_value", "kv", "heads", "head"),
    "head_dim": ("head_dim", "kv", "head"),
    "value_head_dim": ("v_head", "value"),
    "rotary_head_dim": ("rope", "rotary"),
    "intermediate_size": ("intermediate_size", "intermediate", "inner", "ff", "mlp"),
    "expert_intermediate_size": ("moe", "expert", "intermediate"),
    "shared_intermediate_size": ("shared", "intermediate"),
    "num_experts": ("experts", "expert"),
    "vocab_size": ("vocab",),
}
_OTHER_SIDE = {"encoder": "decoder", "decoder": "encoder"}


@dataclass(slots=True)
class Solution:
    """The ways of one stack's dimensions.

    Attributes:
        ways: The way of each dimension.
        fraction: The way of the rotated share of a head, where something rotates.
        fallbacks: What gives a dimension where the field of its way is left out.
        by_name: Dimensions where only a name decided between equally good ways, with the other ways.
        unsolved: Dimensions that no way explains for all configs, with their size.
    """

    ways: dict[str, Way] = field(default_factory=dict)
    fraction: Way | None = None
    fallbacks: dict[str, Way] = field(default_factory=dict)
    by_name: dict[str, list[Way]] = field(default_factory=dict)
    unsolved: dict[str, float] = field(default_factory=dict)


def solve(root: str, seen: Sequence[Sample], stubborn: Iterable[str], *, side: str | None = None) -> Solution:
    """Return the ways of a stack's dimensions.

    Args:
        root: Path of the stack's blocks; ``""`` for what stands outside the blocks.
        seen: The config and the changed configs, with the sizes of their models.
        stubborn: Fields that cannot be changed alone.
        side: ``encoder`` or ``decoder``, which field names may hold.
    """
    solution = Solution()
    for name, size in seen[0].sizes[root].items():
        proven, unproven = _fields(name, root, seen, stubborn)
        values = seen[0].values
        numbers = {path: values[path] for path in values if path in proven | unproven and _is_size(values[path])}
        right = [item for item in candidates(size, numbers) if _is_right(item[1], name, root, seen)]
        ranked = sorted(
            (_doubts(item.way, unproven), cost, _strangeness(name, item.way, side), item)
            for cost, item in _keyed(right)
        )
        if not ranked:
            solution.unsolved[name] = size
            continue
        solution.ways[name] = ranked[0][-1].way
        equal = [item[-1].way for item in ranked[1:] if item[:2] == ranked[0][:2]]
        if equal:
            solution.by_name[name] = equal
    _solve_fraction(solution, root, seen)
    return solution


@dataclass(frozen=True, order=True)
class _Keyed:
    """A way that can be sorted."""

    text: str
    way: Way = field(compare=False)


def _keyed(ways: Iterable[tuple[int, Way]]) -> Iterator[tuple[int, _Keyed]]:
    for cost, way in ways:
        yield cost, _Keyed(str(way), way)


def rank(name: str, ways: Iterable[tuple[int, Way]], side: str | None) -> list[Way]:
    """Return ways, the simplest and best named ones first.

    Args:
        name: The dimension.
        ways: Ways with their complexity.
        side: ``encoder`` or ``decoder``, which field names may hold.
    """
    ranked = sorted((cost, _strangeness(name, item.way, side), item) for cost, item in _keyed(ways))
    return [item.way for _, _, item in ranked]


def _solve_fraction(solution: Solution, root: str, seen: Sequence[Sample]) -> None:
    """Find the rotated share of a head: all of it, a field of its own, or a width that is a dimension of its own."""
    rotated = seen[0].sizes[root].get(ROTATED)
    width = solution.ways.pop(ROTATED, None)
    solution.by_name.pop(ROTATED, None)
    solution.unsolved.pop(ROTATED, None)
    if rotated is None:
        return
    shares = [name for name, value in seen[0].values.items() if isinstance(value, float) and 0 < value <= 1]
    ways: list[Way] = [1, *sorted(shares, key=lambda name: "rotary" not in name)]
    if "rotary_head_dim" in solution.ways:
        width = solution.ways["rotary_head_dim"]
    if width is not None and "head_dim" in solution.ways:
        ways.append({"quotient": [width, solution.ways["head_dim"]]})
    solution.fraction = next((way for way in ways if _is_share(way, root, seen)), None)
    if solution.fraction is None:
        solution.unsolved["rotary_fraction"] = rotated / seen[0].sizes[root]["head_dim"]


def _is_share(way: Way, root: str, seen: Sequence[Sample]) -> bool:
    """Tell whether a way gives the rotated share everywhere; the rotated features are whole pairs."""
    for item in seen:
        sizes = item.sizes.get(root, {})
        if ROTATED in sizes:
            share = evaluate(way, item.values)
            if share is None or int(sizes["head_dim"] * share) // 2 * 2 != sizes[ROTATED]:
                return False
    return True


def _fields(
    name: str, root: str, seen: Sequence[Sample], stubborn: Iterable[str]
) -> tuple[frozenset[str | None], frozenset[str | None]]:
    """Return the fields whose change changed a dimension, and those of which that is not known."""
    size = seen[0].sizes[root][name]
    changed = {item.field for item in seen[1:] if item.sizes.get(root, {}).get(name, size) != size}
    unknown = {item.field for item in seen[1:] if name not in item.sizes.get(root, {})}
    return frozenset(changed), frozenset(unknown | set(stubborn))


def _is_size(value: Any) -> bool:
    return is_number(value) and value > 0


def _is_right(way: Way, name: str, root: str, seen: Sequence[Sample]) -> bool:
    sizes = ((item.sizes.get(root, {}).get(name), item.values) for item in seen[1:])
    return all(size is None or evaluate(way, values) == size for size, values in sizes)


def _doubts(way: Way, unproven: Iterable[str | None]) -> int:
    """Return how many of a way's fields could not be watched."""
    return len(set(fields_of(way)) & set(unproven))


def _strangeness(name: str, way: Way, side: str | None) -> tuple[int, int]:
    """Return how little a way's fields sound like a dimension; smaller is better."""
    text = str(way).lower()
    if text == name:
        return (-1, 0)
    words = _WORDS.get(name, (name,))
    position = next((index for index, word in enumerate(words) if word in text), len(words))
    return (position, int(side is not None and _OTHER_SIDE[side] in text))
