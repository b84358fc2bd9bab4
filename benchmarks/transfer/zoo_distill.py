"""Distil an adapter of the zoo: text by source and adapter, then a cold and a warm start on the target.

The text comes from the source alone, without seeds: source and adapter write freely from the token that begins a
text. It is generated and scored once for each source, and serves all targets. The warm start begins with what the
best rung without training made; both starts see the same text for as many steps.
It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.transfer.zoo_moves import keep, watched
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry, Lineage, Method, Parent
from ual_registry.air.read import read
from ual_registry.air.tensor import Tensor
from ual_registry.digest import Digest
from ual_registry.distillation.corpus import run_freely
from ual_registry.distillation.examples import make_examples
from ual_registry.distillation.generate import Sampling
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import WARM, Named
from ual_registry.distillation.teacher import TextScores, score_texts
from ual_registry.distillation.texts import Rules, Text
from ual_registry.distillation.train import OnLook, train
from ual_registry.distillation.trainee import module_ranks, start_factors, trainee
from ual_registry.models.loaded import LoadedBase
from ual_registry.models.token_groups import TokenGroups, token_groups

__all__ = ["RECIPE", "SAMPLING", "Teacher", "distil", "teach"]

SAMPLING = Sampling(temperature=0.8, top_p=0.8, max_tokens=224, batch_size=300)
"""Likelier text than the source writes by itself, which is far from words; soft targets say what else it could be."""

RECIPE = Recipe(
    learning_rate=2e-2, batch_size=8, steps=120, evaluate_every=60, patience=6, held_out_share=0.02, is_soft=True
)
"""The budget of either start on generated text."""

TEXTS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """What one source has to teach.

    Attributes:
        adapter: AIR file of its adapter.
        base: Its base model.
        texts: What it wrote.
        scores: What it says of each text, with its adapter and without.
    """

    adapter: Path
    base: LoadedBase
    texts: tuple[Text, ...]
    scores: tuple[TextScores, ...]

    def groups(self, target: LoadedBase) -> TokenGroups:
        """Return the groups in which its predictions and those of a target can be compared."""
        sizes = [int(own.model.get_output_embeddings().weight.shape[0]) for own in (self.base, target)]
        return token_groups(self.base.text_tokenizer, target.text_tokenizer, sizes=(sizes[0], sizes[1]))


def teach(
    source: LoadedBase, adapter: Path, folder: Path, *, wanted: int = TEXTS, sampling: Sampling = SAMPLING
) -> Teacher:
    """Let source and adapter write and score texts, going on from `folder` where it has some."""
    folder.mkdir(parents=True, exist_ok=True)
    with read(adapter) as opened:
        named = Named(adapter=opened, digest=Digest.of_file(adapter))
        kept = run_freely(source, named, sampling, folder / "texts.jsonl", wanted=wanted, rules=Rules())
        scores = score_texts(
            source.model,
            source.text_tokenizer,
            opened,
            kept.texts,
            material={"adapter": str(named.digest), "base": source.base.weights_digest},
            folder=folder / "scores",
            is_plain_needed=RECIPE.needs_plain,
        )
    return Teacher(adapter=adapter, base=source, texts=kept.texts, scores=scores)


def distil(
    teacher: Teacher,
    target: LoadedBase,
    start: str,
    file: Path,
    warm: Path,
    *,
    recipe: Recipe = RECIPE,
    on_look: OnLook | None = None,
) -> None:
    """Train one start and keep it, unless it is there.

    Both starts have the same modules, ranks, texts and budget; only what they begin with differs.

    Args:
        teacher: Text and scores.
        target: The base to go to.
        start: `cold` or `warm`.
        file: Where the result is kept.
        warm: The adapter that the warm start begins with; it says the ranks of both.
        recipe: The budget.
        on_look: Is told of every look at the held-out texts.
    """
    if file.is_file():
        return
    with read(warm) as opened:
        factors = start_factors(opened, target.binding)
    ranks = module_ranks(target.binding, recipe, factors)
    groups = teacher.groups(target)
    examples = make_examples(target.model, target.text_tokenizer, teacher.texts, teacher.scores, recipe, groups=groups)
    with watched() as cost, trainee(target, recipe, ranks) as student:
        student.start(factors if start == WARM else {})
        progress = train(student, examples, recipe, settings=start, file=None, on_look=on_look, groups=groups)
        entries, tensors = student.entries()
    said = {"start_loss": progress.start_loss, "held_out_loss": progress.best_loss, "step": progress.best_step}
    adapter = _adapter(teacher, target, recipe, entries, tensors)
    keep(adapter, file, cost[0], {**said, "texts": len(teacher.texts), "curve": list(progress.curve)})


def _adapter(
    teacher: Teacher, target: LoadedBase, recipe: Recipe, entries: tuple[Entry, ...], tensors: Mapping[str, Tensor]
) -> Adapter:
    method = Method(
        type="lora",
        task_type="CAUSAL_LM",
        rank=recipe.rank,
        alpha=recipe.alpha,
        scaling_rule="alpha/rank",
        dropout=0.0,
        bias="none",
        dora=False,
    )
    parent = Parent(digest=str(Digest.of_file(teacher.adapter)), relation="distilled_from")
    with read(teacher.adapter) as source:
        manifest = replace(
            source.manifest,
            base_model=target.base,
            method=method,
            entries=entries,
            lineage=Lineage(parents=(parent,)),
            provenance=(),
            extra=(),
            origin=None,
            features=(),
        )
    return Adapter(manifest, tensors)
