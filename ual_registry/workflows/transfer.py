"""Carry an adapter to another base model: plan it without torch, or do it, and measure what came of it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Statement
from ual_registry.air.read import read, verify
from ual_registry.air.write import file_digest
from ual_registry.digest import Digest
from ual_registry.errors import TransferError
from ual_registry.transfers.layers import LayerPolicy, LayerRule
from ual_registry.transfers.plan import RotaryPolicy, TransferPlan
from ual_registry.transfers.report import CHOICE_KEY, LABEL_KEY
from ual_registry.transfers.rungs import AUTO, RUNGS
from ual_registry.workflows.extras import need_torch, need_transformers
from ual_registry.workflows.references import locate
from ual_registry.workflows.transfer_job import Job
from ual_registry.workflows.transfer_order import LABELS, TransferOrder, seconds_of
from ual_registry.workflows.transfer_rungs import run_rung

if TYPE_CHECKING:
    from ual_registry.distillation.report import DistillationReport
    from ual_registry.evaluation.report import Evaluation
    from ual_registry.transfers.choose import Choice
    from ual_registry.transfers.report import TransferReport
    from ual_registry.workflows.transfer_judge import Judge
    from ual_registry.workflows.transfer_rungs import Made

__all__ = ["DEFAULT_METHOD", "Planned", "Transferred", "carry", "plan_order", "plan_transfer", "transfer"]

DEFAULT_METHOD = AUTO

_NOT_ASSESSABLE = "n/a"
"""The label of a measured result of which nothing can be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a transfer would do.

    Attributes:
        plan: What would become of every entry.
        method: The method.
        choice: What the rule says of every method; ``None`` where one was asked for.
    """

    plan: TransferPlan
    method: str
    choice: Choice | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """A new adapter for the target, how it was made, and what is known of it.

    Attributes:
        adapter: The adapter, with lineage and provenance in its manifest.
        report: What the method did.
        method: The method.
        label: ``works``, ``partial``, ``none``, ``harmful`` or ``n/a`` where it was measured; ``control-grade`` or
            ``unmeasured`` where it was not.
        choice: What became of every method; ``None`` where one was asked for.
        evaluation: What was measured; ``None`` where nothing was.
        over_budget: That more time was taken than the budget allows, in words; ``None`` where it sufficed, or there was
            none.
    """

    adapter: Adapter
    report: TransferReport | DistillationReport
    method: str
    label: str
    choice: Choice | None
    evaluation: Evaluation | None
    over_budget: str | None = None


def plan_transfer(
    source: Adapter | str | Path,
    target: str | Path,
    *,
    target_id: str | None = None,
    target_revision: str | None = None,
    rotary: RotaryPolicy | str = RotaryPolicy.DROP,
) -> TransferPlan:
    """Say what a transfer would do, entry by entry; torch is not loaded.

    Args:
        source: An adapter, or a reference to one.
        target: The base model to go to: its folder, its ``config.json``, or its repository on the Hub.
        target_id: Label of the target; its repository, or the name of its folder, where absent.
        target_revision: Commit of the target, where known; of a repository on the Hub the one that was read.
        rotary: ``drop`` or ``project`` query and key where rotary position embedding differs.

    Raises:
        UALError: The source or the target cannot be read, or nothing has a place in the target.
    """
    order = TransferOrder(
        target=target, method="svd", target_id=target_id, target_revision=target_revision, rotary=rotary
    )
    return plan_order(source, order).plan


def plan_order(source: Adapter | str | Path, order: TransferOrder) -> Planned:
    """Say what an order would do, and by which method; torch is not loaded.

    Args:
        source: An adapter, or a reference to one.
        order: What is asked for.

    Raises:
        UALError: As ``transfer``.
    """
    order.check()
    with contextlib.ExitStack() as stack:
        adapter = source if isinstance(source, Adapter) else stack.enter_context(read(locate(str(source))))
        job = Job(adapter, order)
        job.look()
        choice = job.choice if order.method == AUTO else None
        return Planned(plan=job.plan(), method=choice.method if choice else order.method, choice=choice)


def transfer(
    source: Adapter | str | Path,
    target: str | Path,
    *,
    method: str = DEFAULT_METHOD,
    target_id: str | None = None,
    target_revision: str | None = None,
    rotary: RotaryPolicy | str = RotaryPolicy.DROP,
    layer_map: LayerRule | str = LayerRule.PROPORTIONAL,
    layers: LayerPolicy | str = LayerPolicy.PICK,
    write_map: str = AUTO,
    source_base: str | Path | None = None,
    calibration: Iterable[str] | str | Path | None = None,
    continue_tokens: int = 0,
    budget: str | float | None = None,
    seeds: str | Path | None = None,
    data: str | Path | None = None,
    task: str = "labels",
    baselines: Mapping[str, str] | None = None,
    plain: bool = False,
    require: str | None = None,
    any_base: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    folder: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Transferred:
    """Make a new adapter for another base model.

    Args:
        source: An adapter, or a reference to one.
        target: The base model to go to: its folder, its ``config.json``, or its repository on the Hub.
        method: ``auto`` takes the best one for what is at hand; ``transfers.rungs.RUNGS`` holds the others.
        target_id: Label of the target; its repository, or the name of its folder, where absent.
        target_revision: Commit of the target, where known; of a repository on the Hub the one that was read.
        rotary: ``drop`` or ``project`` query and key where rotary position embedding differs.
        layer_map: ``proportional`` or ``cka``: by what the layers of both are paired where activations are compared.
        layers: ``pick`` or ``pool``: what becomes of source layers that the layer map does not name.
        write_map: What the write maps of ``activations`` are fitted to: ``outputs``, or ``joint`` with the gradients of
            the text's loss, which takes more time and memory and loses far less; ``auto`` is ``joint`` where both base
            models predict the next token.
        source_base: Folder of the adapter's own base model, with weights, where it is not in the Hub's cache.
        calibration: Unlabelled texts of the kind that the adapter is for, or a file of them.
        continue_tokens: How many tokens source and adapter add to each text.
        budget: Seconds that may be spent, or a text such as ``10m``.
        seeds: File of seed prompts for a distillation; those that the adapter carries where absent.
        data: File of items that the result is measured on at once.
        task: What is asked of them, as in ``ual evaluate``.
        baselines: References to further adapters, ``native`` and ``wrong-task``.
        plain: Whether prompts are given as they are, even where a base has a chat template.
        require: ``works`` or ``partial``, the label that the result must have at least.
        any_base: Whether to take a base model that is not the one that the adapter records.
        dtype: What base models are loaded in.
        device: Where they are.
        seed: Seeds whatever is drawn.
        folder: Where generated texts, statistics and training runs are kept; the platform's cache where absent.
        say: Is told what is done now.

    Returns:
        The new adapter, with lineage and provenance in its manifest, the report, and the label.

    Raises:
        MissingExtraError: torch, or what else the method needs, is not installed.
        TransferError: The adapter cannot be carried so, or the label is less than what is required.
        UALError: As ``plan_transfer``, and as the method's own function says.
    """
    order = TransferOrder(
        target=target,
        method=method,
        target_id=target_id,
        target_revision=target_revision,
        rotary=rotary,
        layer_map=layer_map,
        layers=layers,
        write_map=write_map,
        source_base=source_base,
        calibration=calibration,
        continue_tokens=continue_tokens,
        budget_s=None if budget is None else seconds_of(budget),
        seeds=seeds,
        data=data,
        task=task,
        baselines=baselines or {},
        is_plain=plain,
        require=require,
        is_any_base=any_base,
        dtype=dtype,
        device=device,
        seed=seed,
        folder=folder,
    )
    return carry(source, order, say=say)


def carry(
    source: Adapter | str | Path, order: TransferOrder, *, say: Callable[[str], None] = lambda _: None
) -> Transferred:
    """Carry an order out; see ``transfer``.

    Args:
        source: An adapter, or a reference to one.
        order: What is asked for.
        say: Is told what is done now.

    Raises:
        UALError: As ``transfer``.
    """
    order.check()
    with contextlib.ExitStack() as stack:
        if isinstance(source, Adapter):
            adapter, digest = source, file_digest(source)
        else:
            path = locate(str(source))
            adapter, digest = stack.enter_context(read(path)), Digest.of_file(path)
            verify(adapter)
        job = Job(adapter, order, digest=digest, say=say)
        job.look()
        need_torch("transfer")
        return _carried(job, stack)


def _carried(job: Job, stack: contextlib.ExitStack) -> Transferred:
    judge = _judge(job, stack)
    if job.order.method == AUTO:
        from ual_registry.workflows.transfer_auto import run_auto  # noqa: PLC0415  # only where nothing was asked for

        chosen = run_auto(job, judge)
        return _finished(job, chosen.made, chosen.choice.method, judge, chosen.choice, is_chosen=chosen.is_measured)
    return _finished(job, run_rung(job, job.order.method), job.order.method, judge, None, is_chosen=False)


def _over_budget(job: Job) -> str | None:
    """Say where a budget did not do: the first method is run whatever it takes, and a step is never cut off."""
    budget, spent = job.order.budget_s, job.spent_s
    if budget is None or spent <= budget:
        return None
    return f"took {math.ceil(spent)} s, more than the budget of {budget:.10g} s"


def _judge(job: Job, stack: contextlib.ExitStack) -> Judge | None:
    if job.order.data is None:
        return None
    need_transformers("an evaluation")
    from ual_registry.workflows.transfer_judge import Judge  # noqa: PLC0415  # only where there are items

    return Judge(job, stack)


def _finished(
    job: Job, made: Made, method: str, judge: Judge | None, choice: Choice | None, *, is_chosen: bool
) -> Transferred:
    """Measure the result where there are items, and write down what is known of it."""
    over_budget = _over_budget(job)  # measuring the result is not what a budget is for
    evaluation, card = judge.judge(made.adapter, is_chosen=is_chosen) if judge is not None else (None, None)
    label = RUNGS[method].label if evaluation is None else str(evaluation.label or _NOT_ASSESSABLE)
    _require(label, job.order.require)
    remarks: dict[str, Any] = {LABEL_KEY: label}
    if choice is not None:
        remarks[CHOICE_KEY] = choice.document()
    return Transferred(
        adapter=_annotated(made.adapter, remarks, job.order.continue_tokens, card),
        report=made.report,
        method=method,
        label=label,
        choice=choice,
        evaluation=evaluation,
        over_budget=over_budget,
    )


def _require(label: str, wanted: str | None) -> None:
    if wanted is None or label in LABELS[: LABELS.index(wanted) + 1]:
        return
    raise TransferError(
        f"the result is labelled {label}, and {wanted} is required",
        code="label-required",
        context={"label": label, "required": wanted},
        hint="nothing was written; without --require it is, with its report card",
    )


def _annotated(adapter: Adapter, remarks: Mapping[str, Any], continued: int, card: Statement | None) -> Adapter:
    """Add what is known to the statement of the transfer, the last one so far, and put the report card behind it."""
    *earlier, own = adapter.manifest.provenance
    parameters = dict(own.parameters)
    if continued:
        parameters["settings"] = {**parameters.get("settings", {}), "continued_tokens": continued}
    own = replace(own, parameters=parameters, annotations={**own.annotations, **remarks})
    provenance = (*earlier, own, *([card] if card is not None else []))
    return Adapter(replace(adapter.manifest, provenance=provenance), adapter.tensors)
