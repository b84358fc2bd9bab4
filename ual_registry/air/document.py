"""The manifest as a document: from the text in a header to the dataclass, and back.

The order is fixed: strict JSON, canonical form, version, required features, schema, own digest, dataclass.
Each step reports what it finds; a later step runs only where it can mean something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ual_registry.air.canonical import canonical_bytes, parse_canonical, parse_json
from ual_registry.air.codec import decode, encode
from ual_registry.air.held_entries import HeldEntries, find_held, hold_entries
from ual_registry.air.model import Manifest
from ual_registry.air.problem import Problem
from ual_registry.air.router import RouterManifest
from ual_registry.air.schema import schema_problems
from ual_registry.air.upgrade import upgrade
from ual_registry.air.versions import KNOWN_FEATURES, is_newer_minor, parse_version, supported_versions
from ual_registry.digest import Digest
from ual_registry.errors import FormatError

__all__ = [
    "MANIFEST_SCHEMA",
    "ROUTER_SCHEMA",
    "AnyManifest",
    "DecodedManifest",
    "decode_manifest",
    "encode_manifest",
    "seal",
    "seal_draft",
]

MANIFEST_SCHEMA = "1.0/manifest.json"
ROUTER_SCHEMA = "1.0/router.json"

AnyManifest = Manifest | RouterManifest
"""The manifest of a file of any kind."""


@dataclass(frozen=True, slots=True)
class DecodedManifest:
    """What became of a manifest's text.

    Attributes:
        manifest: The dataclass; ``None`` where the document is not legal.
        problems: Faults and warnings.
    """

    manifest: AnyManifest | None
    problems: tuple[Problem, ...]


def encode_manifest(manifest: AnyManifest) -> bytes:
    """Return the canonical bytes of a manifest."""
    return canonical_bytes(encode(manifest))


def seal(manifest: AnyManifest, tensor_digest: Digest) -> AnyManifest:
    """Return the manifest with both digests filled in.

    ``manifest_digest`` covers the canonical manifest without that one field, so that a change of a single byte
    anywhere in a file is found from the file alone (ADR-0002).
    """
    sealed = replace(manifest, tensor_digest=str(tensor_digest), manifest_digest="")
    return replace(sealed, manifest_digest=str(_own_digest(encode(sealed))))


def seal_draft(draft: AnyManifest, text: bytes, tensor_digest: Digest) -> tuple[AnyManifest, bytes]:
    """Fill in both digests of a manifest whose text is there already, which costs less than writing it anew.

    Args:
        draft: The manifest, with stand-ins of the length of a digest.
        text: Its canonical bytes.
        tensor_digest: The digest of the tensors.

    Returns:
        What ``seal`` returns, and its canonical bytes.
    """
    own, of_tensors = (_member(name, getattr(draft, name)) for name in ("manifest_digest", "tensor_digest"))
    if text.count(own) != 1 or text.count(of_tensors) != 1:  # an inner object has the same member
        sealed = seal(draft, tensor_digest)
        return sealed, encode_manifest(sealed)
    known = text.replace(of_tensors, _member("tensor_digest", str(tensor_digest)))
    digest = str(Digest.of_bytes(_cut(known, own)))
    sealed = replace(draft, tensor_digest=str(tensor_digest), manifest_digest=digest)
    return sealed, known.replace(own, _member("manifest_digest", digest))


def _member(name: str, value: str) -> bytes:
    """Return a member as it stands in canonical text; a quote inside a string is escaped, so only members look so."""
    return canonical_bytes(name) + b":" + canonical_bytes(value)


def _cut(canonical: bytes, member: bytes) -> bytes:
    """Return canonical text without a member that stands in it once."""
    before, after = canonical.split(member)
    return before.removesuffix(b",") + after if after == b"}" else before + after.removeprefix(b",")


def _own_digest(document: Mapping[str, Any]) -> Digest:
    return Digest.of_bytes(canonical_bytes({k: v for k, v in document.items() if k != "manifest_digest"}))


def _without_own_digest(document: Mapping[str, Any], canonical: bytes) -> bytes:
    """Cut the member ``manifest_digest`` out of a canonical manifest, which costs less than writing all again.

    Where an inner object has the same member, all is written again.
    """
    own = _member("manifest_digest", document["manifest_digest"])
    if canonical.count(own) != 1:
        return canonical_bytes({key: value for key, value in document.items() if key != "manifest_digest"})
    return _cut(canonical, own)


def decode_manifest(text: str) -> DecodedManifest:
    """Check and decode the text of a manifest; never raises on bad input."""
    data = text.encode("utf-8", "surrogatepass")
    try:
        document, canonical, held = _parse(data)
    except FormatError as error:
        return DecodedManifest(None, (Problem.of_error(error, "schema"),))
    problems = _digest_problems(document, data, canonical)  # of what is stored, before it is brought to our major
    remark = _version_problem(document)
    if remark is not None and not remark.is_warning:
        return DecodedManifest(None, (remark,))
    document = (upgrade(document) if _has_version(document) else None) or document
    is_router = isinstance(document, dict) and document.get("kind") == "router"
    schema = ROUTER_SCHEMA if is_router else MANIFEST_SCHEMA
    # A newer minor may hold fields that this schema does not know.
    faults = list(schema_problems(schema, document, root="manifest", allow_unknown_fields=remark is not None))
    problems = [*([remark] if remark else []), *_unknown_features(document), *faults, *problems]
    if faults:
        return DecodedManifest(None, tuple(problems))
    if is_router:
        return DecodedManifest(decode(RouterManifest, document), tuple(problems))
    manifest = _decoded(document, held)
    if held is None and canonical is data and remark is None:
        hold_entries(data, document, manifest.entries)
    return DecodedManifest(manifest, tuple(problems))


def _decoded(document: dict[str, Any], held: HeldEntries | None) -> Manifest:
    if held is None:
        return decode(Manifest, document)
    return replace(decode(Manifest, {**document, "entries": []}), entries=held.entries)


def _parse(data: bytes) -> tuple[Any, bytes, HeldEntries | None]:
    """Return the document, with one form of each number, its canonical bytes, and its entries if they were held."""
    known = find_held(data)
    if known is not None:
        held, rest = known
        document = parse_canonical(rest, what="manifest")
        if isinstance(document, dict) and document.get("entries") == []:  # they stood there, not further inside
            document["entries"] = held.document
            return document, data, held
    document = parse_canonical(data, what="manifest")
    if document is not None:
        return document, data, None
    document = parse_json(data, what="manifest")
    canonical = canonical_bytes(document)
    return document if canonical == data else parse_json(canonical, what="manifest"), canonical, None


def _has_version(document: Any) -> bool:
    """Tell whether a document says its version; where it does not, the schema says so better."""
    text = document.get("air_version") if isinstance(document, dict) else None
    try:
        return isinstance(text, str) and bool(parse_version(text))
    except ValueError:
        return False


def _version_problem(document: Any) -> Problem | None:
    """Refuse a major that no chain of upgrades brings to ours, remark on a newer minor."""
    if not _has_version(document):
        return None
    text = document["air_version"]
    message = f"AIR version {text}; this reader supports {supported_versions()}"
    if upgrade(document) is None:
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
        actual = str(Digest.of_bytes(_without_own_digest(document, canonical)))
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
