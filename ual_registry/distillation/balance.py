"""Inputs for every answer: where an adapter has few answers, those that it seldom gives are asked for on purpose.

Seeds are few, and inputs in their manner lean to some answers. Inputs that were answered alike, put into one list, are
gone on with by others of their kind; so no answer has to be named, and no data of the task is seen. Nothing here loads
a framework.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from ual_registry.distillation.texts import Text

__all__ = ["answer_groups", "balanced", "lists_of_rare"]

_MOST_ANSWERS = 64
_TEXTS_OF_AN_ANSWER = 4
"""How many texts there are for an answer on the average at least, where answers are taken for labels."""

_YIELD = 0.5
"""Which share of the inputs of a list is thought to be answered as those in it were."""


def answer_groups(texts: Sequence[Text]) -> dict[str, list[Text]]:
    """Group texts by the first word of the answer; nothing where there are too many answers to be labels."""
    found: dict[str, list[Text]] = {}
    for text in texts:
        found.setdefault(next(iter(text.completion.casefold().split()), ""), []).append(text)
    most = min(_MOST_ANSWERS, len(texts) // _TEXTS_OF_AN_ANSWER)
    return dict(sorted(found.items())) if 1 < len(found) <= most else {}


def lists_of_rare(
    groups: Mapping[str, Sequence[str]], seeds: Sequence[str], *, wanted: int, listed: int, size: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    """Return lists of inputs that were answered alike, more of them the fewer there are.

    Args:
        groups: Inputs by answer.
        seeds: One stands first in every list, so that inputs do not drift away from their manner; more of them where
            there are too few inputs.
        wanted: How many inputs are wanted in all, as many for each answer.
        listed: Inputs of a list.
        size: How many inputs each list is gone on with by.
        seed: Decides which inputs are listed.
    """
    chosen, share, found = random.Random(f"{seed}-lists"), wanted / len(groups), []  # noqa: S311  # nothing is secret
    for inputs in groups.values():
        for number in range(math.ceil(max(0.0, share - len(inputs)) / (_YIELD * size))):
            own = chosen.sample(list(inputs), min(max(1, listed - 1), len(inputs)))
            fill = chosen.sample(list(seeds), min(len(seeds), listed - len(own)))
            found.append((number, tuple(fill + own)))
    # In turn, so that a run that stops early has asked for every answer.
    return tuple(own for _, own in sorted(found, key=lambda item: item[0]))


def balanced(texts: Sequence[Text], wanted: int) -> tuple[Text, ...]:
    """Choose texts so that every answer has as many as there are, up to the same number; in their order.

    Args:
        texts: The texts.
        wanted: How many at most.
    """
    groups = answer_groups(texts)
    if not groups or len(texts) <= wanted:
        return tuple(texts[:wanted])
    turns = sorted((turn, index) for own in _places(texts, groups) for turn, index in enumerate(own))
    return tuple(texts[index] for index in sorted(index for _, index in turns[:wanted]))


def _places(texts: Sequence[Text], groups: Mapping[str, Sequence[Text]]) -> list[list[int]]:
    """Return the indices of the texts of each group."""
    owner = {id(text): name for name, own in groups.items() for text in own}
    found: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        found.setdefault(owner[id(text)], []).append(index)
    return list(found.values())
