"""Laws of the format: what is written is read, the same input gives the same bytes, and no change goes unseen."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.handmade import base_model, floats, method, small_adapter
from ual_registry.air.adapter import Adapter
from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.air.codec import decode, encode
from ual_registry.air.document import decode_manifest, encode_manifest, seal
from ual_registry.air.model import Entry, Extra, Lineage, Manifest, Method, Origin, Parent, RowSlice, Statement
from ual_registry.air.names import FACTORS, TensorName
from ual_registry.air.read import read
from ual_registry.air.roles import ROLES
from ual_registry.air.tensor import DTYPE_BYTES, Tensor
from ual_registry.air.validate import validate_file
from ual_registry.air.versions import parse_version
from ual_registry.air.write import file_digest, write
from ual_registry.digest import Digest

REPOSITORY = Path(__file__).resolve().parents[2]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.one_of(
    st.integers(-(2**53) + 1, 2**53 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()
)
json_values = st.recursive(
    numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
json_numbers = st.lists(
    st.floats(-1e-3, 1e-3) | st.floats(1e14, 1e23) | st.decimals(0, 1, places=7, allow_nan=False).map(float)
)
json_objects = st.dictionaries(texts, json_values, max_size=4)
labels = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
sizes = st.integers(1, 2**31 - 1)


@given(st.binary(max_size=64))
def test_a_digest_is_read_back_as_it_was_printed(data: bytes) -> None:
    digest = Digest.of_bytes(data)
    assert Digest.parse(str(digest)) == digest
    assert Digest.of_chunks(data[index : index + 3] for index in range(0, len(data), 3)) == digest


@given(
    st.builds(
        TensorName,
        stack=st.sampled_from([None, "encoder", "decoder"]),
        layer=st.none() | st.integers(0, 999_999_999),
        role=st.sampled_from(sorted(ROLES)) | st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True),
        expert=st.none() | st.integers(0, 999_999_999),
        factor=st.sampled_from(FACTORS),
    )
)
def test_a_tensor_name_is_read_back_as_it_was_printed(name: TensorName) -> None:
    assert TensorName.parse(str(name)) == name


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_version_is_read_back_as_it_was_printed(major: int, minor: int) -> None:
    assert parse_version(f"{major}.{minor}") == (major, minor)


@given(json_values | json_numbers)
@settings(max_examples=400)
def test_canonical_json_is_that_of_the_reference_and_is_read_back(value: Any) -> None:
    data = canonical_bytes(value)
    assert data == rfc8785.dumps(value)
    assert parse_json(data, what="value") == value
    assert canonical_bytes(parse_json(data, what="value")) == data


entries = st.builds(
    Entry,
    stack=st.sampled_from([None, "encoder", "decoder"]),
    layer=st.none() | st.integers(0, 999_999_999),
    role=st.sampled_from(sorted(ROLES)),
    expert=st.none() | st.integers(0, 999_999_999),
    in_features=sizes,
    out_features=sizes,
    rank=sizes,
    scaling=st.floats(allow_nan=False, allow_infinity=False),
    lora_A=labels,
    lora_B=labels,
    magnitude=st.none() | labels,
    bias=st.none() | labels,
    source=st.none() | labels,
    slice=st.none() | st.builds(RowSlice, offset=sizes, block=sizes, stride=sizes, count=st.integers(1, 65536)),
).filter(lambda entry: entry.slice is None or entry.source is not None)
digests = st.binary(max_size=4).map(lambda data: str(Digest.of_bytes(data)))
builders = st.fixed_dictionaries({"name": labels, "version": labels})
materials = st.fixed_dictionaries({"name": labels, "digest": digests})
manifests = st.builds(
    Manifest,
    air_version=st.just("1.0"),
    kind=st.just("adapter"),
    base_model=st.just(base_model()),
    method=st.builds(
        Method,
        type=st.just("lora"),
        task_type=st.none() | labels,
        rank=sizes,
        alpha=st.floats(allow_nan=False, allow_infinity=False),
        scaling_rule=st.sampled_from(["alpha/rank", "alpha/sqrt(rank)"]),
        dropout=st.floats(0, 1),
        bias=st.sampled_from(["none", "all", "lora_only"]),
        dora=st.booleans(),
    ),
    entries=st.lists(entries, min_size=1, max_size=3).map(tuple),
    name=st.none() | labels,
    languages=st.lists(labels, max_size=2).map(tuple),
    tags=st.lists(labels, max_size=2).map(tuple),
    extra=st.lists(st.builds(Extra, tensor=labels, name=labels), max_size=2).map(tuple),
    lineage=st.none()
    | st.builds(
        Lineage,
        parents=st.lists(
            st.builds(Parent, digest=digests, relation=st.just("merged_from")), min_size=1, unique_by=lambda p: p.digest
        ).map(tuple),
    ),
    provenance=st.lists(
        st.builds(
            Statement,
            type=st.just("projection"),
            builder=builders,
            parameters=st.fixed_dictionaries({"method": labels, "settings": json_objects}),
            materials=st.lists(materials, max_size=2).map(tuple),
            byproducts=st.fixed_dictionaries({}, optional={"kept": st.integers(0, 9), "energy_share": st.floats(0, 1)}),
        ),
        max_size=2,
    ).map(tuple),
    origin=st.none()
    | st.builds(
        Origin,
        format=st.just("peft"),
        config=json_objects,
        metadata=st.dictionaries(texts, texts, max_size=2),
    ),
    annotations=st.dictionaries(st.just("org.example.note"), json_values, max_size=1),
)


@given(manifests)
def test_a_manifest_is_read_back_as_it_was_written(manifest: Manifest) -> None:
    whole = seal(manifest, Digest.of_bytes(b"tensors"))
    text = encode_manifest(whole).decode()
    decoded = decode_manifest(text)

    assert decoded.problems == ()
    assert encode(decoded.manifest) == encode(whole)
    assert decode(Manifest, encode(decoded.manifest)) == decoded.manifest
    assert encode_manifest(decoded.manifest).decode() == text


dtypes = st.sampled_from(["F16", "BF16", "F32", "F64", "I8", "BOOL", "U16", "C64"])


@st.composite
def adapters(draw: st.DrawFn) -> Adapter:
    """Return a legal adapter of one entry and a few extra tensors of any dtype."""
    rank, up = draw(st.integers(1, 4)), "layers.1.mlp_up"
    tensors = {f"{up}.lora_A": floats(rank, 4), f"{up}.lora_B": floats(6, rank)}
    entry = Entry(
        layer=1,
        role="mlp_up",
        in_features=4,
        out_features=6,
        rank=rank,
        scaling=draw(st.floats(0.1, 9)),
        lora_A=f"{up}.lora_A",
        lora_B=f"{up}.lora_B",
    )
    names = sorted(draw(st.lists(labels, max_size=3, unique=True)))
    for name in names:
        shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
        dtype = draw(dtypes)
        size = math.prod(shape) * DTYPE_BYTES[dtype]
        tensors[f"extra.{name}"] = Tensor.of_bytes(dtype, shape, bytes(index % 251 for index in range(size)))
    manifest = Manifest(
        air_version="1.0",
        kind="adapter",
        base_model=base_model(),
        method=method(),
        entries=(entry,),
        extra=tuple(Extra(tensor=f"extra.{name}", name=name) for name in names),
        features=("extra-tensors",) if names else (),
    )
    return Adapter(manifest, tensors)


def contents(adapter: Adapter) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (tensor.dtype, tensor.shape, tensor.to_bytes()) for name, tensor in adapter.tensors.items()}


@given(adapters())
def test_an_adapter_is_read_back_as_it_was_written(tmp_path_factory: Any, made: Adapter) -> None:
    folder = tmp_path_factory.mktemp("law")
    digest = write(made, folder / "one.air")
    with read(folder / "one.air") as back:
        assert contents(back) == contents(made)
        filled = dataclasses.replace(
            made.manifest,
            tensor_digest=back.manifest.tensor_digest,
            manifest_digest=back.manifest.manifest_digest,
        )
        assert back.manifest == filled
        again = write(back, folder / "two.air")
        assert file_digest(back) == digest

    assert again == digest == Digest.of_file(folder / "one.air")
    assert (folder / "one.air").read_bytes() == (folder / "two.air").read_bytes()
    assert validate_file(folder / "one.air").errors == ()


@given(adapters())
def test_the_safetensors_library_reads_the_same_tensors(tmp_path_factory: Any, made: Adapter) -> None:
    import safetensors

    path = tmp_path_factory.mktemp("law") / "one.air"
    write(made, path)
    rows = safetensors.deserialize(path.read_bytes())
    assert {name: (row["dtype"], tuple(row["shape"]), bytes(row["data"])) for name, row in rows} == contents(made)


def test_another_process_writes_the_same_bytes(air_file: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from tests.handmade import small_adapter; from ual_registry.air.write import write; "
        "print(write(small_adapter(), sys.argv[1]))"
    )
    for seed in ("1", "2"):
        other = tmp_path / f"other{seed}.air"
        done = subprocess.run(
            [sys.executable, "-c", code, str(other)],
            cwd=REPOSITORY,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert other.read_bytes() == air_file.read_bytes()
        assert done.stdout == f"{Digest.of_file(air_file)}\n"


def test_the_order_in_which_tensors_are_given_changes_nothing(tmp_path: Path) -> None:
    made = small_adapter()
    turned = Adapter(made.manifest, dict(reversed(made.tensors.items())))
    assert write(made, tmp_path / "one.air") == write(turned, tmp_path / "two.air")


def test_a_change_of_any_single_byte_is_detected(air_file: Path) -> None:
    data = bytearray(air_file.read_bytes())
    assert validate_file(air_file).ok
    missed = []
    with air_file.open("r+b", buffering=0) as stream:
        for position in range(len(data)):
            bit = 1 << (position % 8)
            stream.seek(position)
            stream.write(bytes([data[position] ^ bit]))
            if validate_file(air_file).ok:
                missed.append(position)
            stream.seek(position)
            stream.write(bytes([data[position]]))
    assert missed == []
    assert validate_file(air_file).ok


@given(
    st.dictionaries(
        st.sampled_from(["a", "manifest_diges", "manifest_digest2", "n", "é", "\U00010000", "\ufffd"]),
        st.integers(-9, 9) | st.text(max_size=3),
    ),
    st.text(max_size=5) | st.none(),
)
def test_cutting_out_its_own_digest_is_writing_the_manifest_without_it(others: dict[str, Any], own: str | None) -> None:
    from ual_registry.air.document import _without_own_digest

    document = {**others, "manifest_digest": own}
    assert _without_own_digest(document, canonical_bytes(document)) == canonical_bytes(others)
