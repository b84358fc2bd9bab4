"""An adapter unpacked into a folder, looked at, edited and packed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import container, small_adapter
from ual_registry.air.codec import encode
from ual_registry.air.read import read
from ual_registry.air.tensor import Tensor
from ual_registry.air.write import write
from ual_registry.errors import (
    ContainerError,
    DigestMismatchError,
    ForeignFormatError,
    FormatError,
    RuleError,
    StorageError,
)
from ual_registry.interop.folder import from_folder, is_unpacked, to_folder


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The small adapter as a file and as a folder beside it."""
    write(small_adapter(name="label", description="d"), tmp_path / "small.air")
    with read(tmp_path / "small.air") as adapter:
        to_folder(adapter, tmp_path / "folder")
    return tmp_path / "folder"


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text())


def edit(folder: Path, **changes: Any) -> None:
    """Change fields of the manifest; ``None`` removes one."""
    document = {**manifest(folder), **changes}
    kept = {key: value for key, value in document.items() if value is not None}
    (folder / "manifest.json").write_text(json.dumps(kept, indent=2))


def pack(folder: Path) -> bytes:
    with from_folder(folder) as adapter:
        write(adapter, folder.parent / "packed.air")
    return (folder.parent / "packed.air").read_bytes()


TABLE = """\
tensor                               dtype  shape  bytes  module
extra.base_model.model.score.weight  I8     3      3
layers.0.attention_key.lora_B        F32    4 x 2  32     gpt_neox.layers.0.attention.query_key_value
layers.0.attention_query.lora_A      F32    2 x 4  32     gpt_neox.layers.0.attention.query_key_value
layers.0.attention_query.lora_B      F32    4 x 2  32     gpt_neox.layers.0.attention.query_key_value
layers.0.mlp_up.lora_A               F32    2 x 4  32     gpt_neox.layers.0.mlp.dense_h_to_4h
layers.0.mlp_up.lora_B               F32    6 x 2  48     gpt_neox.layers.0.mlp.dense_h_to_4h
"""


def test_a_folder_holds_the_whole_manifest_a_table_and_the_tensors(unpacked: Path) -> None:
    names = ["air-folder.json", "manifest.json", "tensors.safetensors", "tensors.txt"]
    assert sorted(path.name for path in unpacked.iterdir()) == names
    assert json.loads((unpacked / "air-folder.json").read_text()) == {"format": "air-folder", "version": 1}
    assert (unpacked / "tensors.txt").read_text() == TABLE
    text = (unpacked / "manifest.json").read_text()
    assert text.startswith('{\n  "air_version": "1.0",\n')
    data = (unpacked.parent / "small.air").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(text) == json.loads(header["__metadata__"]["air"])

    import safetensors.numpy

    tensors = safetensors.numpy.load_file(unpacked / "tensors.safetensors")
    assert {name: value.tobytes() for name, value in tensors.items()} == {
        name: tensor.to_bytes() for name, tensor in small_adapter().tensors.items()
    }


def test_the_way_back_gives_the_same_bytes(unpacked: Path) -> None:
    assert pack(unpacked) == (unpacked.parent / "small.air").read_bytes()


def test_a_legal_edit_is_sealed_anew(unpacked: Path) -> None:
    edit(unpacked, description="edited", tags=["a"], name=None)
    packed = pack(unpacked)
    write(small_adapter(description="edited", tags=("a",)), unpacked.parent / "expected.air")
    assert packed == (unpacked.parent / "expected.air").read_bytes()


def test_every_fault_of_an_edit_is_told_by_its_place(unpacked: Path) -> None:
    document = manifest(unpacked)
    document["entries"][1]["rank"] = "two"
    edit(unpacked, description=7, entries=document["entries"])
    with pytest.raises(FormatError) as caught:
        from_folder(unpacked)
    problems = [
        'manifest.description: 7 is not of type "string"',
        'manifest.entries[1].rank: "two" is not of type "integer"',
    ]
    assert sorted(caught.value.context["problems"]) == problems  # type: ignore[call-overload]
    assert caught.value.problem_code == "schema"
    assert caught.value.message.startswith(f"{unpacked / 'manifest.json'}: manifest.")
    assert caught.value.message.endswith(" (and 1 more)")


def test_an_edit_against_the_rules_is_refused_when_it_is_packed(unpacked: Path) -> None:
    document = manifest(unpacked)
    document["entries"][2]["in_features"] = 5
    edit(unpacked, entries=document["entries"])
    with pytest.raises(FormatError) as caught:
        pack(unpacked)
    assert caught.value.problem_code == "shape"
    assert caught.value.message.startswith("layers.0.mlp_up.lora_A: shape (2, 4) does not match rank 2, 5 in, 6 out")


def test_changed_tensors_are_refused_unless_they_are_meant(unpacked: Path) -> None:
    data = bytearray((unpacked / "tensors.safetensors").read_bytes())
    data[-1] ^= 1
    (unpacked / "tensors.safetensors").write_bytes(data)
    with pytest.raises(DigestMismatchError) as caught:
        from_folder(unpacked)
    assert caught.value.problem_code == "tensor-digest"
    assert caught.value.hint == (
        f"to seal changed tensors on purpose, remove tensor_digest from {unpacked / 'manifest.json'}"
    )
    edit(unpacked, tensor_digest=None, manifest_digest=None)
    assert pack(unpacked)[-1] == data[-1]


@pytest.mark.parametrize(
    ("name", "text", "code", "message"),
    [
        (
            "air-folder.json",
            '{"format": "air-folder", "version": 2}',
            "folder-marker",
            '{"format": "air-folder", "version": 2}, expected {"format": "air-folder", "version": 1}',
        ),
        ("air-folder.json", "[", "not-json", "not JSON in UTF-8: Expecting value: line 1 column 2 (char 1)"),
        ("manifest.json", "[]", "schema", "expected a JSON object"),
        ("manifest.json", '{"a": 1, "a": 2}', "repeated-key", "name 'a' stands twice in one object"),
        ("tensors.safetensors", "", "truncated", "file has 0 bytes, fewer than the 8 that hold the header's length"),
    ],
)
def test_a_broken_file_is_refused_by_its_name(unpacked: Path, name: str, text: str, code: str, message: str) -> None:
    (unpacked / name).write_text(text)
    with pytest.raises(FormatError) as caught:
        from_folder(unpacked)
    assert caught.value.problem_code == code
    assert caught.value.message.endswith(f"{name}: {message}")
    assert isinstance(caught.value, ContainerError) == (code == "truncated")
    assert isinstance(caught.value, ForeignFormatError) == (code == "folder-marker")


def test_a_manifest_of_another_kind_is_refused(unpacked: Path) -> None:
    from tests.unit.air.test_router import router

    document = {**encode(router()), "tensor_digest": "sha256:" + "0" * 64}
    (unpacked / "manifest.json").write_text(json.dumps(document, default=dict))
    with pytest.raises(RuleError) as caught:
        from_folder(unpacked)
    assert (caught.value.problem_code, caught.value.message) == (
        "kind",
        f"{unpacked / 'manifest.json'}: manifest.kind: 'router', expected 'adapter'",
    )


def test_a_missing_file_is_a_storage_error(unpacked: Path) -> None:
    (unpacked / "tensors.safetensors").unlink()
    with pytest.raises(StorageError):
        from_folder(unpacked)


def test_only_the_marker_makes_a_folder_an_unpacked_adapter(unpacked: Path) -> None:
    assert is_unpacked(unpacked)
    (unpacked / "air-folder.json").unlink()
    assert not is_unpacked(unpacked)
    assert not is_unpacked(unpacked / "none")


def test_a_name_that_commands_a_terminal_stays_on_its_line(tmp_path: Path) -> None:
    from ual_registry.air.adapter import Adapter
    from ual_registry.air.model import Extra

    made = small_adapter()
    strange = "extra.a\nb\x1b[2J"
    tensors = {name: tensor for name, tensor in made.tensors.items() if not name.startswith("extra.")}
    named = small_adapter(extra=(Extra(tensor=strange, name="a\nb\x1b[2J"),))
    write(Adapter(named.manifest, {**tensors, strange: Tensor.of_bytes("I8", (1,), b"x")}), tmp_path / "a.air")
    with read(tmp_path / "a.air") as adapter:
        to_folder(adapter, tmp_path / "folder")
    line = (tmp_path / "folder" / "tensors.txt").read_text().splitlines()[1]
    assert line.split() == ["extra.a\\nb\\x1b[2J", "I8", "1", "1"]
    assert pack(tmp_path / "folder") == (tmp_path / "a.air").read_bytes()


def test_the_tensors_are_a_container_that_any_reader_opens(unpacked: Path) -> None:
    data = (unpacked / "tensors.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert "__metadata__" not in header
    assert container(header, data[8 + length :]) == data
