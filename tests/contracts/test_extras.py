"""The extras bring what the rooms behind them need, and nothing relies on another extra for it."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

from packaging.requirements import Requirement


def brought_by(extra: str) -> set[str]:
    """Return the packages that an extra asks for."""
    asked = [Requirement(text) for text in importlib.metadata.requires("ual-registry") or ()]
    return {item.name for item in asked if item.marker and item.marker.evaluate({"extra": extra})}


def test_the_torch_extra_brings_all_that_base_models_and_maps_need() -> None:
    # torch hands out bytes through numpy, and does not bring it; neurons are matched with scipy.
    assert brought_by("torch") - brought_by("") == {"numpy", "safetensors", "scipy", "torch", "transformers"}


def test_every_extra_that_an_error_names_is_there() -> None:
    known = set(importlib.metadata.metadata("ual-registry").get_all("Provides-Extra") or ())
    source = "".join(file.read_text() for file in Path("ual_registry").rglob("*.py"))
    named = set(re.findall(r'MissingExtraError\(\s*"([a-z]+)"', source))
    assert named - known == set()
    assert {"torch", "train", "plot", "postgres"} <= named


def test_the_base_install_brings_no_framework() -> None:
    asked = [Requirement(text) for text in importlib.metadata.requires("ual-registry") or ()]
    always = {item.name for item in asked if item.marker is None}
    assert always & {"torch", "numpy", "transformers", "peft", "safetensors"} == set()
    assert "sqlalchemy" in always
