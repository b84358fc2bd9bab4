"""Carrying a registry, or a part of it, to another one: a folder in the shape of an OCI image layout.

Besides a manifest for each artifact, which other tools read, one blob holds what the registry knows. An import reads
that document, checks every blob, and says what would clash before it writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from ual_registry.air.canonical import canonical_bytes
from ual_registry.digest import Digest
from ual_registry.errors import StorageError
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.export_document import registry_document
from ual_registry.registry.layout import (
    LAYOUT_FILE,
    REF_NAME,
    TITLE,
    Descriptor,
    write_blob,
    write_frame,
    write_manifest,
)
from ual_registry.registry.progress import Progress, silent
from ual_registry.registry.session import Database
from ual_registry.storage import atomic_folder, check_target, is_file

__all__ = ["DOCUMENT_TYPE", "REGISTRY_TYPE", "ExportReport", "export_registry"]

REGISTRY_TYPE = "application/vnd.ual.registry.v1+json"
"""The artifact type of the index."""

DOCUMENT_TYPE = "application/vnd.ual.registry-export.v1+json"
"""The media type of the registry's document, and the artifact type of its manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was exported.

    Attributes:
        path: The folder.
        digest: Digest of the registry's document.
        adapters: How many adapters.
        revisions: How many revisions.
        artifacts: How many artifacts, tombstones among them.
        size_bytes: Bytes of the artifacts.
    """

    path: str
    digest: str
    adapters: int
    revisions: int
    artifacts: int
    size_bytes: int


def export_registry(
    database: Database,
    blobs: BlobStore,
    target: Path,
    *,
    revisions: Iterable[tuple[str, int]] | None = None,
    progress: Progress = silent,
) -> ExportReport:
    """Write a registry, or some of its revisions, to a folder that is there when it is complete.

    Args:
        database: The database.
        blobs: The store.
        target: The folder; an export that stands there is replaced, and nothing else is.
        revisions: Name and number of each; ``None`` for everything.
        progress: Is told how far it is.

    Raises:
        DigestMismatchError: A blob was damaged; nothing is left at ``target``.
        RegistryError: A blob is missing.
        StorageError: Something else stands at ``target``, or the file system refuses.
    """
    _check_place(target)
    with database.session() as session:
        _see_one_state(session)
        document = registry_document(session, revisions)
    artifacts = [item for item in document["artifacts"] if "deleted_at" not in item]
    with atomic_folder(target) as folder:
        (folder / "blobs" / "sha256").mkdir(parents=True)
        for done, item in enumerate(artifacts):
            progress("blobs", done, len(artifacts))
            digest = Digest.parse(item["digest"])
            place = folder / "blobs" / "sha256" / digest.hex
            blobs.export(digest, place, size_bytes=item["size_bytes"], durable=True)
        digest, size = write_blob(folder, canonical_bytes(document))
        layer = Descriptor(media_type=DOCUMENT_TYPE, digest=digest, size_bytes=size)
        own = _named(write_manifest(folder, DOCUMENT_TYPE, layer), "registry")
        write_frame(folder, REGISTRY_TYPE, [own, *_manifests(folder, artifacts, document["adapters"])])
    return ExportReport(
        path=str(target),
        digest=str(digest),
        adapters=len(document["adapters"]),
        revisions=sum(len(adapter["revisions"]) for adapter in document["adapters"]),
        artifacts=len(document["artifacts"]),
        size_bytes=sum(item["size_bytes"] for item in artifacts),
    )


def _check_place(target: Path) -> None:
    """Refuse to replace what is no export."""
    if is_file(target):
        raise StorageError(
            f"cannot replace {target}: it is a file",
            context={"path": str(target)},
            code="exists",
            hint="choose another name, or remove the file yourself",
        )
    check_target(target, force=True, replaceable=LAYOUT_FILE)


def _see_one_state(session: Session) -> None:
    """Let all statements see the same state; SQLite does that anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def _manifests(
    folder: Path, artifacts: Iterable[Mapping[str, Any]], adapters: Iterable[Mapping[str, Any]]
) -> Iterator[Descriptor]:
    """Write a manifest for each artifact and yield a reference for each of its revisions."""
    names: dict[str, list[str]] = defaultdict(list)
    for adapter in adapters:
        for revision in adapter["revisions"]:
            names[revision["digest"]].append(f"{adapter['name']}-{revision['number']}")
    for item in artifacts:
        digest = Digest.parse(item["digest"])
        title = f"{names[item['digest']][0] if names[item['digest']] else digest.hex}.air"
        layer = Descriptor(
            media_type=item["media_type"], digest=digest, size_bytes=item["size_bytes"], annotations={TITLE: title}
        )
        manifest = write_manifest(folder, item["media_type"], layer)
        yield from (_named(manifest, name) for name in names[item["digest"]])
        if not names[item["digest"]]:
            yield manifest


def _named(descriptor: Descriptor, name: str) -> Descriptor:
    """Return a descriptor under the name that OCI's tools know it by; a tag of theirs has no '@'."""
    return Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size_bytes=descriptor.size_bytes,
        artifact_type=descriptor.artifact_type,
        annotations={REF_NAME: name},
    )
