"""The part of a card that is made from the manifest, for a reader who has never heard of AIR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ual_registry.air.layers import layer_ranges, layer_strip
from ual_registry.air.model import BaseModel, Manifest
from ual_registry.hub.card_evidence import evaluation_section, lineage_section, making_section
from ual_registry.hub.card_grid import RoleGroup, layer_grid, layers_per_column, role_groups
from ual_registry.hub.card_text import code, literal, number, quoted, table
from ual_registry.hub.card_usage import Place, digest_section, loading_section
from ual_registry.hub.card_values import hub_base

__all__ = ["card_body"]

_FEW = 4
_ROLES_NOTE = (
    "Each entry adds the product of two small matrices to one weight matrix of the base model.\n"
    "The *role* says what that matrix does, whatever it is called in the model."
)


def card_body(manifest: Manifest, place: Place) -> str:
    """Return the sections, joined by blank lines.

    Args:
        manifest: What the adapter says about itself.
        place: Where it lies on the Hub.
    """
    sections = [
        _introduction(manifest, place),
        quoted(manifest.description or ""),
        _glance(manifest),
        _roles(manifest, place),
        making_section(manifest),
        evaluation_section(manifest),
        lineage_section(manifest),
        loading_section(manifest, place),
        digest_section(manifest, place),
    ]
    return "\n\n".join(section for section in sections if section)


def _introduction(manifest: Manifest, place: Place) -> str:
    kind = "DoRA" if manifest.method.dora else "LoRA"
    base = f"the base model {_base_link(manifest.base_model)}"
    sentences = [
        f"This is a **{kind} adapter** for {base}: a small set of numbers that change what that one model does.",
        "It is no model of its own: it is loaded on top of its base model, and fits no other.",
        f"It is kept as an **AIR file**, [{code(place.air_path)}]({_href(place.air_path)}).",
        "Any reader of safetensors opens that file; inside is a checked description, from which this page was made.",
    ]
    if place.has_peft:
        sentences.append(
            "The same numbers lie beside it in the format of PEFT, so no special tool is needed to use it."
        )
    if any(parent.relation == "projected_from" for parent in manifest.parents):
        sentences.append(
            "It was **carried over from an adapter for another base model** by calculation; what became of it on the "
            "way, and what was measured since, stands below."
        )
    return "\n".join(sentences)


def _base_link(base: BaseModel) -> str:
    name = hub_base(base.id, base.revision)
    return f"[{literal(name)}](https://huggingface.co/{name})" if name else code(base.id)


def _href(path: str) -> str:
    """Return a path as the target of a link."""
    return "".join(sign if sign.isalnum() or sign in "/-_." else _percent(sign) for sign in path)


def _percent(sign: str) -> str:
    return "".join(f"%{byte:02X}" for byte in sign.encode())


def _glance(manifest: Manifest) -> str:
    return "## At a glance\n\n" + table(["Property", "Value"], [*_properties(manifest)])


def _properties(manifest: Manifest) -> Iterator[tuple[str, str]]:
    base, method = manifest.base_model, manifest.method
    if manifest.name:
        yield "Name", literal(manifest.name)
    yield "Base model", _base_link(base)
    yield "Commit of the base model", code(base.revision) if base.revision else "not recorded: any may be loaded"
    yield "Architecture", f"{code(base.model_type)}, {_dimensions(base)}"
    if method.task_type:
        yield "Task", code(method.task_type)
    yield "Method", _method(manifest)
    yield "Size", f"{number(_parameters(manifest))} numbers in {number(len(manifest.entries))} entries"
    if manifest.extra:
        yield "Tensors without a role", number(len(manifest.extra))
    yield "Domain", literal(manifest.domain) if manifest.domain else "not recorded"
    yield "Licence", literal(manifest.license) if manifest.license else "not recorded"
    yield "Languages", literal(", ".join(manifest.languages)) if manifest.languages else "not recorded"
    if manifest.tags:
        yield "Labels", literal(", ".join(manifest.tags))
    if manifest.created_at:
        yield "Made", literal(manifest.created_at)


def _dimensions(base: BaseModel) -> str:
    return ", ".join(
        f"{stack.name or ''} {number(stack.num_layers)} layers of width {number(stack.hidden_size)}".lstrip()
        for stack in base.stacks
    )


def _method(manifest: Manifest) -> str:
    method = manifest.method
    kind = "DoRA" if method.dora else "LoRA"
    return f"{kind}, rank {method.rank}, alpha {number(method.alpha)} (scaling is {method.scaling_rule})"


def _parameters(manifest: Manifest) -> int:
    """Count the numbers that the factors hold; a tensor that entries share counts once."""
    sizes: dict[str, int] = {}
    for entry in manifest.entries:
        sizes[entry.lora_A] = entry.rank * entry.in_features
        sizes[entry.lora_B] = entry.rank * entry.out_features
        for name in (entry.magnitude, entry.bias):
            if name is not None:
                sizes[name] = entry.out_features
    return sum(sizes.values())


def _roles(manifest: Manifest, place: Place) -> str:
    groups = role_groups(manifest)
    parts = ["## What it changes", _ROLES_NOTE, _role_table(groups), *_strip_note(groups)]
    if place.picture:
        parts.append(f"![{literal(layer_grid(manifest).description())}]({_href(place.picture)})")
    return "\n\n".join(parts)


def _strip_note(groups: Sequence[RoleGroup]) -> Iterator[str]:
    """Say what the signs of the strips stand for, where there are strips."""
    widths = [layers_per_column(group.depth) for group in groups if group.layers]
    if widths and max(widths) == 1:
        yield "*By layer*: one sign for each layer, from the first to the last; `#` has the role, `.` does not."
    elif widths:
        each = f"one sign for {max(widths):,} layers, from the first to the last"
        yield f"*By layer*: {each}; in `#` all have the role, in `+` some, in `.` none."


def _strip(group: RoleGroup) -> str:
    return layer_strip(group.layers, group.depth, layers_per_column(group.depth))


def _role_table(groups: Sequence[RoleGroup]) -> str:
    has_stacks, has_experts = any(group.stack for group in groups), any(group.experts for group in groups)
    headers = [*(["Stack"] if has_stacks else []), "Role", "Layers", *(["Experts"] if has_experts else [])]
    rows = [
        [
            *([group.stack or ""] if has_stacks else []),
            code(group.role),
            layer_ranges(group.layers, group.depth),
            *([layer_ranges(group.experts)] if has_experts else []),
            _several([number(rank) for rank in sorted({entry.rank for entry in group.entries})]),
            _several([number(scaling) for scaling in sorted({entry.scaling for entry in group.entries})]),
            _several([f"{rows} x {columns}" for rows, columns in _shapes(group)]),
            f"`{strip}`" if (strip := _strip(group)) else "outside the layers",
        ]
        for group in groups
    ]
    return table([*headers, "Rank", "Scaling", "Shape (out x in)", "By layer"], rows)


def _shapes(group: RoleGroup) -> list[tuple[int, int]]:
    return sorted({(entry.out_features, entry.in_features) for entry in group.entries})


def _several(values: Sequence[str]) -> str:
    """Write a few values, or the least and the largest of many."""
    return ", ".join(values) if len(values) <= _FEW else f"{values[0]} to {values[-1]} ({len(values)} different)"
