"""One training: fresh factors on a base model, trained, chosen, written as an AIR file, and proved."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read
from ual_registry.digest import Digest
from ual_registry.errors import TrainingError
from ual_registry.models.loaded import LoadedBase
from ual_registry.training.batches import Batch, Batches
from ual_registry.training.checkpoint import Checkpoint, last_checkpoint, read_checkpoint
from ual_registry.training.config import TrainingConfig
from ual_registry.training.factors import factors_on, lora_config, targets_of
from ual_registry.training.folder import RunFolder, open_run
from ual_registry.training.hardware import environment, peak_memory_bytes
from ual_registry.training.launch import processes
from ual_registry.training.log import Journal
from ual_registry.training.memory import memory_told
from ual_registry.training.objective import trained_positions
from ual_registry.training.packing import check_packing
from ual_registry.training.place import Place, place_of
from ual_registry.training.prepare import Prepared
from ual_registry.training.progress import Progress
from ual_registry.training.proof import answers, effect_to_record, logit_change
from ual_registry.training.record import Proof, TrainingRecord, bits_per_byte
from ual_registry.training.result_file import Answered, prove_result, write_result
from ual_registry.training.rows import TokenRow, rows_digest
from ual_registry.training.schedule import length_of
from ual_registry.training.signals import Wish, hearing_signals
from ual_registry.training.surroundings import undisturbed
from ual_registry.training.trainer import AdapterTrainer
from ual_registry.training.work import Work, factors_of, load_factors, trainer_arguments

__all__ = ["TrainingResult", "train"]


_PROBED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a training made.

    Attributes:
        adapter: The adapter, read from its file.
        path: The file.
        digest: Its digest.
        record: What was done and measured.
    """

    adapter: Adapter
    path: Path
    digest: Digest
    record: TrainingRecord


def train(
    base: LoadedBase,
    prepared: Prepared,
    config: TrainingConfig,
    *,
    folder: Path,
    resume: bool = False,
    labels: Mapping[str, Any] | None = None,
    created_at: str | None = None,
    is_shown: bool = False,
) -> TrainingResult:
    """Train an adapter.

    The folder keeps the log, the checkpoints and the result; a run that was interrupted goes on from its last
    checkpoint, and ends with the same tensors as one that was not; what is measured alone differs.

    Args:
        base: The base model, with the head that is trained through; it is left as it was.
        prepared: What is trained on and what is held out.
        config: How.
        folder: Where the run is kept; its parent exists.
        resume: Whether to go on with the run that is there.
        labels: Fields of the manifest that people write, such as ``name`` and ``domain``.
        created_at: When, in RFC 3339, for the record.
        is_shown: Whether to draw a line on standard error while it goes.

    Raises:
        TrainingError: The settings do not fit the base model, the loss is not finite, memory runs out, or the run was
            asked to end (code ``interrupted``; a checkpoint is kept).
        FormatError: The folder holds something else, or the run of other settings, data or base model.
        StorageError: The file system refuses; the last checkpoint stays.
    """
    place, shared = place_of(config), processes()
    peft_config = lora_config(base, targets_of(base, config), config)
    settings = _settings(base, prepared, config, shared[1])
    run = open_run(folder, settings, resume=resume, is_first=shared[0] == 0)
    resumed = last_checkpoint(run.checkpoints) if resume else None
    kept = None if resumed is None else read_checkpoint(resumed, settings)
    job = _Job(base, prepared, config, place, run, shared)
    on = factors_on(base, peft_config, seed=config.seed, is_recomputed=config.gradient_checkpointing)
    with undisturbed():
        with memory_told(config), on as model:
            if config.batching == "packed":
                check_packing(base.model)
            trainer = job.trained(model, settings, kept, resumed, is_shown=is_shown)
            record, answered = job.finish(model, trainer)
            if shared[0] == 0:
                write_result(
                    run.adapter,
                    model,
                    base,
                    record,
                    effect=answered.effect,
                    labels=labels or {},
                    created_at=created_at,
                )
        if shared[0] == 0:
            with trainer.precision():
                record = prove_result(run.adapter, base, record, answered, created_at=created_at)
        trainer.accelerator.wait_for_everyone()
    return TrainingResult(
        adapter=read(run.adapter), path=run.adapter, digest=Digest.of_file(run.adapter), record=record
    )


def _settings(base: LoadedBase, prepared: Prepared, config: TrainingConfig, shared: int) -> dict[str, Any]:
    """Return all that a run depends on, as JSON."""
    own = {name: value for name, value in config.document().items() if name not in ("sinks", "checkpoint_every")}
    return {
        "base_model": [base.base.config_digest, base.base.weights_digest],
        "data": str(prepared.report.digest),
        "tokenization": str(rows_digest(prepared.train, prepared.held_out)),
        **{f"setting_{name}": value for name, value in own.items()},
        "number_of_processes": shared,
    }


@dataclass(frozen=True, slots=True)
class _Job:
    """One run's parts."""

    base: LoadedBase
    prepared: Prepared
    config: TrainingConfig
    place: Place
    run: RunFolder
    shared: tuple[int, int]

    def trained(
        self, model: Any, settings: dict[str, Any], kept: Checkpoint | None, resumed: Path | None, *, is_shown: bool
    ) -> AdapterTrainer:
        """Train, from the start or from a checkpoint.

        Raises:
            TrainingError: The run was asked to end, or the loss is not finite.
        """
        progress = Progress(settings=settings) if kept is None else kept.progress
        rows, held_out = self._batches(self.prepared.train), self.prepared.held_out
        length = length_of(self.config, len(rows.steps(0, self.shared[1])))
        is_first = self.shared[0] == 0
        journal = Journal(
            self.run.log if is_first else None, steps=length.steps, sinks=self.config.sinks, is_shown=is_shown
        )
        with contextlib.closing(journal), hearing_signals() as wish:
            work = Work(
                config=self.config,
                base=self.base.model,
                train=rows,
                held_out=self._batches(held_out) if held_out else None,
                length=length,
                checkpoints=self.run.checkpoints,
                journal=journal,
                processes=self.shared,
                is_stopped=wish.is_heard,
            )
            trainer = AdapterTrainer(model, trainer_arguments(work, self.place), work, progress)
            if kept is not None and progress.is_over:
                load_factors(model, kept.factors)
                trainer.best = dict(kept.best)
                return trainer
            journal.begin(progress)
            trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
            if trainer.is_interrupted:
                raise _interrupted(trainer.progress.step, self.run, wish)
            journal.end(progress, steps=progress.step, best_step=progress.best_step)
            return trainer

    def _batches(self, rows: Sequence[TokenRow]) -> Batches:
        return Batches(rows, self.prepared, self.config)

    def _probe(self) -> Batch:
        """Return a few rows to try the result on."""
        rows = (self.prepared.held_out or self.prepared.train)[:_PROBED]
        return self._batches(rows).collate(range(len(rows)), 0)

    def finish(self, model: Any, trainer: AdapterTrainer) -> tuple[TrainingRecord, Answered]:
        """Choose the result's factors, and measure what they do; the proof of the record lacks the file still."""
        progress, is_best = trainer.progress, self.config.keep == "best" and bool(trainer.best)
        if is_best:
            load_factors(model, trainer.best)
        loss_after = progress.best_loss if is_best else progress.held_out[-1][1] if progress.held_out else None
        probe = self._probe()
        with trainer.precision():
            own = answers(model, self.config.head, probe)
            change = logit_change(model, self.config.head, probe, own)
        proof = self._proof(progress.start_loss, loss_after, change)
        best_step = progress.best_step if is_best else progress.step
        record = self._record(model, trainer, best_step, proof)
        effect = effect_to_record(model, self.base, self.config.head)
        return record, Answered(head=self.config.head, batch=probe, logits=own, effect=effect)

    def _proof(self, before: float | None, after: float | None, logit_change: float) -> Proof:
        """Return what was measured, but for the file, which is not there yet."""
        held_out = self._batches(self.prepared.held_out).held_out() if self.prepared.held_out else ()
        positions = sum(trained_positions(self.config.head, batch["labels"]) for batch in held_out)
        is_text = self.config.head != "masked"  # it finds some tokens alone, which is no code of the text
        size = self.prepared.report.held_out.size_bytes if is_text else 0
        return Proof(
            loss_before=before,
            loss_after=after,
            bits_before=bits_per_byte(before, positions, size),
            bits_after=bits_per_byte(after, positions, size),
            positions=positions,
            logit_change=logit_change,
            reload_error=0.0,
            size_bytes=0,
        )

    def _record(self, model: Any, trainer: AdapterTrainer, best_step: int, proof: Proof) -> TrainingRecord:
        progress = trainer.progress
        last = progress.losses[-max(len(progress.losses) // 10, 1) :]
        return TrainingRecord(
            base=self.base.base,
            config=self.config,
            data=self.prepared.report.document(),
            data_digest=str(self.prepared.report.digest),
            rows_digest=trainer.progress.settings["tokenization"],
            steps=progress.step,
            best_step=best_step,
            steps_per_epoch=trainer.length.steps_per_epoch,
            warmup_steps=trainer.length.warmup_steps,
            processes=self.shared[1],
            trainable=sum(own.numel() for own in factors_of(model).values()),
            tokens=progress.tokens,
            trained_tokens=progress.trained_tokens,
            train_loss=sum(loss for _, loss in last) / len(last),
            losses=tuple(progress.losses),
            held_out=tuple(progress.held_out),
            wall_time_s=progress.elapsed_s,
            peak_memory_bytes=peak_memory_bytes(self.place.device),
            environment=environment(self.place.device),
            labels=self.prepared.labels,
            proof=proof,
        )


def _interrupted(step: int, run: RunFolder, wish: Wish) -> TrainingError:
    return TrainingError(
        f"asked to end after step {step}; a checkpoint is kept",
        code="interrupted",
        context={"step": step, "path": str(run.path), "signal": wish.signal},
        hint="the same command with --resume goes on from there",
    )
