"""The texts of a distillation, from the source alone: new inputs in the manner of the seeds, and its answers to them.

Inputs are written by the source base model, which has not forgotten how to write them; answers are given by source and
adapter, the likeliest ones: what else they might have said is in their scores. Without seeds, source and adapter run
freely; where that only repeats itself, the source writes openings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ual_registry.distillation.balance import answer_groups, balanced
from ual_registry.distillation.generate import Sampling, generate_texts
from ual_registry.distillation.headings import Asked, asked_for, heading
from ual_registry.distillation.prompts import FewShot, Given, Prefixes, Prompts, Repeated
from ual_registry.distillation.report import Named
from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.distillation.texts import Kept, Rules, Text, keep_texts
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase

__all__ = ["Corpus", "answer", "begin_corpus", "make_corpus", "run_freely", "write_inputs"]

_INPUTS, _TEXTS = "inputs.jsonl", "texts.jsonl"

_LONGEST_INPUT, _TAIL_TOKENS = 2, 8
"""An input has at most as many times the tokens of the longest seed, and as many more; what goes on is rambling."""

_SHORTEST_INPUT = 0.5
"""An input has at least so many times the words of the shortest seed: less is seldom something to answer."""

_REPETITIVE_SHARE = 0.5
"""From which share of repetitive texts on an adapter is thought not to write by itself: it was taught brief answers."""

_OPENING_TOKENS, _BRIEF_TOKENS = 24, 8
"""How many tokens the source writes for such an adapter, and how many the adapter adds before it repeats itself."""

_FIRST_SHARE = 0.2
"""How many inputs, of all that are wanted, are written in the manner of the seeds before answers are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Generated texts, and what was left out of them.

    Attributes:
        texts: The texts to train on.
        counts: Texts generated, kept, and left out by reason.
        input_counts: The same for inputs; empty where the source ran freely.
    """

    texts: tuple[Text, ...]
    counts: Mapping[str, int]
    input_counts: Mapping[str, int]


def make_corpus(
    source: LoadedBase,
    adapter: Named,
    seeds: SeedPrompts | None,
    sampling: Sampling,
    folder: Path,
    *,
    wanted: int,
    rules: Rules | None = None,
    on_batch: Callable[[Kept], None] | None = None,
) -> Corpus:
    """Generate the texts of a distillation, going on from the folder where it has some.

    Args:
        source: The source base model.
        adapter: The source adapter.
        seeds: Inputs of the kind that the adapter is made for; without them source and adapter run freely.
        sampling: How inputs and free texts are drawn; ``stop`` ends answers.
        folder: Where texts are kept.
        wanted: How many texts are to be kept.
        rules: Which texts are kept.
        on_batch: Called after every batch with what is kept so far.

    Raises:
        UALError: As ``generate.generate_texts`` and ``models.attach.attach``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rules = rules or Rules()
    if seeds is None:
        return _make_freely(source, adapter, sampling, folder, rules, wanted, on_batch)
    asking = _Asking(source, adapter, seeds, sampling, folder, rules, on_batch)
    return asking.corpus(wanted)


def _make_freely(  # noqa: PLR0917  # what make_corpus is given, without seeds
    source: LoadedBase,
    adapter: Named,
    sampling: Sampling,
    folder: Path,
    rules: Rules,
    wanted: int,
    on_batch: Callable[[Kept], None] | None,
) -> Corpus:
    """Let source and adapter write; one that only knows how to answer is given openings that the source has written."""
    file = folder / _TEXTS
    begun = run_freely(source, adapter, sampling, file, wanted=1, rules=rules)
    if begun.counts["repetitive"] <= _REPETITIVE_SHARE * begun.counts["generated"]:
        kept = run_freely(source, adapter, sampling, file, wanted=wanted, rules=rules, on_batch=on_batch)
        return Corpus(texts=kept.texts, counts=kept.counts, input_counts={})
    openings = generate_texts(
        source.model,
        source.text_tokenizer,
        Prefixes(),
        replace(sampling, max_tokens=_OPENING_TOKENS, stop=()),
        folder / _INPUTS,
        wanted=wanted,
        rules=Rules(),
        material=_material(source, None),
        on_batch=on_batch,
    )
    prompts = tuple(sorted((text.completion for text in openings.texts), key=len))
    brief, file = replace(sampling, max_tokens=_BRIEF_TOKENS, temperature=0.0), folder / _numbered(_TEXTS, 2)
    kept = answer(source, adapter, prompts, brief, file, rules=rules, on_batch=on_batch)
    return Corpus(texts=kept.texts, counts=kept.counts, input_counts=openings.counts)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A corpus that is made of seeds, in two rounds: inputs like the seeds, and inputs for answers that are rare."""

    source: LoadedBase
    adapter: Named
    seeds: SeedPrompts
    sampling: Sampling
    folder: Path
    rules: Rules
    on_batch: Callable[[Kept], None] | None

    def corpus(self, wanted: int) -> Corpus:
        """Make it; where answers are no labels, there is but one round."""
        first = math.ceil(_FIRST_SHARE * wanted)
        inputs = self._inputs(FewShot(self.seeds), 1, wanted=first)
        kept = self._answers(dict.fromkeys([*self.seeds.inputs, *_said(inputs)]), 1)
        groups = answer_groups(kept.texts)
        if groups:
            asked = self._asked(groups, wanted)
            more = self._inputs(asked, 2, wanted=len(asked.texts) * self.sampling.batch_size)
        else:
            more = self._inputs(FewShot(self.seeds), 1, wanted=wanted)
            more = Kept(more.texts[len(inputs.texts) :], more.counts)
        others = self._answers(_said(more), 2)
        both = keep_texts((*kept.texts, *others.texts), self.rules).texts
        return Corpus(
            texts=balanced(both, wanted),
            counts=_added(kept.counts, others.counts),
            input_counts=_added(inputs.counts, more.counts) if groups else more.counts,
        )

    def _inputs(self, prompts: Prompts, number: int, *, wanted: int) -> Kept:
        return _write_inputs(
            self.source,
            self.seeds,
            prompts,
            self.sampling,
            self.folder / _numbered(_INPUTS, number),
            wanted,
            self.on_batch,
        )

    def _answers(self, inputs: Iterable[str], number: int) -> Kept:
        # Prompts of like length are answered together, so that little of a batch is padding.
        prompts = tuple(sorted((self.seeds.prompt(text) for text in inputs), key=len))
        most = min(self.sampling.max_tokens, self.seeds.answer_tokens or self.sampling.max_tokens)
        sampling, file = (
            replace(self.sampling, max_tokens=most, temperature=0.0),
            self.folder / _numbered(_TEXTS, number),
        )
        return answer(self.source, self.adapter, prompts, sampling, file, rules=self.rules, on_batch=self.on_batch)

    def _asked(self, groups: Mapping[str, Sequence[Text]], wanted: int) -> Repeated:
        """Return prompts that ask for inputs by their answers; seeds whose answer is in no group are not shown."""
        seeds, sampling = self.seeds, self.sampling
        headings = [(heading(own), own) for own in groups.values()]
        names = {text.prompt: name for name, own in headings for text in own}
        shown = [
            Asked(names[prompt], text)
            for prompt, text in zip(seeds.prompts(), seeds.inputs, strict=True)
            if prompt in names
        ]
        separator = FewShot(seeds).separator
        return Repeated(
            asked_for(
                headings,
                seeds,
                shown,
                wanted=wanted,
                size=sampling.batch_size,
                separator=separator,
                seed=sampling.seed,
            )
        )


def _said(inputs: Kept) -> list[str]:
    """Return the inputs that were written."""
    return [text.completion.strip() for text in inputs.texts]


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else name.replace(".", f"-{number}.")


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one[name] + other[name] for name in one}


def begin_corpus(
    source: LoadedBase, adapter: Named, seeds: SeedPrompts | None, sampling: Sampling, folder: Path
) -> int:
    """Generate the first batch of what ``make_corpus`` goes on with, such as to see how long it takes.

    Returns:
        How many texts it has: inputs without their answers where there are seeds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if seeds is None:
        kept = run_freely(source, adapter, sampling, folder / _TEXTS, wanted=1, rules=Rules())
    else:
        kept = write_inputs(source, seeds, sampling, folder / _INPUTS, wanted=1)
    return kept.counts["generated"]


def run_freely(
    source: LoadedBase,
    adapter: Named,
    sampling: Sampling,
    file: Path,
    *,
    wanted: int,
    rules: Rules,
    prefixes: tuple[str, ...] = ("",),
    on_batch: Callable[[Kept], None] | None = None,
) -> Kept:
    """Let source and adapter write from nothing, or from short prefixes in turn; see ``make_corpus``."""
    with attach(source.model, adapter.adapter):
        return generate_texts(
            source.model,
            source.text_tokenizer,
            Prefixes(prefixes),
            sampling,
            file,
            wanted=wanted,
            rules=rules,
            material=_material(source, adapter),
            on_batch=on_batch,
        )


def write_inputs(
    source: LoadedBase,
    seeds: SeedPrompts,
    sampling: Sampling,
    file: Path,
    *,
    wanted: int,
    on_batch: Callable[[Kept], None] | None = None,
) -> Kept:
    """Let the source base model go on with lists of the seeds; see ``make_corpus``."""
    return _write_inputs(source, seeds, FewShot(seeds), sampling, file, wanted, on_batch)


def _write_inputs(  # noqa: PLR0917  # what write_inputs is given, and where prompts come from
    source: LoadedBase,
    seeds: SeedPrompts,
    prompts: Prompts,
    sampling: Sampling,
    file: Path,
    wanted: int,
    on_batch: Callable[[Kept], None] | None,
) -> Kept:
    tokenizer = source.text_tokenizer
    longest = max(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in seeds.inputs)
    fewest = min(len(text.split()) for text in seeds.inputs)
    most = min(sampling.max_tokens, _LONGEST_INPUT * longest + _TAIL_TOKENS)
    return generate_texts(
        source.model,
        tokenizer,
        prompts,
        replace(sampling, max_tokens=most, stop=(FewShot(seeds).separator,)),
        file,
        wanted=wanted,
        rules=Rules(by_completion=True, min_words=math.ceil(_SHORTEST_INPUT * fewest), is_whole=True),
        material=_material(source, None),
        on_batch=on_batch,
    )


def answer(
    source: LoadedBase,
    adapter: Named,
    prompts: tuple[str, ...],
    sampling: Sampling,
    file: Path,
    *,
    rules: Rules,
    on_batch: Callable[[Kept], None] | None = None,
) -> Kept:
    """Let source and adapter answer every prompt once; see ``make_corpus``."""
    with attach(source.model, adapter.adapter):
        return generate_texts(
            source.model,
            source.text_tokenizer,
            Given(prompts),
            sampling,
            file,
            wanted=len(prompts),
            rules=rules,
            material=_material(source, adapter),
            on_batch=on_batch,
        )


def _material(source: LoadedBase, adapter: Named | None) -> dict[str, str | None]:
    return {
        "base_config": source.base.config_digest,
        "base_weights": source.base.weights_digest,
        "adapter": None if adapter is None else str(adapter.digest),
    }
