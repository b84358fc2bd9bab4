"""Distil an adapter of the zoo: text by source and adapter, then a cold and a warm start on the target.

The text comes from the source alone, without seeds: source and adapter write freely from the token that begins a
text. It is generated and scored once for each source, and serves all targets. The warm start begins with what the
best rung without training made; both starts see the same text for as many steps.
It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.transfer.zoo_moves import keep, watched
from benchmarks.transfer.zoo_recipe import Settings
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry, Lineage, Method, Parent
from ual_registry.air.read import read
from ual_registry.air.tensor import Tensor
from ual_registry.digest import Digest
from ual_registry.distillation.corpus import run_freely
from ual_registry.distillation.examples import Examples, make_examples
from ual_registry.distillation.generate import Sampling
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import WARM, Named
from ual_registry.distillation.teacher import TextScores, score_texts
from ual_registry.distillation.texts import Ended, Rules, Text
from ual_registry.distillation.train import train
from ual_registry.distillation.trainee import module_ranks, start_factors, trainee
from ual_registry.models.loaded import LoadedBase
from ual_registry.models.token_groups import TokenGroups, token_groups

__all__ = ["Teacher", "distil", "examples_of", "recipe_of", "sampling_of", "teach"]

_MAX_TOKENS = 224


def recipe_of(settings: Settings) -> Recipe:
    """Return the budget of either start on generated text."""
    return Recipe(
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        steps=settings.steps,
        rank=settings.rank,
        alpha=2.0 * settings.rank,
        evaluate_every=60,
        patience=6,
        held_out_share=0.02,
        is_soft=True,
    )


def sampling_of(settings: Settings) -> Sampling:
    """Return how texts are drawn; soft targets say what else they could be."""
    return Sampling(
        temperature=settings.temperature, top_p=settings.top_p, max_tokens=_MAX_TOKENS, batch_size=settings.drawn
    )


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


def teach(source: LoadedBase, adapter: Path, folder: Path, settings: Settings, passages: Sequence[str] = ()) -> Teacher:
    """Let source and adapter write and score texts, going on from `folder` where it has some.

    Args:
        source: The source base model.
        adapter: AIR file of its adapter.
        folder: Where texts and scores are kept.
        settings: How many texts, and how they are drawn.
        passages: Unlabelled text that is scored too, where the settings ask for some.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with read(adapter) as opened:
        named = Named(adapter=opened, digest=Digest.of_file(adapter))
        texts = run_freely(
            source,
            named,
            sampling_of(settings),
            folder / "texts.jsonl",
            wanted=settings.generated,
            rules=Rules(),
        ).texts
        scored = texts + tuple(
            Text(batch=-1, prompt="", completion=own, ended=Ended.LENGTH, tokens=0) for own in passages
        )
        scores = score_texts(
            source.model,
            source.text_tokenizer,
            opened,
            scored,
            material={"adapter": str(named.digest), "base": source.base.weights_digest},
            folder=folder / "scores",
            is_plain_needed=recipe_of(settings).needs_plain,
        )
    # Each passage as often as it takes for half of the texts to be passages.
    more = [index for index in range(len(texts), len(scored)) for _ in range(max(1, len(texts) // len(passages)))]
    places = [*range(len(texts)), *more]
    return Teacher(
        adapter=adapter,
        base=source,
        texts=tuple(scored[index] for index in places),
        scores=tuple(scores[index] for index in places),
    )


def examples_of(teacher: Teacher, target: LoadedBase, settings: Settings) -> Examples:
    """Return the texts as a target is trained on them; cutting them takes some seconds, training on them minutes."""
    recipe, groups = recipe_of(settings), teacher.groups(target)
    return make_examples(target.model, target.text_tokenizer, teacher.texts, teacher.scores, recipe, groups=groups)


def distil(
    teacher: Teacher, target: LoadedBase, examples: Examples, settings: Settings, *, start: str, warm: Path, file: Path
) -> None:
    """Train one start and keep it, unless it is there.

    Both starts have the same modules, ranks, texts and budget; only what they begin with differs.

    Args:
        teacher: Text and scores.
        target: The base to go to.
        examples: The texts as the target is trained on them.
        settings: The budget.
        start: `cold` or `warm`.
        warm: The adapter that the warm start begins with; it says the ranks of both.
        file: Where the result is kept.
    """
    if file.is_file():
        return
    recipe, groups = recipe_of(settings), teacher.groups(target)
    with read(warm) as opened:
        factors = start_factors(opened, target.binding)
    ranks = module_ranks(target.binding, recipe, factors)
    with watched() as cost, trainee(target, recipe, ranks) as student:
        student.start(factors if start == WARM else {})
        progress = train(student, examples, recipe, settings=start, file=None, groups=groups)
        entries, tensors = student.entries()
    said = {"start_loss": progress.start_loss, "held_out_loss": progress.best_loss, "step": progress.best_step}
    made = {"texts": len(teacher.texts), "curve": list(progress.curve), "settings": asdict(settings)}
    keep(_adapter(teacher, target, recipe, entries, tensors), file, cost[0], said | made)


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
