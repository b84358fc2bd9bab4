"""Which layers an adapter touches, in the few words and signs that people read: ranges, strips, groups by role.

A manifest can speak of a billion layers; what is made of it here takes the time of the layers that are held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ual_registry.air.model import Entry, Manifest
from ual_registry.air.roles import ROLES

__all__ = ["entries_by_role", "layer_ranges", "layer_strip", "layers_text"]

_MAX_RANGES = 3


def entries_by_role(manifest: Manifest) -> dict[tuple[str | None, str], list[Entry]]:
    """Return the entries by stack and role, in the order of the stacks and of the role table."""
    stacks, roles = [stack.name for stack in manifest.base_model.stacks], [*ROLES]
    groups: dict[tuple[str | None, str], list[Entry]] = {}
    for entry in manifest.entries:
        groups.setdefault((entry.stack, entry.role), []).append(entry)
    ordered = sorted(groups, key=lambda key: (stacks.index(key[0]), roles.index(key[1])))
    return {key: groups[key] for key in ordered}


def layer_strip(layers: Iterable[int], depth: int, per_character: int = 1) -> str:
    """Draw which of a stack's layers are held: ``#`` all, ``+`` some, ``.`` none of those that a character stands for.

    >>> layer_strip((0, 1, 4), 6), layer_strip((0, 1, 4), 6, per_character=2)
    ('##..#.', '#.+')
    >>> layer_strip((), 6)
    ''
    """
    counts = Counter(layer // per_character for layer in set(layers))
    if not counts:
        return ""
    groups = range(-(-depth // per_character))
    sizes = ((group, min(per_character, depth - group * per_character)) for group in groups)
    return "".join("#" if counts[group] >= size else "+" if counts[group] else "." for group, size in sizes)


def layer_ranges(layers: Iterable[int], whole: int | None = None) -> str:
    """Write layers or experts as ranges where those are few, else how many there are.

    >>> layer_ranges((0, 1, 2, 5, 7, 8)), layer_ranges(()), layer_ranges((0, 2, 4, 6), 8)
    ('0-2, 5, 7-8', '-', '4 of 8')
    """
    held = tuple(layers)
    text = layers_text(held)
    if text.count(",") < _MAX_RANGES:
        return text
    return f"{len(held)} of {whole}" if whole else str(len(held))


def layers_text(layers: Iterable[int]) -> str:
    """Write layers as ranges.

    >>> layers_text((0, 1, 2, 5, 7, 8))
    '0-2, 5, 7-8'
    >>> layers_text(())
    '-'
    """
    ranges: list[list[int]] = []
    for layer in layers:
        if ranges and layer == ranges[-1][1] + 1:
            ranges[-1][1] = layer
        else:
            ranges.append([layer, layer])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges) or "-"
