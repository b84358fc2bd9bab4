"""One training run of one start: steps within a budget, looks at held-out texts, and the best factors seen."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ual_registry.distillation.checkpoint import Checkpoint, Progress, read_checkpoint, write_checkpoint
from ual_registry.distillation.chunks import chunk_sums
from ual_registry.distillation.examples import Example, Examples
from ual_registry.distillation.likelihoods import Scorer
from ual_registry.distillation.losses import alm, sequence_nll
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.trainee import Trainee
from ual_registry.errors import NumericalError
from ual_registry.models.token_groups import TokenGroups

__all__ = ["OnLook", "TrainingRun", "alike", "train"]

OnLook = Callable[[int, float], None]
"""Called after every look at the held-out texts with the step and their loss."""

_LAST_RATE = 0.1

_GROUP_BATCHES = 8
"""From how many batches' worth of random texts batches of like lengths are made."""


@dataclass(frozen=True, slots=True)
class _Terms:
    """The parts of a loss, summed, so that batches of several sizes can be added up."""

    nll: torch.Tensor
    tokens: int
    alm: torch.Tensor
    chunks: int

    def loss(self, weight: float) -> torch.Tensor:
        """Return the mean over tokens, and the weighted mean over chunks."""
        return self.nll / max(self.tokens, 1) + weight * self.alm / max(self.chunks, 1)


def train(
    student: Trainee,
    examples: Examples,
    recipe: Recipe,
    *,
    settings: str,
    file: Path | None = None,
    on_look: OnLook | None = None,
    groups: TokenGroups | None = None,
) -> Progress:
    """Train a student; it is left with the factors of the lowest held-out loss, which may be those of the start.

    Args:
        student: The target with the factors that it starts from.
        examples: What it is trained on and judged by.
        recipe: How.
        settings: Digest of all that the run depends on.
        file: Where the run is kept, and goes on from; nowhere where absent.
        on_look: Called after every look.
        groups: The groups of both models' tokens, where examples have soft targets.

    Raises:
        NumericalError: The loss is not finite.
        FormatError: The file is not that of this run.
    """
    run = TrainingRun(student, examples, recipe, settings=settings, file=file, groups=groups)
    while not run.progress.is_over:
        run.advance()
        if on_look is not None:
            on_look(*run.progress.curve[-1])
    student.load(run.best)
    return run.progress


def alike(lengths: Sequence[int], size: int, chosen: random.Random) -> list[list[int]]:
    """Put every text into one batch, with others of like length, so that little of a batch is padding.

    Texts are sorted within random groups of several batches, not as a whole: which ones meet still changes.

    Args:
        lengths: How long each text is.
        size: Texts of a batch; one batch may have fewer.
        chosen: Decides groups and order.

    Returns:
        Batches of indices.
    """
    order = chosen.sample(range(len(lengths)), len(lengths))
    span = size * _GROUP_BATCHES
    groups = [sorted(order[start : start + span], key=lengths.__getitem__) for start in range(0, len(order), span)]
    batches = [group[start : start + size] for group in groups for start in range(0, len(group), size)]
    return chosen.sample(batches, len(batches))


class TrainingRun:
    """A run that can be advanced from one look at the held-out texts to the next; see ``train``."""

    def __init__(
        self,
        student: Trainee,
        examples: Examples,
        recipe: Recipe,
        *,
        settings: str,
        file: Path | None,
        groups: TokenGroups | None = None,
    ) -> None:
        self._student, self._examples, self._recipe, self._file = student, examples, recipe, file
        self._scorer = Scorer(student.model, groups)
        self._factors = student.parameters()
        self._optimizer = torch.optim.AdamW(list(self._factors.values()), lr=recipe.learning_rate, weight_decay=0.0)
        self.progress = Progress(settings=settings)
        kept = None if file is None else read_checkpoint(file, settings)
        if kept is not None:
            self._restore(kept)
            return
        begun = time.monotonic()
        loss = self._held_out_loss()
        self.progress.start_loss = self.progress.best_loss = loss
        self.progress.curve.append((0, loss))
        self.best = self._copy()
        self.progress.elapsed_s = time.monotonic() - begun
        self._keep()

    def advance(self) -> None:
        """Train up to the next look, look, and keep the state."""
        begun, before = time.monotonic(), self.progress.elapsed_s
        for _ in range(self._recipe.evaluate_every):
            if self._budget_used() >= 1:
                break
            self._step()
            self.progress.elapsed_s = before + time.monotonic() - begun
        self._look()
        self.progress.elapsed_s = before + time.monotonic() - begun
        is_late = self.progress.looks_since_best >= self._recipe.patience
        self.progress.is_over = is_late or self._budget_used() >= 1
        self._keep()

    def _budget_used(self) -> float:
        """Return the share of the budget that is used, by steps or by seconds, whichever is more."""
        steps, seconds = self._recipe.steps, self._recipe.seconds
        by_steps = 0.0 if steps is None else self.progress.step / steps
        return max(by_steps, 0.0 if seconds is None else self.progress.elapsed_s / seconds)

    def _step(self) -> None:
        rate = self._recipe.learning_rate * (1 - (1 - _LAST_RATE) * self._budget_used())
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss = self._terms(self._batch()).loss(self._recipe.alm_weight)
        self._check(float(loss.detach()))
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(list(self._factors.values()), self._recipe.max_gradient)
        self._optimizer.step()
        self.progress.step += 1

    def _batch(self) -> list[Example]:
        """Return the texts of the next step: they pass by in an order that follows from seed and pass."""
        texts, recipe = self._examples.train, self._recipe
        number, place = divmod(self.progress.step, math.ceil(len(texts) / recipe.batch_size))
        chosen = random.Random(f"{recipe.seed}-{number}")  # noqa: S311  # nothing is secret
        batches = alike([len(own.ids) for own in texts], recipe.batch_size, chosen)
        return [texts[index] for index in batches[place]]

    def _terms(self, batch: Sequence[Example]) -> _Terms:
        scored = self._scorer([own.ids for own in batch], [own.wanted for own in batch], [own.soft for own in batch])
        device = scored[0].device
        selected = torch.cat([own.selected for own in batch]).to(device)
        student = torch.cat([chunk_sums(own, text.spans) for own, text in zip(scored, batch, strict=True)])
        teacher = torch.cat([own.teacher for own in batch]).to(device)
        tokens, chunks = int(selected.sum()), len(teacher)
        return _Terms(
            sequence_nll(torch.cat(scored), selected) * tokens,
            tokens,
            alm(teacher, student, self._recipe.alm_temperature) * chunks,
            chunks,
        )

    def _held_out_loss(self) -> float:
        texts, size = sorted(self._examples.held_out, key=lambda own: len(own.ids)), self._recipe.batch_size
        with torch.no_grad():
            parts = [self._terms(texts[start : start + size]) for start in range(0, len(texts), size)]
        whole = _Terms(
            torch.stack([part.nll for part in parts]).sum(),
            sum(part.tokens for part in parts),
            torch.stack([part.alm for part in parts]).sum(),
            sum(part.chunks for part in parts),
        )
        return self._check(float(whole.loss(self._recipe.alm_weight)))

    def _check(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise NumericalError(f"step {self.progress.step}: the loss is {loss}", hint="lower the learning rate")
        return loss

    def _look(self) -> None:
        progress, loss = self.progress, self._held_out_loss()
        progress.curve.append((progress.step, loss))
        if loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.looks_since_best = loss, progress.step, 0
            self.best = self._copy()
        else:
            progress.looks_since_best += 1

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: factor.detach().clone() for name, factor in self._factors.items()}

    def _keep(self) -> None:
        if self._file is None:
            return
        state = self._optimizer.state_dict()["state"]
        moments = {f"{index}/{name}": value for index, own in state.items() for name, value in own.items()}
        write_checkpoint(self._file, Checkpoint(self.progress, self._copy(), self.best, moments))

    def _restore(self, kept: Checkpoint) -> None:
        self.progress, self.best = kept.progress, dict(kept.best)
        self._student.load(kept.factors)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in kept.optimizer.items():
            index, _, own = name.partition("/")
            state.setdefault(int(index), {})[own] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})
