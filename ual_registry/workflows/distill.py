"""Teach a base model what an adapter of another one says: texts, scores, and a training of both starts.

It decides where seeds, texts and the warm start come from, and how a budget is shared out. All that takes time is kept
in a folder as it is made, so that an interrupted run goes on; texts and scores serve every target. How texts are drawn
and a target is trained is left to ``distillation``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from ual_registry.air.adapter import Adapter
from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.air.read import read, verify
from ual_registry.air.write import file_digest, write
from ual_registry.digest import Digest
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.distillation.seeds import SeedPrompts, checked_seeds, seeds_of
from ual_registry.errors import StorageError, TrainingError, UALError
from ual_registry.storage import atomic_file, read_file
from ual_registry.workflows.extras import need_transformers
from ual_registry.workflows.references import locate

if TYPE_CHECKING:
    from ual_registry.distillation.corpus import Corpus
    from ual_registry.distillation.generate import Sampling
    from ual_registry.distillation.run import DistillationResult
    from ual_registry.distillation.teacher import TextScores
    from ual_registry.models.loaded import LoadedBase

__all__ = ["AUTO_WARM", "DEFAULT_TEXTS", "distill_adapter", "set_seeds"]

AUTO_WARM: Literal["auto"] = "auto"
"""Start also from what the best rung without training makes of the same generated texts."""

DEFAULT_TEXTS = 1000
"""How many texts are generated where nobody says.

Of 700, three passes were too many: the held-out loss was lowest after two (topics of requests, SmolLM2-135M to
Gemma-3-270M), and to generate and score a text costs about as much as to train on it once more.
"""

_PASSES = 2
"""How often a text is trained on where the recipe is not given."""

_FEWEST_STEPS, _MOST_STEPS = 60, 600

_STEP_CHARACTERS, _FEWEST_TEXTS_OF_STEP, _MOST_TEXTS_OF_STEP = 4000, 4, 16
"""How much text one step reads where the recipe is not given: many short texts, or a few long ones."""

_TEXT_SHARE, _TRAINING_SHARE = 0.3, 0.55
"""Shares of a budget: for generating, and for training all starts. Scores and the warm start take the rest."""

_FEWEST_TEXTS = 32


def distill_adapter(
    source: Adapter | str | Path | Named,
    source_base: LoadedBase | str | Path,
    target: LoadedBase | str | Path,
    *,
    folder: str | Path,
    seeds: SeedPrompts | Sequence[str] | None = None,
    warm: Adapter | Literal["auto"] | None = None,
    recipe: Recipe | None = None,
    sampling: Sampling | None = None,
    texts: int | None = None,
    budget_s: float | None = None,
    is_any_base: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> DistillationResult:
    """Make an adapter for another base model by training it on what source and adapter say.

    A cold start is always trained; where there is an adapter to start from a warm one is too, at the same budget. Both
    are in the report, and the one with the lower loss on held-out generated texts is the result.

    Args:
        source: The adapter, or a reference to one.
        source_base: Its base model, or the folder of it.
        target: The base model to go to, likewise.
        folder: Where texts, scores and training runs are kept and gone on from; several transfers can share one.
        seeds: Inputs of the kind that the adapter is made for; those that it carries where absent. Without any,
            source and adapter run freely.
        warm: An adapter for the target to start from, or ``auto`` for one that is fitted to the generated texts.
        recipe: How to train; by default two passes over the texts.
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

    named = _named(source)
    run = _Run(
        source=named,
        source_base=_loaded(source_base, on_progress),
        target=_loaded(target, on_progress),
        folder=Path(folder),
        seeds=_seeds(seeds, named),
        sampling=sampling or Sampling(),
        texts=texts,
        budget_s=budget_s,
        is_any_base=is_any_base,
        say=on_progress,
    )
    run.check()
    return run.result(warm, recipe)


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

    adapter = _named(source).adapter
    return write(replace(adapter, manifest=with_seeds(adapter.manifest, _given(seeds))), path)


def _named(source: Adapter | str | Path | Named) -> Named:
    if isinstance(source, Named):
        return source
    if isinstance(source, Adapter):
        return Named(adapter=source, digest=file_digest(source))
    path = locate(str(source))
    adapter = read(path)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One distillation: what it is given. Every part is made in a folder that is named by what the part depends on."""

    source: Named
    source_base: LoadedBase
    target: LoadedBase
    folder: Path
    seeds: SeedPrompts | None
    sampling: Sampling
    texts: int | None
    budget_s: float | None
    is_any_base: bool
    say: Callable[[str], None]

    def check(self) -> None:
        """Refuse what cannot end well before anything is generated."""
        from ual_registry.transfers.requirements import require_base, require_effect  # noqa: PLC0415  # loads torch
        from ual_registry.transfers.result import energy_of  # noqa: PLC0415

        adapter = self.source.adapter
        if not self.is_any_base:
            require_base(self.source_base, adapter.manifest.base_model, whose="the adapter")
        require_effect(adapter, {entry.label: energy_of(adapter, entry) for entry in adapter.entries})
        for base in (self.source_base, self.target):
            _ = base.text_tokenizer

    def result(self, warm: Adapter | Literal["auto"] | None, recipe: Recipe | None) -> DistillationResult:
        """Generate, score and train, or go on with it."""
        from ual_registry.distillation.run import distill  # noqa: PLC0415  # loads torch

        place = self._place("texts", self._text_settings())
        with FileLock(place / "lock"):
            corpus = self._corpus(place)
            scores = self._scores(corpus, place, is_plain_needed=(recipe or Recipe()).needs_plain)
            start = self._warm(warm, corpus, place)
        chosen = self._recipe(recipe, corpus, arms=1 if start is None else 2)
        runs = self._place("run", self._run_settings(corpus, chosen, start))
        with FileLock(runs / "lock"):
            return distill(
                self.source,
                self.target,
                corpus.texts,
                scores,
                chosen,
                warm=start,
                folder=runs,
                on_look=lambda name, step, loss: self.say(f"{name} start, step {step}: held-out loss {loss:.4f}"),
            )

    def _place(self, kind: str, settings: dict[str, Any]) -> Path:
        digest = Digest.of_bytes(canonical_bytes(settings))
        place = self.folder / f"{kind}-{digest.hex[:16]}"
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError.of("write", place, error) from error
        return place

    def _text_settings(self) -> dict[str, Any]:
        return {
            "source": str(self.source.digest),
            "base": [self.source_base.base.config_digest, self.source_base.base.weights_digest],
            "seeds": None if self.seeds is None else self.seeds.document(),
            "sampling": {**asdict(self.sampling), "stop": list(self.sampling.stop)},
            "texts": self.texts,
            "budget_s": self.budget_s,
        }

    def _run_settings(self, corpus: Corpus, recipe: Recipe, warm: Named | None) -> dict[str, Any]:
        from ual_registry.distillation.texts import texts_digest  # noqa: PLC0415  # a plan needs none

        return {
            "source": str(self.source.digest),
            "target": [self.target.base.config_digest, self.target.base.weights_digest],
            "texts": str(texts_digest(corpus.texts)),
            "recipe": recipe.document(),
            "warm": None if warm is None else str(warm.digest),
        }

    def _corpus(self, place: Path) -> Corpus:
        from ual_registry.distillation.corpus import make_corpus  # noqa: PLC0415  # loads torch

        wanted = self._wanted(place)
        self.say(f"generating {wanted} texts" + ("" if self.seeds else ", without seed prompts"))
        found = make_corpus(
            self.source_base,
            self.source,
            self.seeds,
            self.sampling,
            place,
            wanted=wanted,
            on_batch=lambda kept: self.say(f"{kept.counts['kept']} texts kept of {kept.counts['generated']}"),
        )
        self.say(f"{len(found.texts)} texts to train on")
        if not found.texts:
            counts = ", ".join(f"{count} {name}" for name, count in found.counts.items() if count)
            raise TrainingError(
                f"source and adapter wrote no text that can be trained on ({counts or 'nothing was generated'})",
                code="too-few-texts",
                hint="give seed prompts of the kind that the adapter answers",
            )
        return found

    def _wanted(self, place: Path) -> int:
        """Return how many texts to generate; what a budget allows is measured once, on the first batch, and kept."""
        if self.texts is not None or self.budget_s is None:
            return self.texts or DEFAULT_TEXTS
        file = place / "wanted.json"
        if file.exists():
            return int(parse_json(read_file(file, limit_bytes=1 << 10), what=str(file))["wanted"])
        begun = time.monotonic()
        made = self._first_batch(place)
        seconds = (time.monotonic() - begun) / made
        wanted = min(DEFAULT_TEXTS, max(_FEWEST_TEXTS, math.floor(_TEXT_SHARE * self.budget_s / seconds)))
        with atomic_file(file, durable=True) as stream:
            stream.write(canonical_bytes({"wanted": wanted}))
        return wanted

    def _first_batch(self, place: Path) -> int:
        """Generate the first batch, which the corpus begins with, and return how many texts it has."""
        from ual_registry.distillation.corpus import begin_corpus  # noqa: PLC0415  # loads torch

        return begin_corpus(self.source_base, self.source, self.seeds, self.sampling, place)

    def _scores(self, corpus: Corpus, place: Path, *, is_plain_needed: bool) -> tuple[TextScores, ...]:
        from ual_registry.distillation.teacher import score_texts  # noqa: PLC0415  # loads torch

        self.say("scoring the texts with the source")
        base, tokenizer = self.source_base, self.source_base.text_tokenizer
        settings = self._text_settings()
        material = {name: settings[name] for name in ("source", "base")}
        return score_texts(
            base.model,
            tokenizer,
            self.source.adapter,
            corpus.texts,
            material=material,
            folder=place / ("scores" if is_plain_needed else "scores-adapted"),
            is_plain_needed=is_plain_needed,
        )

    def _warm(self, warm: Adapter | Literal["auto"] | None, corpus: Corpus, place: Path) -> Named | None:
        if warm is None or isinstance(warm, Adapter):
            return None if warm is None else Named(adapter=warm, digest=file_digest(warm))
        target = self.target.base
        file = place / f"warm-{Digest.of_bytes(f'{target.config_digest}{target.weights_digest}'.encode()).hex[:16]}.air"
        if not file.exists():
            self.say("fitting a warm start to the texts")
            try:
                write(self._fitted(corpus), file)
            except UALError as error:
                self.say(f"no warm start: {error.message}")
                return None
        return Named(adapter=read(file), digest=Digest.of_file(file))

    def _fitted(self, corpus: Corpus) -> Adapter:
        """Return what the rung without training that carries most makes of the generated texts."""
        from ual_registry.transfers.prediction_fit import PredictionOptions  # noqa: PLC0415  # loads torch
        from ual_registry.transfers.run_predictions import METHOD, run_predictions  # noqa: PLC0415
        from ual_registry.transfers.rungs import rung_of  # noqa: PLC0415
        from ual_registry.transfers.whole_plan import make_whole_plan  # noqa: PLC0415

        manifest, base = self.source.adapter.manifest, self.target.base
        return run_predictions(
            self.source.adapter,
            make_whole_plan(manifest, self.target.config, rung_of(METHOD), target_id=base.id),
            self.source_base,
            self.target,
            [text.whole for text in corpus.texts],
            source_digest=self.source.digest,
            options=PredictionOptions(any_base=self.is_any_base, seed=self.sampling.seed),
        ).adapter

    def _recipe(self, recipe: Recipe | None, corpus: Corpus, *, arms: int) -> Recipe:
        """Return how to train: every start gets the same share of a budget."""
        chosen = recipe
        if chosen is None:
            length = sum(len(text.whole) for text in corpus.texts) / len(corpus.texts)
            size = min(_MOST_TEXTS_OF_STEP, max(_FEWEST_TEXTS_OF_STEP, round(_STEP_CHARACTERS / length)))
            steps = math.ceil(_PASSES * len(corpus.texts) / size)
            steps = min(_MOST_STEPS, max(_FEWEST_STEPS, steps))
            chosen = Recipe(batch_size=size, steps=steps, seed=self.sampling.seed)
        if self.budget_s is None:
            return chosen
        seconds = _TRAINING_SHARE * self.budget_s / arms
        return replace(chosen, seconds=seconds if chosen.seconds is None else min(seconds, chosen.seconds))
