"""Trainings that run side by side, a step of one after a step of the other, for ``benchmarks.training``.

Each arm is a Trainer in a thread of its own, which waits for its turn before every step. So all of them see the same
rows in the same minute, whatever else the machine does.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import peft
import torch
import transformers
from transformers import DataCollatorForSeq2Seq

from benchmarks.training_material import Material
from ual_registry.models.loaded import LoadedBase
from ual_registry.training.batches import Batch
from ual_registry.training.config import TrainingConfig
from ual_registry.training.factors import lora_config, targets_of
from ual_registry.training.log import Journal
from ual_registry.training.place import place_of
from ual_registry.training.progress import Progress
from ual_registry.training.schedule import length_of
from ual_registry.training.trainer import AdapterTrainer
from ual_registry.training.work import Work, trainer_arguments

__all__ = ["Arm", "bare", "ours", "plain", "ratio_text", "run_in_turns", "state_bytes"]

_RESAMPLES = 10_000

_Callback: Any = transformers.TrainerCallback


@dataclass(slots=True)
class Arm:
    """One training.

    Attributes:
        name: What it is called in the table.
        trainer: The Trainer, not yet begun.
        losses: Returns the loss of every step.
        times_s: What each step took, with the making of its batches.
        error: What ended it.
    """

    name: str
    trainer: Any
    losses: Callable[[], list[float]]
    times_s: list[float] = field(default_factory=list)
    error: BaseException | None = None


def ours(name: str, material: Material, **changes: Any) -> Arm:
    """Return an arm that trains as ``ual train`` does: with its log, counts, seeds, and a checkpoint at the end."""
    config = replace(material.config, **changes)
    base, rows = material.load(), material.batches(config)
    length = length_of(config, len(rows.steps(0)))
    place = material.folder / name.replace(" ", "-")
    place.mkdir()
    journal, progress = Journal(place / "log.jsonl", steps=length.steps, is_shown=False), Progress(settings={})
    work = Work(
        config=config,
        base=base.model,
        train=rows,
        held_out=None,
        length=length,
        checkpoints=place,
        journal=journal,
    )
    trainer = AdapterTrainer(_with_factors(base, config), trainer_arguments(work, place_of(config)), work, progress)
    journal.begin(progress)
    return Arm(name, trainer, lambda: [loss for _, loss in progress.losses])


def plain(name: str, material: Material, *, width: int | None = None, is_full: bool = False) -> Arm:
    """Return an arm that trains as people do without us: PEFT, Trainer, and the collator of transformers.

    Args:
        name: What it is called.
        material: What it trains on.
        width: Tokens that every row is filled up to; the longest of a micro-batch where absent.
        is_full: Whether all weights are trained, and no factors.
    """
    config, base = material.config, material.load()
    tokenizer = base.text_tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    rows = [material.prepared.train[row] for step in material.batches(config).steps(0) for row in step]
    data = [{"input_ids": list(row.input_ids), "labels": list(row.labels)} for row in rows]
    way: dict[str, Any] = {"padding": "longest"} if width is None else {"padding": "max_length", "max_length": width}
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100, **way)
    model = base.model.requires_grad_(True) if is_full else _with_peft(base, config)
    return _trainer_arm(name, model, data, collator, _arguments(material, config.batch_size, config.accumulation))


def bare(name: str, material: Material, **changes: Any) -> Arm:
    """Return an arm of the Trainer alone on the very micro-batches that ``ours`` makes, which are there beforehand."""
    config = replace(material.config, **changes)
    base, made = material.load(), material.batches(config)
    steps = [made.parts(step) for step in made.steps(0)]
    (count,) = {len(parts) for parts in steps}  # the Trainer accumulates as many in every step
    data = [made.collate(rows, 0) for parts in steps for rows in parts]
    return _trainer_arm(name, _with_factors(base, config), data, _only, _arguments(material, 1, count))


def _with_factors(base: LoadedBase, config: TrainingConfig) -> Any:
    return _wrapped(base, lora_config(base, targets_of(base, config), config), config)


def _with_peft(base: LoadedBase, config: TrainingConfig) -> Any:
    own = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # as in training.factors
        target_modules="all-linear",
    )
    return _wrapped(base, own, config)


def _wrapped(base: LoadedBase, settings: Any, config: TrainingConfig) -> Any:
    torch.manual_seed(config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = peft.get_peft_model(base.model, settings)
    base.model.config.use_cache = False
    return model


def _arguments(material: Material, batch_size: int, accumulation: int) -> Any:
    """Return the settings of a bare Trainer: ours, as far as it has them."""
    config, place = material.config, place_of(material.config)
    return transformers.TrainingArguments(
        output_dir=str(material.folder / "trainer"),
        max_steps=config.steps or 1,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=config.max_gradient or 0.0,
        train_sampling_strategy="sequential",
        bf16=place.precision == "bfloat16",
        use_cpu=place.device == "cpu",
        logging_strategy="steps",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )


def _trainer_arm(name: str, model: Any, data: Sequence[Any], collator: Callable[..., Any], arguments: Any) -> Arm:
    trainer: Any = transformers.Trainer(model=model, args=arguments, train_dataset=data, data_collator=collator)
    trainer.remove_callback(transformers.PrinterCallback)
    return Arm(name, trainer, lambda: [line["loss"] for line in trainer.state.log_history if "loss" in line])


def _only(batches: list[Batch]) -> Batch:
    (batch,) = batches
    return batch


def state_bytes(optimizer: Any) -> int:
    """Return what the state of an optimiser takes."""
    own = (value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value))
    return sum(value.numel() * value.element_size() for value in own)


def ratio_text(slow: Sequence[float], fast: Sequence[float], digits: int = 2) -> str:
    """Return the median of paired ratios with its 95 % bootstrap interval."""
    ratios = np.array(slow) / np.array(fast)
    draws = np.random.default_rng(0).integers(0, len(ratios), size=(_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), [2.5, 97.5])
    return f"{np.median(ratios):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


class _Turns:
    """Whose turn it is; who is done is passed over."""

    def __init__(self, count: int) -> None:
        self._waiting = list(range(count))
        self._changed = threading.Condition()

    def wait(self, arm: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting[0] == arm)

    def pass_on(self, *, is_done: bool = False) -> None:
        with self._changed:
            own = self._waiting.pop(0)
            self._waiting += [] if is_done else [own]
            self._changed.notify_all()


class _Turn(_Callback):  # type: ignore[misc]  # half of transformers is not typed
    """Lets the others have a step after every step of an arm."""

    def __init__(self, arm: Arm, number: int, turns: _Turns) -> None:
        self._arm, self._number, self._turns = arm, number, turns
        self._begun = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._begun = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock while the others have theirs."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._arm.times_s.append(time.perf_counter() - self._begun)
        self._turns.pass_on()
        self._turns.wait(self._number)
        self._begun = time.perf_counter()


def run_in_turns(arms: Sequence[Arm]) -> None:
    """Run all arms to their end, step by step."""
    turns = _Turns(len(arms))

    def run(arm: Arm, number: int) -> None:
        turns.wait(number)
        try:
            arm.trainer.train()
        except BaseException as error:  # noqa: BLE001  # it is raised where the others are waited for
            arm.error = error
        turns.pass_on(is_done=True)

    threads = []
    for number, arm in enumerate(arms):
        arm.trainer.add_callback(_Turn(arm, number, turns))
        threads.append(threading.Thread(target=run, args=(arm, number)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for arm in arms:
        if arm.error is not None:
            raise arm.error
