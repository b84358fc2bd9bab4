"""Adapter to PEFT folder: the way back, exact where the adapter came from PEFT, plain LoRA where it did not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry, Manifest, Origin, RowSlice
from ual_registry.air.tensor import Tensor, join_rows
from ual_registry.air.write import write_container
from ual_registry.binders.bind import fused_slots
from ual_registry.binders.load import binder_for
from ual_registry.binders.slots import Slot
from ual_registry.errors import ForeignFormatError
from ual_registry.interop.expert_factors import ExpertFactors, RolePart, stack_experts
from ual_registry.interop.peft_config import CONFIG_FILE, WEIGHTS_FILE, check_config
from ual_registry.interop.peft_names import join_name
from ual_registry.interop.peft_parameters import (
    expert_slots,
    factors_are_flipped,
    mistaken_for_experts,
    wrapped_path,
)
from ual_registry.storage import atomic_folder

__all__ = ["PeftForm", "peft_form", "to_peft", "write_peft"]

_SCALING_TOLERANCE = 1e-9
"""How far two computations of alpha over rank may differ, as a ratio; doubles hold 16 digits."""


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
    write_peft(peft_form(adapter), Path(folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftForm:
    """An adapter as PEFT stores it.

    Attributes:
        config: The configuration.
        tensors: The tensors by their PEFT names.
        metadata: The tensor file's ``__metadata__``.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def peft_form(adapter: Adapter) -> PeftForm:
    """Return what PEFT would store; see ``to_peft``.

    Raises:
        ForeignFormatError: PEFT cannot say what the adapter says.
        BinderError: An entry of a fused module does not fit the architecture.
    """
    manifest = adapter.manifest
    modules = _by_module(manifest)
    tensors = dict(_module_tensors(adapter, modules))
    for extra in manifest.extra:
        if extra.name in tensors:
            raise _refusal(f"{extra.name}: held by an entry and by an extra tensor", "repeated-name")
        tensors[extra.name] = adapter.tensors[extra.tensor]
    origin = manifest.origin
    config = _original(origin, modules) if origin else _config(manifest, modules)
    return PeftForm(config=config, tensors=tensors, metadata=origin.metadata if origin else {"format": "pt"})


def write_peft(form: PeftForm, folder: Path) -> None:
    """Write what PEFT stores into a folder, which appears when it is complete.

    Raises:
        StorageError: The file system refuses; nothing is left behind.
    """
    with atomic_folder(folder) as place:
        write_container(place / WEIGHTS_FILE, form.tensors, form.metadata)
        text = json.dumps(form.config, default=_plain, indent=2, sort_keys=True, ensure_ascii=False)
        (place / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Let ``json`` write the read-only mappings of a decoded manifest."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")  # pragma: no cover - manifests hold JSON only


def _refusal(message: str, code: str, **context: str) -> ForeignFormatError:
    return ForeignFormatError(message, code=code, context=context)


def _by_module(manifest: Manifest) -> dict[str, list[Entry]]:
    """Sort the entries by target module, each of which PEFT gives one rank, one scaling and one set of factors."""
    modules: dict[str, list[Entry]] = {}
    for entry in manifest.entries:
        if entry.source is None:
            message = f"{entry.label}: no source, so its module path is unknown"
            raise _refusal(message, "no-module-path", entry=entry.label)
        modules.setdefault(entry.source, []).append(entry)
    for path, entries in modules.items():
        alike = {(entry.rank, entry.scaling, frozenset(entry.tensor_names())) for entry in entries}
        if len(alike) > 1 or len({entry.lora_A for entry in entries}) > len({entry.expert for entry in entries}):
            message = f"{path}: its entries do not share one lora_A, one rank, one scaling and one set of factors"
            raise _refusal(message, "fused-factors", module=path)
    return modules


def _module_tensors(adapter: Adapter, modules: Mapping[str, list[Entry]]) -> Iterator[tuple[str, Tensor]]:
    """Yield every factor under its PEFT name, fused modules put together."""
    parameters = _parameters(adapter.manifest, modules)
    for path, entries in modules.items():
        if path in parameters:
            stored = wrapped_path(path, parameters, binder_for(adapter.manifest.base_model.model_type))
            whole = _stacked(adapter, path, entries, parameters[path])
            yield from ((join_name(stored, factor), tensor) for factor, tensor in whole.items())
            continue
        is_embedding = entries[0].role == "token_embedding"
        for factor, name in entries[0].tensor_names().items():
            if factor == "lora_A" or (len(entries) == 1 and entries[0].slice is None):
                tensor = adapter.tensors[name]
            else:
                tensor = _fused(adapter, path, entries, factor)
            yield join_name(path, factor, is_embedding=is_embedding), tensor


def _parameters(manifest: Manifest, modules: Mapping[str, list[Entry]]) -> dict[str, list[tuple[Slot, ...]]]:
    """Return the slots of each expert, for the targets that are parameters which hold every expert."""
    if all(entry.expert is None for entry in manifest.entries):
        return {}
    binder = binder_for(manifest.base_model.model_type)
    slots = {path: expert_slots(binder, manifest.base_model, entries) for path, entries in modules.items()}
    return {path: every for path, every in slots.items() if every}


def _stacked(adapter: Adapter, path: str, entries: list[Entry], experts: list[tuple[Slot, ...]]) -> dict[str, Tensor]:
    """Put the factors of every expert together; an expert or role without an entry has zeros."""
    if set(entries[0].tensor_names()) != {"lora_A", "lora_B"}:
        raise _refusal(f"{path}: PEFT has no magnitude and no bias for parameters", "fused-factors", module=path)
    held = {(entry.expert, entry.role): entry for entry in entries}
    like_a, like_b = (adapter.tensors[name] for name in (entries[0].lora_A, entries[0].lora_B))
    zero_a = Tensor.of_bytes(like_a.dtype, like_a.shape, bytes(like_a.size_bytes))
    factors = []
    for expert, slots in enumerate(experts):
        own = [held.get((expert, slot.role)) for slot in slots]
        lora_A = next((adapter.tensors[entry.lora_A] for entry in own if entry is not None), zero_a)
        parts = tuple(
            RolePart(slot.all_rows, adapter.tensors[entry.lora_B] if entry else _zeros(slot, like_b))
            for slot, entry in zip(slots, own, strict=True)
        )
        factors.append(ExpertFactors(lora_A, parts))
    try:
        is_flipped = factors_are_flipped(adapter.manifest.base_model.model_type)
        lora_A, lora_B = stack_experts(factors, is_flipped=is_flipped)
    except ValueError as error:
        raise _refusal(f"{path}: {error}", "fused-factors", module=path) from error
    return {"lora_A": lora_A, "lora_B": lora_B}


def _fused(adapter: Adapter, path: str, entries: list[Entry], factor: str) -> Tensor:
    """Put the rows of a fused module together again."""
    parts = [(_rows(entry), adapter.tensors[entry.tensor_names()[factor]]) for entry in entries]
    held = {entry.role: entry.slice for entry in entries}
    slots = fused_slots(adapter.manifest.base_model, entries[0].stack, path, held)
    missing = [slot for slot in slots if slot.role not in held]
    if missing and factor == "magnitude":
        message = f"{path}: no entry of {missing[0].role}, whose magnitude is a row norm of the base model's weight"
        raise _refusal(message, "fused-factors", module=path)
    parts += [(slot.all_rows, _zeros(slot, parts[0][1])) for slot in missing]
    try:
        return join_rows(parts)
    except ValueError as error:
        raise _refusal(f"{path}.{factor}: {error}", "fused-factors", module=path) from error


def _rows(entry: Entry) -> RowSlice:
    return entry.slice or RowSlice.whole(entry.out_features)


def _zeros(slot: Slot, like: Tensor) -> Tensor:
    row_bytes = like.size_bytes // like.shape[0]
    return Tensor.of_bytes(like.dtype, (slot.out_features, *like.shape[1:]), bytes(slot.out_features * row_bytes))


def _original(origin: Origin, modules: Mapping[str, list[Entry]]) -> Mapping[str, Any]:
    """Return the original configuration, once it is known to say what the entries say."""
    config = check_config(origin.config)
    for path, (entry, *_) in modules.items():
        rank, scaling = config.rank(path), config.scaling(path)
        if entry.rank != rank or not math.isclose(entry.scaling, scaling, rel_tol=_SCALING_TOLERANCE):
            raise ForeignFormatError(
                f"{path}: rank {entry.rank} and scaling {entry.scaling}, "
                f"the original configuration says rank {rank} and scaling {scaling}",
                code="origin-differs",
                context={"module": path},
                hint="remove origin from the manifest where the entries were changed on purpose",
            )
    return origin.config


def _config(manifest: Manifest, modules: Mapping[str, list[Entry]]) -> dict[str, Any]:
    """Compose the configuration of plain LoRA: module paths spelled out, exceptions in patterns."""
    _check_expressible(manifest)
    parameters = _parameters(manifest, modules)
    mistaken = mistaken_for_experts(manifest.base_model.model_type, modules.keys() - parameters.keys())
    if mistaken:
        message = f"{mistaken[0]}: PEFT would take it for a part of every expert, going by its name"
        raise _refusal(message, "peft-mistaken", module=mistaken[0])
    ranks = {path: entries[0].rank for path, entries in modules.items()}
    alphas = {path: _alpha(entries[0]) for path, entries in modules.items()}
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
        "use_dora": any(entry.magnitude for entry in manifest.entries),
        "lora_bias": any(entry.bias for entry in manifest.entries),
        "target_modules": sorted(modules.keys() - parameters.keys()),
        **({"target_parameters": sorted(parameters)} if parameters else {}),
        "rank_pattern": {re.escape(path): value for path, value in sorted(ranks.items()) if value != rank},
        "alpha_pattern": {re.escape(path): value for path, value in sorted(alphas.items()) if value != alpha},
    }


def _check_expressible(manifest: Manifest) -> None:
    """Refuse what a composed configuration would make PEFT leave out or make up."""
    if len({entry.magnitude is None for entry in manifest.entries}) > 1:
        raise _refusal("some entries have a magnitude and some have none, use_dora is one for all", "mixed-dora")
    for extra in manifest.extra:
        if manifest.method.bias == "none" or not extra.name.endswith(".bias"):
            message = f"{extra.name}: without the original configuration PEFT would not load this tensor"
            raise _refusal(message, "extra-without-origin", tensor=extra.name)


def _alpha(entry: Entry) -> float:
    """Return the alpha that, divided by the rank, is the scaling again to the last bit where there is one."""
    near = entry.scaling * entry.rank
    around = (near, math.nextafter(near, math.inf), math.nextafter(near, -math.inf))
    return next((alpha for alpha in around if alpha / entry.rank == entry.scaling), near)


def _most_common(values: Iterable[float]) -> float:
    found = list(values)
    return max(sorted(set(found)), key=found.count)


def _has_conv1d(manifest: Manifest) -> bool:
    binder = binder_for(manifest.base_model.model_type)
    modules = (module for stack in binder.stacks for module in stack.modules if module.parameter is None)
    return any(module.weight == "conv1d" for module in modules)
