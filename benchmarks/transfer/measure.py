"""Measure the arms of the transfer benchmark that were not measured yet.

This module decides how items become those of `ual_registry.evaluation`; which arms there are is left to `arms`.
It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks.transfer.arms import FLIPPED, Arm
from benchmarks.transfer.numbers import Measured, Numbers
from benchmarks.transfer.place import load
from benchmarks.transfer.side_by_side import one_at_a_time
from benchmarks.transfer.tasks import Item, Task
from examples.materials import model_folder
from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read
from ual_registry.evaluation import controls
from ual_registry.evaluation.items import Document, LabelItem
from ual_registry.evaluation.series import Series
from ual_registry.evaluation.tasks import BitsPerByte, LabelLikelihood
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase

__all__ = ["Bench", "controlled"]


@dataclass(slots=True, kw_only=True)
class Bench:
    """Base models in memory, on which arms are measured.

    Attributes:
        numbers: Where numbers are kept.
        loaded: Base models by their key in `examples.materials.MATERIALS`, loaded when they are first needed.
    """

    numbers: Numbers
    loaded: dict[str, LoadedBase] = field(default_factory=dict)

    @classmethod
    def open(cls, cache: Path) -> Bench:
        """Keep numbers in a cache."""
        return cls(numbers=Numbers(cache / "measured"))

    def base(self, name: str) -> LoadedBase:
        """Return a base model; prompts are plain, as the adapters are trained."""
        if name not in self.loaded:
            self.loaded[name] = load(model_folder(name))
        return self.loaded[name]

    def measure(self, task: Task, split: str, arms: Iterable[Arm]) -> dict[str, Measured]:
        """Return every metric of some arms by their names; arms whose adapter is not there are left out.

        Args:
            task: The task.
            split: `dev` or `test`.
            arms: What to measure.
        """
        found = {}
        for arm in arms:
            if arm.file is not None and not arm.file.is_file():
                continue
            key = arm.key(task.name, task.named(split))
            with one_at_a_time(self.numbers.folder / key):
                found[arm.name] = self.numbers.of(key) or self._measured(task, split, arm, key)
        return found

    def _measured(self, task: Task, split: str, arm: Arm, key: str) -> Measured:
        start = time.process_time()
        self.numbers.keep(key, self._run(task, task.items(split), arm))
        found = self.numbers.of(key)
        assert found is not None  # it was kept just now
        said = ", ".join(f"{name} {own.value:.3f}" for name, own in found.items())
        click.echo(f"{key}: {said} ({time.process_time() - start:.0f} s)")
        return found

    def _run(self, task: Task, items: Sequence[Item], arm: Arm) -> Sequence[Series]:
        loaded = self.base(arm.base)
        with contextlib.ExitStack() as stack:
            if arm.file is not None and arm.dose != 0:
                adapter = stack.enter_context(read(arm.file))
                stack.enter_context(attach(loaded.model, controls.scaled(controlled(adapter, arm.control), arm.dose)))
            if task.has_labels:
                return LabelLikelihood(is_plain=True).score(loaded, _label_items(items))
            return BitsPerByte().score(loaded, _documents(items))


def controlled(adapter: Adapter, control: str) -> Adapter:
    """Return the control that is made of an adapter; the adapter itself where none is asked for.

    Args:
        adapter: The adapter.
        control: `flipped`, or `random` and a seed; empty for the adapter itself.
    """
    if not control:
        return adapter
    if control == FLIPPED:
        return controls.sign_flipped(adapter)
    return controls.random_same_norm(adapter, int(control.rsplit(maxsplit=1)[-1]))


def _label_items(items: Sequence[Item]) -> list[LabelItem]:
    # The space before a label is added again where prompt and label meet.
    return [
        LabelItem(
            line=line,
            prompt=item.prompt,
            labels=tuple(label.removeprefix(" ") for label in item.labels),
            gold=item.answer.removeprefix(" "),
        )
        for line, item in enumerate(items, start=1)
    ]


def _documents(items: Sequence[Item]) -> list[Document]:
    return [Document(line=line, text=item.answer) for line, item in enumerate(items, start=1)]
