"""Every refusal of the strict container reader, by its own code and message."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import container, split_container
from ual_registry.air.header import MAX_HEADER_BYTES, encode_header, read_header
from ual_registry.air.plain_header import MAX_TENSORS
from ual_registry.air.read import read
from ual_registry.air.tensor import DTYPE_BYTES, MemorySource
from ual_registry.air.validate import validate_file
from ual_registry.errors import ContainerError, StorageError, UALError


def refused(data: bytes) -> tuple[str, str]:
    """Return code and message of the refusal, which must be quick."""
    started = time.process_time()
    with pytest.raises(ContainerError) as caught:
        read_header(MemorySource(data), len(data))
    assert time.process_time() - started < 1
    return caught.value.problem_code, caught.value.message


def row(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def one(row_: Any, data: bytes = b"1234", name: str = "w") -> bytes:
    """Return a container of one tensor, in JSON that keeps every number as it is."""
    return container(json.dumps({name: row_}).encode(), data)


def test_an_empty_file_is_refused() -> None:
    assert refused(b"") == ("truncated", "file has 0 bytes, fewer than the 8 that hold the header's length")


def test_a_file_shorter_than_its_length_field_is_refused() -> None:
    assert refused(b"\x01\0\0\0\0\0\0") == (
        "truncated",
        "file has 7 bytes, fewer than the 8 that hold the header's length",
    )


def test_a_header_over_the_limit_is_refused_before_it_is_read() -> None:
    length = MAX_HEADER_BYTES + 1
    expected = ("header-too-large", "header of 100000001 bytes is over the limit of 100000000")
    assert refused(container(b"{}", length=length)) == expected


def test_a_header_that_ends_after_the_file_is_refused() -> None:
    assert refused(container(b"{}", length=3)) == (
        "truncated",
        "header of 3 bytes ends after the file, which has 10 bytes",
    )


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        (b"", "header-not-object", "header starts with b'', expected b'{'"),
        (b"[]", "header-not-object", "header starts with b'[', expected b'{'"),
        (b" {}", "header-not-object", "header starts with b' ', expected b'{'"),
        (b"GGUF", "header-not-object", "header starts with b'G', expected b'{'"),
        (
            b"{",
            "not-json",
            "header: not JSON in UTF-8: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (b'{"a":NaN}', "not-json", "header: not JSON in UTF-8: NaN is not a JSON number"),
        (b'{"a":-Infinity}', "not-json", "header: not JSON in UTF-8: -Infinity is not a JSON number"),
        (b'{"a":1e999}', "not-json", "header: not JSON in UTF-8: number 1e999 is too large"),
        (
            b'{"a":' + b"9" * 400 + b"}",
            "not-json",
            f"header: not JSON in UTF-8: number {'9' * 20} is too large",
        ),
        (b'{"a":1,"b":2,"a":3}', "repeated-key", "header: name 'a' stands twice in one object"),
        (b'{"a":{"x":1,"x":1}}', "repeated-key", "header: name 'x' stands twice in one object"),
        (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", "too-deep", "header: nested more than 64 levels deep"),
        (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "too-deep", "header: nested more than 64 levels deep"),
    ],
)
def test_a_header_that_is_no_strict_json_is_refused(raw: bytes, code: str, message: str) -> None:
    assert refused(container(raw)) == (code, message)


@pytest.mark.parametrize("raw", [b'{"\xff":1}', b'{"a":"\\ud800"}', b'{"\\udfff":1}', b'{"a":"\xed\xa0\x80"}', b"{}\0"])
def test_a_header_with_broken_text_is_refused(raw: bytes) -> None:
    code, message = refused(container(raw))
    assert code == "not-json"
    assert message.startswith("header: not JSON in UTF-8: ")


@pytest.mark.parametrize("metadata", [1, [], None, "x", {"air": 1}, {"a": {}}, {"a": None}])
def test_metadata_that_is_no_object_of_strings_is_refused(metadata: Any) -> None:
    raw = json.dumps({"__metadata__": metadata}).encode()
    assert refused(container(raw)) == ("metadata-form", "__metadata__: expected an object of strings")


@pytest.mark.parametrize(
    ("bad", "got"),
    [
        (1, "int"),
        (None, "NoneType"),
        ([], "list"),
        ({}, "[]"),
        ({"dtype": "F32", "shape": []}, "['dtype', 'shape']"),
        (row(note=1), "['data_offsets', 'dtype', 'note', 'shape']"),
    ],
)
def test_a_table_row_of_another_form_is_refused(bad: Any, got: str) -> None:
    expected = f"w: expected exactly dtype, shape and data_offsets, got {got}"
    assert refused(one(bad)) == ("tensor-form", expected)


@pytest.mark.parametrize("dtype", ["F4", "f32", "", "F128", 7, None, ["F32"], {"F32": 1}])
def test_an_unknown_dtype_is_refused(dtype: Any) -> None:
    expected = f"w: dtype {dtype!r} (known: {', '.join(DTYPE_BYTES)})"
    assert refused(one(row(dtype))) == ("unknown-dtype", expected)


@pytest.mark.parametrize("shape", [None, 1, "1", {}, [-1], [True], [1.0], [1.5], ["1"], [None], [[1]], [2**53]])
def test_a_shape_that_is_no_list_of_sizes_is_refused(shape: Any) -> None:
    seen = json.loads(json.dumps(shape), parse_int=lambda text: int(text) if len(text) < 16 else float(text))
    assert refused(one(row(shape=shape))) == ("shape-form", f"w: shape {seen!r}: expected a list of integers from 0")


def test_a_shape_of_too_many_axes_is_refused() -> None:
    assert refused(one(row(shape=[1] * 17))) == ("shape-form", "w: shape of 17 axes: expected at most 16")


def test_a_shape_of_a_million_axes_is_refused_quickly() -> None:
    assert refused(one(row(shape=[2**52] * 1_000_00)))[0] == "shape-form"


@pytest.mark.parametrize("shape", [[2**52, 2**52], [2**53 - 1, 2**10], [2**31, 2**31, 0]])
def test_a_shape_whose_product_overflows_is_refused(shape: list[int]) -> None:
    assert refused(one(row(shape=shape))) == ("shape-overflow", f"w: shape {tuple(shape)} is too large")


@pytest.mark.parametrize("offsets", [None, 4, [4], [0, 4, 8], [4, 0], [-4, 0], [0.0, 4], [False, 4], "04", [0, 2**60]])
def test_offsets_that_are_no_pair_of_sizes_are_refused(offsets: Any) -> None:
    seen = json.loads(json.dumps(offsets), parse_int=lambda text: int(text) if len(text) < 16 else float(text))
    assert refused(one(row(offsets=offsets))) == ("offsets-form", f"w: data_offsets {seen!r}: expected [begin, end]")


def test_offsets_that_do_not_fit_the_shape_are_refused() -> None:
    expected = "w: F32 of shape (1,) has 4 bytes, data_offsets hold 8"
    assert refused(one(row(offsets=(0, 8)), b"12345678")) == ("size-mismatch", expected)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_tensors_that_overlap_are_refused(start: int) -> None:
    raw = json.dumps({"a": row("U8", [4], [0, 4]), "b": row("U8", [4], [start, start + 4])}).encode()
    expected = f"b: starts at {start}, before the end 4 of its neighbour"
    assert refused(container(raw, bytes(start + 4))) == ("overlap", expected)


def test_an_empty_tensor_inside_another_is_refused() -> None:
    raw = json.dumps({"a": row("U8", [4], [0, 4]), "b": row("U8", [0], [2, 2])}).encode()
    assert refused(container(raw, b"1234")) == ("overlap", "b: starts at 2, before the end 4 of its neighbour")


def test_two_tensors_on_the_same_bytes_are_refused() -> None:
    raw = json.dumps({"a": row("U8", [4], [0, 4]), "b": row("U8", [4], [0, 4])}).encode()
    assert refused(container(raw, b"1234")) == ("overlap", "b: starts at 0, before the end 4 of its neighbour")


def test_a_hole_between_tensors_is_refused() -> None:
    raw = json.dumps({"a": row("U8", [2], [0, 2]), "b": row("U8", [2], [4, 6])}).encode()
    assert refused(container(raw, b"123456")) == ("hole", "b: starts at 4, 2 bytes after its neighbour")


def test_a_hole_before_the_first_tensor_is_refused() -> None:
    assert refused(one(row(offsets=(4, 8)), b"12345678")) == ("hole", "w: starts at 4, 4 bytes after its neighbour")


def test_bytes_after_the_last_tensor_are_refused() -> None:
    assert refused(one(row(), b"12345")) == ("trailing-bytes", "1 bytes stand after the last tensor")


def test_a_tensor_that_ends_after_the_file_is_refused() -> None:
    expected = "w: ends at byte 4 of the tensor data, which has 3"
    assert refused(one(row(), b"123")) == ("truncated", expected)


@pytest.mark.parametrize("name", ["", "n" * 1025])
def test_a_tensor_name_of_no_or_too_many_characters_is_refused(name: str) -> None:
    expected = f"tensor name of {len(name)} characters: expected 1 to 1024"
    assert refused(one(row(), name=name)) == ("tensor-name", expected)


def test_more_tensors_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ual_registry.air.header.MAX_TENSORS", 2)
    raw = json.dumps({str(index): row("U8", [0], [0, 0]) for index in range(3)}).encode()
    assert refused(container(raw)) == ("too-many-tensors", "3 tensors are over the limit of 2")
    assert MAX_TENSORS == 200_000


def test_a_file_cut_at_any_byte_is_refused(air_file: Path, tmp_path: Path) -> None:
    data = air_file.read_bytes()
    cut = tmp_path / "cut.air"
    for length in range(len(data)):
        with cut.open("wb") as stream:
            stream.write(data[:length])
        report = validate_file(cut)
        assert [problem.code for problem in report.errors][:1] == ["truncated"], length
        with pytest.raises(ContainerError):
            read(cut)


def test_a_byte_after_the_end_is_refused(air_file: Path) -> None:
    air_file.write_bytes(air_file.read_bytes() + b"\0")
    with pytest.raises(ContainerError) as caught:
        read(air_file)
    assert caught.value.problem_code == "trailing-bytes"
    assert caught.value.message == f"{air_file}: 1 bytes stand after the last tensor"


def test_a_foreign_safetensors_file_is_no_air_file(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(one(row()))
    with pytest.raises(ContainerError) as caught:
        read(path)
    assert caught.value.problem_code == "not-air"
    assert caught.value.message == f"{path}: __metadata__: expected exactly the key 'air', found none"
    assert caught.value.hint == (
        "a safetensors file but no AIR file; a PEFT folder becomes one by 'ual convert FOLDER FILE.air --base BASE'"
    )


def rewrite(path: Path, change: Any) -> list[tuple[str, str]]:
    """Change header and data of a legal file, and return the (code, place) of every fault."""
    header, data = split_container(path.read_bytes())
    changed = change(header, data)
    path.write_bytes(changed)
    return [(problem.code, problem.place) for problem in validate_file(path).errors]


def test_a_second_metadata_key_is_refused(air_file: Path) -> None:
    def change(header: dict[str, Any], data: bytes) -> bytes:
        header["__metadata__"]["format"] = "pt"
        return container(header, data)

    assert rewrite(air_file, change) == [("not-air", "")]


def test_a_header_in_another_json_form_is_refused(air_file: Path) -> None:
    def change(header: dict[str, Any], data: bytes) -> bytes:
        raw = json.dumps(header).encode()
        return container(raw + b" " * (-(8 + len(raw)) % 64), data)

    assert rewrite(air_file, change) == [("not-canonical", "")]


def test_a_header_padded_to_another_length_is_refused(air_file: Path) -> None:
    def change(header: dict[str, Any], data: bytes) -> bytes:
        raw = encode_header(header)[8:]
        return container(raw + b" " * 64, data)

    assert rewrite(air_file, change) == [("not-canonical", "")]


def test_tensors_in_another_order_are_refused(air_file: Path) -> None:
    def change(header: dict[str, Any], data: bytes) -> bytes:
        first, second = "layers.0.mlp_up.lora_A", "layers.0.attention_query.lora_A"
        assert header[first]["shape"] == header[second]["shape"]
        header[first], header[second] = header[second], header[first]
        return container(header, data)

    assert rewrite(air_file, change) == [
        ("unsorted", "layers.0.mlp_up.lora_A"),
        ("tensor-digest", "manifest.tensor_digest"),
    ]


def test_a_misaligned_tensor_is_refused(air_file: Path) -> None:
    def change(header: dict[str, Any], data: bytes) -> bytes:
        name = "extra.base_model.model.score.weight"
        for other, info in header.items():
            if other not in ("__metadata__", name):
                info["data_offsets"] = [offset + 3 for offset in info["data_offsets"]]
        header[name]["data_offsets"] = [0, 3]
        return container(header, data[-3:] + data[:-3])

    assert rewrite(air_file, change) == [("misaligned", "layers.0.attention_key.lora_B")]


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    path = tmp_path / "absent.air"
    for reader in (read, validate_file):
        with pytest.raises(StorageError) as caught:
            reader(path)
        assert caught.value.message == f"cannot read {path}: No such file or directory"
        assert caught.value.hint == "check the path"


def test_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        read(tmp_path)
    assert caught.value.message == f"cannot read {tmp_path}: Is a directory"


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 63, 64, 500])
def test_random_bytes_never_make_a_traceback(tmp_path: Path, length: int) -> None:
    path = tmp_path / "noise.air"
    for seed in range(20):
        path.write_bytes(bytes((seed * 131 + index * 89 + index**2) % 256 for index in range(length)))
        with pytest.raises(UALError):
            read(path)
