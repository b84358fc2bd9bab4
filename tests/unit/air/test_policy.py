"""Policies: every requirement, every limit, and license expressions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.handmade import base_model, small_adapter
from ual_registry.air.model import Lineage, Manifest, Parent, Statement
from ual_registry.air.policy import REQUIREMENTS, Policy, is_license_allowed, policy_problems
from ual_registry.air.problem import Problem
from ual_registry.air.router import Encoder, RouterManifest, Thresholds
from ual_registry.digest import Digest

DIGEST = str(Digest.of_bytes(b"config"))
OTHER = str(Digest.of_bytes(b"other"))


def manifest(**changes: Any) -> Manifest:
    return small_adapter(**changes).manifest


def router(**changes: Any) -> RouterManifest:
    fields: dict[str, Any] = {
        "air_version": "1.0",
        "kind": "router",
        "encoder": Encoder(id="e", config_digest=DIGEST, dimension=2, is_normalized=True),
        "domains": (),
        "temperature": 1.0,
        "thresholds": Thresholds(max_distance=1.0, min_probability=0.5, min_margin=0.1),
        "tensor_digest": DIGEST,
        "manifest_digest": DIGEST,
    }
    return RouterManifest(**{**fields, **changes})


def problems(document: Manifest | RouterManifest, **policy: Any) -> list[Problem]:
    return list(policy_problems(document, 1000, Policy(**policy)))


def problem(code: str, place: str, message: str, hint: str | None = None) -> Problem:
    return Problem(code=code, place=place, message=message, hint=hint, branch="rule")


PIN = problem(
    "policy-pinned-base",
    "manifest.base_model.revision",
    "the policy requires a commit",
    "convert again with --base-revision COMMIT",
)
LICENSE = problem(
    "policy-license",
    "manifest.license",
    "the policy requires a license",
    "convert again with --license SPDX-EXPRESSION",
)
LINEAGE = problem("policy-lineage", "manifest.lineage", "the policy requires the artifacts that this one was made from")
EVALUATION = problem("policy-evaluation", "manifest.provenance", "the policy requires a statement of type 'evaluation'")


def test_the_empty_policy_asks_for_nothing() -> None:
    assert problems(manifest(base_model=base_model(revision=None))) == []


def test_every_requirement_has_a_problem_of_its_own_in_one_order() -> None:
    bare = manifest(base_model=base_model(revision=None))
    assert list(REQUIREMENTS) == ["pinned-base", "license", "lineage", "evaluation"]
    expected = [PIN, LICENSE, LINEAGE, EVALUATION]
    assert problems(bare, require=tuple(reversed(REQUIREMENTS))) == expected
    assert [problems(bare, require=(name,)) for name in REQUIREMENTS] == [[found] for found in expected]


@pytest.mark.parametrize("revision", ["main", "v1.0", "0" * 39, "0" * 41, "A" * 40, "refs/pr/1"])
def test_a_base_model_is_not_pinned_by_what_may_move(revision: str) -> None:
    message = f"the policy requires a commit, got {revision!r} (expected 40 hexadecimal digits)"
    assert problems(manifest(base_model=base_model(revision=revision)), require=("pinned-base",)) == [
        dataclasses.replace(PIN, message=message)
    ]


def test_what_is_there_is_no_problem() -> None:
    full = manifest(
        license="MIT",
        lineage=Lineage(parents=(Parent(digest=DIGEST, relation="projected_from"),)),
        provenance=(Statement(type="projection", builder={}), Statement(type="evaluation", builder={})),
    )
    assert problems(full, require=tuple(REQUIREMENTS)) == []
    assert problems(manifest(provenance=(Statement(type="projection", builder={}),)), require=("evaluation",)) == [
        EVALUATION
    ]


def test_a_router_has_no_base_model() -> None:
    assert problems(router(), require=tuple(REQUIREMENTS), allowed_base_models=()) == [LICENSE, LINEAGE, EVALUATION]
    assert problems(router(license="MIT"), allowed_licenses=("MIT",)) == []


def test_a_license_is_of_the_list() -> None:
    message = "'GPL-3.0-only' is not allowed by the policy (allowed: MIT, Apache-2.0)"
    assert problems(manifest(license="GPL-3.0-only"), allowed_licenses=("MIT", "Apache-2.0")) == [
        problem("policy-license-allowed", "manifest.license", message)
    ]
    assert problems(manifest(license="mit"), allowed_licenses=("MIT",)) == []
    assert problems(manifest(), allowed_licenses=()) == [
        problem("policy-license-allowed", "manifest.license", "none is not allowed by the policy (allowed: none)")
    ]


@pytest.mark.parametrize("allowed", [("tiny",), ("other", "t*"), ("t?ny",), (DIGEST,)])
def test_a_base_model_is_named_by_id_pattern_or_config_digest(allowed: tuple[str, ...]) -> None:
    assert problems(manifest(), allowed_base_models=allowed) == []


@pytest.mark.parametrize("allowed", [("Tiny",), ("tin", "iny"), (OTHER,), ()])
def test_another_base_model_is_a_problem(allowed: tuple[str, ...]) -> None:
    listed = ", ".join(allowed) or "none"
    assert problems(manifest(), allowed_base_models=allowed) == [
        problem(
            "policy-base-model",
            "manifest.base_model.id",
            f"'tiny' is not allowed by the policy (allowed: {listed})",
        )
    ]


def test_a_file_over_the_limit_is_a_problem() -> None:
    assert problems(manifest(), max_size_bytes=1000) == []
    assert problems(manifest(), max_size_bytes=999) == [
        problem("policy-size", "", "file of 1000 bytes is over the policy's limit of 999")
    ]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        (" mit ", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("GPL-3.0-only or MIT", True),
        ("GPL-3.0-only OR AGPL-3.0-only", False),
        ("MIT AND Apache-2.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only AND MIT", False),
        ("GPL-3.0-only AND MIT OR MIT", True),
        ("MIT OR GPL-3.0-only AND GPL-3.0-only", True),
        ("(MIT OR GPL-3.0-only) AND GPL-3.0-only", False),
        ("(MIT OR GPL-3.0-only) AND (Apache-2.0)", True),
        ("((MIT))", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True),
        ("GPL-2.0-only  with   Classpath-exception-2.0", True),
        ("GPL-2.0-only", False),
        ("MIT WITH x", False),
        ("", False),
        ("MIT MIT", False),
        ("MIT OR", False),
        ("OR MIT", False),
        ("MIT OR AND MIT", False),
        ("(MIT", False),
        ("MIT)", False),
        ("()", False),
        (")", False),
        ("(MIT MIT)", False),
        ("(" * 5000 + "MIT" + ")" * 5000, False),
    ],
)
def test_a_license_expression_is_allowed_where_a_choice_is(expression: str, expected: bool) -> None:
    allowed = ["MIT", "Apache-2.0", "GPL-2.0-only WITH  Classpath-exception-2.0"]
    assert is_license_allowed(expression, allowed) is expected
