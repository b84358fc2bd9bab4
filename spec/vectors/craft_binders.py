"""Write binder documents, configs and the cases that apply one to the other."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from spec.vectors.craft import Case

__all__ = ["CONFIG", "Json", "own", "own_of_type", "own_with", "resolve", "shipped", "slot"]

_SHIPPED = Path(__file__).resolve().parents[2] / "ual_registry" / "binders" / "data"

Json = dict[str, Any]

CONFIG: Json = {"model_type": "own", "width": 4, "depth": 1, "heads": 2, "mlp": 6, "vocab": 5}
"""A config that the binder of ``own`` reads."""


def own(**dimensions: Any) -> Json:
    """Return a binder of its own with one plain module; ``dimensions`` replace those of its stack."""
    ways = {
        "hidden_size": ["width"],
        "num_layers": ["depth"],
        "num_attention_heads": ["heads"],
        "num_key_value_heads": ["heads"],
        "head_dim": [2],
        "intermediate_size": ["mlp"],
    }
    modules = [{"path": "up", "roles": ["mlp_up"]}]
    kind = {"default_class": "OwnModel", "classes": {"": ["OwnModel"]}}
    return {
        "binder_version": "1.0",
        "architecture": "own",
        "model_types": {"own": kind, "own2": copy.deepcopy(kind)},
        "vocab_size": ["vocab"],
        "rotary": {"style": "none"},
        "norms": {"kind": "rms", "position": "pre"},
        "stacks": [{"path": "b.{layer}.", "dimensions": {**ways, **dimensions}, "modules": modules}],
        "outer": [],
        "without_role": [],
    }


def own_with(*modules: Json, **dimensions: Any) -> Json:
    """Return a binder of its own with these modules in a block."""
    binder = own(**dimensions)
    binder["stacks"][0]["modules"] = list(modules)
    return binder


def own_of_type(binder: Json, **properties: Any) -> Json:
    """Return a copy of a binder whose model type ``own`` has further properties."""
    changed = copy.deepcopy(binder)
    changed["model_types"]["own"].update(properties)
    return changed


def shipped(architecture: str, model_type: str, *, with_editions: bool = False) -> Json:
    """Return a document that the package ships, without names in GGUF and without what other model types alone have.

    Args:
        architecture: Its name.
        model_type: The model type that is kept.
        with_editions: Whether to keep older editions, too.
    """
    document: Json = json.loads((_SHIPPED / f"{architecture}.json").read_text(encoding="utf-8"))
    document["model_types"] = {model_type: document["model_types"][model_type]}
    if not with_editions:
        _drop_editions(document, document["model_types"][model_type])
    for holder, key in (*((stack, "modules") for stack in document["stacks"]), (document, "outer")):
        holder[key] = [item for item in holder[key] if _concerns(item, model_type)]
        for item in holder[key]:
            item.pop("gguf", None)
    document["model_types"][model_type].pop("gguf", None)
    return document


def _drop_editions(document: Json, model_type: Json) -> None:
    """Leave what the current edition has."""
    current = document.pop("editions", [None])[0]
    model_type.pop("older_editions", None)
    for holder, key in (*((stack, "modules") for stack in document["stacks"]), (document, "outer")):
        holder[key] = [item for item in holder[key] if item.pop("edition", current) == current]


def _concerns(item: Json, model_type: str) -> bool:
    conditions = item.get("when", [])
    return all(model_type in one["values"] for one in conditions if one["field"] == "model_type")


def slot(
    role: str,
    layer: int | None,
    in_features: int,
    out_features: int,
    *,
    stack: str | None = None,
    expert: int | None = None,
    rows: tuple[int, int, int, int] | None = None,
) -> Json:
    """Return a slot as an answer has it; ``rows`` are offset, block, stride and count."""
    numbers = None if rows is None else dict(zip(("offset", "block", "stride", "count"), rows, strict=True))
    return {
        "stack": stack,
        "layer": layer,
        "role": role,
        "expert": expert,
        "in_features": in_features,
        "out_features": out_features,
        "rows": numbers,
    }


def resolve(
    name: str,
    description: str,
    binder: Any,
    config: Any,
    slots: Json | str,
    *,
    modules: tuple[str, ...] = (),
    model_class: str | None = None,
    edition: str | None = None,
) -> Case:
    """Return a case.

    Args:
        name: Its name, without what all cases of binders begin with.
        description: What it shows.
        binder: The document, or its bytes.
        config: The config, or its bytes.
        slots: What is expected by path, or the code of a refusal.
        modules: The paths to ask for; those of ``slots`` where absent.
        model_class: The class to ask for.
        edition: The edition to ask for.
    """
    asked = list(modules or (("b.0.up",) if isinstance(slots, str) else slots))
    request = {"binder": "binder.json", "config": "config.json", "modules": asked}
    return Case(
        name=f"binder-{name}",
        description=description,
        operation="resolve",
        input={
            **request,
            **({"model_class": model_class} if model_class else {}),
            **({"edition": edition} if edition else {}),
        },
        expected={"code": slots} if isinstance(slots, str) else {"slots": slots},
        files={"binder.json": _bytes(binder), "config.json": _bytes(config)},
    )


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
