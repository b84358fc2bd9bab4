"""The steps of a distillation: texts, scores, a warm start, and a training of both starts.

It decides where texts and the warm start come from. All that takes time is kept in a folder as it is made, so that an
interrupted run goes on; texts and scores serve every target. How texts are drawn and a target is trained is left to
``distillation``, how a budget is shared out to ``distill_budget``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from ual_registry.air.adapter import Adapter
from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.air.read import read
from ual_registry.air.write import file_digest, write
from ual_registry.digest import Digest
from ual_registry.distillation.manner import TARGET, Manner
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.errors import StorageError, TrainingError, TransferError
from ual_registry.storage import atomic_file, read_file
from ual_registry.workflows.distill_budget import DEFAULT_TEXTS, recipe_for, texts_within, within

if TYPE_CHECKING:
    from ual_registry.distillation.corpus import Corpus
    from ual_registry.distillation.generate import Sampling
    from ual_registry.distillation.run import DistillationResult
    from ual_registry.distillation.teacher import TextScores
    from ual_registry.models.loaded import LoadedBase
    from ual_registry.models.token_groups import TokenGroups
    from ual_registry.transfers.result import TransferResult

__all__ = ["AUTO_WARM", "DistillSteps"]

_TEXTS_FORM = 3
"""Counts the ways in which texts were made: what another way has left is not gone on with."""

AUTO_WARM: Literal["auto"] = "auto"
"""Start also from what the best rung without training makes of the same generated texts: ``predictions``, which carried
most of what was measured, and ``residual`` where that refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillSteps:
    """One distillation: what it is given. Every part is made in a folder that is named by what the part depends on."""

    source: Named
    source_base: LoadedBase
    target: LoadedBase
    folder: Path
    seeds: SeedPrompts | None
    manner: Manner
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

    def result(
        self, stack: contextlib.ExitStack, warm: Adapter | Literal["auto"] | None, recipe: Recipe | None
    ) -> DistillationResult:
        """Generate, score and train, or go on with it.

        Args:
            stack: Closes what is opened on the way.
            warm: An adapter for the target to start from, or ``auto``.
            recipe: How to train.
        """
        from ual_registry.distillation.run import distill, run_settings  # noqa: PLC0415  # loads torch

        place = self._place("texts", self._text_settings())
        with FileLock(place / "lock"):
            corpus = self._corpus(place)
            scores = self._scores(corpus, place, is_plain_needed=(recipe or Recipe()).needs_plain)
            chosen = recipe or recipe_for([len(text.whole) for text in corpus.texts], seed=self.sampling.seed)
            start, reason = self._warm(stack, warm, corpus, place, chosen.held_out_share)
        if self.budget_s is not None:
            chosen = within(chosen, self.budget_s, starts=1 if start is None else 2)
        runs = self._place("run", run_settings(self.source, self.target, corpus.texts, chosen, start))
        with FileLock(runs / "lock"):
            return distill(
                self.source,
                self.target,
                corpus.texts,
                scores,
                chosen,
                groups=self._groups(),
                warm=start,
                no_warm_because=reason,
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
            "form": _TEXTS_FORM,
            "source": str(self.source.digest),
            "base": [self.source_base.base.config_digest, self.source_base.base.weights_digest, *self._dtype()],
            **self._asked(),
            "sampling": {**asdict(self.sampling), "stop": list(self.sampling.stop)},
            "texts": self.texts,
            "budget_s": self.budget_s,
        }

    def _asked(self) -> dict[str, Any]:
        """Return what inputs depend on; without seeds there are none."""
        if self.seeds is None:
            return {"seeds": None}
        from ual_registry.distillation.material import model_settings  # noqa: PLC0415  # loads torch

        writer = {"target": model_settings(self.target)} if TARGET in self.manner.writers else {}
        return {"seeds": self.seeds.document(), "manner": self.manner.document(), **writer}

    def _dtype(self) -> list[str]:
        """Return what the source computes in, where that is not what it usually does."""
        dtype = str(self.source_base.model.dtype)
        return [] if dtype == "torch.float32" else [dtype]

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
            target=self.target,
            manner=self.manner,
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
        _forget(place)
        begun = time.monotonic()
        made = self._first_batch(place)
        seconds = (time.monotonic() - begun) / made
        wanted = texts_within(self.budget_s, seconds)
        with atomic_file(file, durable=True) as stream:
            stream.write(canonical_bytes({"wanted": wanted}))
        return wanted

    def _first_batch(self, place: Path) -> int:
        """Generate the first batch, which the corpus begins with, and return how many texts it has."""
        from ual_registry.distillation.corpus import begin_corpus  # noqa: PLC0415  # loads torch

        return begin_corpus(
            self.source_base, self.source, self.seeds, self.sampling, place, target=self.target, manner=self.manner
        )

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

    def _groups(self) -> TokenGroups:
        """Return the groups in which the predictions of both models can be compared."""
        from ual_registry.models.token_groups import token_groups  # noqa: PLC0415  # loads torch

        bases = self.source_base, self.target
        sizes = [int(base.model.get_output_embeddings().weight.shape[0]) for base in bases]
        return token_groups(*(base.text_tokenizer for base in bases), sizes=(sizes[0], sizes[1]))

    def _warm(
        self,
        stack: contextlib.ExitStack,
        warm: Adapter | Literal["auto"] | None,
        corpus: Corpus,
        place: Path,
        held_out_share: float,
    ) -> tuple[Named | None, str | None]:
        """Return the adapter to start from, or why there is none although one is wanted."""
        if warm is None or isinstance(warm, Adapter):
            return None if warm is None else Named(adapter=warm, digest=file_digest(warm)), None
        from ual_registry.distillation.material import model_settings  # noqa: PLC0415  # loads torch

        made_of = {"target": model_settings(self.target), "held_out_share": held_out_share}
        file = place / f"warm-{Digest.of_bytes(canonical_bytes(made_of)).hex[:16]}.air"
        if not file.exists():
            self.say("fitting a warm start to the texts")
            try:
                made = self._fitted(corpus, held_out_share)
            except TransferError as error:
                self.say(f"no warm start: {error.message}")
                return None, error.message
            write(made, file)
        return Named(adapter=stack.enter_context(read(file)), digest=Digest.of_file(file)), None

    def _fitted(self, corpus: Corpus, held_out_share: float) -> Adapter:
        """Return what a rung without training makes of the generated texts, without those that are to judge it.

        Raises:
            TransferError: Each of them refuses.
        """
        from ual_registry.distillation.examples import held_out_of  # noqa: PLC0415  # loads torch

        held_out = held_out_of(corpus.texts, held_out_share)
        texts = [text.whole for text in corpus.texts if str(text.digest) not in held_out]
        try:
            return self._by_predictions(texts)
        except TransferError as error:
            self.say(f"no warm start by predictions: {error.message}")
            try:
                return self._by_residual(texts)
            except TransferError:
                raise error from None  # the better method says what is in the way

    def _by_predictions(self, texts: list[str]) -> Adapter:
        from ual_registry.transfers.prediction_fit import PredictionOptions  # noqa: PLC0415  # loads torch
        from ual_registry.transfers.run_predictions import METHOD, run_predictions  # noqa: PLC0415

        options = PredictionOptions(any_base=self.is_any_base, seed=self.sampling.seed)
        return self._carried(run_predictions, METHOD, texts, options)

    def _by_residual(self, texts: list[str]) -> Adapter:
        from ual_registry.transfers.effect_material import ResidualOptions  # noqa: PLC0415  # loads torch
        from ual_registry.transfers.run_residual import METHOD, run_residual  # noqa: PLC0415

        options = ResidualOptions(any_base=self.is_any_base, seed=self.sampling.seed)
        return self._carried(run_residual, METHOD, texts, options)

    def _carried(self, run: Callable[..., TransferResult], method: str, texts: list[str], options: object) -> Adapter:
        """Return what a method makes of texts, by a plan for the adapter as a whole."""
        from ual_registry.transfers.rungs import rung_of  # noqa: PLC0415  # only where a start is fitted
        from ual_registry.transfers.whole_plan import make_whole_plan  # noqa: PLC0415

        source, target = self.source, self.target
        plan = make_whole_plan(source.adapter.manifest, target.config, rung_of(method), target_id=target.base.id)
        return run(
            source.adapter, plan, self.source_base, target, texts, source_digest=source.digest, options=options
        ).adapter


def _forget(place: Path) -> None:
    """Remove the texts of a run that was cut off while it measured its first batch: to read them takes no time."""
    for left in place.glob("*.jsonl"):
        try:
            left.unlink()
        except OSError as error:
            raise StorageError.of("remove", left, error) from error
