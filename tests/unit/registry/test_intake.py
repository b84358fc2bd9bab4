"""One pass over a file finds what separate passes find."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.handmade import small_adapter
from ual_registry.air.adapter import Adapter
from ual_registry.air.read import open_legal
from ual_registry.air.scan import scan_tensors
from ual_registry.air.tensor import Tensor
from ual_registry.air.validate import factor_names
from ual_registry.air.write import write
from ual_registry.digest import CHUNK_BYTES, Digest
from ual_registry.errors import RuleError, StorageError
from ual_registry.registry import intake
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.intake import Intake, take_in
from ual_registry.registry.registry import Registry

_EXTRA = "extra.base_model.model.score.weight"


def with_extra(size_bytes: int) -> Adapter:
    """Return a small adapter whose extra tensor has some bytes."""
    adapter = small_adapter()
    data = bytes(index * 7 % 256 for index in range(size_bytes))
    return Adapter(adapter.manifest, {**adapter.tensors, _EXTRA: Tensor.of_bytes("I8", (size_bytes,), data)})


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("size_bytes", [0, 3, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES + 3])
def test_a_copy_is_the_file_and_has_its_digests(tmp_path: Path, size_bytes: int, is_alone: bool) -> None:
    path = tmp_path / "x.air"
    write(with_extra(size_bytes), path)
    found = open_legal(path)
    out = io.BytesIO()

    result = take_in(found, out, is_alone=is_alone)

    assert found.manifest is not None
    expected = scan_tensors(found.tensors(), check_finite=factor_names(found.manifest, found.tensors()))
    assert out.getvalue() == path.read_bytes()
    assert result == Intake(digest=Digest.of_file(path), size_bytes=path.stat().st_size, scan=expected)
    found.source.close()


def test_a_number_that_is_not_finite_is_found_in_the_same_pass(tmp_path: Path) -> None:
    adapter = small_adapter()
    name = "layers.0.mlp_up.lora_B"
    bad = Tensor.of_bytes("F32", (6, 2), b"\x00\x00\xc0\x7f" * 12)
    with pytest.raises(RuleError):
        write(Adapter(adapter.manifest, {**adapter.tensors, name: bad}), tmp_path / "bad.air")
    write(adapter, tmp_path / "good.air")
    data = (tmp_path / "good.air").read_bytes()
    factor = adapter.tensors[name].to_bytes()
    (tmp_path / "bad.air").write_bytes(data.replace(factor, bad.to_bytes()))
    found = open_legal(tmp_path / "bad.air")

    assert take_in(found, io.BytesIO()).scan.non_finite == (name,)
    found.source.close()


def test_a_file_that_changes_after_its_header_was_checked_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.air"
    write(small_adapter(description="one"), path)
    found = open_legal(path)
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))

    with pytest.raises(StorageError) as caught:
        take_in(found, io.BytesIO())

    assert (caught.value.message, caught.value.problem_code, caught.value.hint) == (
        f"cannot read {path}: it was changed meanwhile",
        "changed",
        "add it again when nobody writes to it",
    )
    found.source.close()


def test_a_file_that_becomes_shorter_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.air"
    write(with_extra(3 * CHUNK_BYTES), path)
    found = open_legal(path)
    with path.open("r+b") as stream:
        stream.truncate(2 * CHUNK_BYTES)
    store = BlobStore(tmp_path / "blobs")

    with (
        pytest.raises(StorageError, match=r"cannot read .*x.air: \d+ bytes expected at \d+, got \d+"),
        store.take_in(found),
    ):
        pass

    assert [entry for entry in store.root.rglob("*") if entry.is_file()] == []
    found.source.close()


def test_the_source_is_read_once_and_the_copy_not_at_all(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.air"
    write(with_extra(3 * CHUNK_BYTES), path)
    reads: list[tuple[int, int]] = []
    genuine = intake.take_in

    def counted(found, out, **options):
        read, read_into = found.source.read, found.source.read_into

        def noted_read(offset, length):
            reads.append((offset, length))
            return read(offset, length)

        def noted_read_into(offset, place):
            reads.append((offset, len(place)))
            read_into(offset, place)

        monkeypatch.setattr(found.source, "read", noted_read)
        monkeypatch.setattr(found.source, "read_into", noted_read_into)
        return genuine(found, out, **options)

    monkeypatch.setattr("ual_registry.registry.blobs.take_in", counted)
    registry.add(path, name="x")

    assert sum(length for _, length in reads) == path.stat().st_size
    ends = [offset + length for offset, length in reads]
    assert [offset for offset, _ in reads] == [0, *ends[:-1]]
