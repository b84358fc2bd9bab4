"""The manifest as a document: from the text in a header to the dataclass, and back.

The order is fixed: strict JSON, canonical form, version, required features, schema, own digest, dataclass.
Each step reports what it finds; a later step runs only where it can mean something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.air.codec import decode, encode
from ual_registry.air.model import Manifest
from ual_registry.air.problem import Problem
from ual_registry.air.schema import schema_problems
from ual_registry.air.versions import AIR_VERSION, KNOWN_FEATURES, is_newer_minor, parse_version, supported_versions
from ual_registry.digest import Digest
from ual_registry.errors import FormatError

__all__ = ["MANIFEST_SCHEMA", "DecodedManifest", "decode_manifest", "encode_manifest", "seal"]

MANIFEST_SCHEMA = "1.0/manifest.json"


@dataclass(frozen=True, slots=True)
class DecodedManifest:
    """What became of a manifest's text.

    Attributes:
        manifest: The dataclass; ``None`` where the document is not legal.
        problems: Faults and warnings.
    """

    manifest: Manifest | None
    problems: tuple[Problem, ...]


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest."""
    return canonical_bytes(encode(manifest))


def seal(manifest: Manifest, tensor_digest: Digest) -> Manifest:
    """Return the manifest with both digests filled in.

    ``manifest_digest`` covers the canonical manifest without that one field, so that a change of a single byte
    anywhere in a file is found from the file alone (ADR-0002).
    """
    sealed = replace(manifest, tensor_digest=str(tensor_digest), manifest_digest="")
    return replace(sealed, manifest_digest=str(_own_digest(encode(sealed))))


def _own_digest(document: Mapping[str, Any]) -> Digest:
    return Digest.of_bytes(canonical_bytes({k: v for k, v in document.items() if k != "manifest_digest"}))


def decode_manifest(text: str) -> DecodedManifest:
    """Check and decode the text of a manifest; never raises on bad input."""
    data = text.encode("utf-8", "surrogatepass")
    try:
        document = parse_json(data, what="manifest")
        canonical = canonical_bytes(document)
        document = parse_json(canonical, what="manifest")  # one form of each number from here on
    except FormatError as error:
        return DecodedManifest(None, (Problem.of_error(error, "schema"),))
    fatal = _version_problem(document)
    if fatal is not None and not fatal.is_warning:
        return DecodedManifest(None, (fatal,))
    problems = [fatal] if fatal else []
    problems += _unknown_features(document)
    # A newer minor may hold fields that this schema does not know.
    found = list(schema_problems(MANIFEST_SCHEMA, document, root="manifest", allow_unknown_fields=fatal is not None))
    problems += found
    problems += _digest_problems(document, data, canonical)
    if found:
        return DecodedManifest(None, tuple(problems))
    return DecodedManifest(decode(Manifest, document), tuple(problems))


def _version_problem(document: Any) -> Problem | None:
    """Refuse another major, remark on a newer minor."""
    text = document.get("air_version") if isinstance(document, dict) else None
    try:
        major = parse_version(text)[0] if isinstance(text, str) else None
    except ValueError:
        major = None
    if not isinstance(text, str) or major is None:
        return None  # the schema says so better
    message = f"AIR version {text}; this reader supports {supported_versions()}"
    if major != parse_version(AIR_VERSION)[0]:
        hint = "use a version of ual-registry that reads it"
        return Problem(
            code="unsupported-version", place="manifest.air_version", message=message, hint=hint, branch="version"
        )
    if is_newer_minor(text):
        return Problem(
            code="newer-version", place="manifest.air_version", message=message, branch="version", is_warning=True
        )
    return None


def _unknown_features(document: Any) -> list[Problem]:
    features = document.get("features", []) if isinstance(document, dict) else []
    return [
        Problem(
            code="unknown-feature",
            place="manifest.features",
            message=f"feature {name!r} must be understood and is not (known: {', '.join(KNOWN_FEATURES)})",
            hint="use a version of ual-registry that knows it",
            branch="version",
        )
        for name in (features if isinstance(features, list) else [])
        if isinstance(name, str) and name not in KNOWN_FEATURES
    ]


def _digest_problems(document: Any, data: bytes, canonical: bytes) -> list[Problem]:
    problems = []
    if data != canonical:
        problems.append(
            Problem(
                code="not-canonical", place="manifest", message="not in canonical form (RFC 8785)", branch="container"
            )
        )
    stored = document.get("manifest_digest") if isinstance(document, dict) else None
    if isinstance(stored, str):
        actual = str(_own_digest(document))
        if stored != actual:
            message = f"stored {stored}, computed {actual}"
            hint = "the manifest was changed after it was written"
            problems.append(
                Problem(
                    code="manifest-digest",
                    place="manifest.manifest_digest",
                    message=message,
                    hint=hint,
                    branch="digest",
                )
            )
    return problems
