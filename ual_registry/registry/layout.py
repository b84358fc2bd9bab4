"""A folder in the shape of an OCI image layout: blobs named by their digests, and an index that refers to them.

The rules are those of https://github.com/opencontainers/image-spec (image-layout, image index, image manifest and its
guidelines for artifacts). A layout comes from anywhere: nothing in it is ever used as a path but the digits of a
digest, nothing is followed out of it, and nothing is read before its size is checked.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.digest import Digest
from ual_registry.errors import DigestMismatchError, FormatError, StorageError
from ual_registry.storage import atomic_file, is_folder, read_file

__all__ = [
    "LAYOUT_FILE",
    "MAX_DOCUMENT_BYTES",
    "REF_NAME",
    "TITLE",
    "Descriptor",
    "Layout",
    "other_bytes",
    "write_blob",
    "write_frame",
    "write_manifest",
]

Document = dict[str, Any]

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
TITLE = "org.opencontainers.image.title"

LAYOUT_FILE = "oci-layout"
_INDEX_FILE = "index.json"
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_MAX_MARKER_BYTES = 4096
_MAX_MANIFEST_BYTES = 1 << 20
MAX_DOCUMENT_BYTES = 1 << 28
"""Of the index and of a document that describes a whole registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What refers to a blob.

    Attributes:
        media_type: What it is.
        digest: Its digest.
        size_bytes: Its size.
        artifact_type: Of a manifest, what it describes.
        annotations: Remarks.
    """

    media_type: str
    digest: Digest
    size_bytes: int
    artifact_type: str | None = None
    annotations: Mapping[str, str] | None = None

    def document(self) -> Document:
        """Return it as OCI writes it."""
        more: Document = {"artifactType": self.artifact_type} if self.artifact_type else {}
        if self.annotations:
            more["annotations"] = dict(self.annotations)
        return {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size_bytes, **more}

    @classmethod
    def parse(cls, value: Any, place: str) -> Descriptor:
        """Read one.

        Raises:
            FormatError: It is none.
        """
        if not isinstance(value, dict):
            raise _fault(place, "expected a descriptor")
        media_type, size, artifact_type = value.get("mediaType"), value.get("size"), value.get("artifactType")
        if not isinstance(media_type, str) or not isinstance(artifact_type, (str, type(None))):
            raise _fault(place, "expected mediaType and artifactType to be texts")
        if type(size) is not int or size < 0:
            raise _fault(place, f"size {str(size)[:40]!r}, expected a number of bytes")
        digest = Digest.parse(_text(value.get("digest"), f"{place}.digest"))
        return cls(media_type=media_type, digest=digest, size_bytes=size, artifact_type=artifact_type)


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise _fault(place, "expected a short text")
    return value


def _fault(place: str, message: str) -> FormatError:
    hint = "give a folder that 'ual export' wrote"
    return FormatError(f"{place}: {message}", code="layout", context={"place": place}, hint=hint)


def other_bytes(path: Path, actual: Digest, expected: Digest) -> DigestMismatchError:
    """Return the error of a blob whose bytes are not those that its name says."""
    return DigestMismatchError(
        f"{path}: has {actual}, expected {expected}",
        context={"digest": str(expected)},
        hint="it was damaged since it was written: copy it, or export it, again",
    )


def _blob_place(root: Path, digest: Digest) -> Path:
    return root / "blobs" / "sha256" / digest.hex


def write_blob(root: Path, data: bytes) -> tuple[Digest, int]:
    """Write bytes under their digest.

    Raises:
        StorageError: The file system refuses.
    """
    digest = Digest.of_bytes(data)
    place = _blob_place(root, digest)
    if not place.exists():
        with atomic_file(place, durable=True) as out:
            out.write(data)
    return digest, len(data)


def write_manifest(
    root: Path, artifact_type: str, layer: Descriptor, annotations: Mapping[str, str] | None = None
) -> Descriptor:
    """Write the manifest of an artifact that has one blob.

    Raises:
        StorageError: The file system refuses.
    """
    config, size = write_blob(root, _EMPTY)
    document: Document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": artifact_type,
        "config": Descriptor(media_type=_EMPTY_TYPE, digest=config, size_bytes=size).document(),
        "layers": [layer.document()],
    }
    if annotations:
        document["annotations"] = dict(annotations)
    digest, size = write_blob(root, canonical_bytes(document))
    return Descriptor(media_type=MANIFEST_TYPE, digest=digest, size_bytes=size, artifact_type=artifact_type)


def write_frame(root: Path, artifact_type: str, manifests: Iterable[Descriptor]) -> None:
    """Write the index and the marker, which make a folder a layout.

    Raises:
        StorageError: The file system refuses.
    """
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "artifactType": artifact_type,
        "manifests": [item.document() for item in manifests],
    }
    marker = {"imageLayoutVersion": "1.0.0"}
    for name, document in ((_INDEX_FILE, index), (LAYOUT_FILE, marker)):
        with atomic_file(root / name, durable=True) as out:
            out.write(canonical_bytes(document))


class Layout:
    """A layout that is read.

    Args:
        root: Its folder.

    Raises:
        FormatError: It is no layout.
        StorageError: It cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if not is_folder(root):
            raise _fault(str(root), "is no folder")
        for folder in (root / "blobs", root / "blobs" / "sha256"):
            if not is_folder(folder) or folder.is_symlink():
                raise _fault(str(folder), "expected a folder of an OCI image layout")
        marker = self._frame(LAYOUT_FILE, _MAX_MARKER_BYTES)
        if marker.get("imageLayoutVersion") != "1.0.0":
            version = str(marker.get("imageLayoutVersion"))[:40]
            raise _fault(str(root / LAYOUT_FILE), f"imageLayoutVersion {version!r}, expected '1.0.0'")
        index = self._frame(_INDEX_FILE, MAX_DOCUMENT_BYTES)
        manifests = index.get("manifests")
        if index.get("schemaVersion") != 2 or not isinstance(manifests, list):
            raise _fault(str(root / _INDEX_FILE), "expected an image index with schemaVersion 2 and manifests")
        place = f"{root / _INDEX_FILE}: manifests"
        self.manifests = [Descriptor.parse(item, f"{place}[{number}]") for number, item in enumerate(manifests)]

    def _frame(self, name: str, limit_bytes: int) -> Document:
        path = self.root / name
        self._check_file(path)
        document = parse_json(read_file(path, limit_bytes=limit_bytes), what=str(path))
        if not isinstance(document, dict):
            raise _fault(str(path), "expected a JSON object")
        return document

    @staticmethod
    def _check_file(path: Path) -> int:
        """Refuse what is no regular file of the layout itself; return its size in bytes."""
        try:
            state = path.lstat()
        except FileNotFoundError as error:
            raise _fault(str(path), "is missing") from error
        except OSError as error:
            raise StorageError.of("read", path, error) from error
        if not stat.S_ISREG(state.st_mode):
            raise _fault(str(path), "expected a regular file")
        return state.st_size

    def find(self, digest: Digest, size_bytes: int) -> Path:
        """Return the file of a blob, whose size is checked and whose digest is not.

        Raises:
            FormatError: It is missing, no regular file, or of another size.
        """
        path = _blob_place(self.root, digest)
        found = self._check_file(path)
        if found != size_bytes:
            raise _fault(str(path), f"has {found} bytes, expected {size_bytes}")
        return path

    def check(self, digest: Digest, size_bytes: int) -> Path:
        """Return the file of a blob after comparing its digest.

        Raises:
            FormatError: As ``find``, or it has another digest.
        """
        path = self.find(digest, size_bytes)
        actual = Digest.of_file(path)
        if actual != digest:
            raise other_bytes(path, actual, digest)
        return path

    def read(self, descriptor: Descriptor, *, limit_bytes: int = _MAX_MANIFEST_BYTES) -> bytes:
        """Return the bytes of a small blob: size, then digest, then bytes.

        Raises:
            FormatError: It is over the limit, or as ``check``.
        """
        if descriptor.size_bytes > limit_bytes:
            place = str(_blob_place(self.root, descriptor.digest))
            raise _fault(place, f"{descriptor.size_bytes} bytes are over the limit of {limit_bytes}")
        path = self.find(descriptor.digest, descriptor.size_bytes)
        data = read_file(path, limit_bytes=limit_bytes)
        actual = Digest.of_bytes(data)
        if actual != descriptor.digest:
            raise other_bytes(path, actual, descriptor.digest)
        return data

    def layers(self, descriptor: Descriptor) -> list[Descriptor]:
        """Return the blobs of a manifest.

        Raises:
            FormatError: It is no manifest, or as ``read``.
        """
        place = str(_blob_place(self.root, descriptor.digest))
        document = parse_json(self.read(descriptor), what=place)
        layers = document.get("layers") if isinstance(document, dict) else None
        if not isinstance(layers, list) or document.get("schemaVersion") != 2:
            raise _fault(place, "expected an image manifest with schemaVersion 2 and layers")
        return [Descriptor.parse(item, f"{place}: layers[{number}]") for number, item in enumerate(layers)]

    def artifacts(self) -> Iterator[tuple[Descriptor, list[Descriptor]]]:
        """Yield every manifest of the index with its blobs; what is no manifest is left out, as OCI demands.

        Raises:
            FormatError: As ``layers``.
        """
        for descriptor in {item.digest: item for item in self.manifests}.values():
            if descriptor.media_type == MANIFEST_TYPE:
                yield descriptor, self.layers(descriptor)
