"""What a manifest must mean beyond its schema: entries, tensors and dimensions that agree with one another.

Each rule is one small function that yields every fault it finds (spec: manifest, rules). Nothing here reads bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from ual_registry.air.model import BaseModel, Entry, Manifest, Stack
from ual_registry.air.names import TensorName, entry_place, extra_name, is_in_grammar
from ual_registry.air.problem import Problem
from ual_registry.air.roles import ROLES, Axis, axis_size
from ual_registry.air.tensor import FLOAT_DTYPES, Shaped
from ual_registry.errors import RuleError

__all__ = ["rule_problems"]


Tensors = Mapping[str, Shaped]


def rule_problems(manifest: Manifest, tensors: Tensors) -> Iterator[Problem]:
    """Yield every fault and warning of a manifest that follows its schema.

    Args:
        manifest: The manifest.
        tensors: dtype and shape of every tensor of the file.
    """
    for rule in _RULES:
        yield from rule(manifest, tensors)


def _fault(code: str, place: str, message: str, hint: str | None = None, *, is_warning: bool = False) -> Problem:
    return Problem(code=code, place=place, message=message, hint=hint, branch="rule", is_warning=is_warning)


def _tensors_are_named(manifest: Manifest, tensors: Tensors) -> Iterator[Problem]:
    """Every tensor is named by the manifest, and every name has its tensor."""
    named = {name for entry in manifest.entries for name in entry.tensor_names().values()}
    named |= {extra.tensor for extra in manifest.extra}
    for name in sorted(named - tensors.keys()):
        yield _fault("missing-tensor", name, "the manifest names this tensor, the file does not hold it")
    for name in sorted(tensors.keys() - named):
        yield _fault("unnamed-tensor", name, "the file holds this tensor, the manifest does not name it")


def _entries_are_unique_and_sorted(manifest: Manifest, _: Tensors) -> Iterator[Problem]:
    keys = [entry.key for entry in manifest.entries]
    last = dict(zip(keys, manifest.entries, strict=True))
    for key, count in Counter(keys).items() if len(last) < len(keys) else ():
        if count > 1:
            text = f"{count} entries hold the same stack, layer, role and expert"
            yield _fault("repeated-entry", last[key].label, text)
    if keys != sorted(keys):
        yield _fault("unsorted-entries", "manifest.entries", "expected the order of stack, layer, role and expert")


def _extras_are_unique_and_sorted(manifest: Manifest, _: Tensors) -> Iterator[Problem]:
    names = [extra.tensor for extra in manifest.extra]
    for name, count in Counter(names).items():
        if count > 1:
            yield _fault("repeated-extra", name, f"{count} items of extra name this tensor")
    if names != sorted(names):
        yield _fault("unsorted-extra", "manifest.extra", "expected the order of the tensors' names")


def _stacks_are_distinct(manifest: Manifest, _: Tensors) -> Iterator[Problem]:
    """A base model has one stack without a name, or an encoder and a decoder."""
    names = [stack.name for stack in manifest.base_model.stacks]
    if names not in ([None], ["encoder", "decoder"]):
        yield _fault(
            "stacks", "manifest.base_model.stacks", f"expected one unnamed, or encoder and decoder; got {names}"
        )


def _entries_have_a_place(manifest: Manifest, _: Tensors) -> Iterator[Problem]:
    """Every entry's stack, layer, role and expert exist in the base model."""
    for entry in manifest.entries:
        stack = manifest.base_model.stack(entry.stack)
        if stack is None:
            known = ", ".join(item.name or "(unnamed)" for item in manifest.base_model.stacks)
            yield _fault("unknown-stack", entry.label, f"stack {entry.stack!r} is not in base_model.stacks ({known})")
        elif entry.layer is not None and entry.layer >= stack.num_layers:
            yield _fault("layer-range", entry.label, f"layer {entry.layer} of a stack of {stack.num_layers}")
        if ROLES[entry.role].is_per_layer != (entry.layer is not None):
            wanted = "a layer" if ROLES[entry.role].is_per_layer else "no layer"
            yield _fault("layer-range", entry.label, f"role {entry.role} expects {wanted}")
        reason = _expert_misfit(entry, stack)
        if reason is not None:
            yield _fault("expert-range", entry.label, reason)


def _expert_misfit(entry: Entry, stack: Stack | None) -> str | None:
    """Say why an entry's expert cannot be; ``None`` where it can, or where there is none."""
    if entry.expert is None:
        return None
    if not ROLES[entry.role].has_experts:
        return f"role {entry.role} expects no expert"
    if stack is not None and stack.num_experts is None:
        return f"expert {entry.expert} of a stack without num_experts"
    if stack is not None and stack.num_experts is not None and entry.expert >= stack.num_experts:
        return f"expert {entry.expert} of a stack of {stack.num_experts} experts"
    return None


def _names_follow_the_grammar(manifest: Manifest, _: Tensors) -> Iterator[Problem]:
    """A tensor of an entry is named after an entry of the same fused module, its own as a rule."""
    for entry in manifest.entries:
        place = entry_place(entry.stack, entry.layer, entry.role, entry.expert)
        for factor, text in entry.tensor_names().items():
            if text == place + factor and is_in_grammar(entry.layer, entry.expert):
                continue
            try:
                name = TensorName.parse(text)
            except RuleError as error:
                yield _fault("tensor-name", text, error.message)
                continue
            own = TensorName(stack=entry.stack, layer=entry.layer, role=entry.role, expert=entry.expert, factor=factor)
            if name != own and not (factor == "lora_A" and entry.slice is not None and _is_sibling(name, own)):
                yield _fault("tensor-name", text, f"expected {own}")
    for extra in manifest.extra:
        if extra.tensor != extra_name(extra.name):
            yield _fault("tensor-name", extra.tensor, f"expected {extra_name(extra.name)}")


def _is_sibling(name: TensorName, own: TensorName) -> bool:
    """Tell whether a name is that of the same factor in another role of the same block and expert."""
    role = ROLES.get(name.role)
    is_role = role is not None and role.is_per_layer == (name.layer is not None)
    can_have_expert = role is not None and (role.has_experts or name.expert is None)
    return is_role and can_have_expert and replace(name, role=own.role) == own


def _shapes_follow_the_entry(manifest: Manifest, tensors: Tensors) -> Iterator[Problem]:
    for entry in manifest.entries:
        for factor, name in entry.tensor_names().items():
            if name not in tensors:
                continue
            wanted, got = _expected_shape(entry, factor), tensors[name].shape
            if got != wanted:
                numbers = f"rank {entry.rank}, {entry.in_features} in, {entry.out_features} out"
                yield _fault("shape", name, f"shape {got} does not match {numbers} (expected {wanted})")
            if tensors[name].dtype not in FLOAT_DTYPES:
                yield _fault("factor-dtype", name, f"dtype {tensors[name].dtype}, expected one of {_floats()}")


def _expected_shape(entry: Entry, factor: str) -> tuple[int, ...]:
    if factor == "lora_A":
        return (entry.rank, entry.in_features)
    return (entry.out_features, entry.rank) if factor == "lora_B" else (entry.out_features,)


def _floats() -> str:
    return ", ".join(sorted(FLOAT_DTYPES))


def _features_follow_the_dimensions(manifest: Manifest, _: Tensors) -> Iterator[Problem]:
    """in_features and out_features are what the role's shape contract says."""
    base = manifest.base_model
    known: dict[tuple[str | None, str, bool], tuple[int | None, int | None]] = {}  # few shapes, many entries
    for entry in manifest.entries:
        key = (entry.stack, entry.role, entry.expert is not None)
        if key not in known:
            stack = base.stack(entry.stack)
            if stack is None:
                continue
            known[key] = _role_sizes(base, stack, entry)
        if (entry.in_features, entry.out_features) != known[key]:
            yield from _misfits(entry, known[key])


def _role_sizes(base: BaseModel, stack: Stack, entry: Entry) -> tuple[int | None, int | None]:
    role, has_expert = ROLES[entry.role], entry.expert is not None
    return (
        axis_size(role.in_axis, stack, encoder=base.encoder, vocab_size=base.vocab_size, has_expert=has_expert),
        axis_size(role.out_axis, stack, encoder=base.encoder, vocab_size=base.vocab_size, has_expert=has_expert),
    )


def _misfits(entry: Entry, sizes: tuple[int | None, int | None]) -> Iterator[Problem]:
    role = ROLES[entry.role]
    for field, axis, got, wanted in (
        ("in_features", role.in_axis, entry.in_features, sizes[0]),
        ("out_features", role.out_axis, entry.out_features, sizes[1]),
    ):
        if got != wanted:
            text = f"{field} {got} does not match the base model's {axis.value} of {wanted or 'no size'}"
            # A resized vocabulary is common and legal; the base model's config is the last to know of it.
            yield _fault("dimension", entry.label, text, is_warning=axis is Axis.VOCABULARY)


def _slices_belong_to_one_module(manifest: Manifest, tensors: Tensors) -> Iterator[Problem]:
    """A shared lora_A has one source, and the slices of that source do not overlap."""
    slices: dict[tuple[str, str, int], dict[str, Entry]] = {}
    sources: dict[str, str | None] = {}
    for entry in manifest.entries:
        if sources.setdefault(entry.lora_A, entry.source) != entry.source:
            yield _fault("shared-factor", entry.label, f"{entry.lora_A} is shared with another source")
        if entry.slice is None:
            continue
        if entry.slice.rows != entry.out_features or (entry.slice.count > 1 and entry.slice.block > entry.slice.stride):
            yield _fault("slice", entry.label, f"slice of {entry.slice.rows} rows, out_features {entry.out_features}")
            continue
        if entry.lora_B in tensors and tensors[entry.lora_B].shape == (entry.out_features, entry.rank):
            # So the work is bounded by the bytes of the file, whatever numbers its manifest holds.
            expert = -1 if entry.expert is None else entry.expert  # each has its own matrix in a shared parameter
            slices.setdefault((entry.stack or "", entry.source or "", expert), {}).setdefault(entry.lora_B, entry)
    for entries in slices.values():
        yield from _overlaps(list(entries.values()))


def _overlaps(entries: list[Entry]) -> Iterator[Problem]:
    """Yield a fault for each entry of one fused module that takes a row of another."""
    blocks = sorted(
        (start, start + rows, index)
        for index, entry in enumerate(entries)
        if entry.slice is not None
        for start, rows in entry.slice.runs()
    )
    found: set[int] = set()
    end = 0
    for start, stop, index in blocks:
        if start < end and index not in found:
            found.add(index)
            yield _fault(
                "slice", entries[index].label, f"row {start} of {entries[index].source} belongs to two entries"
            )
        end = max(end, stop)


def _features_are_declared(manifest: Manifest, _: Tensors) -> Iterator[Problem]:
    """What a reader must understand is declared, and nothing else is."""
    used = set()
    if any(entry.magnitude for entry in manifest.entries):
        used.add("dora")
    if any(entry.bias for entry in manifest.entries):
        used.add("lora-bias")
    if manifest.extra:
        used.add("extra-tensors")
    if set(manifest.features) != used or list(manifest.features) != sorted(used):
        yield _fault("features", "manifest.features", f"expected {sorted(used)}, got {list(manifest.features)}")


def _base_is_pinned(manifest: Manifest, _: Tensors) -> Iterator[Problem]:
    if manifest.base_model.revision is None:
        yield _fault(
            "unpinned-base",
            "manifest.base_model.revision",
            "the base model is not pinned to a commit",
            "convert again with --base-revision COMMIT",
            is_warning=True,
        )


_RULES: tuple[Callable[[Manifest, Tensors], Iterator[Problem]], ...] = (
    _tensors_are_named,
    _stacks_are_distinct,
    _entries_are_unique_and_sorted,
    _extras_are_unique_and_sorted,
    _entries_have_a_place,
    _names_follow_the_grammar,
    _shapes_follow_the_entry,
    _features_follow_the_dimensions,
    _slices_belong_to_one_module,
    _features_are_declared,
    _base_is_pinned,
)
