"""The order of the proof: all tests of one case one after the other, so that they can share its models."""

from __future__ import annotations

from pathlib import Path

import pytest

_PROOF = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests of this folder by case and leave all others where they stand."""
    places = [index for index, item in enumerate(items) if item.path.is_relative_to(_PROOF)]
    ordered = sorted((items[index] for index in places), key=_case)
    for index, item in zip(places, ordered, strict=True):
        items[index] = item


def _case(item: pytest.Item) -> str:
    return str(item.callspec.params.get("case", "")) if hasattr(item, "callspec") else ""
