"""``ual show`` in words and as a document.

The roles stand in a table whose last column is a strip: one character for each layer, or for a few layers where the
stack is too deep for the width of a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ual_registry.air.codec import encode
from ual_registry.air.layers import layer_ranges, layer_strip
from ual_registry.air.model import BaseModel, Manifest, Statement
from ual_registry.air.router import RouterManifest
from ual_registry.cli.output import size_text, table
from ual_registry.cli.report_card import card_lines
from ual_registry.transfers.report import LABEL_KEY
from ual_registry.transfers.rungs import RUNGS
from ual_registry.workflows.show import Description, RoleSummary

__all__ = ["description_document", "description_text", "label_lines", "statement_lines"]

_PAGE_COLUMNS = 100
_MIN_STRIP_COLUMNS = 12


def description_document(description: Description) -> dict[str, Any]:
    """Return the JSON document: the file, the roles, and the manifest as it is stored."""
    return {
        "path": description.path,
        "digest": description.digest,
        "size_bytes": description.size_bytes,
        "parameter_count": description.parameter_count,
        "roles": description.roles,
        "manifest": encode(description.manifest),
    }


def description_text(description: Description, *, place: Sequence[str] = ()) -> str:
    """Return the text for people.

    Args:
        description: The adapter.
        place: Lines that say where it is, where that is no file.
    """
    manifest = description.manifest
    lines = [
        f"{description.reference}  AIR {manifest.air_version} {manifest.kind}, {size_text(description.size_bytes)}",
        *place,
        f"digest     {description.digest}",
        *label_lines(manifest),
        f"base       {_base_text(manifest.base_model)}",
        f"method     {_method_text(manifest)}",
        f"parameters {description.parameter_count:,} in {len(manifest.entries)} entries",
        *_origin(manifest),
        "",
        _roles_table(description.roles, {stack.name: stack.num_layers for stack in manifest.base_model.stacks}),
    ]
    if manifest.extra:
        lines += ["", "tensors without a role", *(f"  {extra.name}" for extra in manifest.extra)]
    if manifest.parents:
        lines += ["", "made from", *(f"  {parent.relation} {parent.digest}" for parent in manifest.parents)]
    for index, statement in enumerate(manifest.provenance):
        later = manifest.provenance[index + 1 :]
        is_judged = any(own.type == "evaluation" and "label" in own.byproducts for own in later)
        lines += ["", *statement_lines(statement, is_judged=is_judged)]
    return "\n".join(lines)


def label_lines(manifest: Manifest | RouterManifest) -> Iterator[str]:
    """Yield a line for each label that a file gives itself."""
    for field in ("name", "description", "domain", "license", "languages", "tags", "created_at"):
        value = getattr(manifest, field, None)  # a router has no field that it serves
        if value:
            yield f"{field:10} {', '.join(value) if isinstance(value, tuple) else value}"


def _origin(manifest: Manifest) -> Iterator[str]:
    if manifest.origin:
        yield f"origin     {manifest.origin.format}, with its configuration"
    if manifest.features:
        yield f"features   {', '.join(manifest.features)}"
    if manifest.annotations:
        yield f"annotated  {', '.join(sorted(manifest.annotations))}"


def _base_text(base: BaseModel) -> str:
    pinned = f"at {base.revision}" if base.revision else "unpinned"
    dimensions = ", ".join(
        f"{stack.name + ' ' if stack.name else ''}{stack.num_layers} layers of {stack.hidden_size}"
        for stack in base.stacks
    )
    return f"{base.id} ({base.model_type}, {dimensions}), {pinned}"


def _method_text(manifest: Manifest) -> str:
    method = manifest.method
    kind = "DoRA" if method.dora else "LoRA"
    task = f", {method.task_type}" if method.task_type else ""
    return f"{kind} rank {method.rank}, alpha {method.alpha:g}, scaling {method.scaling_rule}{task}"


def _roles_table(roles: tuple[RoleSummary, ...], depths: Mapping[str | None, int]) -> str:
    has_stacks, has_experts = any(role.stack for role in roles), any(role.experts for role in roles)
    rows = [
        [
            *([role.stack or ""] if has_stacks else []),
            role.role,
            layer_ranges(role.layers, depths[role.stack]),
            *([layer_ranges(role.experts)] if has_experts else []),
            "/".join(str(rank) for rank in role.ranks),
            "/".join(f"{scaling:g}" for scaling in role.scalings),
            ", ".join(f"{rows} x {columns}" for rows, columns in role.shapes),
        ]
        for role in roles
    ]
    headers = [*(["stack"] if has_stacks else []), "role", "layers", *(["experts"] if has_experts else [])]
    headers += ["rank", "scaling", "out x in"]
    return "\n".join(_with_strips(table(rows, headers).splitlines(), roles, depths))


def _with_strips(lines: list[str], roles: tuple[RoleSummary, ...], depths: Mapping[str | None, int]) -> Iterator[str]:
    """Add the strips to the lines of the table, a header and one line for each role."""
    width = max(len(line) for line in lines) + 2
    room = max(_PAGE_COLUMNS - width, _MIN_STRIP_COLUMNS)
    per_character = -(-max(depths.values()) // room)
    title = "by layer" if per_character == 1 else f"by {per_character} layers"
    strips = (title, *(layer_strip(role.layers, depths[role.stack], per_character) for role in roles))
    for line, strip in zip(lines, strips, strict=True):
        yield f"{line:{width}}{strip}".rstrip()


def _curve_text(points: tuple[Any, ...]) -> str:
    first, last = (f"{point['loss']:.4g} at step {point['step']}" for point in (points[0], points[-1]))
    return f"{first} to {last} ({len(points)} points)"


def statement_lines(statement: Statement, *, is_judged: bool = False) -> Iterator[str]:
    """Yield the lines that say how a file was made.

    Args:
        statement: What says it.
        is_judged: Whether a later statement has the verdict of an evaluation.
    """
    scalars = {key: value for key, value in statement.parameters.items() if isinstance(value, (int, float, str))}
    parameters = ", ".join(f"{key} {value}" for key, value in scalars.items())
    yield f"{statement.type} by {statement.builder['name']} {statement.builder['version']}: {parameters}"
    for material in statement.materials:
        yield f"  from {material['name']} {material['digest']}"
    for key, value in statement.byproducts.items():
        if isinstance(value, (int, float, str)):
            yield f"  {key} {value}"
        elif key == "results":
            yield from card_lines(statement)
        elif key in ("curve", "eval_curve") and isinstance(value, tuple) and value:
            yield f"  {key} {_curve_text(value)}"
        elif isinstance(value, Mapping) and key == "environment":
            yield f"  {key} {', '.join(f'{name} {own}' for name, own in value.items())}"
        elif isinstance(value, tuple):
            yield from (f"  {key}: {item}" for item in value)
    if LABEL_KEY in statement.annotations:
        label = statement.annotations[LABEL_KEY]
        unjudged = [rung.label for rung in RUNGS.values()]  # a list: what others write may not be hashable
        is_old = is_judged and label in unjudged
        yield f"  label {label}{', before the evaluation below' if is_old else ''}"
