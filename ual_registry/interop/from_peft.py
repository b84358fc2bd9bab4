"""PEFT folder to adapter: every tensor finds its role, stays as it came, or is refused by name.

Only byte ranges are rearranged; no number is read. Factors of fused modules become one entry per role, which share
their ``lora_A`` and hold their own rows of ``lora_B``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ual_registry.air.adapter import Adapter
from ual_registry.air.header import Header, open_header
from ual_registry.air.model import BaseModel, Entry, Extra, Manifest, Origin
from ual_registry.air.names import extra_name
from ual_registry.air.roles import ROLES, Axis
from ual_registry.air.tensor import FileSource, MemorySource, Tensor
from ual_registry.air.versions import AIR_VERSION
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, bind_paths
from ual_registry.binders.describe import describe_base
from ual_registry.binders.load import binder_for
from ual_registry.binders.slots import Slot
from ual_registry.errors import BaseMismatchError, ContainerError, ForeignFormatError, UALError
from ual_registry.interop.expert_factors import unstack_experts
from ual_registry.interop.peft_config import WEIGHTS_FILE, PeftConfig, load_config, require_files
from ual_registry.interop.peft_factors import (
    ModuleFactors,
    check_factors,
    check_targets,
    group_factors,
    locate_factors,
    misfit,
)
from ual_registry.interop.peft_parameters import factors_are_flipped

__all__ = ["from_peft", "from_peft_header"]


def from_peft(
    folder: str | Path,
    base: BaseConfig,
    *,
    base_id: str | None = None,
    base_revision: str | None = None,
) -> Adapter:
    """Describe a PEFT adapter in AIR's terms; the tensors stay in their file until they are written.

    Args:
        folder: What ``save_pretrained`` wrote.
        base: The base model that the adapter was trained on.
        base_id: Its label; by default the one in the adapter's configuration.
        base_revision: Its commit; by default the one in the adapter's configuration.

    Returns:
        The adapter; close it, or use it as a context manager.

    Raises:
        ForeignFormatError: The folder is no PEFT LoRA adapter, or holds what AIR cannot carry.
        ContainerError: The tensor file is broken.
        BinderError: The base model is unknown, or is not the one that the adapter fits.
        StorageError: A file cannot be read.
    """
    source, files = _open(Path(folder))
    try:
        return _described(files, base, base_id, base_revision)
    except UALError:
        source.close()
        raise


def from_peft_header(
    config: PeftConfig,
    header: Header,
    base: BaseConfig,
    *,
    base_id: str | None = None,
    base_revision: str | None = None,
) -> Adapter:
    """Describe a PEFT adapter of whose tensor file only the header is at hand.

    Args:
        config: Its configuration.
        header: The header of its tensor file.
        base: The base model that the adapter was trained on.
        base_id: Its label; by default the one in the adapter's configuration.
        base_revision: Its commit; by default the one in the adapter's configuration.

    Returns:
        The adapter; its tensors have a dtype and a shape, and no bytes.

    Raises:
        ForeignFormatError: It is no LoRA adapter, or holds what AIR cannot carry.
        BinderError: The base model is unknown, or is not the one that the adapter fits.
    """
    files = _PeftFiles(config, header.metadata, header.tensors(MemorySource(b"")))
    return _described(files, base, base_id, base_revision)


@dataclass(frozen=True, slots=True)
class _PeftFiles:
    """A PEFT adapter, opened: its configuration and the tensors that it stores."""

    config: PeftConfig
    metadata: Mapping[str, str]
    tensors: Mapping[str, Tensor]


def _open(folder: Path) -> tuple[FileSource, _PeftFiles]:
    require_files(folder)
    config = load_config(folder)
    source = FileSource(folder / WEIGHTS_FILE)
    try:
        header = open_header(source)
    except ContainerError as error:
        source.close()
        message = f"{source.path}: {error.message}"
        raise ContainerError(message, code=error.problem_code, hint=error.hint, context=error.context) from error
    return source, _PeftFiles(config, header.metadata, header.tensors(source))


def _described(files: _PeftFiles, base: BaseConfig, base_id: str | None, base_revision: str | None) -> Adapter:
    model = describe_base(base, id=base_id or files.config.base_id, revision=base_revision or files.config.revision)
    return _adapter(files, base, model)


def _adapter(files: _PeftFiles, base: BaseConfig, model: BaseModel) -> Adapter:
    factors = locate_factors(group_factors(files.tensors), files.config, binder_for(base.model_type))
    binding = bind_paths(base, factors)
    check_targets(factors, files.config)
    tensors: dict[str, Tensor] = {}
    entries: list[Entry] = []
    left = set(files.tensors)
    for module in factors.values():
        if module.path in binding.modules:
            left.difference_update(module.names.values())
            for entry, parts in _entries(module, files.config, binding):
                entries.append(entry)
                tensors.update(parts)
    if not entries:
        raise ForeignFormatError(
            f"{WEIGHTS_FILE}: holds no LoRA factors of a module with a role", code="peft-no-factors"
        )
    extras = tuple(Extra(tensor=extra_name(name), name=name) for name in sorted(left))
    tensors.update({extra.tensor: files.tensors[extra.name] for extra in extras})
    manifest = Manifest(
        air_version=AIR_VERSION,
        kind="adapter",
        base_model=replace(model, model_class=_model_class(binding, files.config, base)),
        method=files.config.method,
        entries=tuple(sorted(entries, key=lambda entry: entry.key)),
        extra=extras,
        origin=Origin(format="peft", config=files.config.document, metadata=dict(files.metadata)),
        features=_features(entries, has_extras=bool(extras)),
    )
    return Adapter(manifest, tensors)


def _entries(module: ModuleFactors, config: PeftConfig, binding: Binding) -> Iterator[tuple[Entry, dict[str, Tensor]]]:
    """Yield the entries of one target module, each with its tensors by their AIR names."""
    slots = binding.modules[module.path].slots
    if binding.modules[module.path].parameter is not None:
        yield from _expert_entries(module, config, binding)
        return
    check_factors(module, config, is_embedding=slots[0].role == "token_embedding")
    _check_shapes(module, slots)
    shared = slots[0].tensor_name("lora_A")
    for slot in slots:
        parts: dict[str, Tensor] = {shared: module.tensors["lora_A"]}
        names = {"lora_A": shared}
        for factor in module.tensors.keys() - {"lora_A"}:
            names[factor] = slot.tensor_name(factor)
            whole = module.tensors[factor]
            parts[names[factor]] = whole if slot.rows is None else whole.take_rows(slot.rows)
        yield _entry(slot, module, names, config.scaling(module.path)), parts


def _expert_entries(
    module: ModuleFactors, config: PeftConfig, binding: Binding
) -> Iterator[tuple[Entry, dict[str, Tensor]]]:
    """Yield the entries of a parameter that holds every expert: one for each expert and role."""
    every = binding.modules[module.path].slots
    slots = binding.modules[module.path].matrix
    experts = len(every) // len(slots)
    check_factors(module, config, experts=experts)
    if len(module.tensors) > 2:
        raise misfit(module, "holds a magnitude or a bias, which PEFT has only for modules")
    is_flipped = factors_are_flipped(binding.base.model_type)
    _check_shapes(module, slots, is_flipped=is_flipped)
    rows = [slot.all_rows for slot in slots]
    lora_A, lora_B = module.tensors["lora_A"], module.tensors["lora_B"]
    scaling = config.scaling(module.path)
    taken = unstack_experts(lora_A, lora_B, rows, experts=experts, is_flipped=is_flipped)
    for expert, own in enumerate(taken):
        filled = every[expert * len(slots) : (expert + 1) * len(slots)]
        name_a = filled[0].tensor_name("lora_A")
        for slot, part in zip(filled, own.parts, strict=True):
            name_b = slot.tensor_name("lora_B")
            factors = replace(module, tensors={"lora_A": own.lora_A, "lora_B": part.lora_B})
            names = {"lora_A": name_a, "lora_B": name_b}
            yield _entry(slot, factors, names, scaling), {name_a: own.lora_A, name_b: part.lora_B}


def _entry(slot: Slot, module: ModuleFactors, names: Mapping[str, str], scaling: float) -> Entry:
    rank, in_features = module.tensors["lora_A"].shape
    return Entry(
        stack=slot.stack,
        layer=slot.layer,
        role=slot.role,
        expert=slot.expert,
        in_features=in_features,
        out_features=slot.rows.rows if slot.rows else module.tensors["lora_B"].shape[0],
        rank=rank,
        scaling=scaling,
        lora_A=names["lora_A"],
        lora_B=names["lora_B"],
        magnitude=names.get("magnitude"),
        bias=names.get("bias"),
        source=module.path,
        slice=slot.rows,
    )


def _check_shapes(module: ModuleFactors, slots: tuple[Slot, ...], *, is_flipped: bool = False) -> None:
    """Check one module's factors against the base model; only a vocabulary may have been resized."""
    role = ROLES[slots[0].role]
    wanted_in, wanted_out = slots[0].in_features, sum(slot.out_features for slot in slots)
    if is_flipped:
        wanted_in, wanted_out = wanted_out, wanted_in
    got_in, got_out = module.tensors["lora_A"].shape[1], module.tensors["lora_B"].shape[0]
    for what, axis, got, wanted in (
        ("lora_A", role.in_axis, got_in, wanted_in),
        ("lora_B", role.out_axis, got_out, wanted_out),
    ):
        if got != wanted and axis is not Axis.VOCABULARY:
            raise BaseMismatchError(
                f"{module.path}.{what}: {got} features, the base model has {wanted}",
                context={"module": module.path, "factor": what},
                hint="give the config of the base model that the adapter was trained on",
            )


def _model_class(binding: Binding, config: PeftConfig, base: BaseConfig) -> str:
    """Return the class that the module paths belong to, as well as the files tell."""
    kind = binding.binder.model_types[base.model_type]
    fitting = kind.classes_in(binding.edition)[binding.prefix]
    named = (config.model_class, *base.model_classes)
    return next((name for name in named if name in fitting), fitting[0])


def _features(entries: list[Entry], *, has_extras: bool) -> tuple[str, ...]:
    used = {
        "dora": any(entry.magnitude for entry in entries),
        "lora-bias": any(entry.bias for entry in entries),
        "extra-tensors": has_extras,
    }
    return tuple(sorted(name for name, is_used in used.items() if is_used))
