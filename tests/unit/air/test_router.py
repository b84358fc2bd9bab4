"""Router files: read as what they are, every rule by its code, and no adapter."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import floats
from ual_registry.air.canonical import canonical_bytes
from ual_registry.air.codec import encode
from ual_registry.air.document import seal
from ual_registry.air.header import METADATA_KEY
from ual_registry.air.read import read
from ual_registry.air.router import ROUTER_FACTORS, Domain, Encoder, RouterManifest, Thresholds
from ual_registry.air.scan import scan_tensors
from ual_registry.air.tensor import Tensor
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write_container
from ual_registry.errors import RuleError

DIGEST = "sha256:" + "0" * 64


def indices(count: int) -> Tensor:
    return Tensor.of_bytes("I32", (count,), bytes(4 * count))


def router_tensors() -> dict[str, Tensor]:
    return {
        "classifier.weight": floats(4, 3),
        "classifier.bias": floats(4),
        "classifier.domain": indices(4),
        "prototypes.vector": floats(5, 3),
        "prototypes.domain": indices(5),
    }


def router(**changes: Any) -> RouterManifest:
    made = RouterManifest(
        air_version="1.0",
        kind="router",
        encoder=Encoder(id="e", config_digest=DIGEST, dimension=3, is_normalized=True),
        domains=(Domain(name="law", adapter=DIGEST, examples=9), Domain(name="medicine", examples=7)),
        temperature=1.5,
        thresholds=Thresholds(max_distance=0.5, min_probability=0.25, min_margin=0.125),
        tensor_digest="",
        manifest_digest="",
    )
    return dataclasses.replace(made, **changes)


def write_router(path: Path, manifest: RouterManifest, tensors: dict[str, Tensor]) -> None:
    sealed = seal(manifest, scan_tensors(tensors).tensor_digest)
    write_container(path, tensors, {METADATA_KEY: canonical_bytes(encode(sealed)).decode()})


def faults(tmp_path: Path, manifest: RouterManifest, tensors: dict[str, Tensor]) -> list[tuple[str, str, str]]:
    write_router(tmp_path / "r.air", manifest, tensors)
    return [(item.code, item.place, item.message) for item in validate_file(tmp_path / "r.air").problems]


def test_a_router_file_is_legal_and_says_what_it_holds(tmp_path: Path) -> None:
    write_router(tmp_path / "r.air", router(), router_tensors())
    report = validate_file(tmp_path / "r.air")
    assert report.problems == ()
    assert {key: report.facts[key] for key in ("kind", "domains", "tensors")} == {
        "kind": "router",
        "domains": 2,
        "tensors": 5,
    }


def test_a_router_is_no_adapter(tmp_path: Path) -> None:
    path = tmp_path / "r.air"
    write_router(path, router(), router_tensors())
    with pytest.raises(RuleError) as caught:
        read(path)
    assert (caught.value.problem_code, caught.value.message) == ("kind", f"{path}: is a router, expected an adapter")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"domains": (Domain(name="b", examples=1), Domain(name="a", examples=1))},
            ("domains", "manifest.domains", "expected distinct names in order"),
        ),
        (
            {"domains": (Domain(name="a", examples=1), Domain(name="a", examples=1))},
            ("domains", "manifest.domains", "expected distinct names in order"),
        ),
        ({"features": ("dora",)}, ("features", "manifest.features", "expected none for a router, got ['dora']")),
        (
            {"encoder": Encoder(id="e", config_digest=DIGEST, dimension=2, is_normalized=True)},
            ("shape", "classifier.weight", "shape (4, 3) does not match ('clusters', 'dimension') (expected (4, 2))"),
        ),
    ],
)
def test_a_router_manifest_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert faults(tmp_path, router(**changes), router_tensors())[0] == expected


@pytest.mark.parametrize("name", sorted(ROUTER_FACTORS))
def test_a_router_without_one_of_its_tensors_is_refused(tmp_path: Path, name: str) -> None:
    tensors = router_tensors()
    del tensors[name]
    text = "a router needs this tensor, the file does not hold it"
    assert faults(tmp_path, router(), tensors)[0] == ("missing-tensor", name, text)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"other": floats(1)}, ("unnamed-tensor", "other", "a router has no such tensor")),
        (
            {"classifier.domain": floats(4)},
            ("factor-dtype", "classifier.domain", "dtype F32, expected one of I32"),
        ),
        (
            {"classifier.bias": indices(4)},
            ("factor-dtype", "classifier.bias", "dtype I32, expected one of BF16, F16, F32, F64"),
        ),
        (
            {"classifier.bias": floats(3)},
            ("shape", "classifier.bias", "shape (3,) does not match ('clusters',) (expected (4,))"),
        ),
        (
            {"prototypes.vector": floats(5)},
            (
                "shape",
                "prototypes.vector",
                "shape (5,) does not match ('prototypes', 'dimension') (expected (0, 3))",
            ),
        ),
        (
            {"prototypes.vector": floats(0, 3), "prototypes.domain": indices(0)},
            (
                "shape",
                "prototypes.vector",
                "shape (0, 3) does not match ('prototypes', 'dimension') (expected (0, 3))",
            ),
        ),
    ],
)
def test_a_router_tensor_of_another_form_is_refused(
    tmp_path: Path, tensors: dict[str, Tensor], expected: tuple[str, str, str]
) -> None:
    assert faults(tmp_path, router(), router_tensors() | tensors)[0] == expected
