"""Adapter to PEFT folder: the way back, exact where the adapter came from PEFT, plain LoRA where it did not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry, Manifest, RowSlice
from ual_registry.air.tensor import Tensor, join_rows
from ual_registry.air.write import write_container
from ual_registry.binders.bind import Slot, fused_slots
from ual_registry.binders.load import binder_for
from ual_registry.errors import ForeignFormatError
from ual_registry.interop.peft_config import CONFIG_FILE, WEIGHTS_FILE
from ual_registry.interop.peft_names import join_name
from ual_registry.storage import atomic_folder

__all__ = ["to_peft"]


def to_peft(adapter: Adapter, folder: str | Path) -> None:
    """Write an adapter as a PEFT folder.

    The tensors of an adapter that was converted from PEFT come back bit for bit under their old names, with the old
    configuration. Any other adapter is written as plain LoRA with its module paths spelled out. Rows of a fused
    module that no entry holds become zeros, which change nothing.

    Args:
        adapter: The adapter.
        folder: The folder; it appears when it is complete.

    Raises:
        ForeignFormatError: PEFT cannot say what the adapter says.
        BinderError: An entry of a fused module does not fit the architecture.
        StorageError: The file system refuses; nothing is left behind.
    """
    manifest = adapter.manifest
    tensors = dict(_module_tensors(adapter))
    tensors.update({extra.name: adapter.tensors[extra.tensor] for extra in manifest.extra})
    origin = manifest.origin
    config = origin.config if origin else _config(manifest)
    metadata = origin.metadata if origin else {"format": "pt"}
    with atomic_folder(Path(folder)) as place:
        write_container(place / WEIGHTS_FILE, tensors, metadata)
        text = json.dumps(config, default=_plain, indent=2, sort_keys=True, ensure_ascii=False)
        (place / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Let ``json`` write the read-only mappings of a decoded manifest."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")  # pragma: no cover - manifests hold JSON only


def _by_module(manifest: Manifest) -> dict[str, list[Entry]]:
    modules: dict[str, list[Entry]] = {}
    for entry in manifest.entries:
        if entry.source is None:
            raise ForeignFormatError(
                f"{entry.label}: no source, so its module path is unknown",
                code="no-module-path",
                context={"entry": entry.label},
            )
        modules.setdefault(entry.source, []).append(entry)
    return modules


def _module_tensors(adapter: Adapter) -> Iterator[tuple[str, Tensor]]:
    """Yield every factor under its PEFT name, fused modules put together."""
    for path, entries in _by_module(adapter.manifest).items():
        is_embedding = entries[0].role == "token_embedding"
        for factor, name in entries[0].tensor_names().items():
            if factor == "lora_A" or entries[0].slice is None:
                tensor = adapter.tensors[name]
            else:
                tensor = _fused(adapter, path, entries, factor)
            yield join_name(path, factor, is_embedding=is_embedding), tensor


def _fused(adapter: Adapter, path: str, entries: list[Entry], factor: str) -> Tensor:
    """Put the rows of a fused module together again."""
    if len({entry.lora_A for entry in entries}) > 1:
        raise ForeignFormatError(
            f"{path}: its entries do not share one lora_A", code="fused-factors", context={"module": path}
        )
    parts = [(_rows(entry), adapter.tensors[entry.tensor_names()[factor]]) for entry in entries]
    slots, _ = fused_slots(adapter.manifest.base_model, entries[0].stack, path)
    held = {entry.role for entry in entries}
    parts += [(_slot_rows(slot), _zeros(slot, parts[0][1])) for slot in slots if slot.role not in held]
    try:
        return join_rows(parts)
    except ValueError as error:
        raise ForeignFormatError(f"{path}.{factor}: {error}", code="fused-factors", context={"module": path}) from error


def _rows(entry: Entry) -> RowSlice:
    return entry.slice or RowSlice(offset=0, block=entry.out_features, stride=entry.out_features, count=1)


def _slot_rows(slot: Slot) -> RowSlice:
    assert slot.rows is not None  # fused_slots gives every slot its rows
    return slot.rows


def _zeros(slot: Slot, like: Tensor) -> Tensor:
    row_bytes = like.size_bytes // like.shape[0]
    return Tensor.of_bytes(like.dtype, (slot.out_features, *like.shape[1:]), bytes(slot.out_features * row_bytes))


def _config(manifest: Manifest) -> dict[str, Any]:
    """Compose the configuration of plain LoRA: module paths spelled out, exceptions in patterns."""
    modules = _by_module(manifest)
    ranks = {path: entries[0].rank for path, entries in modules.items()}
    alphas = {path: entries[0].scaling * entries[0].rank for path, entries in modules.items()}
    rank, alpha = max(ranks.values()), _most_common(alphas.values())
    return {
        "peft_type": "LORA",
        "task_type": manifest.method.task_type,
        "base_model_name_or_path": manifest.base_model.id,
        "revision": manifest.base_model.revision,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": manifest.method.bias,
        "fan_in_fan_out": _has_conv1d(manifest),
        "use_rslora": False,
        "use_dora": manifest.method.dora,
        "lora_bias": any(entry.bias for entry in manifest.entries),
        "target_modules": sorted(modules),
        "rank_pattern": {_exactly(path): value for path, value in sorted(ranks.items()) if value != rank},
        "alpha_pattern": {_exactly(path): value for path, value in sorted(alphas.items()) if value != alpha},
    }


def _most_common(values: Any) -> float:
    found = list(values)
    return float(max(sorted(set(found)), key=found.count))


def _exactly(path: str) -> str:
    """Return a pattern that PEFT matches with this module path and no other."""
    return path.replace(".", r"\.")


def _has_conv1d(manifest: Manifest) -> bool:
    binder = binder_for(manifest.base_model.model_type)
    return any(module.weight == "conv1d" for stack in binder.stacks for module in stack.modules)
