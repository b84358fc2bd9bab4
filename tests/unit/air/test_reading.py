"""Reading, verifying, validating and writing whole files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.handmade import base_model, floats, small_adapter, small_entries
from ual_registry.air.adapter import Adapter
from ual_registry.air.header import check_air_layout, open_header
from ual_registry.air.model import Extra, Lineage, Parent
from ual_registry.air.plain_header import DATA_ALIGNMENT_BYTES
from ual_registry.air.problem import Problem, ValidationReport
from ual_registry.air.read import read, verify
from ual_registry.air.tensor import FileSource, Tensor
from ual_registry.air.validate import inspect_file, validate_file
from ual_registry.air.write import file_digest, write, write_container
from ual_registry.digest import Digest
from ual_registry.errors import (
    ContainerError,
    DigestMismatchError,
    FormatError,
    RuleError,
    SchemaError,
    StorageError,
)


def test_a_legal_file_has_a_clean_report_with_its_facts(air_file: Path) -> None:
    report = validate_file(air_file)
    with read(air_file) as adapter:
        digest = adapter.manifest.tensor_digest
    assert report == ValidationReport(
        path=str(air_file),
        problems=(),
        facts={
            "air_version": "1.0",
            "kind": "adapter",
            "architecture": "gpt_neox",
            "entries": 3,
            "tensors": 6,
            "size_bytes": air_file.stat().st_size,
            "tensor_digest": digest,
        },
    )
    assert (report.ok, report.errors, report.warnings) == (True, (), ())


def test_an_unpinned_base_is_a_warning_only(tmp_path: Path) -> None:
    write(small_adapter(base_model=base_model(revision=None)), tmp_path / "a.air")
    report = validate_file(tmp_path / "a.air")
    assert report.problems == (
        Problem(
            code="unpinned-base",
            place="manifest.base_model.revision",
            message="the base model is not pinned to a commit",
            hint="convert again with --base-revision COMMIT",
            branch="rule",
            is_warning=True,
        ),
    )
    assert (report.ok, report.warnings[0].severity) == (True, "warning")
    assert inspect_file(tmp_path / "a.air").errors == []


def test_a_broken_file_has_a_report_without_facts(tmp_path: Path) -> None:
    (tmp_path / "a.air").write_bytes(b"GGUF")
    report = validate_file(tmp_path / "a.air")
    assert report.facts == {}
    assert [str(problem) for problem in report.problems] == [
        "file has 4 bytes, fewer than the 8 that hold the header's length"
    ]
    assert report.problems[0].severity == "error"
    assert inspect_file(tmp_path / "a.air").tensors() == {}


def test_a_file_that_is_read_has_the_same_manifest_and_tensors(air_file: Path, adapter: Adapter) -> None:
    with read(str(air_file)) as back:
        verify(back)
        assert back.entries == adapter.entries
        assert back.parameter_count == adapter.parameter_count == 8 + 8 + 8 + 8 + 12
        assert {name: tensor.to_bytes() for name, tensor in back.tensors.items()} == {
            name: tensor.to_bytes() for name, tensor in adapter.tensors.items()
        }
    with pytest.raises(StorageError):
        back.tensors["layers.0.mlp_up.lora_A"].to_bytes()


def test_closing_an_adapter_in_memory_closes_nothing(adapter: Adapter) -> None:
    with adapter as same:
        pass
    assert same.tensors["layers.0.mlp_up.lora_A"].size_bytes == 32


def test_verifying_reads_the_tensors(air_file: Path) -> None:
    data = bytearray(air_file.read_bytes())
    data[-1] ^= 1
    air_file.write_bytes(bytes(data))
    with read(air_file) as adapter, pytest.raises(DigestMismatchError) as caught:
        verify(adapter)
    assert caught.value.problem_code == "tensor-digest"


def test_tensor_data_starts_at_the_alignment(air_file: Path) -> None:
    header = open_header(FileSource(air_file))
    check_air_layout(header)
    assert header.data_start % DATA_ALIGNMENT_BYTES == 0
    assert list(header.metadata) == ["air"]
    stored = sorted(header.infos, key=lambda name: header.infos[name].start)
    assert stored == [
        "layers.0.attention_key.lora_B",
        "layers.0.attention_query.lora_A",
        "layers.0.attention_query.lora_B",
        "layers.0.mlp_up.lora_A",
        "layers.0.mlp_up.lora_B",
        "extra.base_model.model.score.weight",
    ]


def test_the_writer_returns_the_digest_of_the_file(adapter: Adapter, tmp_path: Path) -> None:
    digest = write(adapter, str(tmp_path / "a.air"))
    assert digest == Digest.of_file(tmp_path / "a.air") == file_digest(adapter)


def test_tensors_in_memory_and_in_a_file_are_written_alike(adapter: Adapter, air_file: Path, tmp_path: Path) -> None:
    held = write(adapter, tmp_path / "held.air")
    with read(air_file) as opened:
        assert write(opened, tmp_path / "read.air") == held
    assert (tmp_path / "held.air").read_bytes() == (tmp_path / "read.air").read_bytes() == air_file.read_bytes()


def test_a_disk_that_is_full_while_tensors_in_memory_are_written_leaves_nothing(
    adapter: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StorageError) as caught:
        write(adapter, tmp_path / "a.air")
    assert caught.value.message == f"cannot write {tmp_path / 'a.air'}: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_the_system_cuts_short_is_continued(
    adapter: Adapter, air_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: whole(descriptor, data[:7], offset))
    write(adapter, tmp_path / "a.air")
    write_container(tmp_path / "b", adapter.tensors, {"format": "pt"})
    monkeypatch.undo()
    assert (tmp_path / "a.air").read_bytes() == air_file.read_bytes()
    assert sorted(open_header(FileSource(tmp_path / "b")).infos) == sorted(adapter.tensors)


def test_the_writer_stamps_the_version_that_it_writes(tmp_path: Path) -> None:
    write(small_adapter(air_version="1.9"), tmp_path / "a.air")
    with read(tmp_path / "a.air") as adapter:
        assert adapter.manifest.air_version == "1.0"


def test_a_file_can_be_written_over_the_one_it_is_read_from(air_file: Path) -> None:
    before = air_file.read_bytes()
    with read(air_file) as adapter:
        write(adapter, air_file)
    assert air_file.read_bytes() == before


def broken(**changes: object) -> Adapter:
    return small_adapter(**changes)


def with_tensor(name: str, tensor: Tensor) -> Adapter:
    adapter = small_adapter()
    return Adapter(adapter.manifest, {**adapter.tensors, name: tensor})


LONG = "n" * 1020


def long_name() -> Adapter:
    made = small_adapter(extra=(Extra(tensor=f"extra.{LONG}", name=LONG),))
    tensors = {name: tensor for name, tensor in made.tensors.items() if not name.startswith("extra.")}
    return Adapter(made.manifest, {**tensors, f"extra.{LONG}": floats(1)})


@pytest.mark.parametrize(
    ("adapter_", "kind", "code", "message"),
    [
        (small_adapter(kind="router"), SchemaError, "schema", 'manifest.kind: "router" is not one of "adapter"'),
        (small_adapter(entries=()), SchemaError, "schema", "manifest.entries: [] has less than 1 item"),
        (
            small_adapter(features=()),
            RuleError,
            "features",
            "manifest.features: expected ['extra-tensors'], got []",
        ),
        (
            small_adapter(entries=(*small_entries()[:2], replace(small_entries()[2], scaling=float("nan")))),
            FormatError,
            "not-json",
            "value cannot be written as JSON: ",
        ),
        (
            small_adapter(lineage=Lineage(parents=(Parent(digest="md5", relation="merged_from"),))),
            SchemaError,
            "schema",
            "manifest.lineage.parents[0].digest: ",
        ),
        (
            with_tensor("layers.0.mlp_up.lora_B", Tensor.of_bytes("F32", (6, 2), bytes(44) + b"\0\0\x80\x7f")),
            RuleError,
            "non-finite",
            "layers.0.mlp_up.lora_B: holds a NaN or an infinity",
        ),
        (
            with_tensor("layers.1.mlp_up.lora_B", floats(6, 2)),
            RuleError,
            "unnamed-tensor",
            "layers.1.mlp_up.lora_B: the file holds this tensor, the manifest does not name it",
        ),
        (
            with_tensor("layers.0.mlp_up.lora_B", floats(6, 3)),
            RuleError,
            "shape",
            "layers.0.mlp_up.lora_B: shape (6, 3) does not match rank 2, 4 in, 6 out (expected (6, 2))",
        ),
        (
            with_tensor("extra.base_model.model.score.weight", Tensor.of_bytes("I8", (4,), b"abc")),
            ContainerError,
            "size-mismatch",
            "extra.base_model.model.score.weight: I8 of shape (4,) has 4 bytes, data_offsets hold 3",
        ),
        (long_name(), ContainerError, "tensor-name", "tensor name of 1026 characters: expected 1 to 1024"),
    ],
)
def test_what_would_not_be_read_is_not_written(
    tmp_path: Path, adapter_: Adapter, kind: type[FormatError], code: str, message: str
) -> None:
    with pytest.raises(kind) as caught:
        write(adapter_, tmp_path / "a.air")
    assert caught.value.problem_code == code
    assert caught.value.message.startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_cannot_take_the_place_of_the_metadata(tmp_path: Path) -> None:
    with pytest.raises(ContainerError) as caught:
        write_container(tmp_path / "a", {"__metadata__": floats(1)}, {})
    assert caught.value.problem_code == "metadata-form"
    assert list(tmp_path.iterdir()) == []


def test_a_container_without_metadata_or_tensors_is_legal(tmp_path: Path) -> None:
    write_container(tmp_path / "a", {}, {})
    header = open_header(FileSource(tmp_path / "a"))
    assert (header.metadata, header.infos, header.data_start) == ({}, {}, 64)


def test_a_newer_minor_and_an_older_file_have_the_same_facts(tmp_path: Path) -> None:
    made = small_adapter(description="d" * 400)
    write(made, tmp_path / "a.air")
    with read(tmp_path / "a.air") as adapter:
        assert adapter.manifest.description == "d" * 400
        assert adapter.manifest.parents == ()
        assert adapter.manifest.base_model.encoder is adapter.manifest.base_model.stacks[0]


def test_a_long_value_is_cut_short_in_a_message(tmp_path: Path) -> None:
    with pytest.raises(SchemaError) as caught:
        write(small_adapter(kind="k" * 1000), tmp_path / "a.air")
    assert caught.value.message == f'manifest.kind: "{"k" * 299} ...'
