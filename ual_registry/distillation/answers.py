"""What source and adapter say to prompts, and what a base model writes as inputs: the two halves of a seeded corpus."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ual_registry.distillation.generate import Sampling, generate_texts
from ual_registry.distillation.prompts import FewShot, Given, Prompts
from ual_registry.distillation.report import Named
from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.distillation.texts import Kept, Rules
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase

__all__ = ["answer", "text_material", "write_inputs"]

_LONGEST_INPUT, _TAIL_TOKENS = 2, 8
"""An input has at most as many times the tokens of the longest seed, and as many more; what goes on is rambling."""

_SHORTEST_INPUT = 0.5
"""An input has at least so many times the words of the shortest seed: less is seldom something to answer."""


def write_inputs(
    writer: LoadedBase,
    seeds: SeedPrompts,
    sampling: Sampling,
    file: Path,
    *,
    wanted: int,
    prompts: Prompts | None = None,
    is_begun: bool = False,
    on_batch: Callable[[Kept], None] | None = None,
) -> Kept:
    """Let a base model write inputs like the seeds.

    Args:
        writer: The base model, without an adapter.
        seeds: How long an input may be, and how it ends, follows from them.
        sampling: How inputs are drawn.
        file: Where they are kept.
        wanted: How many are to be kept.
        prompts: What is gone on with; lists of the seeds where absent.
        is_begun: Whether the first word of each input stands in its prompt, which no other prompt is like.
        on_batch: Called after every batch with what is kept so far.

    Raises:
        UALError: As ``generate.generate_texts``.
    """
    tokenizer: Any = writer.text_tokenizer
    longest = max(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in seeds.inputs)
    fewest = min(len(text.split()) for text in seeds.inputs)
    most = min(sampling.max_tokens, _LONGEST_INPUT * longest + _TAIL_TOKENS)
    lists = FewShot(seeds)
    return generate_texts(
        writer.model,
        tokenizer,
        prompts or lists,
        replace(sampling, max_tokens=most, stop=(lists.separator,)),
        file,
        wanted=wanted,
        rules=Rules(
            by_completion=not is_begun, min_words=math.ceil(_SHORTEST_INPUT * fewest) - int(is_begun), is_whole=True
        ),
        material=text_material(writer, None),
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
    """Let source and adapter answer every prompt once.

    Args:
        source: The source base model.
        adapter: Its adapter.
        prompts: The prompts.
        sampling: How answers are drawn.
        file: Where they are kept.
        rules: Which ones are kept.
        on_batch: Called after every batch with what is kept so far.

    Raises:
        UALError: As ``generate.generate_texts`` and ``models.attach.attach``.
    """
    with attach(source.model, adapter.adapter):
        return generate_texts(
            source.model,
            source.text_tokenizer,
            Given(prompts),
            sampling,
            file,
            wanted=len(prompts),
            rules=rules,
            material=text_material(source, adapter),
            on_batch=on_batch,
        )


def text_material(base: LoadedBase, adapter: Named | None) -> dict[str, str | None]:
    """Return what texts depend on beside prompts and sampling: the model that writes them, and its adapter."""
    return {
        "base_config": base.base.config_digest,
        "base_weights": base.base.weights_digest,
        "adapter": None if adapter is None else str(adapter.digest),
    }
