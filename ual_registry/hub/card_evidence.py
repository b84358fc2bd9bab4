"""What is recorded on how an adapter was made and how well it works, as tables; what is not recorded is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ual_registry.air.model import Manifest, Statement
from ual_registry.hub.card_facts import MAX_ROWS, facts, settings
from ual_registry.hub.card_grid import role_groups
from ual_registry.hub.card_text import code, literal, number, table

__all__ = ["CONTROLS", "evaluation_section", "lineage_section", "making_section"]

_TITLES = {
    "training": "Training",
    "projection": "Transfer to this base model",
    "conversion": "Conversion from another format",
    "merge": "Merge of several adapters",
    "distillation": "Distillation",
}
_VERDICTS = {
    "works": "the transfer works",
    "partial": "the transfer works in part",
    "none": "the transfer has no effect",
    "harmful": "the transfer does harm",
}
_TRAINED = {
    "better": "better than the base model alone, on examples that were held out of the training",
    "no better": "no better than the base model alone, on examples that were held out of the training",
    "not measured": "not measured; no examples were held out",
}
_CURVES = {"curve": "Training loss", "eval_curve": "Held-out loss"}
_CURVE_ROWS = 12
_RELATIONS = {
    "trained_from": "trained, starting from the parent",
    "converted_from": "the parent in another format",
    "projected_from": "the parent, fitted to another base model",
    "distilled_from": "trained on what the parent says",
    "merged_from": "made of several parents",
    "quantized_from": "the parent in fewer bits",
}

CONTROLS = frozenset({"interpolate", "svd", "truncate"})
"""Methods of transfer that carry nothing between unrelated base models."""


def making_section(manifest: Manifest) -> str:
    """Return the section on how the adapter was made."""
    statements = [statement for statement in manifest.provenance if statement.type != "evaluation"]
    parts = ["## How it was made"]
    if not any(statement.type in ("training", "distillation") for statement in statements):
        where = " on this base model" if any(statement.type == "projection" for statement in statements) else ""
        parts.append(f"No training{where} is recorded.")
    for statement in statements[:MAX_ROWS]:
        parts += [f"### {_TITLES.get(statement.type, literal(statement.type))}", *_statement(statement, manifest)]
    return "\n\n".join(parts)


def _statement(statement: Statement, manifest: Manifest) -> Iterator[str]:
    yield _made_by(statement)
    if statement.byproducts.get("verdict") in _TRAINED:
        yield f"**Verdict: {_TRAINED[statement.byproducts['verdict']]}.**"
    told = [*facts(statement.parameters, statement.byproducts)]
    if told:
        yield table(["What", "Value"], told)
    if statement.type == "projection":
        yield from _projection(statement, manifest)
    yield from _curves(statement.byproducts)
    further = [*settings(statement.parameters.get("settings", {}))]
    if further:
        yield table(["Setting", "Value"], _bounded(further))
    if statement.materials:
        yield table(
            ["Made with", "Digest"], _bounded([(literal(m["name"]), code(m["digest"])) for m in statement.materials])
        )


def _made_by(statement: Statement) -> str:
    moment = f", {literal(statement.created_at)}" if statement.created_at else ""
    return f"By {literal(str(statement.builder['name']))} {literal(str(statement.builder['version']))}{moment}."


def _projection(statement: Statement, manifest: Manifest) -> Iterator[str]:
    reasons = statement.byproducts.get("dropped_because", {})
    if reasons:
        rows = [(number(count), literal(reason)) for reason, count in reasons.items()]
        yield "Dropped entries are not in this adapter; what they did for the old base model is lost:"
        yield table(["Entries dropped", "Because"], _bounded(rows))
    elif statement.byproducts.get("dropped") == 0:
        yield "No entry was dropped."
    measures = statement.byproducts.get("entries", {})
    means = [*_measured_roles(measures, manifest)]
    if means:
        yield table(["Role", "Entries", "Energy kept", "Norm ratio", "Effective rank"], means)
        yield (
            "Means over the entries of a role. "
            "*Energy kept*: share of an update's squared size that its new shape holds. "
            "*Norm ratio*: its size after over its size before. "
            "*Effective rank*: how many directions it really uses."
        )
    if measures or "energy_share" in statement.byproducts:
        yield (
            "**Energy says nothing about quality.** It tells how much of the numbers fitted into the new shapes, "
            "not whether the adapter still does on this base model what it did on the old one."
        )
    if statement.parameters.get("method") in CONTROLS:
        yield (
            f"**{code(statement.parameters['method'])} is a control.** Between base models that were trained apart it "
            "carries nothing of what an adapter does; within one family, measure what is left."
        )


def _measured_roles(measures: Mapping[str, Any], manifest: Manifest) -> Iterator[tuple[str, ...]]:
    for group in role_groups(manifest):
        found = [measures[entry.label] for entry in group.entries if entry.label in measures]
        if found:
            means = (_mean([item[name] for item in found]) for name in ("energy_kept", "norm_ratio", "effective_rank"))
            name = f"{group.stack} {group.role}" if group.stack else group.role
            yield code(name), number(len(found)), *means


def _mean(values: Sequence[Any]) -> str:
    try:
        return f"{sum(map(float, values)) / len(values):.3f}"
    except OverflowError:
        return "a number too large to write"


def _curves(byproducts: Mapping[str, Any]) -> Iterator[str]:
    """Show a few points of each loss curve, the first and the last among them."""
    found = {name: byproducts[key] for key, name in _CURVES.items() if byproducts.get(key)}
    if not found:
        return
    few = [_few(points, _CURVE_ROWS // len(found)) for points in found.values()]
    steps = sorted({step for points in few for step in points})
    rows = [(number(step), *(number(points[step]) if step in points else "-" for points in few)) for step in steps]
    yield table(["Step", *found], rows)


def _few(points: Sequence[Mapping[str, Any]], count: int) -> dict[int, float]:
    """Return the loss at a few steps, evenly over the points."""
    chosen = {round(index * (len(points) - 1) / (count - 1)) for index in range(count)}
    return {points[index]["step"]: points[index]["loss"] for index in sorted(chosen)}


def evaluation_section(manifest: Manifest) -> str:
    """Return the section on evaluations."""
    statements = [statement for statement in manifest.provenance if statement.type == "evaluation"]
    parts = ["## Evaluation"]
    if not statements:
        parts.append(_unmeasured(manifest))
    for statement in statements[:MAX_ROWS]:
        told = [*facts(statement.parameters), *settings(statement.parameters.get("settings", {}))]
        label = statement.byproducts.get("label")
        verdict = [f"**Verdict: {_VERDICTS.get(label, literal(label))}.**"] if label else []
        parts += [_made_by(statement), *verdict, *([table(["What", "Value"], _bounded(told))] if told else [])]
        results = statement.byproducts.get("results", ())
        headers = ["Metric", "Arm", "Value", "95 % interval", "Items", "Seed", "Data"]
        parts.append(table(headers, _bounded([_result(result) for result in results])))
    if statements:
        parts.append("*Arm* is what was measured: the adapter, the base model alone, or a control.")
    return "\n\n".join(parts)


def _unmeasured(manifest: Manifest) -> str:
    """Say that nothing was evaluated, and what else there is to go by."""
    verdicts = {statement.byproducts.get("verdict") for statement in manifest.provenance}
    beyond = " beyond the loss on what was held out of the training" if verdicts & {"better", "no better"} else ""
    return f"No evaluation is recorded: nothing here says how well it works{beyond}. Measure it before you rely on it."


def _result(result: Mapping[str, Any]) -> tuple[str, ...]:
    bounds = [number(result[name]) if name in result else "?" for name in ("low", "high")]
    interval = "not recorded" if bounds == ["?", "?"] else f"{bounds[0]} to {bounds[1]}"
    seed = number(result["seed"]) if "seed" in result else "-"
    data = code(str(result["data_digest"])[:19])
    return (
        literal(result["metric"]),
        literal(result["arm"]),
        number(result["value"]),
        interval,
        number(result["n"]),
        seed,
        data,
    )


def lineage_section(manifest: Manifest) -> str:
    """Return the section on what the adapter was made from."""
    if not manifest.parents:
        return "## Made from\n\nNo parent is recorded."
    rows = [(_relation(parent.relation), code(parent.digest)) for parent in manifest.parents]
    note = "Each parent is named by the digest of its file, which no other file has."
    return "\n\n".join(["## Made from", table(["This adapter is", "Parent"], _bounded(rows)), note])


def _relation(relation: str) -> str:
    return f"{_RELATIONS[relation]} ({code(relation)})" if relation in _RELATIONS else code(relation)


def _bounded(rows: Sequence[Sequence[str]]) -> Iterable[Sequence[str]]:
    """Return the first rows, and how many more there are."""
    if len(rows) <= MAX_ROWS:
        return rows
    return [*rows[:MAX_ROWS], [f"and {len(rows) - MAX_ROWS:,} more", *[""] * (len(rows[0]) - 1)]]
