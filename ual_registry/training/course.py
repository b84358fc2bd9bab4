"""The course of a run: when it looks, keeps and ends, told to the Trainer of transformers by its callbacks."""

from __future__ import annotations

from typing import Any, Protocol

import transformers

from ual_registry.training.progress import Progress
from ual_registry.training.schedule import Length

__all__ = ["Course", "Run"]


class Run(Protocol):
    """What a course needs of the run that it is of."""

    progress: Progress
    is_interrupted: bool

    @property
    def length(self) -> Length:
        """How long the run is."""
        ...

    @property
    def has_held_out(self) -> bool:
        """Whether there are held-out examples."""
        ...

    def evaluate(self) -> Any:
        """Look at the held-out examples."""
        ...

    def start_epoch(self, step: int) -> None:
        """Take the order of the epoch that a step is in."""
        ...

    def start_step(self, step: int) -> None:
        """Seed what a step draws."""
        ...

    def is_asked_to_end(self) -> bool:
        """Tell whether the run was asked to end."""
        ...


class Course(transformers.TrainerCallback):
    """Says when a run looks, keeps and ends."""

    def __init__(self, trainer: Run) -> None:
        self._run = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look at the held-out examples before the first step."""
        del args, control
        if state.global_step == 0 and self._run.has_held_out:
            self._run.evaluate()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the order of the epoch."""
        del args, control
        self._run.start_epoch(state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seed the step."""
        del args, control
        self._run.start_step(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Log every step; look, keep and end when it is time, or when the run is asked to end."""
        del args
        run, step = self._run, state.global_step
        is_last = step >= state.max_steps
        control.should_log = True
        control.should_evaluate = run.has_held_out and (is_last or step % run.length.evaluate_every == 0)
        control.should_save = is_last or step % run.length.checkpoint_every == 0
        run.progress.is_over = is_last
        if not is_last and run.is_asked_to_end():
            run.is_interrupted = control.should_save = control.should_training_stop = True
        return control
