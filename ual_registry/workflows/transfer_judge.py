"""Measuring what a transfer made, on the spot: by the protocol of ``ual evaluate``, with its controls.

Where several methods compete, one half of the items chooses among them and the other half gives the report card, so
that nothing is reported on what it was chosen by.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import BaseModel, Statement
from ual_registry.air.write import file_digest
from ual_registry.binders.describe import describe_base
from ual_registry.digest import Digest
from ual_registry.storage import read_file
from ual_registry.workflows.base_check import require_recorded, require_trained
from ual_registry.workflows.reading import open_material
from ual_registry.workflows.transfer_job import Job

if TYPE_CHECKING:
    from ual_registry.evaluation.items import DataFile
    from ual_registry.evaluation.report import Evaluation
    from ual_registry.evaluation.run import Baselines
    from ual_registry.evaluation.tasks import Task

__all__ = ["LEAST_ITEMS", "Judge"]

LEAST_ITEMS = 20
"""Fewer items are not divided: ten would say little about which method is better."""

_LIMIT_BYTES = 1 << 30


class Judge:
    """Measures adapters for the target of a job.

    Args:
        job: The job; it asks for data.
        stack: Keeps further adapters open while it is needed.

    Raises:
        TransferError: The target has no weights or no tokenizer here.
        BaseMismatchError: A further adapter was made for another base model than the target.
        UALError: A further adapter, or the items, cannot be read.
    """

    def __init__(self, job: Job, stack: contextlib.ExitStack) -> None:
        self.job, self.order = job, job.order
        job.require_measurable()
        self.materials: dict[str, str] = {}
        self.baselines = {name: self._open(stack, name, own) for name, own in self.order.baselines.items()}
        self.items = self._read()

    def _open(self, stack: contextlib.ExitStack, name: str, reference: str) -> Adapter:
        adapter = open_material(stack, f"{name} adapter", reference, self.materials)
        self._require_target(name, adapter, describe_base(self.job.goal.config))
        if name == "native":
            require_trained(adapter.manifest, reference)
        return adapter

    def _require_target(self, name: str, adapter: Adapter, target: BaseModel) -> None:
        """Refuse an adapter that was made for another base model: the same shapes do not make it comparable."""
        if not self.order.is_any_base:
            recorded, where = adapter.manifest.base_model, self.order.target
            require_recorded(target, recorded, where=where, whose=f"the {name} adapter")

    def _read(self) -> DataFile:
        from ual_registry.evaluation.tasks import TASKS  # noqa: PLC0415  # loads torch

        return TASKS[self.order.task][1](Path(str(self.order.data)))

    @cached_property
    def task(self) -> Task:
        """What is asked of the items."""
        from ual_registry.evaluation.tasks import TASKS  # noqa: PLC0415  # loads torch

        return TASKS[self.order.task][0](self.order.seed, self.order.is_plain)

    @property
    def can_compare(self) -> bool:
        """Whether there are enough items to choose a method by one half of them."""
        return len(self.items.items) >= LEAST_ITEMS

    @property
    def too_few(self) -> str:
        """Say why methods are not compared."""
        return f"{len(self.items.items)} items are too few to compare by: expected at least {LEAST_ITEMS}"

    @cached_property
    def halves(self) -> tuple[DataFile, DataFile]:
        """The half that methods are chosen by and the half that is reported on; which is which, the items decide."""
        lines = read_file(Path(self.items.path), limit_bytes=_LIMIT_BYTES).split(b"\n")
        ordered = sorted(self.items.items, key=lambda item: hashlib.sha256(lines[item.line - 1]).digest())
        middle = len(ordered) // 2
        return self._part(ordered[:middle], lines), self._part(ordered[middle:], lines)

    def _part(self, items: list[object], lines: list[bytes]) -> DataFile:
        kept = tuple(sorted(items, key=lambda item: item.line))  # type: ignore[attr-defined]  # every item has one
        data = b"".join(lines[item.line - 1] + b"\n" for item in kept)  # type: ignore[attr-defined]
        return replace(self.items, items=kept, digest=str(Digest.of_bytes(data)))

    def loss(self, adapter: Adapter) -> float:
        """Return the task's loss of an adapter on the half that chooses; lower is better."""
        from ual_registry.evaluation.run import score_arm  # noqa: PLC0415  # loads torch

        found = score_arm(self.job.target, self.task, self.halves[0].items, adapter)
        return next(series.value for series in found if series.metric == self.task.loss)

    def judge(self, adapter: Adapter, *, is_chosen: bool) -> tuple[Evaluation, Statement]:
        """Measure an adapter with every control, and return what was found and its report card.

        Args:
            adapter: What the transfer made.
            is_chosen: Whether one half of the items chose it; the other half is measured then.
        """
        from ual_registry.evaluation.report_card import evaluation_statement  # noqa: PLC0415  # loads torch
        from ual_registry.evaluation.run import Data, evaluate  # noqa: PLC0415

        job = self.job
        for name, own in self.baselines.items():
            self._require_target(name, own, job.target.base)
        test = self.halves[1] if is_chosen else self.items
        found = evaluate(
            job.target,
            adapter,
            self.task,
            Data(test=test),
            baselines=self._baselines(),
            seed=self.order.seed,
            say=job.say,
        )
        materials = {"adapter": str(file_digest(adapter)), **self.materials, **self._models(), "test data": test.digest}
        if is_chosen:
            materials["dev data"] = self.halves[0].digest
        return found, evaluation_statement(found, materials=materials, builder_version=version("ual-registry"))

    def _baselines(self) -> Baselines:
        from ual_registry.evaluation.run import Baselines  # noqa: PLC0415  # loads torch

        job = self.job
        source = (lambda: job.source, job.adapter) if self._has_source else None
        return Baselines(
            native=self.baselines.get("native"), wrong_task=self.baselines.get("wrong-task"), source=source
        )

    @property
    def _has_source(self) -> bool:
        """Whether the source can be measured too."""
        return self.job.source_place.has_tokenizer

    def _models(self) -> dict[str, str]:
        job, found = self.job, {"source adapter": str(self.job.digest)}
        bases = {"base": job.target} | ({"source base": job.source} if self._has_source else {})
        for name, loaded in bases.items():
            found[f"{name} config"] = loaded.base.config_digest
            found[f"{name} weights"] = str(loaded.base.weights_digest)
        return found
