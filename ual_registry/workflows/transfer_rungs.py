"""How each method of the ladder is run: one table, a function for each; frameworks are loaded when one begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ual_registry.errors import TransferError
from ual_registry.transfers.choose import DISTILL
from ual_registry.transfers.layers import LayerPolicy, LayerRule
from ual_registry.transfers.rungs import AUTO, RUNGS
from ual_registry.workflows.transfer_job import Job

if TYPE_CHECKING:
    from ual_registry.air.adapter import Adapter
    from ual_registry.distillation.report import DistillationReport
    from ual_registry.transfers.module_fit import WriteKind
    from ual_registry.transfers.report import TransferReport

__all__ = ["RUNNERS", "Made", "is_own_base", "run_distillation", "run_rung"]


class Made(Protocol):
    """What a method made."""

    @property
    def adapter(self) -> Adapter:
        """The new adapter for the target."""
        ...

    @property
    def report(self) -> TransferReport | DistillationReport:
        """What the method did."""
        ...


def run_rung(job: Job, method: str) -> Made:
    """Carry the adapter of a job by one method.

    Args:
        job: What is asked for and at hand.
        method: A name of ``transfers.rungs.RUNGS``.

    Raises:
        TransferError: The method needs what is not at hand, or refuses.
        UALError: As the method's own function says.
    """
    job.require(method)
    if RUNGS[method].needs:
        _refuse_without_effect(job)
    return RUNNERS[method](job, method)


def _refuse_without_effect(job: Job) -> None:
    """Refuse an adapter whose every update is zero before any model is loaded."""
    from ual_registry.transfers.requirements import require_effect  # noqa: PLC0415  # loads torch
    from ual_registry.transfers.result import energy_of  # noqa: PLC0415

    adapter = job.adapter
    require_effect(adapter, {entry.label: energy_of(adapter, entry) for entry in adapter.entries})


def _by_shapes(job: Job, method: str) -> Made:
    from ual_registry.transfers.run import run_transfer  # noqa: PLC0415  # loads torch

    assert job.digest is not None  # plans alone have none
    made = run_transfer(job.adapter, job.plan(method), method=method, source_digest=job.digest)
    if not any(entry.effective_rank for entry in made.report.entries):
        _refuse_without_effect(job)  # norms were taken already; taking them again would cost more than the transfer
    return made


def _by_weights(job: Job, method: str) -> Made:
    from ual_registry.transfers.run_weights import run_weights  # noqa: PLC0415  # loads torch
    from ual_registry.transfers.weight_fit import WeightOptions  # noqa: PLC0415

    assert job.digest is not None  # plans alone have none
    plan, options = job.plan(method), WeightOptions(any_base=job.order.is_any_base)
    return run_weights(
        job.adapter, plan, job.source, job.target, method=method, source_digest=job.digest, options=options
    )


def _by_activations(job: Job, method: str) -> Made:
    from ual_registry.transfers.module_fit import ActivationOptions  # noqa: PLC0415  # loads torch
    from ual_registry.transfers.run_activations import run_activations  # noqa: PLC0415
    from ual_registry.transfers.statistics_store import StatisticsStore  # noqa: PLC0415

    assert job.digest is not None  # plans alone have none
    options = ActivationOptions(
        write=_write_kind(job),
        layer_map=LayerRule(job.order.layer_map),
        policy=LayerPolicy(job.order.layers),
        any_base=job.order.is_any_base,
    )
    return run_activations(
        job.adapter,
        job.plan(method),
        job.source,
        job.target,
        job.told,
        source_digest=job.digest,
        options=options,
        store=StatisticsStore() if job.order.folder is None else StatisticsStore(folder=job.folder / "statistics"),
    )


def _write_kind(job: Job) -> WriteKind:
    from ual_registry.transfers.module_fit import WriteKind  # noqa: PLC0415  # loads torch
    from ual_registry.transfers.sites import predicts_next  # noqa: PLC0415

    if job.order.write_map != AUTO:
        return WriteKind(job.order.write_map)
    return WriteKind.JOINT if all(predicts_next(base) for base in (job.source, job.target)) else WriteKind.OUTPUTS


def _by_residual(job: Job, method: str) -> Made:
    from ual_registry.transfers.effect_material import ResidualOptions  # noqa: PLC0415  # loads torch
    from ual_registry.transfers.run_residual import run_residual  # noqa: PLC0415

    assert job.digest is not None  # plans alone have none
    options = ResidualOptions(any_base=job.order.is_any_base, seed=job.order.seed)
    return run_residual(
        job.adapter, job.plan(method), job.source, job.target, job.told, source_digest=job.digest, options=options
    )


def _by_predictions(job: Job, method: str) -> Made:
    from ual_registry.transfers.prediction_fit import PredictionOptions  # noqa: PLC0415  # loads torch
    from ual_registry.transfers.run_predictions import run_predictions  # noqa: PLC0415

    assert job.digest is not None  # plans alone have none
    options = PredictionOptions(any_base=job.order.is_any_base, seed=job.order.seed)
    return run_predictions(
        job.adapter, job.plan(method), job.source, job.target, job.told, source_digest=job.digest, options=options
    )


def _by_distillation(job: Job, method: str) -> Made:
    assert method == DISTILL  # the table says so
    if is_own_base(job):
        raise TransferError(
            "the target is the adapter's own base model: there is nothing to learn",
            code="same-model",
            context={"base_model": job.target_place.name},
            hint="the adapter works there as it is",
        )
    return run_distillation(job, warm=None, budget_s=job.order.budget_s)


def is_own_base(job: Job) -> bool:
    """Tell whether the target is the adapter's own base model; both are loaded for it."""
    from ual_registry.transfers.requirements import is_same_model  # noqa: PLC0415  # loads torch

    return is_same_model(job.source, job.target)


def run_distillation(job: Job, *, warm: Adapter | None, budget_s: float | None) -> Made:
    """Train the target on what source and adapter say.

    Args:
        job: What is asked for and at hand.
        warm: An adapter for the target to start from; where absent one is fitted to the generated text.
        budget_s: Seconds that may be spent; ``None`` leaves it to the recipe.

    Raises:
        UALError: As ``workflows.distill.distill_adapter``.
    """
    from ual_registry.distillation.generate import Sampling  # noqa: PLC0415  # loads torch
    from ual_registry.workflows.distill import distill_adapter  # noqa: PLC0415  # one method needs it
    from ual_registry.workflows.distill_steps import AUTO_WARM  # noqa: PLC0415

    return distill_adapter(
        job.named,
        job.source,
        job.target,
        folder=job.folder,
        seeds=job.seeds,
        warm=warm or AUTO_WARM,
        sampling=Sampling(seed=job.order.seed),
        budget_s=budget_s,
        is_any_base=job.order.is_any_base,
        on_progress=job.say,
    )


RUNNERS: dict[str, Callable[[Job, str], Made]] = {
    "svd": _by_shapes,
    "truncate": _by_shapes,
    "interpolate": _by_shapes,
    "copy": _by_weights,
    "subspace": _by_weights,
    "vocab": _by_weights,
    "activations": _by_activations,
    "residual": _by_residual,
    "predictions": _by_predictions,
    DISTILL: _by_distillation,
}
"""The function of every method of ``transfers.rungs.RUNGS``."""
