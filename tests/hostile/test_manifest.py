"""Manifests that contradict themselves, their tensors or this reader; every fault by its own code and place."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from tests.handmade import container, split_container
from ual_registry.air.canonical import parse_json
from ual_registry.air.document import decode_manifest
from ual_registry.air.read import read
from ual_registry.air.validate import validate_file
from ual_registry.digest import Digest
from ual_registry.errors import DigestMismatchError, RuleError, SchemaError, UnsupportedVersionError

Change = Callable[[dict[str, Any]], None]


def sealed(manifest: dict[str, Any]) -> str:
    """Return the canonical text of a manifest with the digest that belongs to it."""
    body = {key: value for key, value in manifest.items() if key != "manifest_digest"}
    digest = str(Digest.of_bytes(rfc8785.dumps(body)))
    return rfc8785.dumps({**body, "manifest_digest": digest}).decode()


def changed(path: Path, change: Change) -> list[tuple[str, str]]:
    """Change the manifest of a legal file, seal it again, and return every fault as (code, place)."""
    header, data = split_container(path.read_bytes())
    manifest = parse_json(header["__metadata__"]["air"].encode(), what="manifest")
    change(manifest)
    header["__metadata__"]["air"] = sealed(manifest)
    path.write_bytes(container(header, data))
    started = time.process_time()
    report = validate_file(path)
    assert time.process_time() - started < 4
    return [(problem.code, problem.place) for problem in report.errors]


def set_entry(index: int, **fields: Any) -> Change:
    return lambda manifest: manifest["entries"][index].update(fields)


KEY, QUERY, UP = "layers.0.attention_key", "layers.0.attention_query", "layers.0.mlp_up"


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (lambda m: m.pop("base_model"), [("schema", "manifest")]),
        (lambda m: m.update(kind="banana"), [("schema", "manifest.kind")]),
        (lambda m: m.update(colour="red"), [("schema", "manifest")]),
        (lambda m: m.update(entries=[]), [("schema", "manifest.entries")]),
        (set_entry(2, rank=0), [("schema", "manifest.entries[2].rank")]),
        (set_entry(2, rank=True), [("schema", "manifest.entries[2].rank")]),
        (set_entry(2, rank=2.5), [("schema", "manifest.entries[2].rank")]),
        (set_entry(2, role="mlp"), [("schema", "manifest.entries[2].role")]),
        (set_entry(2, layer=-1), [("schema", "manifest.entries[2].layer")]),
        (set_entry(2, layer=10**15), [("schema", "manifest.entries[2].layer")]),
        (lambda m: m["base_model"].update(config_digest="md5:0"), [("schema", "manifest.base_model.config_digest")]),
        (lambda m: m.update(tensor_digest=""), [("schema", "manifest.tensor_digest")]),
        (lambda m: m.update(air_version="one"), [("schema", "manifest.air_version")]),
        (lambda m: m.update(air_version=1), [("schema", "manifest.air_version")]),
        (lambda m: m.update(annotations={"plain": 1}), [("schema", "manifest.annotations")]),
        (lambda m: m["method"].update(alpha="8"), [("schema", "manifest.method.alpha")]),
    ],
)
def test_a_manifest_against_its_schema_is_refused(air_file: Path, change: Change, faults: Any) -> None:
    assert changed(air_file, change) == faults
    with pytest.raises(SchemaError):
        read(air_file)


def shrink_stack(**sizes: int) -> Change:
    return lambda manifest: manifest["base_model"]["stacks"][0].update(sizes)


def two_stacks(*names: str | None) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        (stack,) = manifest["base_model"]["stacks"]
        manifest["base_model"]["stacks"] = [{**stack, **({"name": name} if name else {})} for name in names]

    return change


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (
            lambda m: m["entries"].pop(),
            [("unnamed-tensor", f"{UP}.lora_A"), ("unnamed-tensor", f"{UP}.lora_B")],
        ),
        (
            set_entry(2, lora_B=f"{UP}.bias"),
            [("missing-tensor", f"{UP}.bias"), ("unnamed-tensor", f"{UP}.lora_B"), ("tensor-name", f"{UP}.bias")],
        ),
        (
            lambda m: m["entries"].append(m["entries"][2]),
            [("repeated-entry", UP)],
        ),
        (lambda m: m["entries"].reverse(), [("unsorted-entries", "manifest.entries")]),
        (
            set_entry(2, stack="encoder"),
            [
                ("unknown-stack", UP),
                ("tensor-name", f"{UP}.lora_A"),
                ("tensor-name", f"{UP}.lora_B"),
            ],
        ),
        (
            two_stacks("encoder"),
            [
                ("stacks", "manifest.base_model.stacks"),
                ("unknown-stack", KEY),
                ("unknown-stack", QUERY),
                ("unknown-stack", UP),
            ],
        ),
        (two_stacks(None, None), [("stacks", "manifest.base_model.stacks")]),
        (two_stacks(None, "encoder"), [("stacks", "manifest.base_model.stacks")]),
        (
            set_entry(2, layer=7),
            [("layer-range", UP), ("tensor-name", f"{UP}.lora_A"), ("tensor-name", f"{UP}.lora_B")],
        ),
        (
            lambda m: m["entries"][2].pop("layer") and None,
            [
                ("unsorted-entries", "manifest.entries"),
                ("layer-range", UP),
                ("tensor-name", f"{UP}.lora_A"),
                ("tensor-name", f"{UP}.lora_B"),
            ],
        ),
        (
            set_entry(2, lora_A=f"{QUERY}.lora_A"),
            [("unnamed-tensor", f"{UP}.lora_A"), ("tensor-name", f"{QUERY}.lora_A"), ("shared-factor", UP)],
        ),
        (set_entry(2, rank=3), [("shape", f"{UP}.lora_A"), ("shape", f"{UP}.lora_B")]),
        (set_entry(2, in_features=5), [("shape", f"{UP}.lora_A"), ("dimension", UP)]),
        (shrink_stack(intermediate_size=7), [("dimension", UP)]),
        (
            shrink_stack(head_dim=3),
            [("dimension", KEY), ("dimension", QUERY)],
        ),
        (
            lambda m: m["entries"][0]["slice"].update(block=1),
            [("slice", KEY)],
        ),
        (lambda m: m["entries"][0]["slice"].update(stride=1), [("slice", KEY)]),
        (lambda m: m["entries"][0]["slice"].update(offset=1), [("slice", KEY)]),
        (set_entry(0, source="elsewhere"), [("shared-factor", QUERY)]),
        (lambda m: m.pop("features"), [("features", "manifest.features")]),
        (lambda m: m.update(features=["dora", "extra-tensors"]), [("features", "manifest.features")]),
        (lambda m: m["extra"][0].update(name="other"), [("tensor-name", "extra.base_model.model.score.weight")]),
    ],
)
def test_a_manifest_against_its_own_meaning_is_refused(air_file: Path, change: Change, faults: Any) -> None:
    assert changed(air_file, change) == faults
    with pytest.raises(RuleError) as caught:
        read(air_file)
    rest = f" (and {len(faults) - 1} more: run 'ual validate {air_file}')" if len(faults) > 1 else ""
    assert caught.value.message.startswith(f"{air_file}: {faults[0][1]}: ")
    assert caught.value.message.endswith(rest)
    assert caught.value.context == {"place": faults[0][1], "path": str(air_file)}


def test_a_wrong_shape_is_told_with_what_was_expected(air_file: Path) -> None:
    changed(air_file, set_entry(2, rank=3))
    first = validate_file(air_file).errors[0]
    expected = f"{UP}.lora_A: shape (2, 4) does not match rank 3, 4 in, 6 out (expected (3, 4))"
    assert str(first) == expected


def test_a_factor_that_is_no_float_is_refused(air_file: Path) -> None:
    header, data = split_container(air_file.read_bytes())
    header[f"{UP}.lora_A"]["dtype"] = "I32"
    air_file.write_bytes(container(header, data))
    found = [(problem.code, problem.message) for problem in validate_file(air_file).errors]
    assert found[:1] == [("factor-dtype", "dtype I32, expected one of BF16, F16, F32, F64")]
    assert [code for code, _ in found] == ["factor-dtype", "tensor-digest"]


def test_numbers_as_large_as_the_schema_allows_cost_no_time(air_file: Path) -> None:
    huge = 2**31 - 1

    def change(manifest: dict[str, Any]) -> None:
        manifest["base_model"]["stacks"][0].update(num_attention_heads=huge, num_key_value_heads=huge, head_dim=1)
        for entry in manifest["entries"][:2]:
            entry.update(out_features=huge, slice={"offset": 0, "block": huge, "stride": 1, "count": 1})

    assert changed(air_file, change) == [("shape", f"{KEY}.lora_B"), ("shape", f"{QUERY}.lora_B")]


def test_thousands_of_copies_of_one_entry_cost_no_time(air_file: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["entries"] += manifest["entries"][2:] * 5_000

    assert changed(air_file, change) == [("repeated-entry", UP)]


def test_a_not_finite_factor_is_refused_and_one_in_an_extra_is_not(air_file: Path) -> None:
    header, data = split_container(air_file.read_bytes())
    start = header[f"{UP}.lora_B"]["data_offsets"][0]
    air_file.write_bytes(container(header, data[:start] + b"\0\0\xc0\x7f" + data[start + 4 :]))
    assert [(problem.code, problem.place) for problem in validate_file(air_file).errors] == [
        ("non-finite", f"{UP}.lora_B"),
        ("tensor-digest", "manifest.tensor_digest"),
    ]


def test_changed_tensors_do_not_have_their_digest(air_file: Path) -> None:
    data = bytearray(air_file.read_bytes())
    data[-1] ^= 1
    air_file.write_bytes(bytes(data))

    (problem,) = validate_file(air_file).errors
    assert (problem.code, problem.branch) == ("tensor-digest", "digest")
    assert problem.hint == "the tensors were changed after they were written: fetch or copy the file again"
    assert validate_file(air_file, headers_only=True).ok


def test_a_changed_manifest_does_not_have_its_digest(air_file: Path) -> None:
    header, data = split_container(air_file.read_bytes())
    text = header["__metadata__"]["air"]
    header["__metadata__"]["air"] = text.replace('"id":"tiny"', '"id":"tony"')
    air_file.write_bytes(container(header, data))
    with pytest.raises(DigestMismatchError) as caught:
        read(air_file)
    assert caught.value.problem_code == "manifest-digest"
    assert caught.value.hint == "the manifest was changed after it was written"


def test_an_unknown_feature_is_refused_with_the_known_ones(air_file: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["features"] = ["extra-tensors", "warp"]

    assert changed(air_file, change) == [
        ("unknown-feature", "manifest.features"),
        ("features", "manifest.features"),
    ]
    with pytest.raises(UnsupportedVersionError) as caught:
        read(air_file)
    assert "feature 'warp' must be understood and is not (known: dora, lora-bias, extra-tensors)" in str(caught.value)


def test_another_major_version_is_refused_naming_both(air_file: Path) -> None:
    assert changed(air_file, lambda m: m.update(air_version="2.0")) == [("unsupported-version", "manifest.air_version")]
    with pytest.raises(UnsupportedVersionError) as caught:
        read(air_file)
    expected = f"{air_file}: manifest.air_version: AIR version 2.0; this reader supports 1.x (writes 1.0)"
    assert caught.value.message == expected
    assert caught.value.hint == "use a version of ual-registry that reads it"


def test_a_newer_minor_version_with_unknown_fields_is_read_with_a_warning(air_file: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["air_version"] = "1.7"
        manifest["colour"] = "red"
        manifest["entries"][0]["shade"] = 3

    assert changed(air_file, change) == []
    report = validate_file(air_file)
    assert [(problem.code, str(problem)) for problem in report.warnings] == [
        ("newer-version", "manifest.air_version: AIR version 1.7; this reader supports 1.x (writes 1.0)")
    ]
    with read(air_file) as adapter:
        assert adapter.manifest.air_version == "1.7"


def test_a_newer_minor_version_cannot_hide_a_fault_behind_words(air_file: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["air_version"] = "1.7"
        manifest["kind"] = "Additional properties"

    assert changed(air_file, change) == [("schema", "manifest.kind")]


@pytest.mark.parametrize("number", ["2.0", "2e0", "20e-1"])
def test_a_number_in_another_form_is_not_canonical_and_nothing_else(air_file: Path, number: str) -> None:
    header, data = split_container(air_file.read_bytes())
    text = header["__metadata__"]["air"]
    assert '"count":2' in text
    header["__metadata__"]["air"] = text.replace('"count":2', f'"count":{number}').replace(
        '"rank":2', f'"rank":{number}'
    )
    air_file.write_bytes(container(header, data))
    assert [(problem.code, problem.place) for problem in validate_file(air_file).errors] == [
        ("not-canonical", "manifest")
    ]


@pytest.mark.parametrize("text", ["[]", "1", '"x"', "null", "{}"])
def test_a_manifest_that_is_no_manifest_is_refused(text: str) -> None:
    decoded = decode_manifest(text)
    assert decoded.manifest is None
    assert {problem.code for problem in decoded.problems} == {"schema"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not-json"),
        ("{", "not-json"),
        ('{"a":1,"a":2}', "repeated-key"),
        ("[" * 100 + "]" * 100, "too-deep"),
        ('"\udc00"', "not-json"),
        ('{"features":5,"manifest_digest":7}', "schema"),
    ],
)
def test_a_manifest_that_is_no_strict_json_is_refused(text: str, code: str) -> None:
    decoded = decode_manifest(text)
    assert decoded.manifest is None
    assert {problem.code for problem in decoded.problems} == {code}
