"""Inputs asked for by their answer: seeds under the answers that they got, and then the answer of the input to write.

A model that reads "Topic: travel", after other topics with a request each, writes a request about travel. So the
adapter's own answers say what to ask it about; none has to be named, and no data of the task is seen. Where an answer
means nothing to the model, inputs that got it stand under it too. Nothing here loads a framework.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.distillation.texts import Text

__all__ = ["Asked", "asked_for", "heading"]

_COMMON_SHARE = 0.8
"""Which share of the answers of a group begins with its heading: what follows differs, and is no part of a label."""

_OWN_SHOWN = 2
"""How many inputs that got an answer are shown with it, beside the seeds."""

_YIELD = 0.8
"""Which share of the inputs that are asked for is thought to be used; what is answered otherwise serves others."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An input, and the answer that it got."""

    answer: str
    text: str


def heading(texts: Sequence[Text]) -> str:
    """Return the words that the answers of a group begin with."""
    answers = [tuple(text.completion.split()) for text in texts]
    found: tuple[str, ...] = ()
    for count in range(1, 1 + max(map(len, answers), default=0)):
        starts = Counter(words[:count] for words in answers if len(words) >= count)
        best, often = starts.most_common(1)[0]
        if often < _COMMON_SHARE * len(answers):
            break
        found = best
    return " ".join(found)


def asked_for(
    groups: Sequence[tuple[str, Sequence[Text]]],
    seeds: SeedPrompts,
    shown: Sequence[Asked],
    *,
    wanted: int,
    size: int,
    separator: str,
    seed: int,
) -> tuple[str, ...]:
    """Return prompts that ask for inputs, more of them for an answer the fewer inputs got it.

    Args:
        groups: The heading of each group of texts that were answered alike, and its texts; see ``heading``.
        seeds: Their template says what stands before an input and before an answer.
        shown: The seeds, with the answers that they got.
        wanted: How many inputs are wanted in all, as many for each answer.
        size: How many inputs are written for each prompt.
        separator: What stands after an input.
        seed: Decides what is shown, and in which order.
    """
    chosen, share = random.Random(f"{seed}-headings"), wanted / len(groups)  # noqa: S311  # nothing is secret here
    found = []
    for answer, texts in groups:
        inputs = [Asked(answer, seeds.input_of(text.prompt)) for text in texts]
        for turn in range(math.ceil(max(0.0, share - len(inputs)) / (_YIELD * size))):
            own = chosen.sample(inputs, min(_OWN_SHOWN, len(inputs)))
            others = chosen.sample(list(shown), len(shown))
            found.append((turn, _prompt(seeds.template, [*others, *own], answer, separator)))
    # In turn, so that a run that stops early has asked for every answer.
    return tuple(prompt for _, prompt in sorted(found, key=lambda item: item[0]))


def _prompt(template: str, shown: Sequence[Asked], answer: str, separator: str) -> str:
    before, _, after = template.partition("{input}")
    name = next(iter(after.strip().splitlines()), "Answer:")
    front = next(iter(reversed(before.strip().splitlines())), "-")
    blocks = [f"{name} {own.answer}\n{front} {own.text}{separator}\n" for own in shown]
    return "".join(blocks) + f"{name} {answer}\n{front}"
