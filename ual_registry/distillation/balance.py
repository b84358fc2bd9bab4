"""Texts for every answer: what an adapter that has few answers says is grouped, and chosen from evenly.

Nothing here loads a framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ual_registry.distillation.texts import Text

__all__ = ["answer_groups", "balanced", "fine_groups"]

_MOST_ANSWERS = 64
_TEXTS_OF_AN_ANSWER = 4
"""How many texts there are for an answer on the average at least, where answers are taken for labels."""


def answer_groups(texts: Sequence[Text]) -> dict[str, list[Text]]:
    """Group texts by the first word of the answer; nothing where there are too many answers to be labels."""
    found: dict[str, list[Text]] = {}
    for text in texts:
        found.setdefault(next(iter(text.completion.casefold().split()), ""), []).append(text)
    most = min(_MOST_ANSWERS, len(texts) // _TEXTS_OF_AN_ANSWER)
    return dict(sorted(found.items())) if 1 < len(found) <= most else {}


def fine_groups(groups: Mapping[str, Sequence[Text]]) -> dict[str, list[Text]]:
    """Split groups word by word where enough texts have the same next word: `card` into `card arrival` and others.

    What is too rare to be a group of its own stays with the words before it. The largest groups are split first, until
    there are as many as are taken for labels.

    Args:
        groups: Texts by the beginning of their answer, such as ``answer_groups`` makes.
    """
    found = {name: list(own) for name, own in groups.items()}
    waiting = sorted(found, key=lambda name: (-len(found[name]), name))
    while waiting and len(found) < _MOST_ANSWERS:
        name = waiting.pop(0)
        parts = _by_next_word(name, found[name])
        if len(parts) < 2:
            continue
        del found[name]
        found |= parts
        longer = [own for own in parts if len(own.split()) > len(name.split())]
        waiting = sorted([*waiting, *longer], key=lambda own: (-len(found[own]), own))
    return dict(sorted(found.items()))


def _by_next_word(name: str, texts: Sequence[Text]) -> dict[str, list[Text]]:
    """Return the texts by one more word than a name has; those whose next word is rare keep the name."""
    count = len(name.split()) + 1
    parts: dict[str, list[Text]] = {}
    for text in texts:
        parts.setdefault(" ".join(text.completion.casefold().split()[:count]), []).append(text)
    common = {word: own for word, own in parts.items() if len(own) >= _TEXTS_OF_AN_ANSWER and word != name}
    rest = [text for word, own in parts.items() if word not in common for text in own]
    return common | ({name: rest} if rest else {})


def balanced(texts: Sequence[Text], wanted: int) -> tuple[Text, ...]:
    """Choose texts so that every answer has as many as there are, up to the same number; in their order.

    Which ones of an answer are chosen follows from their digests: texts may be sorted by length, and the first ones
    would be the shortest.

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
    """Return the indices of the texts of each group, by the digests of the texts."""
    owner = {id(text): name for name, own in groups.items() for text in own}
    found: dict[str, list[int]] = {}
    for index in sorted(range(len(texts)), key=lambda index: str(texts[index].digest)):
        found.setdefault(owner[id(texts[index])], []).append(index)
    return list(found.values())
