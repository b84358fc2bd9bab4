"""Exported folders from anywhere: what is wrong with them is said, and nothing is read, written or followed by it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.handmade import container, small_adapter
from ual_registry.air.canonical import canonical_bytes
from ual_registry.air.model import Lineage, Parent
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.errors import (
    DigestMismatchError,
    FormatError,
    RegistryConflictError,
    RegistryError,
    StorageError,
    UALError,
)
from ual_registry.registry import layout as layouts
from ual_registry.registry.exchange import DOCUMENT_TYPE
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import AttestationRow


class Spoiler:
    """An exported folder whose documents can be changed, with the digests that refer to them or without."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, digest: str) -> Path:
        return self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def index(self, change: Callable[[dict[str, Any]], None]) -> None:
        document = json.loads((self.root / "index.json").read_bytes())
        change(document)
        (self.root / "index.json").write_bytes(json.dumps(document).encode())

    def own(self) -> dict[str, Any]:
        """Return the descriptor of the registry's document in the index."""
        manifests = json.loads((self.root / "index.json").read_bytes())["manifests"]
        return next(item for item in manifests if item["artifactType"] == DOCUMENT_TYPE)

    def put(self, data: bytes) -> dict[str, Any]:
        digest = str(Digest.of_bytes(data))
        self.blob(digest).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    def manifest(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the manifest of the registry's document."""
        document = json.loads(self.blob(self.own()["digest"]).read_bytes())
        change(document)
        placed = self.put(canonical_bytes(document))
        self.index(lambda index: index["manifests"][0].update(placed))

    def document_bytes(self, data: bytes) -> None:
        """Put other bytes in the place of the registry's document."""
        placed = self.put(data)
        self.manifest(lambda manifest: manifest["layers"][0].update(placed))

    def document(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the registry's document."""
        manifest = json.loads(self.blob(self.own()["digest"]).read_bytes())
        document = json.loads(self.blob(manifest["layers"][0]["digest"]).read_bytes())
        change(document)
        self.document_bytes(canonical_bytes(document))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty registry."""
    return Registry.open(tmp_path / "home")


@pytest.fixture(scope="session")
def exported_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """What a registry with two adapters exports, and their digests."""
    folder = tmp_path_factory.mktemp("exported")
    source, digests = Registry.open(folder / "source"), []
    for index in range(2):
        write(small_adapter(description=f"number {index}"), folder / "x.air")
        digests.append(source.add(folder / "x.air", name=f"a{index}", aliases=["good"]).digest)
    source.export(folder / "out")
    return folder / "out", tuple(digests)


@pytest.fixture
def digests(exported_once: tuple[Path, tuple[str, ...]]) -> tuple[str, ...]:
    return exported_once[1]


@pytest.fixture
def exported(exported_once: tuple[Path, tuple[str, ...]], tmp_path: Path) -> Spoiler:
    """A copy of it to spoil."""
    return Spoiler(Path(shutil.copytree(exported_once[0], tmp_path / "out")))


def refuse(registry: Registry, exported: Spoiler) -> UALError:
    """Import, and return the error after which nothing is there."""
    with pytest.raises(UALError) as caught:
        registry.import_(exported.root)
    assert list(registry.list()) == []
    assert list(registry.blobs.walk_staging()) == []
    assert "\n" not in caught.value.message
    return caught.value


def fault(registry: Registry, exported: Spoiler) -> str:
    error = refuse(registry, exported)
    assert isinstance(error, FormatError)
    assert error.problem_code == "layout"
    return error.message


def test_the_folder_itself_is_good(registry: Registry, exported: Spoiler) -> None:
    assert registry.import_(exported.root).new_artifacts == 2


def test_what_is_no_layout_is_refused(registry: Registry, exported: Spoiler, tmp_path: Path) -> None:
    empty = Spoiler(tmp_path / "empty")
    empty.root.mkdir()
    error = refuse(registry, Spoiler(tmp_path / "none"))
    assert error.message == f"{tmp_path / 'none'}: is no folder"
    assert error.hint == "give a folder that 'ual export' wrote"
    assert fault(registry, empty) == f"{empty.root / 'blobs'}: expected a folder of an OCI image layout"
    (exported.root / "oci-layout").unlink()
    assert fault(registry, exported) == f"{exported.root / 'oci-layout'}: is missing"


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"{", b"\xff", b'{"a":1,"a":2}', b"[" * 100_000, b"null"])
def test_the_documents_of_the_frame_are_strict(registry: Registry, exported: Spoiler, name: str, data: bytes) -> None:
    (exported.root / name).write_bytes(data)
    assert refuse(registry, exported).exit_code in {FormatError.exit_code, StorageError.exit_code}


def test_a_marker_of_another_version_is_refused(registry: Registry, exported: Spoiler) -> None:
    (exported.root / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    assert fault(registry, exported) == (
        f"{exported.root / 'oci-layout'}: imageLayoutVersion '2.0.0', expected '1.0.0'"
    )


def test_documents_over_their_limit_are_not_read(
    registry: Registry, exported: Spoiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (exported.root / "oci-layout").open("r+b") as stream:
        stream.truncate(1 << 40)
    assert refuse(registry, exported).message == (
        f"cannot read {exported.root / 'oci-layout'}: over the limit of 4096 bytes"
    )


def test_a_huge_document_is_refused_by_its_size(registry: Registry, exported: Spoiler) -> None:
    size = layouts.MAX_DOCUMENT_BYTES + 1
    exported.manifest(lambda manifest: manifest["layers"][0].update(size=size))
    assert fault(registry, exported).endswith(f": {size} bytes are over the limit of {layouts.MAX_DOCUMENT_BYTES}")


def test_a_document_of_too_many_values_is_refused(registry: Registry, exported: Spoiler) -> None:
    exported.document_bytes(b"[" + b"0," * 3_000_001 + b"0]")
    assert refuse(registry, exported).problem_code == "too-many-values"


@pytest.mark.parametrize(
    "digest",
    [
        "../../../etc/passwd",
        "sha256:../../../../etc/passwd",
        "sha256:" + "../" * 21 + "a",
        "sha256:" + "A" * 64,
        "sha512:" + "a" * 128,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 64 + "\n",
        "",
        "/etc/passwd",
    ],
)
def test_a_digest_that_is_none_is_never_a_path(
    registry: Registry, exported: Spoiler, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported.index(lambda index: index["manifests"][0].update(digest=digest))
    opened: list[str] = []
    genuine = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *rest, **more: opened.append(os.fspath(path)) or genuine(path, *rest, **more)
    )
    assert refuse(registry, exported).problem_code == "digest-form"
    assert [path for path in opened if "passwd" in path or ".." in path] == []


@pytest.mark.parametrize("value", [7, None, [], {}, True, "x" * 5000])
@pytest.mark.parametrize("field", ["digest", "size", "mediaType"])
def test_a_descriptor_of_other_types_is_refused(registry: Registry, exported: Spoiler, field: str, value: Any) -> None:
    exported.index(lambda index: index["manifests"][0].update({field: value}))
    assert isinstance(refuse(registry, exported), FormatError)


@pytest.mark.parametrize("items", [None, {}, "x", [7], [None], [[]]])
def test_lists_of_other_types_are_refused(registry: Registry, exported: Spoiler, items: Any) -> None:
    exported.manifest(lambda manifest: manifest.update(layers=items))
    assert isinstance(refuse(registry, exported), FormatError)
    exported.index(lambda index: index.update(manifests=items))
    assert isinstance(refuse(registry, exported), FormatError)


def test_links_are_not_followed(
    registry: Registry, exported: Spoiler, digests: tuple[str, ...], tmp_path: Path
) -> None:
    blob = exported.blob(digests[0])
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    assert fault(registry, exported) == f"{blob}: expected a regular file"


@pytest.mark.parametrize("name", ["index.json", "oci-layout", "blobs", "blobs/sha256"])
def test_the_frame_is_not_followed_out_of_the_folder(
    registry: Registry, exported: Spoiler, tmp_path: Path, name: str
) -> None:
    path = exported.root / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert fault(registry, exported).startswith(f"{path}: expected a")


def test_a_pipe_is_not_waited_for(registry: Registry, exported: Spoiler, digests: tuple[str, ...]) -> None:
    blob = exported.blob(digests[1])
    blob.unlink()
    os.mkfifo(blob)
    assert fault(registry, exported) == f"{blob}: expected a regular file"


def test_a_missing_blob_is_named(registry: Registry, exported: Spoiler, digests: tuple[str, ...]) -> None:
    exported.blob(digests[1]).unlink()
    assert fault(registry, exported) == f"{exported.blob(digests[1])}: is missing"


def test_a_blob_of_another_size_is_named(registry: Registry, exported: Spoiler, digests: tuple[str, ...]) -> None:
    blob = exported.blob(digests[0])
    size = blob.stat().st_size
    blob.write_bytes(blob.read_bytes() + b"x")
    assert fault(registry, exported) == f"{blob}: has {size + 1} bytes, expected {size}"


@pytest.mark.parametrize("already", [False, True])
@pytest.mark.parametrize("place", [0, 9, -1], ids=["length", "header", "tensors"])
def test_a_blob_of_another_digest_is_named(
    registry: Registry, exported: Spoiler, digests: tuple[str, ...], already: bool, place: int
) -> None:
    if already:
        registry.import_(exported.root)
    blob = exported.blob(digests[0])
    data = bytearray(blob.read_bytes())
    data[place] ^= 1
    blob.write_bytes(data)
    with pytest.raises(DigestMismatchError) as caught:
        registry.import_(exported.root)
    assert caught.value.message == f"{blob}: has {Digest.of_bytes(bytes(data))}, expected {digests[0]}"
    assert caught.value.hint == "it was damaged since it was written: copy it, or export it, again"
    assert len(list(registry.list())) == (2 if already else 0)
    assert registry.fsck(deep=True).faults == ()


def test_a_changed_document_is_refused(registry: Registry, exported: Spoiler) -> None:
    blob = exported.blob(exported.own()["digest"])
    blob.write_bytes(blob.read_bytes().replace(b"schemaVersion", b"schemaversion"))
    assert isinstance(refuse(registry, exported), DigestMismatchError)


def test_a_blob_that_is_no_adapter_is_refused(registry: Registry, exported: Spoiler) -> None:
    placed = exported.put(container({"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"x"))

    def change(document: dict[str, Any]) -> None:
        item = document["artifacts"][0]
        for adapter in document["adapters"]:
            for revision in adapter["revisions"]:
                if revision["digest"] == item["digest"]:
                    revision["digest"] = placed["digest"]
        item.update(digest=placed["digest"], size_bytes=placed["size"])

    exported.document(change)
    message = (
        f"{exported.root}: no manifest refers to {placed['digest']} with {placed['size']} bytes, as the registry does"
    )
    assert fault(registry, exported) == message
    exported.manifest(lambda manifest: manifest.update(layers=[manifest["layers"][0]]))
    extra = {
        "schemaVersion": 2,
        "config": placed | {"mediaType": "application/json"},
        "layers": [placed | {"mediaType": "application/x"}],
    }
    descriptor = exported.put(canonical_bytes(extra)) | {"mediaType": "application/vnd.oci.image.manifest.v1+json"}
    exported.index(lambda index: index["manifests"].append(descriptor))
    assert refuse(registry, exported).exit_code == 3


def test_manifests_of_other_types_are_left_alone_as_oci_demands(registry: Registry, exported: Spoiler) -> None:
    foreign = {"mediaType": "application/xml", "digest": "sha256:" + "0" * 64, "size": 7}
    exported.index(lambda index: index["manifests"].append(foreign))
    assert registry.import_(exported.root).new_artifacts == 2


@pytest.mark.parametrize("count", [0, 2])
def test_there_must_be_one_document(registry: Registry, exported: Spoiler, count: int) -> None:
    exported.manifest(lambda manifest: manifest.update(layers=manifest["layers"] * count))
    assert fault(registry, exported) == f"{exported.root}: has {count} documents of a registry, expected one"


def _repeat(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document[name].append(document[name][0])


ATTESTATION = {
    "predicate_type": "https://slsa.dev/provenance/v1",
    "statement_digest": "sha256:" + "0" * 64,
    "envelope": {"payload": "a\0b \\u0000"},
    "added_at": "2026-01-01T00:00:00Z",
}


def test_an_envelope_is_kept_as_it_came(registry: Registry, exported: Spoiler) -> None:
    exported.document(lambda document: document["artifacts"][0].update(attestations=[ATTESTATION]))
    registry.import_(exported.root)
    with registry.database.session() as session:
        (kept,) = session.scalars(select(AttestationRow.envelope))
    assert kept == ATTESTATION["envelope"]


CONTRADICTIONS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "artifact twice": (_repeat("artifacts"), "stands there twice"),
    "adapter twice": (_repeat("adapters"), "registry.adapters: a0 stands there twice"),
    "number twice": (
        lambda document: document["adapters"][0]["revisions"].append(document["adapters"][0]["revisions"][0]),
        "registry.adapters.a0.revisions: 1 stands there twice",
    ),
    "alias twice": (
        lambda document: document["adapters"][0]["aliases"].append(document["adapters"][0]["aliases"][0]),
        "registry.adapters.a0.aliases: good stands there twice",
    ),
    "unknown artifact": (
        lambda document: document["adapters"][0]["revisions"][0].update(digest="sha256:" + "0" * 64),
        f"registry.adapters.a0@1: sha256:{'0' * 64} is none of the artifacts",
    ),
    "unknown revision": (
        lambda document: document["adapters"][0]["aliases"][0].update(number=9),
        "registry.adapters.a0@good: revision 9 is none of the adapter's",
    ),
    "half a tombstone": (
        lambda document: document["artifacts"][0].update(deleted_at="2026-01-01T00:00:00Z"),
        "deleted_at and tombstone belong together",
    ),
    "a text with a NUL": (
        lambda document: document["artifacts"][0].update(attestations=[{**ATTESTATION, "signer": "a\0b"}]),
        "'a\\x00b': no text holds the character '\\x00'",
    ),
    "no such day": (
        lambda document: document["adapters"][1].update(created_at="2026-13-45T00:00:00Z"),
        "registry.adapters.a1: '2026-13-45T00:00:00Z' is no time",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_document_that_contradicts_itself_is_refused(registry: Registry, exported: Spoiler, name: str) -> None:
    change, message = CONTRADICTIONS[name]
    exported.document(change)
    assert fault(registry, exported).endswith(message)


WRONG: list[Callable[[dict[str, Any]], Any]] = [
    lambda document: document.update(export_version="9.9"),
    lambda document: document.update(unknown=1),
    lambda document: document.pop("adapters"),
    lambda document: document["adapters"][0].update(name="../../x"),
    lambda document: document["adapters"][0]["revisions"][0].update(number=0),
    lambda document: document["adapters"][0]["revisions"][0].update(number=2**31),
    lambda document: document["adapters"][0].update(owner="x" * 5000),
    lambda document: document["adapters"][0].update(owner="a\x1b[2J"),
    lambda document: document["adapters"][0]["aliases"][0].update(name="12"),
    lambda document: document["adapters"][0]["revisions"][0].update(tags={"a b": ""}),
    lambda document: document["adapters"][0]["revisions"][0].update(tags={"a": "\n"}),
    lambda document: document["adapters"][0]["revisions"][0].update(created_at="yesterday"),
    lambda document: document["artifacts"][0].update(size_bytes=-1),
    lambda document: document["artifacts"][0].update(digest="sha256:../x"),
]


@pytest.mark.parametrize("index", range(len(WRONG)))
def test_a_document_that_breaks_its_rules_is_refused(registry: Registry, exported: Spoiler, index: int) -> None:
    exported.document(WRONG[index])
    assert isinstance(refuse(registry, exported), (FormatError, RegistryError))


def test_nothing_outside_the_store_is_written(registry: Registry, exported: Spoiler, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    shutil.copytree(exported.root, tmp_path / "copy")
    registry.import_(tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "copy"])


def _bury(document: dict[str, Any], number: int, parent: str) -> None:
    """Say of an artifact of the document that its bytes are gone, and that it was made from another one."""
    item = document["artifacts"][number]
    edge = {"digest": parent, "relation": "trained_from"}
    item["deleted_at"] = item["added_at"]
    item["tombstone"] = {"kind": "adapter", "method": "lora", "tensor_digest": item["digest"], "parents": [edge]}
    item["tombstone"] |= {"parameter_count": 1, "entry_count": 1}


def test_tombstones_that_were_made_from_each_other_are_refused(registry: Registry, exported: Spoiler) -> None:
    made: list[str] = []

    def spoil(document: dict[str, Any]) -> None:
        made.extend(item["digest"] for item in document["artifacts"])
        for number in (0, 1):
            _bury(document, number, made[1 - number])

    exported.document(spoil)
    error = refuse(registry, exported)
    assert error.problem_code == "conflict"
    assert error.message == f"{made[1]}: cannot be made from {made[0]}, which was made from it"


def test_a_file_is_not_made_from_what_a_tombstone_says_was_made_from_it(
    registry: Registry, exported: Spoiler, digests: tuple[str, ...], tmp_path: Path
) -> None:
    """Only by a false tombstone can this be: the file names its parent by the digest of bytes."""
    parent = digests[0]
    path = tmp_path / "child.air"
    write(small_adapter(lineage=Lineage(parents=(Parent(digest=parent, relation="merged_from"),))), path)
    child = str(Digest.of_file(path))

    def spoil(document: dict[str, Any]) -> None:
        numbers = [item["digest"] for item in document["artifacts"]]
        _bury(document, numbers.index(parent), child)

    exported.document(spoil)
    registry.import_(exported.root)
    with pytest.raises(RegistryConflictError) as caught:
        registry.add(path, name="child")
    assert caught.value.message == f"{child}: cannot be made from {parent}, which was made from it"
    assert caught.value.hint == "a tombstone that was imported says so: its export cannot be trusted"
    assert [item.name for item in registry.list()] == ["a0", "a1"]
