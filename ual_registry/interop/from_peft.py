"""PEFT folder to adapter: every tensor finds its role, stays as it came, or is refused by name.

Only byte ranges are rearranged; no number is read. Factors of fused modules become one entry per role, which share
their ``lora_A`` and hold their own rows of ``lora_B``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ual_registry.air.adapter import Adapter
from ual_registry.air.header import open_header
from ual_registry.air.model import BaseModel, Entry, Extra, Manifest, Origin
from ual_registry.air.names import TensorName, extra_name
from ual_registry.air.roles import ROLES, Axis
from ual_registry.air.tensor import FLOAT_DTYPES, FileSource, Tensor
from ual_registry.air.versions import AIR_VERSION
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, Slot, bind_paths, describe_base
from ual_registry.errors import BaseMismatchError, ContainerError, ForeignFormatError, UALError
from ual_registry.interop.peft_config import WEIGHTS_FILE, PeftConfig, load_config, require_files
from ual_registry.interop.peft_names import PREFIX, join_name, split_name

__all__ = ["from_peft"]


@dataclass(frozen=True, slots=True)
class _Factors:
    """The tensors of one target module, by factor; ``names`` are those in the file."""

    path: str
    tensors: dict[str, Tensor]
    names: dict[str, str]


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
    files = _open(Path(folder))
    try:
        model = describe_base(
            base,
            id=base_id or files.config.base_id,
            revision=base_revision or files.config.revision,
        )
        return _adapter(files, base, model)
    except UALError:
        files.source.close()
        raise


@dataclass(frozen=True, slots=True)
class _PeftFiles:
    """A PEFT folder, opened: its configuration and the tensors that it stores."""

    config: PeftConfig
    source: FileSource
    metadata: Mapping[str, str]
    tensors: Mapping[str, Tensor]


def _open(folder: Path) -> _PeftFiles:
    require_files(folder)
    config = load_config(folder)
    source = FileSource(folder / WEIGHTS_FILE)
    try:
        header = open_header(source)
    except ContainerError as error:
        source.close()
        message = f"{source.path}: {error.message}"
        raise ContainerError(message, code=error.problem_code, hint=error.hint, context=error.context) from error
    return _PeftFiles(config, source, header.metadata, header.tensors(source))


def _adapter(files: _PeftFiles, base: BaseConfig, model: BaseModel) -> Adapter:
    factors = _group(files.tensors)
    binding = bind_paths(base, factors)
    _check_targets(factors, files.config)
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


def _group(stored: Mapping[str, Tensor]) -> dict[str, _Factors]:
    """Sort the factor tensors by target module; everything else is left for the extras."""
    found: dict[str, _Factors] = {}
    for name, tensor in stored.items():
        if not name.startswith(PREFIX):
            raise ForeignFormatError(
                f"{WEIGHTS_FILE}: tensor {name!r} does not start with {PREFIX!r}",
                code="peft-tensor-name",
                context={"tensor": name},
                hint="write the adapter again with save_pretrained of a recent PEFT",
            )
        parts = split_name(name)
        if parts is not None:
            module = found.setdefault(parts.path, _Factors(parts.path, {}, {}))
            if parts.factor in module.tensors:
                raise _misfit(module, f"{parts.factor} is stored under two names")
            module.tensors[parts.factor] = tensor
            module.names[parts.factor] = name
    if not found:
        raise ForeignFormatError(f"{WEIGHTS_FILE}: holds no LoRA factors", code="peft-no-factors")
    return found


def _check_targets(factors: Mapping[str, _Factors], config: PeftConfig) -> None:
    for path, module in factors.items():
        if not config.targets(path):
            raise _misfit(module, "holds factors, but adapter_config.json does not name it in target_modules")


def _misfit(module: _Factors, text: str) -> ForeignFormatError:
    return ForeignFormatError(f"{module.path}: {text}", code="peft-misfit", context={"module": module.path})


def _entries(module: _Factors, config: PeftConfig, binding: Binding) -> Iterator[tuple[Entry, dict[str, Tensor]]]:
    """Yield the entries of one target module, each with its tensors by their AIR names."""
    slots = binding.modules[module.path].slots
    _check_factors(module, config, is_embedding=slots[0].role == "token_embedding")
    _check_shapes(module, slots)
    shared = _name(slots[0], "lora_A")
    for slot in slots:
        parts: dict[str, Tensor] = {shared: module.tensors["lora_A"]}
        names = {"lora_A": shared}
        for factor in module.tensors.keys() - {"lora_A"}:
            names[factor] = _name(slot, factor)
            whole = module.tensors[factor]
            parts[names[factor]] = whole if slot.rows is None else whole.take_rows(slot.rows)
        yield _entry(slot, module, names, config.scaling(module.path)), parts


def _entry(slot: Slot, module: _Factors, names: Mapping[str, str], scaling: float) -> Entry:
    rank, in_features = module.tensors["lora_A"].shape
    return Entry(
        stack=slot.stack,
        layer=slot.layer,
        role=slot.role,
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


def _name(slot: Slot, factor: str) -> str:
    return str(TensorName(stack=slot.stack, layer=slot.layer, role=slot.role, factor=factor))


def _check_factors(module: _Factors, config: PeftConfig, *, is_embedding: bool) -> None:
    """Check one module's tensors against one another and against the configuration."""
    for factor in ("lora_A", "lora_B"):
        if factor not in module.tensors:
            raise _misfit(module, f"{factor} is missing")
    lora_a, lora_b = module.tensors["lora_A"], module.tensors["lora_B"]
    if len(lora_a.shape) != 2 or len(lora_b.shape) != 2:
        raise _misfit(module, f"factors of shape {lora_a.shape} and {lora_b.shape}: expected two axes each")
    rank = config.rank(module.path)
    if lora_a.shape[0] != rank or lora_b.shape[1] != rank:
        shapes = f"lora_A {lora_a.shape} and lora_B {lora_b.shape}"
        raise _misfit(module, f"{shapes} do not match rank {rank} of adapter_config.json")
    if ("magnitude" in module.tensors) != config.method.dora:
        raise _misfit(
            module, f"use_dora is {config.method.dora}, but the magnitude is {_presence(module, 'magnitude')}"
        )
    for factor in ("magnitude", "bias"):
        if factor in module.tensors and module.tensors[factor].shape != (lora_b.shape[0],):
            raise _misfit(module, f"{factor} of shape {module.tensors[factor].shape}: expected ({lora_b.shape[0]},)")
    for factor, tensor in module.tensors.items():
        expected = join_name(module.path, factor, is_embedding=is_embedding)
        if module.names[factor] != expected:
            raise _misfit(module, f"{factor} is stored as {module.names[factor]}, expected {expected}")
        if tensor.dtype not in FLOAT_DTYPES:
            raise _misfit(
                module, f"{factor} of dtype {tensor.dtype}: expected one of {', '.join(sorted(FLOAT_DTYPES))}"
            )


def _presence(module: _Factors, factor: str) -> str:
    return "there" if factor in module.tensors else "missing"


def _check_shapes(module: _Factors, slots: tuple[Slot, ...]) -> None:
    """Check one module's factors against the base model; only a vocabulary may have been resized."""
    role = ROLES[slots[0].role]
    wanted_in, wanted_out = slots[0].in_features, sum(slot.out_features for slot in slots)
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
    fitting = [name for name, prefix in binding.binder.classes.items() if prefix == binding.prefix]
    named = (config.model_class, *base.model_classes)
    return next((name for name in named if name in fitting), fitting[0])


def _features(entries: list[Entry], *, has_extras: bool) -> tuple[str, ...]:
    used = {
        "dora": any(entry.magnitude for entry in entries),
        "lora-bias": any(entry.bias for entry in entries),
        "extra-tensors": has_extras,
    }
    return tuple(sorted(name for name, is_used in used.items() if is_used))
