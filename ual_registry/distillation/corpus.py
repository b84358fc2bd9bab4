"""The texts of a distillation: new inputs in the manner of the seeds, and what the source and its adapter answer.

Inputs are written by base models, which have not forgotten how to write them; answers are given by source and adapter,
the likeliest ones: what else they might have said is in their scores. Without seeds, source and adapter run freely;
where that only repeats itself, the source writes openings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ual_registry.distillation.answers import answer, text_material
from ual_registry.distillation.asking import INPUTS, TEXTS, Asking, numbered
from ual_registry.distillation.generate import Sampling, generate_texts
from ual_registry.distillation.manner import SOURCE, Manner
from ual_registry.distillation.prompts import Prefixes
from ual_registry.distillation.report import Named
from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.distillation.texts import Kept, Rules, Text
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase

__all__ = ["Corpus", "begin_corpus", "make_corpus", "run_freely"]

_REPETITIVE_SHARE = 0.5
"""From which share of repetitive texts on an adapter is thought not to write by itself: it was taught brief answers."""

_OPENING_TOKENS, _BRIEF_TOKENS = 24, 8
"""How many tokens the source writes for such an adapter, and how many the adapter adds before it repeats itself."""


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
    target: LoadedBase | None = None,
    manner: Manner | None = None,
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
        target: The target base model, where it is a writer.
        manner: How inputs are written and answered.
        rules: Which texts are kept.
        on_batch: Called after every batch with what is kept so far.

    Raises:
        UALError: As ``generate.generate_texts`` and ``models.attach.attach``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rules = rules or Rules()
    if seeds is None:
        return _make_freely(source, adapter, sampling, folder, rules, wanted, on_batch)
    manner = manner or Manner()
    asking = Asking(
        source=source,
        adapter=adapter,
        writers=_writers(manner, source, target),
        seeds=seeds,
        manner=manner,
        sampling=sampling,
        folder=folder,
        rules=rules,
        on_batch=on_batch,
    )
    texts, counts, input_counts = asking.texts(wanted)
    return Corpus(texts=texts, counts=counts, input_counts=input_counts)


def _writers(manner: Manner, source: LoadedBase, target: LoadedBase | None) -> list[LoadedBase]:
    models = [source if name == SOURCE else target for name in manner.writers]
    assert None not in models  # whoever lets the target write gives it
    return [model for model in models if model is not None]


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
    file = folder / TEXTS
    begun = run_freely(source, adapter, sampling, file, wanted=1, rules=rules)
    if begun.counts["repetitive"] <= _REPETITIVE_SHARE * begun.counts["generated"]:
        kept = run_freely(source, adapter, sampling, file, wanted=wanted, rules=rules, on_batch=on_batch)
        return Corpus(texts=kept.texts, counts=kept.counts, input_counts={})
    openings = generate_texts(
        source.model,
        source.text_tokenizer,
        Prefixes(),
        replace(sampling, max_tokens=_OPENING_TOKENS, stop=()),
        folder / INPUTS,
        wanted=wanted,
        rules=Rules(),
        material=text_material(source, None),
        on_batch=on_batch,
    )
    prompts = tuple(sorted((text.completion for text in openings.texts), key=len))
    brief, file = replace(sampling, max_tokens=_BRIEF_TOKENS, temperature=0.0), folder / numbered(TEXTS, 2)
    kept = answer(source, adapter, prompts, brief, file, rules=rules, on_batch=on_batch)
    return Corpus(texts=kept.texts, counts=kept.counts, input_counts=openings.counts)


def begin_corpus(
    source: LoadedBase,
    adapter: Named,
    seeds: SeedPrompts | None,
    sampling: Sampling,
    folder: Path,
    *,
    target: LoadedBase | None = None,
    manner: Manner | None = None,
) -> int:
    """Generate the first batch of what ``make_corpus`` goes on with, such as to see how long it takes.

    Returns:
        How many texts it has; where there are seeds these are inputs, and the time includes that of answering them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if seeds is None:
        return run_freely(source, adapter, sampling, folder / TEXTS, wanted=1, rules=Rules()).counts["generated"]
    manner = manner or Manner()
    writers = _writers(manner, source, target)
    asking = Asking(
        source=source, adapter=adapter, writers=writers, seeds=seeds, manner=manner, sampling=sampling, folder=folder
    )
    return asking.begin()


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
            material=text_material(source, adapter),
            on_batch=on_batch,
        )
