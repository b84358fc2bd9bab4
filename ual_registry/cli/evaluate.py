"""The command about measuring: evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ual_registry.cli.output import Output, common_options, table
from ual_registry.cli.seed import SEED
from ual_registry.workflows.evaluate import BASELINES, EvaluateOrder, EvaluateResult, evaluate
from ual_registry.workflows.native import NativeOrder

if TYPE_CHECKING:
    from ual_registry.evaluation.bootstrap import Interval
    from ual_registry.evaluation.recovery import ArmGain, MetricReport
    from ual_registry.evaluation.report import Evaluation

__all__ = ["evaluate_command", "named_references"]

_TASKS = ("labels", "bits-per-byte", "exact")


def named_references(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Turn ``native=REF`` into names and references."""
    found: dict[str, str] = {}
    for value in values:
        name, equals, reference = value.partition("=")
        if name not in BASELINES or not equals or not reference:
            raise click.BadParameter(f"{value!r}: expected {' or '.join(f'{own}=REF' for own in BASELINES)}")
        if name in found:
            raise click.BadParameter(f"{name} is given twice")
        found[name] = reference
    return found


@click.command(
    "evaluate",
    epilog="\b\nExamples:\n"
    "  ual evaluate topics --on gemma/ --data test.jsonl --baselines native=topics-native --record\n"
    "  ual evaluate style.air --on gemma/ --data test.jsonl --task bits-per-byte --dev dev.jsonl --dose",
)
@click.argument("ref")
@click.option("--on", required=True, metavar="BASE", help="Folder of the base model, with weights and tokenizer.")
@click.option("--data", required=True, metavar="FILE", help="Test items, JSONL.")
@click.option("--task", type=click.Choice(_TASKS), default="labels", show_default=True, help="What is asked.")
@click.option(
    "--baselines",
    multiple=True,
    callback=named_references,
    metavar="NAME=REF",
    help="A further adapter, native=REF or wrong-task=REF; repeatable.",
)
@click.option("--train-native", "native_data", metavar="FILE", help="Items to train a native adapter on first, JSONL.")
@click.option("--native-config", metavar="FILE", help="Settings of that training; see 'ual train'.")
@click.option("--native-run", metavar="DIR", help="Folder that keeps that training, and goes on from it.")
@click.option("--source-base", metavar="BASE", help="Folder of the model that the adapter was carried from.")
@click.option("--source", metavar="REF", help="The adapter that it was made from.")
@click.option("--dev", metavar="FILE", help="Other items, which choose the dose.")
@click.option("--dose", is_flag=True, help="Measure a dose curve on the dev items.")
@click.option("--generic", metavar="FILE", help="Documents to measure side effects on, JSONL.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seeds draws, controls and label orders.")
@click.option("--plain", is_flag=True, help="Give prompts as they are, even where a base has a chat template.")
@click.option("--any-base", is_flag=True, help="Measure even where BASE is not the one that the adapter records.")
@click.option("--plot", metavar="FILE", help="Picture of arms, dose curve and layers to write, .png or .svg.")
@click.option("-o", "--output", "path", metavar="PATH", help="AIR file to write, with the report card.")
@click.option("--record", is_flag=True, help="Add it to the registry with the report card, as the next revision.")
@click.option("--force", is_flag=True, help="Replace what stands at PATH and at the picture's FILE.")
@common_options
def evaluate_command(ref: str, output: Output, **options: Any) -> None:
    """Measure an adapter on its base model, with controls.

    Every arm answers the same items: the base, the adapter, random ones of the same size, the adapter turned round, and
    the baselines that you give. A native adapter, trained on the base itself, makes the recovered gain R.
    """
    if (options["source"] is None) != (options["source_base"] is None):
        raise click.UsageError("--source and --source-base need each other")
    if options["dose"] != (options["dev"] is not None):
        raise click.UsageError("--dose and --dev need each other: the dose is never chosen on the test items")
    if options["native_data"] is None and (options["native_config"] or options["native_run"]):
        raise click.UsageError("--native-config and --native-run need --train-native")
    if options["native_data"] is not None and "native" in options["baselines"]:
        raise click.UsageError("--train-native and --baselines native=REF exclude each other")
    result = evaluate(ref, _order(options), say=output.note if output.is_verbose else lambda _: None)
    output.result(_document(result), lambda: _text(ref, result))


def _order(options: dict[str, Any]) -> EvaluateOrder:
    same = ("on", "data", "task", "baselines", "source_base", "source", "dev", "generic", "seed", "plot")
    return EvaluateOrder(
        **{name: options[name] for name in same},
        native=_native(options),
        output=options["path"],
        is_plain=options["plain"],
        is_any_base=options["any_base"],
        is_recorded=options["record"],
        is_forced=options["force"],
    )


def _native(options: dict[str, Any]) -> NativeOrder | None:
    if options["native_data"] is None:
        return None
    return NativeOrder(data=options["native_data"], config=options["native_config"], run=options["native_run"])


def _document(result: EvaluateResult) -> dict[str, Any]:
    found = result.evaluation
    return {
        "digest": result.digest,
        "base": result.base,
        "task": found.task,
        "items": found.items,
        "data_digest": found.data_digest,
        "prompts": "plain" if found.is_plain else "chat",
        "seed": found.seed,
        "resamples": found.resamples,
        "label": found.label,
        "labels": found.labels,
        "dosed_labels": found.dosed_labels,
        "notes": found.notes,
        "metrics": [_metric(report) for report in found.metrics],
        "source": [_metric(report) for report in found.source],
        "dose": found.dose,
        "side_effects": found.side_effects,
        "identity_error": found.identity_error,
        "path": result.path,
        "path_digest": result.path_digest,
        "revision": result.revision,
        "plot": result.plot,
    }


def _metric(report: MetricReport) -> dict[str, Any]:
    return {
        "metric": report.metric,
        "headroom_error": report.headroom_error,
        "no_recovery_because": report.no_recovery_because,
        "arms": report.arms,
    }


def _text(ref: str, result: EvaluateResult) -> str:
    found = result.evaluation
    lines = [f"{ref} on {result.base}: {found.task}, {found.items} items, seed {found.seed}", ""]
    lines += [table([*_rows(found.metrics)], _headers(found.metrics))]
    if found.source:
        lines += ["", table([*_rows(found.source)], _headers(found.source))]
    lines += [line for block in (_dose_lines(found), _side_effect_lines(found)) if block for line in ("", *block)]
    lines += ["", *(f"note: {note}" for note in found.notes), *_verdict_lines(found), *_kept_lines(result)]
    return "\n".join(lines)


def _headers(reports: tuple[MetricReport, ...]) -> list[str]:
    return ["arm", *(title for report in reports for title in (report.metric, "R"))]


def _rows(reports: tuple[MetricReport, ...]) -> Iterator[list[str]]:
    for arms in zip(*(report.arms for report in reports), strict=True):
        yield [arms[0].arm, *(cell for arm in arms for cell in _cells(arm))]


def _cells(arm: ArmGain) -> tuple[str, str]:
    is_base = arm.gain.low == arm.gain.high == 0
    recovered = "" if is_base else "n/a" if arm.recovered is None else _interval(arm.recovered)
    return _interval(arm.value), recovered


def _interval(own: Interval) -> str:
    return f"{own.value:.3f} [{own.low:.3f}, {own.high:.3f}]"


def _dose_lines(found: Evaluation) -> list[str]:
    if found.dose is None:
        return []
    dose = found.dose
    rows = [[f"{point.gamma:g}", *(f"{value:.3f}" for value in point.values.values())] for point in dose.points]
    verdict = "; ".join(f"{metric} {label or 'n/a'}" for metric, label in found.dosed_labels.items())
    return [
        table(rows, [f"dose ({dose.items} dev items)", *dose.points[0].values]),
        f"chosen on dev by {dose.metric}: {dose.chosen:g}{' (' + verdict + ')' if verdict else ''}",
    ]


def _side_effect_lines(found: Evaluation) -> list[str]:
    effects = found.side_effects
    if effects is None:
        return []
    before = f"generic text ({effects.documents} documents): {effects.bits_per_byte.value:.3f} bits per byte"
    return [f"{before}, change {_interval(effects.change)}, KL {_interval(effects.divergence)} nats a token"]


def _verdict_lines(found: Evaluation) -> Iterator[str]:
    by_metric = ", ".join(f"{metric} {label or 'n/a'}" for metric, label in found.labels.items())
    yield f"verdict: {found.label or 'n/a'} ({by_metric})"


def _kept_lines(result: EvaluateResult) -> Iterator[str]:
    if result.plot is not None:
        yield f"drew {result.plot}"
    if result.path is not None:
        yield f"wrote {result.path}"
    if result.revision is not None:
        yield f"recorded as {result.revision}"
    if result.path_digest is not None:
        yield result.path_digest
