"""What is recorded on how an adapter was made and how well it works, as tables; what is not recorded is said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ual_registry.air.model import Manifest, Statement
from ual_registry.hub.card_grid import role_groups
from ual_registry.hub.card_text import code, literal, number, table

__all__ = ["evaluation_section", "lineage_section", "making_section"]

_TITLES = {
    "training": "Training",
    "projection": "Transfer to this base model",
    "conversion": "Conversion from another format",
    "merge": "Merge of several adapters",
    "distillation": "Distillation",
}
_LABELS = {
    "method": "method",
    "protocol": "protocol",
    "from_format": "from format",
    "to_format": "to format",
    "layer_map": "layer map",
    "rotary": "rotary position embedding",
    "rank": "rank",
    "weights": "weight of each parent",
    "warm_start": "began with",
    "texts": "texts",
    "steps": "steps",
    "epochs": "epochs",
    "batch_size": "batch size",
    "learning_rate": "learning rate",
    "schedule": "schedule",
    "warmup_steps": "warm-up steps",
    "max_length": "longest sequence, in tokens",
    "seed": "seed",
    "kept": "entries kept as they were",
    "projected": "entries projected to new shapes",
    "dropped": "entries dropped",
    "energy_share": "energy share, 0 to 1: how much of the old adapter's squared size arrived",
    "lost": "lost on the way",
    "tokens": "tokens",
    "train_loss": "training loss",
    "eval_loss_before": "evaluation loss before",
    "eval_loss_after": "evaluation loss after",
    "held_out_loss": "held-out loss",
    "cold_held_out_loss": "held-out loss from a cold start",
    "wall_time_s": "wall time, in seconds",
    "peak_memory_bytes": "peak memory, in bytes",
}
"""What people read for the name of a fact, in the order in which facts are told."""

_ORDER = {name: place for place, name in enumerate(_LABELS)}
_ROTARY = {"drop": "query and key dropped where it differs", "project": "query and key projected where it differs"}
_VERDICTS = {
    "works": "the transfer works",
    "partial": "the transfer works in part",
    "none": "the transfer has no effect",
    "harmful": "the transfer does harm",
}
_RELATIONS = {
    "trained_from": "trained, starting from the parent",
    "converted_from": "the parent in another format",
    "projected_from": "the parent, fitted to another base model",
    "distilled_from": "trained on what the parent says",
    "merged_from": "made of several parents",
    "quantized_from": "the parent in fewer bits",
}
_APART = frozenset({"curve", "dropped_because", "entries", "layers", "results", "label"})
"""What is no fact of one line; each of these is told in its own way, or stands in the manifest only."""

_MAX_ROWS = 100
_MAX_JSON = 300


def making_section(manifest: Manifest) -> str:
    """Return the section on how the adapter was made."""
    statements = [statement for statement in manifest.provenance if statement.type != "evaluation"]
    parts = ["## How it was made"]
    if not any(statement.type in ("training", "distillation") for statement in statements):
        where = " on this base model" if any(statement.type == "projection" for statement in statements) else ""
        parts.append(f"No training{where} is recorded.")
    for statement in statements[:_MAX_ROWS]:
        parts += [f"### {_TITLES.get(statement.type, literal(statement.type))}", *_statement(statement, manifest)]
    return "\n\n".join(parts)


def _statement(statement: Statement, manifest: Manifest) -> Iterator[str]:
    yield _made_by(statement)
    facts = [*_facts(statement.parameters), *_facts(statement.byproducts)]
    if facts:
        yield table(["What", "Value"], facts)
    if statement.type == "projection":
        yield from _projection(statement, manifest)
    if statement.byproducts.get("curve"):
        yield from _curve(statement.byproducts["curve"])
    if statement.materials:
        yield table(
            ["Made with", "Digest"], _bounded([(literal(m["name"]), code(m["digest"])) for m in statement.materials])
        )


def _made_by(statement: Statement) -> str:
    moment = f", {literal(statement.created_at)}" if statement.created_at else ""
    return f"By {literal(str(statement.builder['name']))} {literal(str(statement.builder['version']))}{moment}."


def _facts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a statement says in single values: the known facts in their order, then settings and others."""
    for key in sorted(values, key=lambda key: _ORDER.get(key, len(_ORDER))):
        value = values[key]
        if key == "settings":
            yield from ((code(name), _value(item)) for name, item in [*value.items()][:_MAX_ROWS])
        elif key not in _APART:
            told = _ROTARY.get(str(value)) if key == "rotary" else None
            yield _LABELS.get(key, literal(key)), told or _value(value)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, str) for item in value):
        return "<br>".join(literal(item) for item in value[:_MAX_ROWS])
    if value is None or isinstance(value, (list, tuple, Mapping)):
        text = json.dumps(value, ensure_ascii=False, default=_jsonable)
        return code(text if len(text) <= _MAX_JSON else f"{text[:_MAX_JSON]}…")
    return number(value)


def _jsonable(value: Any) -> Any:
    """Turn the frozen objects of a manifest into what ``json`` writes."""
    return dict(value) if isinstance(value, Mapping) else str(value)


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


def _curve(points: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Show a few points of a loss curve, the first and the last among them."""
    few = sorted({round(index * (len(points) - 1) / 9) for index in range(10)})
    yield table(["Step", "Loss"], [(number(points[index]["step"]), number(points[index]["loss"])) for index in few])


def evaluation_section(manifest: Manifest) -> str:
    """Return the section on evaluations."""
    statements = [statement for statement in manifest.provenance if statement.type == "evaluation"]
    parts = ["## Evaluation"]
    if not statements:
        parts.append(
            "No evaluation is recorded: nothing here says how well it works. Measure it before you rely on it."
        )
    for statement in statements[:_MAX_ROWS]:
        facts = [*_facts(statement.parameters)]
        label = statement.byproducts.get("label")
        verdict = [f"**Verdict: {_VERDICTS.get(label, literal(label))}.**"] if label else []
        parts += [_made_by(statement), *verdict, *([table(["What", "Value"], facts)] if facts else [])]
        results = statement.byproducts.get("results", ())
        headers = ["Metric", "Arm", "Value", "95 % interval", "Items", "Seed", "Data"]
        parts.append(table(headers, _bounded([_result(result) for result in results])))
    if statements:
        parts.append("*Arm* is what was measured: the adapter, the base model alone, or a control.")
    return "\n\n".join(parts)


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
    if len(rows) <= _MAX_ROWS:
        return rows
    return [*rows[:_MAX_ROWS], [f"and {len(rows) - _MAX_ROWS:,} more", *[""] * (len(rows[0]) - 1)]]
