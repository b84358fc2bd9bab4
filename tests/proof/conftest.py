"""The order of the proof: all tests of one case one after the other, so that they share its models.

That they run in one process too is the work of tests/sharing.py, which hands them out to the workers.

What the tests run of the package is the same for every model type, and other rooms run it too, all but inference. So
that alone is counted as covered, and for a few types: counting takes half of the time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_PROOF = Path(__file__).parent
_COUNTED = ("bert", "deepseek_v3", "gemma3", "gpt2", "jamba", "llama", "mamba", "mixtral", "phi3", "t5", "whisper")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests of this folder by case and leave all others where they stand."""
    places = [index for index, item in enumerate(items) if item.path.is_relative_to(_PROOF)]
    ordered = sorted((items[index] for index in places), key=_case)
    for index, item in zip(places, ordered, strict=True):
        items[index] = item
        case = _case(item)
        if item.path.name != "test_inference.py" or (case and case not in _COUNTED):
            item.add_marker(pytest.mark.no_cover)


def _case(item: pytest.Item) -> str:
    return str(item.callspec.params.get("case", "")) if hasattr(item, "callspec") else ""
