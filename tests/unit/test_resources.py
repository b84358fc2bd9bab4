"""Where schemas and migrations are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from ual_registry import resources
from ual_registry.errors import StorageError
from ual_registry.resources import resource_folder


def test_the_schemas_of_a_checkout_stand_at_its_top() -> None:
    assert resource_folder("schemas") == Path(__file__).resolve().parents[2] / "schemas"


def test_the_schemas_of_an_installation_stand_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ual_registry" / "schemas").mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "ual_registry")
    assert resource_folder("schemas") == tmp_path / "ual_registry" / "schemas"


def test_an_incomplete_installation_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "ual_registry")
    with pytest.raises(StorageError) as caught:
        resource_folder("schemas")
    assert caught.value.message == "this installation lacks its folder 'schemas'"
    assert caught.value.hint == "install ual-registry again"
