"""Teach a base model what an adapter of another one says, and let an adapter carry the prompts to ask it about.

It decides where the adapter, the base models and the seeds come from; the steps are those of ``distill_steps``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read, verify
from ual_registry.air.write import file_digest, write
from ual_registry.digest import Digest
from ual_registry.distillation.manner import Manner
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.distillation.seeds import SeedPrompts, checked_seeds, seeds_of
from ual_registry.workflows.distill_steps import AUTO_WARM, DistillSteps
from ual_registry.workflows.extras import need_transformers
from ual_registry.workflows.references import locate

if TYPE_CHECKING:
    from ual_registry.distillation.generate import Sampling
    from ual_registry.distillation.run import DistillationResult
    from ual_registry.models.loaded import LoadedBase

__all__ = ["distill_adapter", "set_seeds"]


def distill_adapter(
    source: Adapter | str | Path | Named,
    source_base: LoadedBase | str | Path,
    target: LoadedBase | str | Path,
    *,
    folder: str | Path,
    seeds: SeedPrompts | Sequence[str] | None = None,
    warm: Adapter | Literal["auto"] | None = AUTO_WARM,
    recipe: Recipe | None = None,
    manner: Manner | None = None,
    sampling: Sampling | None = None,
    texts: int | None = None,
    budget_s: float | None = None,
    is_any_base: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> DistillationResult:
    """Make an adapter for another base model by training it on what source and adapter say.

    A cold start and a warm one are trained at the same budget. Both are in the report, which otherwise says why a warm
    start could not be made, and the one with the lower loss on held-out generated texts is the result.

    Args:
        source: The adapter, or a reference to one.
        source_base: Its base model, or the folder of it.
        target: The base model to go to, likewise.
        folder: Where texts, scores and training runs are kept and gone on from; several transfers can share one.
        seeds: Inputs of the kind that the adapter is made for; those that it carries where absent. Without any,
            source and adapter run freely.
        warm: An adapter for the target to start from, or ``auto`` for one that is fitted to the generated texts;
            ``None`` leaves the warm start out, and with it what it takes.
        recipe: How to train; by default two passes over the texts.
        manner: How inputs are written and answered, where there are seeds.
        sampling: How texts are drawn.
        texts: How many are generated.
        budget_s: About how many seconds may be spent; texts and training get fixed shares of it.
        is_any_base: Whether to take base models that are not the ones that adapter and warm start record.
        on_progress: Is told what is done now.

    Raises:
        MissingExtraError: torch, transformers or peft is not installed.
        TransferError: The adapter has no effect, or a base model has no tokenizer.
        BaseMismatchError: The source base is not that of the adapter.
        UALError: As ``distillation.corpus.make_corpus`` and ``distillation.run.distill``.
    """
    need_transformers("distillation")
    from ual_registry.distillation.generate import Sampling  # noqa: PLC0415  # loads torch

    with contextlib.ExitStack() as stack:
        named = _named(stack, source)
        steps = DistillSteps(
            source=named,
            source_base=_loaded(source_base, on_progress),
            target=_loaded(target, on_progress),
            folder=Path(folder),
            seeds=_seeds(seeds, named),
            manner=manner or Manner(),
            sampling=sampling or Sampling(),
            texts=texts,
            budget_s=budget_s,
            is_any_base=is_any_base,
            say=on_progress,
        )
        steps.check()
        return steps.result(stack, warm, recipe)


def set_seeds(source: Adapter | str | Path, path: str | Path, seeds: SeedPrompts | Sequence[str]) -> Digest:
    """Write an adapter again with seed prompts in it, in place of those that it had; nothing else is changed.

    Args:
        source: The adapter, or a reference to one.
        path: Where to write.
        seeds: One to five inputs of the kind that the adapter is made for, none of them from its training data.

    Returns:
        The digest of the new file.

    Raises:
        FormatError: There are none, too many, or one is too long.
        UALError: As ``air.read.read`` and ``air.write.write``.
    """
    from ual_registry.distillation.seeds import with_seeds  # noqa: PLC0415  # one call needs it

    with contextlib.ExitStack() as stack:
        adapter = _named(stack, source).adapter
        return write(replace(adapter, manifest=with_seeds(adapter.manifest, _given(seeds))), path)


def _named(stack: contextlib.ExitStack, source: Adapter | str | Path | Named) -> Named:
    """Return an adapter with its digest; one that is opened here is closed with the stack."""
    if isinstance(source, Named):
        return source
    if isinstance(source, Adapter):
        return Named(adapter=source, digest=file_digest(source))
    path = locate(str(source))
    adapter = stack.enter_context(read(path))
    verify(adapter)
    return Named(adapter=adapter, digest=Digest.of_file(path))


def _loaded(base: LoadedBase | str | Path, say: Callable[[str], None]) -> LoadedBase:
    from ual_registry.models.loaded import load_base_model  # noqa: PLC0415  # loads torch

    if not isinstance(base, str | Path):
        return base
    say(f"loading {base}")
    return load_base_model(base)


def _given(seeds: SeedPrompts | Sequence[str]) -> SeedPrompts:
    return checked_seeds(seeds if isinstance(seeds, SeedPrompts) else SeedPrompts(inputs=tuple(seeds)))


def _seeds(seeds: SeedPrompts | Sequence[str] | None, source: Named) -> SeedPrompts | None:
    return seeds_of(source.adapter.manifest) if seeds is None else _given(seeds)
