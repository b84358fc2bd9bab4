"""A corpus that is made of seeds, in two rounds: inputs like the seeds, then inputs for answers that are rare."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ual_registry.distillation.answers import answer, write_inputs
from ual_registry.distillation.balance import answer_groups, balanced, fine_groups
from ual_registry.distillation.generate import Sampling
from ual_registry.distillation.headings import Asked, asked_for, heading
from ual_registry.distillation.manner import Manner
from ual_registry.distillation.prompts import ROWS_OF_A_PROMPT, FewShot, Given, Prompts, Repeated
from ual_registry.distillation.report import Named
from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.distillation.texts import Kept, Rules, Text, keep_texts
from ual_registry.distillation.words import chosen_words, sure_words
from ual_registry.models.loaded import LoadedBase

__all__ = ["INPUTS", "TEXTS", "Asking", "numbered"]

INPUTS = "inputs.jsonl"
TEXTS = "texts.jsonl"
_TIMED = "timed.jsonl"
_WORDS = "words.json"

_FIRST_SHARE = 0.2
"""How many inputs, of all that are wanted, are written in the manner of the seeds before answers are looked at."""

_KEPT_SHARE = 0.85
"""Which share of the inputs that go on from a word is thought to be kept."""

_DRAWN: Mapping[str, Any] = {"temperature": 1.0, "top_p": 0.95}
"""How answers after the likeliest one are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a corpus is made of.

    Attributes:
        source: The source base model.
        adapter: The source adapter.
        writers: The base models that write inputs, in equal parts.
        seeds: Inputs of the kind that the adapter is made for.
        manner: How inputs are asked for and answered.
        sampling: How inputs are drawn.
        folder: Where texts are kept.
        rules: Which texts are kept.
        on_batch: Called after every batch with what is kept so far.
    """

    source: LoadedBase
    adapter: Named
    writers: Sequence[LoadedBase]
    seeds: SeedPrompts
    manner: Manner
    sampling: Sampling
    folder: Path
    rules: Rules = field(default_factory=Rules)
    on_batch: Callable[[Kept], None] | None = None

    def begin(self) -> int:
        """Write the first inputs, which ``texts`` goes on with, and answer them, to see how long both take.

        Returns:
            How many inputs were written.
        """
        seen: list[Kept] = []  # all that a batch gave: one text alone is asked for
        first = replace(self, on_batch=seen.append)._like_seeds(1)  # noqa: SLF001  # of a copy of itself
        said = dict.fromkeys(text for kept in seen for text in _said(kept))
        self._answered([self.seeds.prompt(text) for text in said], {"temperature": 0.0}, _TIMED)
        return first.counts["generated"]

    def texts(self, wanted: int) -> tuple[tuple[Text, ...], Mapping[str, int], Mapping[str, int]]:
        """Make texts; where answers are no labels, there is but one round.

        Args:
            wanted: How many at most.

        Returns:
            The texts, the counts of answers and the counts of inputs.
        """
        inputs_wanted = math.ceil(wanted / self.manner.answers)
        opened_wanted = round(self.manner.opened * inputs_wanted)
        first = self._like_seeds(math.ceil(_FIRST_SHARE * inputs_wanted))
        kept = self._answers(dict.fromkeys([*self.seeds.inputs, *_said(first)]), 1)
        groups = answer_groups(kept.texts)
        input_counts: Mapping[str, int]
        opened: Sequence[str] = ()
        if groups:
            opened, opened_counts = self._opened(opened_wanted)
            asked = fine_groups(groups) if self.manner.is_fine else groups
            more = self._for_answers(asked, inputs_wanted - min(opened_wanted, len(opened)))
            input_counts = _added(_added(first.counts, more.counts), opened_counts)
        else:
            every_input, known = self._like_seeds(inputs_wanted), {text.digest for text in first.texts}
            more = Kept(tuple(own for own in every_input.texts if own.digest not in known), every_input.counts)
            input_counts = every_input.counts
        others = self._answers(dict.fromkeys([*_said(more), *opened]), 2)
        drawn = [self._drawn([*kept.texts, *others.texts], number) for number in range(1, self.manner.answers)]
        every = keep_texts([text for own in (kept, others, *drawn) for text in own.texts], self.rules).texts
        counts = dict(others.counts)
        for own in (kept, *drawn):
            counts = _added(own.counts, counts)
        return balanced(every, wanted), counts, input_counts

    def _like_seeds(self, wanted: int) -> Kept:
        """Return inputs like the seeds; those of a smaller number are the first of a larger one's."""
        share = math.ceil(wanted / len(self.writers))
        return self._written([FewShot(self.seeds)] * len(self.writers), 1, share)

    def _for_answers(self, groups: Mapping[str, Sequence[Text]], wanted: int) -> Kept:
        """Return inputs that are asked for by their answers, each prompt gone on with by one of the writers."""
        asked = self._asked(groups, wanted)
        parts = [Repeated(asked[number :: len(self.writers)]) for number in range(len(self.writers))]
        return self._written(parts, 2, None)

    def _opened(self, wanted: int) -> tuple[list[str], Mapping[str, int]]:
        """Return inputs that go on from words which the adapter has a sure answer to, and their counts."""
        if not wanted:
            return [], {}
        seed, lists = self.sampling.seed, FewShot(self.seeds)
        found = sure_words(self.source, self.adapter, self.seeds, seed=seed, file=self.folder / _WORDS)
        words = chosen_words(found, math.ceil(wanted / _KEPT_SHARE), seed=seed)
        opening = {f"{lists.batch(place // self._rows, 1, seed)[0]} {word}": word for place, word in enumerate(words)}
        prompts = tuple(opening)
        parts = [Given(prompts[number :: len(self.writers)]) for number in range(len(self.writers))]
        made = self._written(parts, 3, None, is_begun=True)
        return [f"{opening[text.prompt]}{text.completion}".strip() for text in made.texts], made.counts

    def _written(self, prompts: Sequence[Prompts], round_: int, wanted: int | None, *, is_begun: bool = False) -> Kept:
        """Let every writer go on with its prompts; where no number is wanted, until they run out."""
        found = Kept((), {})
        for number, (writer, own) in enumerate(zip(self.writers, prompts, strict=True)):
            name = numbered(INPUTS, round_) if number == 0 else numbered(f"inputs-by-{number + 1}.jsonl", round_)
            most = wanted if wanted is not None else _every(own, self._rows)
            made = write_inputs(
                writer,
                self.seeds,
                self.sampling,
                self.folder / name,
                wanted=most,
                prompts=own,
                is_begun=is_begun,
                on_batch=self.on_batch,
            )
            found = Kept((*found.texts, *made.texts), _added(made.counts, found.counts))
        return found

    def _answers(self, inputs: Iterable[str], number: int) -> Kept:
        return self._answered(
            [self.seeds.prompt(text) for text in inputs], {"temperature": 0.0}, numbered(TEXTS, number)
        )

    def _drawn(self, texts: Sequence[Text], number: int) -> Kept:
        """Draw one more answer to every prompt that was answered."""
        how = {**_DRAWN, "seed": self.sampling.seed + number}
        return self._answered(list(dict.fromkeys(text.prompt for text in texts)), how, f"drawn-{number}.jsonl")

    def _answered(self, prompts: Sequence[str], how: Mapping[str, Any], name: str) -> Kept:
        most = min(self.sampling.max_tokens, self.seeds.answer_tokens or self.sampling.max_tokens)
        # Prompts of like length are answered together, so that little of a batch is padding.
        return answer(
            self.source,
            self.adapter,
            tuple(sorted(prompts, key=len)),
            replace(self.sampling, max_tokens=most, **how),
            self.folder / name,
            rules=self.rules,
            on_batch=self.on_batch,
        )

    @property
    def _rows(self) -> int:
        """How many inputs go on from one prompt."""
        return min(self.sampling.batch_size, ROWS_OF_A_PROMPT)

    def _asked(self, groups: Mapping[str, Sequence[Text]], wanted: int) -> tuple[str, ...]:
        """Return prompts that ask for inputs by their answers; seeds whose answer is in no group are not shown."""
        headings = [(heading(own), own) for own in groups.values()]
        names = {text.prompt: name for name, own in headings for text in own}
        shown = [
            Asked(names[prompt], text)
            for prompt, text in zip(self.seeds.prompts(), self.seeds.inputs, strict=True)
            if prompt in names
        ]
        separator, seed = FewShot(self.seeds).separator, self.sampling.seed
        return asked_for(headings, self.seeds, shown, wanted=wanted, size=self._rows, separator=separator, seed=seed)


def _every(prompts: Prompts, rows: int) -> int:
    """Return how many texts prompts that run out are gone on with."""
    if isinstance(prompts, Repeated):
        return len(prompts.texts) * rows
    assert isinstance(prompts, Given)  # the others go on for ever
    return len(prompts.texts)


def numbered(name: str, number: int) -> str:
    """Return the name of the file of a round."""
    return name if number == 1 else name.replace(".", f"-{number}.")


def _said(inputs: Kept) -> list[str]:
    """Return the inputs that were written."""
    return [text.completion.strip() for text in inputs.texts]


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: count + other.get(name, 0) for name, count in one.items()}
