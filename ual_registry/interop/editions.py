"""An adapter under the names of another edition: the same updates, for modules that are called or cut differently.

What was a module for each expert may be one parameter for all, in which gate and up share one ``lora_A``. The factors
of such roles are put side by side: the ranks add up, and each role reads its own part, since the columns of its
``lora_B`` at the others are zeros (as peft 0.21 does it). No number changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry, Manifest
from ual_registry.air.tensor import Tensor
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, bind
from ual_registry.binders.slots import Slot, TargetModule
from ual_registry.errors import BaseMismatchError, ForeignFormatError
from ual_registry.interop.expert_factors import pad_columns

__all__ = ["to_edition"]


def to_edition(adapter: Adapter, base: BaseConfig, edition: str | None = None) -> Adapter:
    """Give an adapter the names that modules have in an edition.

    Args:
        adapter: The adapter.
        base: Its base model.
        edition: The edition; by default the current one.

    Returns:
        An adapter that reads from the same file and speaks for itself, without the configuration that it came with;
        the adapter itself where it has these names already.

    Raises:
        BaseMismatchError: The base model is another one.
        BinderDataError: The model type has no such edition.
        ForeignFormatError: The edition cannot say what the adapter says.
    """
    manifest = adapter.manifest
    if str(base.digest) != manifest.base_model.config_digest:
        raise BaseMismatchError(
            f"config of {base.label}: its digest is {base.digest}, the adapter's base model has "
            f"{manifest.base_model.config_digest}",
            hint="give the config of the base model that the adapter was trained on",
        )
    binding = bind(base, manifest.base_model.model_class, edition=edition)
    moves = _moves(manifest, binding)
    if all(move.entry.source == move.module.path for move in moves):
        return adapter
    if manifest.extra:
        name = manifest.extra[0].name
        raise _refusal(f"{name}: a tensor without a role cannot take the names of edition {binding.edition}", name)
    tensors: dict[str, Tensor] = {}
    entries: list[Entry] = []
    for group in _by_matrix(moves):
        for entry, parts in _moved(adapter, group):
            entries.append(entry)
            tensors.update(parts)
    _check_parameters(moves, entries)
    ordered = tuple(sorted(entries, key=lambda entry: entry.key))
    fresh = {"origin": None, "tensor_digest": "", "manifest_digest": ""}
    return Adapter(replace(manifest, entries=ordered, **fresh), tensors)  # type: ignore[arg-type]  # each fits its field


@dataclass(frozen=True, slots=True)
class _Move:
    """An entry, and the slot and module that it goes to."""

    entry: Entry
    slot: Slot
    module: TargetModule


def _moves(manifest: Manifest, binding: Binding) -> list[_Move]:
    slots = binding.slots()
    found = []
    for entry in manifest.entries:
        place = slots.get((entry.stack, entry.layer, entry.role, entry.expert))
        if place is None:
            text = f"{entry.label}: no module in edition {binding.edition} that LoRA could act on"
            raise _refusal(text, entry.label)
        module, slot = place
        if module.parameter is not None and len(entry.tensor_names()) > 2:
            text = f"{entry.label}: holds a magnitude or a bias, which parameters such as {module.path} cannot have"
            raise _refusal(text, entry.label)
        found.append(_Move(entry, slot, module))
    return found


def _by_matrix(moves: Sequence[_Move]) -> Iterator[list[_Move]]:
    """Group what goes to one matrix: that of a module, or of one expert, in the order of its rows."""
    groups: dict[tuple[str, int | None], list[_Move]] = {}
    for move in moves:
        groups.setdefault((move.module.path, move.slot.expert), []).append(move)
    for group in groups.values():
        yield sorted(group, key=lambda move: move.slot.rows.offset if move.slot.rows else 0)


def _moved(adapter: Adapter, group: Sequence[_Move]) -> Iterator[tuple[Entry, dict[str, Tensor]]]:
    """Yield the entries of one matrix under their new names, each with its tensors."""
    entries = [move.entry for move in group]
    _check_alike(entries, group[0].module.path, "scaling", [entry.scaling for entry in entries])
    tensors = {entry.lora_A: adapter.tensors[entry.lora_A] for entry in entries}
    _check_alike(entries, group[0].module.path, "dtype", [tensor.dtype for tensor in tensors.values()])
    lora_A = _stacked(list(tensors.values()))
    starts, start = {}, 0
    for name, tensor in tensors.items():
        starts[name], start = start, start + tensor.shape[0]
    shared = group[0].slot.tensor_name("lora_A")
    for move in group:
        names = {factor: move.slot.tensor_name(factor) for factor in move.entry.tensor_names()} | {"lora_A": shared}
        parts = {names[factor]: adapter.tensors[name] for factor, name in move.entry.tensor_names().items()}
        lora_B, before = parts[names["lora_B"]], starts[move.entry.lora_A]
        after = start - before - move.entry.rank
        if before or after:
            parts[names["lora_B"]] = pad_columns(lora_B, before=before, after=after)
        yield _renamed(move, names, lora_A.shape[0]), parts | {shared: lora_A}


def _renamed(move: _Move, names: Mapping[str, str], rank: int) -> Entry:
    return replace(
        move.entry,
        rank=rank,
        source=move.module.path,
        slice=move.slot.rows,
        lora_A=names["lora_A"],
        lora_B=names["lora_B"],
        magnitude=names.get("magnitude"),
        bias=names.get("bias"),
    )


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Put matrices of one width one above the other."""
    rows = sum(tensor.shape[0] for tensor in tensors)
    segments = tuple(segment for tensor in tensors for segment in tensor.segments)
    return Tensor(tensors[0].dtype, (rows, *tensors[0].shape[1:]), segments)


def _check_parameters(moves: Sequence[_Move], entries: Sequence[Entry]) -> None:
    """Check that all experts of a parameter have one rank and one scaling, since PEFT keeps one for it."""
    parameters: dict[str, list[Entry]] = {move.module.path: [] for move in moves if move.module.parameter is not None}
    for entry in entries:
        if entry.source in parameters:
            parameters[entry.source].append(entry)
    for path, held in parameters.items():
        _check_alike(held, path, "rank", [entry.rank for entry in held])
        _check_alike(held, path, "scaling", [entry.scaling for entry in held])


def _check_alike(entries: Sequence[Entry], path: str, what: str, values: Sequence[object]) -> None:
    found = sorted({str(value) for value in values})
    if len(found) > 1:
        label = entries[0].label
        text = f"{path}: would hold {len(entries)} entries, from {label} on, whose {what} differs: {', '.join(found)}"
        raise _refusal(text, label)


def _refusal(message: str, what: str) -> ForeignFormatError:
    return ForeignFormatError(message, code="other-edition", context={"entry": what})
