"""``ual show`` in words and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ual_registry.air.codec import encode
from ual_registry.air.model import BaseModel, Manifest, Statement
from ual_registry.cli.output import size_text, table
from ual_registry.workflows.show import Description, RoleSummary

__all__ = ["description_document", "description_text", "layers_text"]


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


def description_text(description: Description) -> str:
    """Return the text for people."""
    manifest = description.manifest
    lines = [
        f"{description.reference}  AIR {manifest.air_version} {manifest.kind}, {size_text(description.size_bytes)}",
        f"digest     {description.digest}",
        *_labels(manifest),
        f"base       {_base_text(manifest.base_model)}",
        f"method     {_method_text(manifest)}",
        f"parameters {description.parameter_count:,} in {len(manifest.entries)} entries",
        "",
        _roles_table(description.roles),
    ]
    if manifest.extra:
        lines += ["", "tensors without a role", *(f"  {extra.name}" for extra in manifest.extra)]
    if manifest.parents:
        lines += ["", "made from", *(f"  {parent.relation} {parent.digest}" for parent in manifest.parents)]
    for statement in manifest.provenance:
        lines += ["", *_statement_lines(statement)]
    return "\n".join(lines)


def _labels(manifest: Manifest) -> Iterator[str]:
    for field in ("name", "description", "domain", "license"):
        value = getattr(manifest, field)
        if value:
            yield f"{field:10} {value}"


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


def _roles_table(roles: tuple[RoleSummary, ...]) -> str:
    has_stacks = any(role.stack for role in roles)
    rows = [
        [
            *([role.stack or ""] if has_stacks else []),
            role.role,
            layers_text(role.layers),
            "/".join(str(rank) for rank in role.ranks),
            "/".join(f"{scaling:g}" for scaling in role.scalings),
            ", ".join(f"{rows} x {columns}" for rows, columns in role.shapes),
        ]
        for role in roles
    ]
    return table(rows, [*(["stack"] if has_stacks else []), "role", "layers", "rank", "scaling", "out x in"])


def layers_text(layers: tuple[int, ...]) -> str:
    """Write layers as ranges.

    >>> layers_text((0, 1, 2, 5, 7, 8))
    '0-2, 5, 7-8'
    >>> layers_text(())
    '-'
    """
    ranges: list[list[int]] = []
    for layer in layers:
        if ranges and layer == ranges[-1][1] + 1:
            ranges[-1][1] = layer
        else:
            ranges.append([layer, layer])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges) or "-"


def _statement_lines(statement: Statement) -> Iterator[str]:
    parameters = ", ".join(f"{key} {value}" for key, value in statement.parameters.items() if isinstance(value, str))
    yield f"{statement.type} by {statement.builder['name']} {statement.builder['version']}: {parameters}"
    for material in statement.materials:
        yield f"  from {material['name']} {material['digest']}"
    for key, value in statement.byproducts.items():
        if isinstance(value, (int, float, str)):
            yield f"  {key} {value}"
