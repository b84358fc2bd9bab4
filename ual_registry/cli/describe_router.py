"""``ual show`` of a router, in words and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ual_registry.air.codec import encode
from ual_registry.air.router import Encoder, RouterManifest, Thresholds
from ual_registry.cli.describe import label_lines, statement_lines
from ual_registry.cli.output import size_text, table
from ual_registry.workflows.show import RouterDescription

__all__ = ["router_document", "router_text"]


def router_document(description: RouterDescription) -> dict[str, Any]:
    """Return the JSON document: the file, what its tensors hold, and the manifest as it is stored."""
    return {
        "path": description.path,
        "digest": description.digest,
        "size_bytes": description.size_bytes,
        "clusters": description.clusters,
        "prototypes": description.prototypes,
        "manifest": encode(description.manifest),
    }


def router_text(description: RouterDescription) -> str:
    """Return the text for people."""
    manifest = description.manifest
    lines = [
        f"{description.reference}  AIR {manifest.air_version} router, {size_text(description.size_bytes)}",
        f"digest     {description.digest}",
        *label_lines(manifest),
        f"encoder    {_encoder_text(manifest.encoder)}",
        _limits_text(manifest.thresholds),
        f"classifier {description.clusters} clusters, temperature {manifest.temperature:.3f}",
        f"prototypes {description.prototypes}",
        *([f"annotated  {', '.join(sorted(manifest.annotations))}"] if manifest.annotations else []),
        "",
        _domains_table(manifest),
    ]
    for statement in manifest.provenance:
        settings = statement.parameters.get("settings") or {}
        lines += ["", *statement_lines(statement), *_settings_lines(settings)]
    return "\n".join(lines)


def _encoder_text(encoder: Encoder) -> str:
    pinned = f"at {encoder.revision}" if encoder.revision else "unpinned"
    return f"{encoder.id} (embeddings of {encoder.dimension}), {pinned}"


def _limits_text(limits: Thresholds) -> str:
    return (
        f"abstains   beyond distance {limits.max_distance:.3f}, below probability {limits.min_probability:.3f} "
        f"or a lead of {limits.min_margin:.3f}"
    )


def _domains_table(manifest: RouterManifest) -> str:
    has_own = any(domain.min_probability is not None for domain in manifest.domains)
    rows = [
        [
            domain.name,
            str(domain.examples),
            *(["" if domain.min_probability is None else f"{domain.min_probability:.3f}"] if has_own else []),
            domain.adapter or "(base model)",
        ]
        for domain in manifest.domains
    ]
    return table(rows, ["domain", "examples", *(["probability"] if has_own else []), "adapter"])


def _settings_lines(settings: Any) -> Iterator[str]:
    for key, value in settings.items():
        inner = ", ".join(f"{name} {own}" for name, own in value.items()) if hasattr(value, "items") else value
        yield f"  {key} {inner}"
