"""Version rules: the lowest version is written, older majors are brought to ours step by step."""

from __future__ import annotations

from typing import Any

import pytest

from ual_registry.air.upgrade import STEPS, upgrade
from ual_registry.air.versions import lowest_version


def step(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "air_version": "1.0", "steps": document.get("steps", 0) + 1}


def test_there_is_no_step_before_there_is_a_second_major() -> None:
    assert STEPS == {}


@pytest.mark.parametrize("version", ["1.0", "1.7"])
def test_a_document_of_our_major_stays_as_it_is(version: str) -> None:
    document = {"air_version": version}
    assert upgrade(document) is document


def test_an_older_major_takes_every_step_to_ours() -> None:
    assert upgrade({"air_version": "0.3"}, steps={0: step}) == {"air_version": "1.0", "steps": 1}


@pytest.mark.parametrize("version", ["0.3", "2.0"])
def test_a_major_that_no_step_leads_from_is_not_ours(version: str) -> None:
    assert upgrade({"air_version": version}, steps={1: step}) is None


def test_the_lowest_version_that_knows_every_feature_is_written() -> None:
    since = {"new": "1.2", "newer": "1.10"}
    assert [lowest_version(features, since=since) for features in ([], ["dora"], ["new"], ["newer", "new"])] == [
        "1.0",
        "1.0",
        "1.2",
        "1.10",
    ]
