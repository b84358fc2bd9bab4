"""A distillation: a warm and a cold start at the same budget, both reported, the better one made into an adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.canonical import canonical_bytes
from ual_registry.air.effect import with_effect
from ual_registry.air.model import Entry, Lineage, Manifest, Method, Parent
from ual_registry.air.tensor import Tensor
from ual_registry.air.versions import AIR_VERSION
from ual_registry.digest import Digest
from ual_registry.distillation.checkpoint import Progress
from ual_registry.distillation.examples import Examples, make_examples
from ual_registry.distillation.material import model_settings
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import (
    COLD,
    WARM,
    ArmReport,
    DistillationReport,
    Made,
    Named,
    distillation_statement,
)
from ual_registry.distillation.teacher import TextScores
from ual_registry.distillation.texts import Text, texts_digest
from ual_registry.distillation.train import train
from ual_registry.distillation.trainee import module_ranks, start_factors, trainee
from ual_registry.models.loaded import LoadedBase
from ual_registry.models.token_groups import TokenGroups
from ual_registry.projection.factors import Factors

__all__ = ["DistillationResult", "distill", "run_settings"]


@dataclass(frozen=True, slots=True)
class DistillationResult:
    """A new adapter for the target, and how it came about."""

    adapter: Adapter
    report: DistillationReport


def distill(
    source: Named,
    target: LoadedBase,
    texts: Sequence[Text],
    scores: Sequence[TextScores],
    recipe: Recipe,
    *,
    groups: TokenGroups | None = None,
    warm: Named | None = None,
    no_warm_because: str | None = None,
    folder: Path | None = None,
    on_look: Callable[[str, int, float], None] | None = None,
) -> DistillationResult:
    """Train factors on a target until it says what the source and its adapter say.

    A cold start is always trained. Where there is an adapter to start from, a warm one is trained too, on the same
    modules, ranks, texts and budget, so that its worth is the difference of the two. The held-out texts are generated
    ones: nothing here has seen the task.

    Args:
        source: The source adapter.
        target: The target base model; it is left as it was.
        texts: What source and adapter generated.
        scores: What they say of each text; see ``teacher.score_texts``.
        recipe: How to train.
        groups: The groups of both models' tokens; without them there are no soft targets.
        warm: An adapter for the target to start from, such as a transfer makes.
        no_warm_because: Why there is none although one was wanted, for the report.
        folder: Where the runs are kept, and go on from after an interruption; nowhere where absent.
        on_look: Called after every look at the held-out texts with the start, the step and their loss.

    Raises:
        TrainingError: There are too few texts, no modules, or nothing that can be started from.
        NumericalError: A loss or a factor is not finite.
        FormatError: The folder holds the runs of another distillation.
        StorageError: The file system refuses.
    """
    examples = make_examples(target.model, target.text_tokenizer, texts, scores, recipe, groups=groups)
    factors = {} if warm is None else start_factors(warm.adapter, target.binding)
    ranks = module_ranks(target.binding, recipe, factors)
    settings = run_settings(source, target, texts, recipe, warm)
    starts: dict[str, dict[str, Factors]] = {COLD: {}} if warm is None else {COLD: {}, WARM: factors}
    arms = _Arms(target, recipe, ranks, examples, settings, folder, on_look, groups)
    trained = {name: arms.train(name, own) for name, own in starts.items()}
    chosen = min(trained, key=lambda name: trained[name].progress.best_loss)
    report = DistillationReport(
        arms=tuple(_arm_report(name, own.progress) for name, own in trained.items()),
        chosen=chosen,
        texts=len(examples.train) + len(examples.held_out),
        held_out=len(examples.held_out),
        no_warm_because=no_warm_because,
    )
    made = Made(source=source, target=target.base, texts=texts_digest(texts), recipe=recipe, warm=warm)
    statement = distillation_statement(made, report)
    manifest = replace(
        _manifest(source.adapter.manifest, target, recipe),
        entries=trained[chosen].entries,
        lineage=Lineage(parents=(Parent(digest=str(source.digest), relation="distilled_from"),)),
        provenance=(statement,),
    )
    return DistillationResult(Adapter(manifest, trained[chosen].tensors), report)


@dataclass(frozen=True, slots=True)
class _Trained:
    """One start, trained: its numbers, and its factors as an adapter has them."""

    progress: Progress
    entries: tuple[Entry, ...]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Arms:
    """What all starts share."""

    target: LoadedBase
    recipe: Recipe
    ranks: Mapping[str, int]
    examples: Examples
    settings: Mapping[str, Any]
    folder: Path | None
    on_look: Callable[[str, int, float], None] | None
    groups: TokenGroups | None

    def train(self, name: str, factors: Mapping[str, Factors]) -> _Trained:
        """Train one start."""
        file = None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / f"{name}.safetensors"
        settings = str(Digest.of_bytes(canonical_bytes({**self.settings, "start": name})))

        def looked(step: int, loss: float) -> None:
            if self.on_look is not None:
                self.on_look(name, step, loss)

        with trainee(self.target, self.recipe, self.ranks) as student:
            student.start(factors)
            progress = train(
                student, self.examples, self.recipe, settings=settings, file=file, on_look=looked, groups=self.groups
            )
            entries, tensors = student.entries()
        return _Trained(progress, entries, tensors)


def run_settings(
    source: Named, target: LoadedBase, texts: Sequence[Text], recipe: Recipe, warm: Named | None
) -> dict[str, Any]:
    """Return all that the training runs of ``distill`` depend on, as JSON; the arguments are its own."""
    return {
        "source": str(source.digest),
        "target": model_settings(target),
        "texts": str(texts_digest(texts)),
        "recipe": recipe.document(),
        "warm": None if warm is None else str(warm.digest),
    }


def _arm_report(name: str, progress: Progress) -> ArmReport:
    return ArmReport(
        name=name,
        start_loss=progress.start_loss,
        held_out_loss=progress.best_loss,
        best_step=progress.best_step,
        steps=progress.step,
        seconds=progress.elapsed_s,
        curve=tuple(progress.curve),
    )


def _manifest(source: Manifest, target: LoadedBase, recipe: Recipe) -> Manifest:
    """Describe the result: what people wrote of the source stays, what belonged to its file does not."""
    return replace(
        with_effect(source, None),
        air_version=AIR_VERSION,
        base_model=target.base,
        method=Method(
            type="lora",
            task_type=source.method.task_type,
            rank=recipe.rank,
            alpha=recipe.alpha,
            scaling_rule="alpha/rank",
            dropout=0.0,
            bias="none",
            dora=False,
        ),
        extra=(),
        origin=None,
        features=(),
        created_at=None,
    )
