"""What a statement of provenance says in single values: the facts by the names that people read, then its settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ual_registry.hub.card_text import code, literal, number

__all__ = ["MAX_ROWS", "facts", "settings"]

MAX_ROWS = 100
"""Rows of a table at most."""

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
    "train_loss": "training loss",
    "eval_loss_before": "held-out loss of the base model alone",
    "eval_loss_after": "held-out loss with the adapter",
    "eval_bits_per_byte_before": "held-out bits per byte of the base model alone",
    "eval_bits_per_byte_after": "held-out bits per byte with the adapter",
    "held_out_loss": "held-out loss",
    "cold_held_out_loss": "held-out loss from a cold start",
    "best_step": "kept from step",
    "tokens": "tokens read",
    "trained_tokens": "tokens that the loss went over",
    "trainable_parameters": "numbers trained",
    "logit_change": "largest change of a logit by the adapter, on a probe",
    "reload_error": "largest difference of a logit after the file was read back",
    "wall_time_s": "wall time, in seconds",
    "tokens_per_s": "tokens a second",
    "peak_memory_bytes": "peak memory, in bytes",
    "environment": "computed with",
}
"""What people read for the name of a fact, in the order in which facts are told."""

_ORDER = {name: place for place, name in enumerate(_LABELS)}
_ROTARY = {"drop": "query and key dropped where it differs", "project": "query and key projected where it differs"}
_APART = frozenset(
    {"curve", "dropped_because", "entries", "eval_curve", "label", "layers", "results", "settings", "verdict"}
)
"""What is no fact of one line; each of these is told in its own way, or stands in the manifest only."""

_SHARES = {"train": "trained on", "held_out": "held out from it"}
_MAX_JSON = 300


def facts(*parts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what parts of a statement say in single values: the known facts in their order, then others.

    What its settings say of the data comes first, since every other number is about these.
    """
    values = {key: value for part in parts for key, value in part.items()}
    yield from _data_facts(values.get("settings"))
    for key in sorted(values, key=lambda key: _ORDER.get(key, len(_ORDER))):
        if key not in _APART:
            yield _LABELS.get(key, literal(key)), _fact(key, values[key])


def _fact(key: str, value: Any) -> str:
    if key == "rotary" and str(value) in _ROTARY:
        return _ROTARY[str(value)]
    if key == "environment" and isinstance(value, Mapping):
        return ", ".join(literal(f"{name} {item}") for name, item in [*value.items()][:MAX_ROWS])
    return _value(value)


def _data_facts(given: Any) -> Iterator[tuple[str, str]]:
    """Yield how large the data of a training were, where its settings say so in the words of ``ual train``."""
    data = given.get("data") if isinstance(given, Mapping) else None
    for key, label in _SHARES.items():
        share = data.get(key) if isinstance(data, Mapping) else None
        if isinstance(share, Mapping) and {"examples", "tokens"} <= share.keys():
            yield label, f"{_value(share['examples'])} examples, {_value(share['tokens'])} tokens"


def settings(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings of a statement by their own names, those within others by a path; empty ones say nothing.

    The report on the data is left out: what matters of it is among the facts, all of it in the manifest.
    """
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from settings({f"{name}.{key}": item for key, item in value.items()} if name != "data" else {})
        elif value not in ("", (), []):
            yield code(name), _value(value)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, str) for item in value):
        return "<br>".join(literal(item) for item in value[:MAX_ROWS])
    if value is None or isinstance(value, (list, tuple, Mapping)):
        text = json.dumps(value, ensure_ascii=False, default=_jsonable)
        return code(text if len(text) <= _MAX_JSON else f"{text[:_MAX_JSON]}…")
    return number(value)


def _jsonable(value: Any) -> Any:
    """Turn the frozen objects of a manifest into what ``json`` writes."""
    return dict(value) if isinstance(value, Mapping) else str(value)
