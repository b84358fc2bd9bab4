"""What a pulled adapter is called where nobody says."""

from __future__ import annotations

import pytest

from ual_registry.errors import RegistryError
from ual_registry.registry.reference import check_name
from ual_registry.workflows.pull_names import adapter_name, adapter_names, legal_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("medical", "medical"),
        ("Llama-3.1_x", "Llama-3.1_x"),
        ("my adapter (v2)", "my-adapter-v2"),
        ("..-x", "x"),
        ("Zürich", "Z-rich"),
        ("日本", "adapter"),
        ("", "adapter"),
        ("x" * 200, "x" * 128),
    ],
)
def test_a_name_becomes_legal(text: str, expected: str) -> None:
    assert legal_name(text) == expected
    assert check_name(expected) == expected


@pytest.mark.parametrize(
    ("path", "is_only", "name", "expected"),
    [
        ("adapter.air", True, None, "many"),
        ("law/own.air", True, None, "many"),
        ("law/own.air", True, "x", "x"),
        ("adapter.air", False, None, "many"),
        ("adapter_model.safetensors", False, None, "many"),
        ("own.air", False, None, "many-own"),
        ("law/adapter.air", False, None, "many-law"),
        ("law/de/adapter_model.safetensors", False, None, "many-law-de"),
        ("law/own.air", False, "x", "x-law-own"),
    ],
)
def test_a_name_tells_an_adapter_from_the_others(path: str, is_only: bool, name: str | None, expected: str) -> None:
    assert adapter_name("team/many", path, is_only=is_only, name=name) == expected


def test_two_that_would_be_called_the_same_are_refused() -> None:
    paths = ["a/b/adapter.air", "a-b.air"]
    with pytest.raises(RegistryError) as caught:
        adapter_names("team/many", paths, is_only=False)
    assert caught.value.message == "team/many: a/b/adapter.air and a-b.air would both be called 'many-a-b'"
    assert caught.value.context == {"repository": "team/many", "paths": paths}
