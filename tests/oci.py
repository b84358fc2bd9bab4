"""The rules of OCI's own schemas (image-spec 1.1, folder ``schema``), in short, to hold exported folders against."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema

_MEDIA_TYPE = {
    "type": "string",
    "pattern": "^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$",
}
_ANNOTATIONS = {"type": "object", "additionalProperties": {"type": "string"}}
_DESCRIPTOR: dict[str, Any] = {
    "type": "object",
    "required": ["mediaType", "size", "digest"],
    "properties": {
        "mediaType": _MEDIA_TYPE,
        "artifactType": _MEDIA_TYPE,
        "size": {"type": "integer", "minimum": 0, "maximum": 9223372036854775807},
        "digest": {"type": "string", "pattern": "^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$"},
        "annotations": _ANNOTATIONS,
    },
}
LAYOUT = {
    "type": "object",
    "required": ["imageLayoutVersion"],
    "properties": {"imageLayoutVersion": {"type": "string", "enum": ["1.0.0"]}},
}
INDEX = {
    "type": "object",
    "required": ["schemaVersion", "manifests"],
    "properties": {
        "schemaVersion": {"type": "integer", "minimum": 2, "maximum": 2},
        "mediaType": _MEDIA_TYPE,
        "artifactType": _MEDIA_TYPE,
        "manifests": {"type": "array", "items": _DESCRIPTOR},
        "annotations": _ANNOTATIONS,
    },
}
MANIFEST = {
    "type": "object",
    "required": ["schemaVersion", "config", "layers"],
    "properties": {
        "schemaVersion": {"type": "integer", "minimum": 2, "maximum": 2},
        "mediaType": _MEDIA_TYPE,
        "artifactType": _MEDIA_TYPE,
        "config": _DESCRIPTOR,
        "subject": _DESCRIPTOR,
        "layers": {"type": "array", "minItems": 1, "items": _DESCRIPTOR},
        "annotations": _ANNOTATIONS,
    },
}


def check_layout(root: Path) -> set[str]:
    """Check a folder as a reader of OCI layouts would; return the hexadecimal digits of every blob referred to."""
    jsonschema.validate(json.loads((root / "oci-layout").read_bytes()), LAYOUT)
    index = json.loads((root / "index.json").read_bytes())
    jsonschema.validate(index, INDEX)
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    seen: set[str] = set()
    for descriptor in index["manifests"]:
        assert descriptor["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        manifest = json.loads(_blob(root, descriptor, seen))
        jsonschema.validate(manifest, MANIFEST)
        assert manifest["artifactType"] == descriptor["artifactType"]
        assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
        for part in (manifest["config"], *manifest["layers"]):
            _blob(root, part, seen)
    names = [
        item["annotations"]["org.opencontainers.image.ref.name"] for item in index["manifests"] if "annotations" in item
    ]
    assert len(names) == len(set(names))
    return seen


def _blob(root: Path, descriptor: dict[str, Any], seen: set[str]) -> bytes:
    digits = descriptor["digest"].removeprefix("sha256:")
    data = (root / "blobs" / "sha256" / digits).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (descriptor["size"], digits)
    seen.add(digits)
    return data


def tree(root: Path) -> dict[str, bytes]:
    """Return every file of a folder by its path."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
