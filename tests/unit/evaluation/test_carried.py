"""What of the source reached which layer: read from an adapter's own provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.unit.evaluation.conftest import Scene
from ual_registry.air.model import Manifest, Statement
from ual_registry.evaluation.carried import CarriedEnergy, carried_energy
from ual_registry.transfers.report import LOST_ROLES_KEY


def statement(shares: Mapping[str, float], method: str = "activations") -> Statement:
    """Return the provenance of a transfer that carried so much of each entry."""
    return Statement(
        type="projection",
        builder={"name": "ual-registry", "version": "1"},
        parameters={"method": method},
        materials=(),
        byproducts={"entries": {label: {"energy_kept": share} for label, share in shares.items()}},
    )


@pytest.fixture
def manifest(scene: Scene) -> Manifest:
    """An adapter of two layers, seven roles each."""
    with scene.adapter("weak") as adapter:
        found: Manifest = adapter.manifest
    return found


def test_an_adapter_that_was_never_carried_has_no_shares(manifest: Manifest) -> None:
    assert carried_energy(manifest) is None


def test_a_role_without_a_place_in_the_target_is_left_open_in_every_layer(manifest: Manifest) -> None:
    entries = tuple(entry for entry in manifest.entries if entry.role == "mlp_down")
    made = statement({entry.label: 0.5 for entry in entries})
    made = replace(made, annotations={LOST_ROLES_KEY: ("attention_query",)})
    found = carried_energy(replace(manifest, entries=entries, provenance=(made,)))
    assert found is not None
    assert found.roles == ("attention_query", "mlp_down")
    assert all(math.isnan(share) for share in found.shares[0])
    assert found.shares[1] == (0.5, 0.5)


@pytest.mark.parametrize("noted", [3, {"attention_query": 1}, "attention_query", None])
def test_a_remark_of_another_form_is_passed_over(manifest: Manifest, noted: object) -> None:
    made = replace(statement({manifest.entries[0].label: 0.5}), annotations={LOST_ROLES_KEY: noted})
    found = carried_energy(replace(manifest, entries=manifest.entries[:1], provenance=(made,)))
    assert found is not None
    assert found.roles == (manifest.entries[0].role,)


def test_shares_stand_by_role_and_layer_and_what_got_nothing_is_left_open(manifest: Manifest) -> None:
    entries = tuple(
        entry
        for entry in manifest.entries
        if (entry.layer, entry.role) in {(0, "mlp_down"), (1, "mlp_down"), (1, "attention_value")}
    )
    shares = {entry.label: 0.25 * (1 + index) for index, entry in enumerate(entries)}
    old = statement(dict.fromkeys(shares, 0.125), "svd")
    found = carried_energy(replace(manifest, entries=entries, provenance=(old, statement(shares))))
    by_place = {(entry.role, entry.layer): shares[entry.label] for entry in entries}
    assert found is not None
    (value, down) = found.shares
    assert math.isnan(value[0])
    assert found == CarriedEnergy(
        method="activations",
        layers=("0", "1"),
        roles=("attention_value", "mlp_down"),
        shares=((value[0], by_place["attention_value", 1]), (by_place["mlp_down", 0], by_place["mlp_down", 1])),
    )
    assert down == (by_place["mlp_down", 0], by_place["mlp_down", 1])


def test_a_statement_of_other_entries_says_nothing(manifest: Manifest) -> None:
    assert carried_energy(replace(manifest, provenance=(statement({"layers.9.mlp_down": 0.5}),))) is None
