"""The Trainer of transformers, with what it leaves to others: exact sums, exact resuming, and one record of the run.

The loop, the schedules, mixed precision and several processes are the Trainer's. Ours are the loss (``objective``), the
order of the data (``feed``), the checkpoints (``checkpoint``) and the looks at the held-out examples. Random numbers,
such as those of dropout, are seeded anew at every step, from seed, step and process: a resumed run needs no state of
them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils.data import DataLoader

from ual_registry.errors import TrainingError
from ual_registry.training.batches import Batch
from ual_registry.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ual_registry.training.course import Course
from ual_registry.training.diverged import not_finite
from ual_registry.training.feed import Echo, Feed
from ual_registry.training.objective import Loss, batch_loss, trained_positions
from ual_registry.training.optimizer import flat_state, make_optimizer, state_by_index
from ual_registry.training.progress import Progress
from ual_registry.training.schedule import Length
from ual_registry.training.work import Work, factors_of, load_factors

__all__ = ["AdapterTrainer"]


_Trainer: Any = transformers.Trainer


class AdapterTrainer(_Trainer):  # type: ignore[misc]  # half of transformers is not typed
    """Trains the factors of one model; ``progress`` and ``best`` say how far it came.

    Args:
        model: The PEFT model.
        arguments: The Trainer's own settings.
        work: What to work on.
        progress: Where the run stands.
    """

    loss_is_scaled_for_ga = True
    optimizer: Any
    control: Any

    def __init__(self, model: Any, arguments: Any, work: Work, progress: Progress) -> None:
        self.work, self.progress = work, progress
        self.best: dict[str, torch.Tensor] = {}
        self.is_interrupted = False
        self._begun = time.monotonic() - progress.elapsed_s
        self._waiting: deque[int] = deque()
        process, processes = work.processes
        self._feed = Feed(
            lambda epoch: [work.train.parts(step, process, processes) for step in work.train.steps(epoch, processes)]
        )
        super().__init__(model=model, args=arguments, callbacks=[Course(self)])
        self.remove_callback(transformers.PrinterCallback)

    @property
    def length(self) -> Length:
        """How long the run is."""
        return self.work.length

    @property
    def has_held_out(self) -> bool:
        """Whether there are held-out examples."""
        return self.work.held_out is not None

    # what goes in

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the steps of the epoch that ``start_epoch`` named, each as its micro-batches."""
        return DataLoader(
            Echo(),
            batch_sampler=self._feed,  # type: ignore[arg-type]  # its batches are steps, not lists of rows
            collate_fn=self._collate,
            pin_memory=self.args.device.type == "cuda",
        )

    def _collate(self, parts: Sequence[Sequence[int]]) -> list[Batch]:
        rows = self.work.train.rows
        self._waiting.append(sum(len(rows[row].input_ids) for part in parts for row in part))
        return [self.work.train.collate(part, self._feed.epoch) for part in parts]

    def start_epoch(self, step: int) -> None:
        """Take the order of the epoch that a step is in."""
        self._feed.epoch = step // self.work.length.steps_per_epoch

    def start_step(self, step: int) -> None:
        """Seed what a step draws."""
        text = f"{self.work.config.seed}-{step}-{self.work.processes[0]}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]))

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[list[Batch]], int]:
        """Return the micro-batches of a step, and what the loss of all of them, on all processes, goes over."""
        steps = list(islice(epoch_iterator, num_batches))
        positions = sum(trained_positions(self.work.config.head, part["labels"]) for step in steps for part in step)
        tokens = sum(self._waiting.popleft() for _ in steps)
        del device
        trained, read = map(int, self._over_processes(positions, tokens))
        self.progress.trained_tokens += trained
        self.progress.tokens += read
        return steps, trained

    def training_step(
        self, model: Any, inputs: list[Batch], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Go forward and back with the micro-batches of a step; processes wait for one another at the last alone."""
        *earlier, last = inputs
        with self.accelerator.no_sync(model):
            losses = [super(AdapterTrainer, self).training_step(model, part, num_items_in_batch) for part in earlier]
        total: torch.Tensor = sum(losses, start=super().training_step(model, last, num_items_in_batch))
        return total

    def _over_processes(self, *own: float) -> tuple[float, ...]:
        """Return the sums of numbers over all processes."""
        if self.work.processes[1] == 1:
            return own
        numbers = torch.tensor(own, dtype=torch.float64, device=self.args.device)
        return tuple(self.accelerator.reduce(numbers, reduction="sum").tolist())

    # what is minimised

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return the sum of the losses over what a whole step goes over.

        Several processes take the mean of their gradients, so that each must count as many times as there are.
        """
        del return_outputs
        loss = self._loss(model, inputs)
        scale: torch.Tensor = loss.total * (self.work.processes[1] / max(int(num_items_in_batch or 0), 1))
        return scale

    def _loss(self, model: Any, batch: Batch) -> Loss:
        return batch_loss(model, self.work.base, self.work.config.head, batch)

    def create_optimizer(self, model: Any = None) -> Any:
        """Make AdamW over the factors; with LoRA+ as PEFT makes it."""
        del model
        if self.optimizer is None:
            self.optimizer = make_optimizer(self.model, self.work.config)
        return self.optimizer

    def floating_point_ops(self, inputs: Batch) -> int:
        """Count nothing: it goes over all parameters for every micro-batch."""
        del inputs
        return 0

    # what is said

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep what a step came to.

        Raises:
            TrainingError: The loss is not finite.
        """
        del start_time
        if "loss" not in logs:
            return
        step = self.state.global_step
        if not math.isfinite(logs["loss"]):
            raise self._not_finite(f"the loss is {logs['loss']}")
        self.progress.step, self.progress.elapsed_s = step, time.monotonic() - self._begun
        self.progress.losses.append((step, logs["loss"]))
        numbers = {name: logs[name] for name in ("learning_rate", "grad_norm") if name in logs}
        self.work.journal.step(self.progress, **numbers)
        self.control.should_log = False

    def _not_finite(self, problem: str) -> TrainingError:
        return not_finite(problem, step=self.state.global_step, checkpoints=self.work.checkpoints)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Look at the held-out examples, and keep the factors where none were better."""
        step, progress = self.state.global_step, self.progress
        if progress.held_out and progress.held_out[-1][0] == step:
            return {}
        loss = self.held_out_loss()
        progress.held_out.append((step, loss))
        if not math.isfinite(loss):
            raise self._not_finite(f"the held-out loss is {loss}")
        if step == 0:
            progress.start_loss = loss
        elif progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.looks_since_best = loss, step, 0
            self.best = {name: own.detach().cpu().clone() for name, own in factors_of(self.model).items()}
        else:
            progress.looks_since_best += 1
        progress.elapsed_s = time.monotonic() - self._begun
        self.work.journal.look(progress)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, {"eval_loss": loss})
        patience = self.work.config.patience
        if patience is not None and progress.looks_since_best >= patience:
            progress.is_over = self.control.should_save = self.control.should_training_stop = True
        return {"eval_loss": loss}

    def held_out_loss(self) -> float:
        """Return the mean loss of the held-out examples, over all processes; in nats."""
        assert self.work.held_out is not None  # nobody asks where nothing is held out
        total, positions = 0.0, 0.0
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad(), self.precision():
            for batch in self.work.held_out.held_out(*self.work.processes):
                loss = self._loss(self.model, self._prepare_inputs(batch))
                total, positions = total + float(loss.total), positions + loss.positions
        self.model.train(was_training)
        total, positions = self._over_processes(total, positions)
        return total / max(positions, 1)

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context that a step computes in."""
        dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else None
        if dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.args.device.type, dtype=dtype)

    def is_asked_to_end(self) -> bool:
        """Tell whether any process was asked to end; all of them hear of it at the same step."""
        return any(self._over_processes(self.work.is_stopped()))

    # what is kept

    def keep(self) -> None:
        """Write a checkpoint; one process does it for all.

        Raises:
            TrainingError: A factor is not finite.
            StorageError: The file system refuses; the last checkpoint stays.
        """
        factors = factors_of(self.model)
        if not all(bool(torch.isfinite(own).all()) for own in factors.values()):
            raise self._not_finite("the factors are not finite any more")
        if self.work.processes[0] == 0:
            state = self.optimizer.state_dict()
            scaler = getattr(self.accelerator, "scaler", None)
            write_checkpoint(
                self.work.checkpoints,
                Checkpoint(
                    progress=self.progress,
                    factors=factors,
                    best=self.best,
                    optimizer=flat_state(state["state"]),
                    groups=state["param_groups"],
                    schedule={
                        name: own for name, own in self.lr_scheduler.state_dict().items() if name != "lr_lambdas"
                    },
                    scaler=None if scaler is None else scaler.state_dict(),
                    trainer=json.dumps(dataclasses.asdict(self.state), sort_keys=True),
                ),
            )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        del model, trial
        self.keep()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        del model
        kept = read_checkpoint(Path(resume_from_checkpoint), self.progress.settings)
        load_factors(self.model, kept.factors)
        self.best = dict(kept.best)
        self._kept = kept

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        kept = self._kept
        self.optimizer.load_state_dict({"state": state_by_index(kept.optimizer), "param_groups": kept.groups})
        self.lr_scheduler.load_state_dict({**self.lr_scheduler.state_dict(), **kept.schedule})

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self._kept.scaler is not None:
            self.accelerator.scaler.load_state_dict(self._kept.scaler)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Leave random numbers alone: every step seeds its own."""
