"""The extras bring what the rooms behind them need, and nothing relies on another extra for it."""

from __future__ import annotations

import importlib.metadata

from packaging.requirements import Requirement


def brought_by(extra: str) -> set[str]:
    """Return the packages that an extra asks for."""
    asked = [Requirement(text) for text in importlib.metadata.requires("ual-registry") or ()]
    return {item.name for item in asked if item.marker and item.marker.evaluate({"extra": extra})}


def test_the_torch_extra_brings_numpy_through_which_torch_hands_out_bytes() -> None:
    assert brought_by("torch") - brought_by("") == {"numpy", "torch"}


def test_the_base_install_brings_no_framework() -> None:
    asked = [Requirement(text) for text in importlib.metadata.requires("ual-registry") or ()]
    always = {item.name for item in asked if item.marker is None}
    assert always & {"torch", "numpy", "transformers", "peft", "safetensors"} == set()
    assert "sqlalchemy" in always
