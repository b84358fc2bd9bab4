"""The texts of a distillation, from the source alone: new inputs in the manner of the seeds, and its answers to them.

Inputs are written by the source base model, which has not forgotten how to write them; answers are given by source and
adapter. Without seeds, source and adapter run freely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ual_registry.distillation.generate import Sampling, generate_texts
from ual_registry.distillation.prompts import FewShot, Given, Prefixes
from ual_registry.distillation.report import Named
from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.distillation.texts import Kept, Rules, Text
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase

__all__ = ["Corpus", "answer", "make_corpus", "run_freely", "write_inputs"]

_INPUTS, _TEXTS = "inputs.jsonl", "texts.jsonl"


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
        sampling: How texts are drawn; ``stop`` ends answers.
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
        kept = run_freely(source, adapter, sampling, folder / _TEXTS, wanted=wanted, rules=rules, on_batch=on_batch)
        return Corpus(texts=kept.texts, counts=kept.counts, input_counts={})
    inputs = write_inputs(source, seeds, sampling, folder / _INPUTS, wanted=wanted, on_batch=on_batch)
    prompts = tuple(seeds.prompt(text.completion.strip()) for text in inputs.texts)
    kept = answer(source, adapter, prompts, sampling, folder / _TEXTS, rules=rules, on_batch=on_batch)
    return Corpus(texts=kept.texts, counts=kept.counts, input_counts=inputs.counts)


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
    prompts = FewShot(seeds)
    return generate_texts(
        source.model,
        source.text_tokenizer,
        prompts,
        replace(sampling, stop=(prompts.separator,)),
        file,
        wanted=wanted,
        rules=Rules(by_completion=True),
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
