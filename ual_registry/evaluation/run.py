"""An evaluation carried out: every arm on the same items of the same base model, then what it means."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ual_registry.air.adapter import Adapter
from ual_registry.errors import NumericalError, TransferError
from ual_registry.evaluation.bootstrap import RESAMPLES
from ual_registry.evaluation.controls import random_same_norm, refuse_without_effect, scaled, sign_flipped
from ual_registry.evaluation.items import DataFile, contents
from ual_registry.evaluation.recovery import MetricReport, measure_metric
from ual_registry.evaluation.report import (
    ADAPTER,
    BASE,
    NATIVE,
    RANDOM,
    SIGN_FLIPPED,
    SOURCE,
    SOURCE_BASE,
    WRONG_TASK,
    Dose,
    DosePoint,
    Evaluation,
    dosed_arm,
)
from ual_registry.evaluation.series import Series
from ual_registry.evaluation.side_effects import SideEffects, measure_side_effects
from ual_registry.evaluation.tasks import LoadedModel, Task
from ual_registry.evaluation.verdict import LEAST_ITEMS, judge
from ual_registry.models.attach import attach
from ual_registry.seeding import require_seed

__all__ = ["DOSES", "RANDOM_SEEDS", "Baselines", "Data", "evaluate", "score_arm"]

DOSES = (-1.0, 0.0, 0.25, 0.5, 1.0, 2.0)
"""What the update is multiplied by in a dose curve; -1 is shown, and never chosen."""

RANDOM_SEEDS = (0, 1, 2)
"""Added to the seed of the evaluation; one random control each."""

_IDENTITY_ITEMS = 4
_IDENTITY_LIMIT = 1e-4
_DRIFT_LIMIT = 1e-2
"""Relative; a half-precision base in batches of another size differs by less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What is measured on.

    Attributes:
        test: The items that everything is reported on.
        dev: Other items, which choose the dose; ``None`` where no curve is wanted.
        generic: Documents that have nothing to do with the task.
    """

    test: DataFile
    dev: DataFile | None = None
    generic: DataFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """Further arms.

    Attributes:
        native: An adapter trained on the base model itself; without it there is no recovered gain.
        wrong_task: An adapter of another task that came by the same way.
        source: The model and the adapter that the one under test was made from.
    """

    native: Adapter | None = None
    wrong_task: Adapter | None = None
    source: tuple[Callable[[], LoadedModel], Adapter] | None = None


def _silent(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What every step needs.

    Attributes:
        loaded: The base model.
        task: The task.
        data: The items.
        seed: The seed of the evaluation.
        resamples: Draws of the bootstrap.
        say: Is told each arm before it is measured.
    """

    loaded: LoadedModel
    task: Task
    data: Data
    seed: int
    resamples: int
    say: Callable[[str], None]

    def score(self, name: str, adapter: Adapter | None, items: Sequence[Any]) -> tuple[Series, ...]:
        self.say(f"{name}: {len(items)} items")
        try:
            return score_arm(self.loaded, self.task, items, adapter)
        except NumericalError as error:
            if adapter is None:
                raise
            score_arm(self.loaded, self.task, items, None)  # raises where the base alone is to blame
            raise _of_the_update(name, error) from error

    def compare(self, arms: Mapping[str, tuple[Series, ...]], *, base: str, native: str) -> tuple[MetricReport, ...]:
        return tuple(
            measure_metric(
                {name: own[index] for name, own in arms.items()},
                base=base,
                native=native,
                seed=self.seed,
                resamples=self.resamples,
            )
            for index in range(len(arms[base]))
        )


def evaluate(
    loaded: LoadedModel,
    adapter: Adapter,
    task: Task,
    data: Data,
    *,
    baselines: Baselines | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    say: Callable[[str], None] = _silent,
) -> Evaluation:
    """Measure an adapter with its controls.

    Args:
        loaded: The base model that it is for.
        adapter: The adapter under test.
        task: What is asked.
        data: What of.
        baselines: Further arms.
        seed: Seeds the bootstrap and the random controls; the task has its own.
        resamples: Draws of the bootstrap.
        say: Is told what is measured now.

    Raises:
        TransferError: The adapter has no effect, or does not fit the base model; or the seed is none.
        NumericalError: A number is not finite, or attaching the adapter at dose 0 changes the base.
    """
    require_seed(seed)
    refuse_without_effect(adapter)
    _refuse_other_kinds(loaded.model)
    run = _Run(loaded=loaded, task=task, data=data, seed=seed, resamples=resamples, say=say)
    others = baselines or Baselines()
    source = _source(run, others)  # before all others: a source base that cannot be run loses nothing then
    dose = _dose(run, adapter) if data.dev is not None else None
    arms = {name: run.score(name, own, data.test.items) for name, own in _arms(adapter, others, seed, dose).items()}
    identity_error = _identity_error(run, adapter, arms[BASE])
    metrics = run.compare(arms, base=BASE, native=NATIVE)
    verdict = judge(metrics, source, dose, items=len(contents(data.test)))
    return Evaluation(
        task=task.name,
        items=len(data.test.items),
        data_digest=data.test.digest,
        is_plain=task.is_plain,
        seed=seed,
        resamples=resamples,
        metrics=metrics,
        source=source,
        labels=verdict.labels,
        label=verdict.label,
        dosed_labels=verdict.dosed_labels,
        notes=(*_item_notes(data), *verdict.notes),
        dose=dose,
        side_effects=_side_effects(run, adapter),
        identity_error=identity_error,
    )


def score_arm(loaded: LoadedModel, task: Task, items: Sequence[Any], adapter: Adapter | None) -> tuple[Series, ...]:
    """Return every metric of a base model, with an adapter on it where one is given.

    Raises:
        TransferError: A module that carries factors was never run, so the adapter was measured in part only.
        NumericalError: A number is not finite.
    """
    with contextlib.ExitStack() as stack:
        attachment = stack.enter_context(attach(loaded.model, adapter)) if adapter is not None else None
        found = task.score(loaded, items)
    if attachment is not None and attachment.unused():
        unused = attachment.unused()
        raise TransferError(
            f"{len(unused)} of {len(attachment.modules)} modules that carry factors were never run, {unused[0]} first",
            code="unused-module",
            context={"module": unused[0]},
            hint="the model computes with the weight and goes past the module; run the adapter with PEFT",
        )
    for series in found:
        if not np.isfinite(series.values).all():
            raise NumericalError(
                f"{series.metric}: not finite for the item {int(np.argmin(np.isfinite(series.values))) + 1}",
                hint="load the base model in float32 or bfloat16; float16 may overflow",
            )
    return found


def _of_the_update(arm: str, error: NumericalError) -> NumericalError:
    return NumericalError(
        f"{arm}: {error.message}, and with the base model alone it is not so",
        context={"arm": arm},
        hint="the update is too large for the base model: look at the norms that 'ual show' and 'ual diff' print",
    )


def _refuse_other_kinds(model: Any) -> None:
    if model.config.is_encoder_decoder or not model.can_generate():
        raise TransferError(
            f"{type(model).__name__}: is no causal language model",
            code="not-causal",
            hint="the tasks ask for the likelihood of what follows a text",
        )


def _arms(adapter: Adapter, others: Baselines, seed: int, dose: Dose | None) -> dict[str, Adapter | None]:
    arms: dict[str, Adapter | None] = {BASE: None, ADAPTER: adapter}
    if dose is not None and dose.chosen not in (0.0, 1.0):
        arms[dosed_arm(dose.chosen)] = scaled(adapter, dose.chosen)
    if others.native is not None:
        arms[NATIVE] = others.native
    arms |= {f"{RANDOM}-{index + 1}": random_same_norm(adapter, seed + own) for index, own in enumerate(RANDOM_SEEDS)}
    arms[SIGN_FLIPPED] = sign_flipped(adapter)
    if others.wrong_task is not None:
        arms[WRONG_TASK] = others.wrong_task
    return arms


def _dose(run: _Run, adapter: Adapter) -> Dose:
    """Measure the curve on dev; the dose that is chosen is the best on the task's loss, the smallest of equals."""
    assert run.data.dev is not None  # the caller asks
    points, losses = [], {}
    for gamma in DOSES:
        series = run.score(f"dev, dose {gamma:g}", scaled(adapter, gamma), run.data.dev.items)
        points.append(DosePoint(gamma=gamma, values={own.metric: own.value for own in series}))
        losses[gamma] = next(own.value for own in series if own.metric == run.task.loss)
    return Dose(
        items=len(run.data.dev.items),
        data_digest=run.data.dev.digest,
        metric=run.task.loss,
        points=tuple(points),
        chosen=min((gamma for gamma in DOSES if gamma >= 0), key=lambda gamma: (losses[gamma], gamma)),
    )


def _identity_error(run: _Run, adapter: Adapter, before: tuple[Series, ...]) -> float:
    """Run some items with the adapter at dose 0, after all other arms: the base must come out, as at the start."""
    items = run.data.test.items[:_IDENTITY_ITEMS]
    # The base is run again on these items alone: other items in a batch may change the last bits.
    plain = run.score("identity", None, items)
    zero = run.score("identity, dose 0", scaled(adapter, 0.0), items)
    error = max(float(np.abs(one.values - other.values).max()) for one, other in zip(plain, zero, strict=True))
    loss, earlier = plain[0].values, before[0].values[: len(items)]
    drift = float(np.abs(loss - earlier).max() / (1 + np.abs(loss).max()))
    if error > _IDENTITY_LIMIT or drift > _DRIFT_LIMIT:
        raise NumericalError(
            f"the base model does not give the same numbers twice (dose 0 differs by {error:.3g})",
            hint="a base model that samples or changes while it runs cannot be measured",
        )
    return error


def _source(run: _Run, others: Baselines) -> tuple[MetricReport, ...]:
    if others.source is None:
        return ()
    load, adapter = others.source
    loaded = load()
    _refuse_other_kinds(loaded.model)
    there = replace(run, loaded=loaded)
    arms = {name: there.score(name, own, run.data.test.items) for name, own in ((SOURCE_BASE, None), (SOURCE, adapter))}
    return run.compare(arms, base=SOURCE_BASE, native=SOURCE)


def _item_notes(data: Data) -> Iterator[str]:
    """Say where items repeat one another, and where dev and test overlap."""
    repeated = len(data.test.items) - len(contents(data.test))
    if repeated:
        yield f"{repeated} items say what another one says, so the intervals are narrower than they should be"
    if data.dev is not None:
        shared = contents(data.dev) & contents(data.test)
        if len(data.dev.items) < LEAST_ITEMS:
            yield f"{len(data.dev.items)} items of dev are too few to choose a dose: expected at least {LEAST_ITEMS}"
        if shared:
            yield f"{len(shared)} items of dev are test items too, which the dose was chosen on"


def _side_effects(run: _Run, adapter: Adapter) -> SideEffects | None:
    generic = run.data.generic
    if generic is None:
        return None
    run.say(f"generic text: {len(generic.items)} documents")
    return measure_side_effects(
        run.loaded,
        adapter,
        generic.items,
        data_digest=generic.digest,
        seed=run.seed,
        resamples=run.resamples,
    )
