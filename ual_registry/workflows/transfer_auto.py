"""The rule of ``auto`` carried out: methods are tried in its order until one does, or the best of several is kept.

A method that refuses gives way to the next one, but what the user must mend ends the trying, and what reads no text
never stands in for a better method that failed for another reason than that the two models do not fit. Where there are
items to measure on, one half of them chooses between all that the budget allows; otherwise the first method that does
is taken. What became of each is written down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ual_registry.errors import TrainingError, TransferError
from ual_registry.transfers.choose import DISTILL, DISTILL_SHARE, Choice, Standing, needed_s
from ual_registry.transfers.rungs import RUNGS, Needs
from ual_registry.workflows.transfer_job import Job
from ual_registry.workflows.transfer_rungs import is_own_base, run_distillation, run_rung

if TYPE_CHECKING:
    from ual_registry.workflows.transfer_judge import Judge
    from ual_registry.workflows.transfer_rungs import Made

__all__ = ["Chosen", "run_auto"]

_HOPELESS = {
    "no-effect",
    "not-attachable",
    "bad-option",
    "no-weights",
    "incomplete-weights",
    "unloadable",
    "no-base-model",
    "no-model-class",
    "empty-text",
    "too-little-text",
}
"""What no method can make good, or the user must."""

_OF_THE_PAIR = {
    "not-one-lineage",
    "no-counterpart",
    "no-shared-tokens",
    "no-table",
    "narrow-table",
    "no-chain",
    "not-linear",
    "not-causal",
    "no-loss",
    "two-stacks",
    "module-not-run",
    "slow-tokenizer",
    "no-tokenizer",
}
"""What a method says of two base models that it cannot compare; where all do, a control is what is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What was taken.

    Attributes:
        made: The result.
        choice: What became of every method.
        is_measured: Whether one half of the items chose it.
    """

    made: Made
    choice: Choice
    is_measured: bool


def run_auto(job: Job, judge: Judge | None) -> Chosen:
    """Carry the adapter of a job by the best method for what is at hand.

    Args:
        job: What is asked for and at hand.
        judge: Measures results; ``None`` where there are no items.

    Raises:
        TransferError: Every method refuses; the first refusal says why.
    """
    return _Auto(job, judge).run()


class _Auto:
    """One run of the rule: what was made so far, and what is said of each method."""

    def __init__(self, job: Job, judge: Judge | None) -> None:
        self.job, self.choice = job, job.choice
        self.judge = judge if judge is not None and judge.can_compare else None
        self.no_comparison = "there are no items to compare by" if judge is None else judge.too_few
        self.made: dict[str, Made] = {}
        self.losses: dict[str, float] = {}
        self.refusals: list[TransferError | TrainingError] = []
        self.slowest_s = 0.0

    def run(self) -> Chosen:
        """Try, compare, and take."""
        for method in self.choice.candidates:
            obstacle = self._obstacle(method)
            if obstacle is None and not self.made and Needs.TEXT not in RUNGS[method].needs:
                self._refuse_to_hide()
            if obstacle is not None:
                self._note(method, Standing.UNTRIED, obstacle)
            else:
                self._try(method)
        if not self.made:
            raise self.refusals[0]
        best = self._best()
        if self.choice.distils:
            self._distil(best)
            best = DISTILL if DISTILL in self.made and self.judge is None else self._best()
        self._conclude(best)
        return Chosen(made=self.made[best], choice=self.choice, is_measured=bool(self.losses))

    def _refuse_to_hide(self) -> None:
        """Refuse to take what reads no text where a better method failed, and not for what the two models are."""
        for error in self.refusals:
            is_mute = error.problem_code == "no-tokenizer" and self.job.order.calibration is not None
            if is_mute or error.problem_code not in _OF_THE_PAIR:
                raise error

    def _obstacle(self, method: str) -> str | None:
        """Say why a method is not tried; ``None`` where it is."""
        if not self.made:
            return None
        first, budget = next(iter(self.made)), self.job.order.budget_s
        if RUNGS[method].is_control:
            return f"{first} does better than a control"
        if self.judge is None:
            return f"{first} comes first, and {self.no_comparison}"
        share = 1 - DISTILL_SHARE if self.choice.distils else 1.0
        if budget is not None and self.job.spent_s + self.slowest_s > share * budget:
            return f"its share of the budget is spent ({self.job.spent_s:.0f} s so far)"
        return None

    def _try(self, method: str) -> None:
        began = self.job.spent_s
        self.job.say(f"trying {method}")
        try:
            self.made[method] = run_rung(self.job, method)
        except (TransferError, TrainingError) as error:  # the latter where text cannot be generated
            if error.problem_code in _HOPELESS:
                raise
            self._refused(method, error)
        self.slowest_s = max(self.slowest_s, self.job.spent_s - began)

    def _refused(self, method: str, error: TransferError | TrainingError) -> None:
        self.refusals.append(error)
        self._note(method, Standing.REFUSED, error.message)

    def _note(self, method: str, standing: Standing, reason: str) -> None:
        self.choice = self.choice.noted(method, standing, reason)

    def _best(self) -> str:
        """Return the method with the lowest loss; the first where nothing is compared."""
        if self.judge is None or len(self.made) == 1:
            return next(iter(self.made))
        for method in [method for method in self.made if method not in self.losses]:
            self.job.say(f"comparing {method}")
            try:
                self.losses[method] = self.judge.loss(self.made[method].adapter)
            except TransferError as error:  # what was made cannot be run, or gives numbers that are not finite
                del self.made[method]
                self._refused(method, error)
        if not self.losses:
            raise self.refusals[-1]
        return min(self.losses, key=lambda method: self.losses[method])

    def _distil(self, best: str) -> None:
        """Train on what source and adapter say, from what the best method made of text."""
        if best == "copy" and (self.judge is None or is_own_base(self.job)):
            self._note(DISTILL, Standing.UNTRIED, f"{best} keeps the adapter as it is, and {self._no_rival()}")
            return
        budget, needed = self.job.order.budget_s, needed_s(self.job.material.weights_bytes)
        assert budget is not None  # the rule says so
        left = budget - self.job.spent_s
        if left < needed:
            self._note(
                DISTILL, Standing.UNTRIED, f"{max(left, 0):.0f} s of the budget are left, less than {needed:.0f} s"
            )
            return
        self.job.say(f"trying {DISTILL}")
        warm = self.made[best].adapter if self._is_start(best) else None
        try:
            # A fixed share of the budget, so that a run that was cut off finds what it had made.
            self.made[DISTILL] = run_distillation(self.job, warm=warm, budget_s=DISTILL_SHARE * budget)
        except (TransferError, TrainingError) as error:
            self._refused(DISTILL, error)

    def _no_rival(self) -> str:
        """Say why nothing can be better than an adapter as it is."""
        return "the target is its own base model" if self.judge is not None else self.no_comparison

    @staticmethod
    def _is_start(method: str) -> bool:
        """Tell whether a method carries enough to start from: it has seen text, or it is right as it is."""
        return method == "copy" or Needs.TEXT in RUNGS[method].needs

    def _conclude(self, best: str) -> None:
        for method in self.made:
            reason = f"{self.choice.reason(method)}{self._measured(method)}"
            if method == best:
                self._note(method, Standing.TAKEN, reason)
            elif best == DISTILL and self.judge is None:
                started = f"; {DISTILL} started from it" if self._is_start(method) else ""
                self._note(method, Standing.BEATEN, f"{reason}{started}")
            else:
                self._note(method, Standing.BEATEN, reason)

    def _measured(self, method: str) -> str:
        if method not in self.losses or self.judge is None:
            return ""
        items = len(self.judge.halves[0].items)
        return f"; {self.judge.task.loss} {self.losses[method]:.4g} on the {items} items that choose"
