"""Any history of a registry, exported, imported into a fresh one and exported again, is the same bytes."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.handmade import small_adapter
from tests.oci import check_layout, tree
from ual_registry.air.write import write
from ual_registry.errors import RegistryError
from ual_registry.registry.registry import Registry

_NAMES = ["a", "a-1", "a.b", "B"]
_FILES = 6
_STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(_NAMES), st.integers(0, _FILES - 1)),
    st.tuples(st.just("alias"), st.sampled_from(_NAMES), st.integers(1, 3)),
    st.tuples(st.just("protect"), st.sampled_from(_NAMES), st.integers(1, 3)),
    st.tuples(st.just("yank"), st.sampled_from(_NAMES), st.integers(1, 3)),
    st.tuples(st.just("tag"), st.sampled_from(_NAMES), st.text(st.characters(categories=["L", "N", "S"]), max_size=8)),
    st.tuples(st.just("describe"), st.sampled_from(_NAMES), st.text(st.characters(categories=["L", "Zs"]), max_size=8)),
    st.tuples(st.just("gc"), st.just(""), st.just(0)),
)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files to add."""
    folder = tmp_path_factory.mktemp("adapters")
    paths = [folder / f"{index}.air" for index in range(_FILES)]
    for index, path in enumerate(paths):
        write(small_adapter(description=f"ünï {index}", tags=(f"t{index % 2}",)), path)
    return paths


def do(registry: Registry, adapters: list[Path], step: tuple[str, str, Any]) -> None:
    """Do one thing; what is refused, such as an alias of an adapter that is not there, is no part of the history."""
    word, name, value = step
    try:
        if word == "add":
            registry.add(adapters[value], name=name)
        elif word == "alias":
            registry.alias(name, f"alias{value}", str(value))
        elif word == "protect":
            registry.alias(name, "guarded", str(value), protect=True)
        elif word == "yank":
            registry.yank(f"{name}@{value}", why="ünwanted")
        elif word == "tag":
            registry.tag(name, {"k" + value: value})
        elif word == "describe":
            registry.describe(name, owner=value, description=value)
        else:
            registry.gc(grace=datetime.timedelta(0), yanked=True, apply=True)
    except RegistryError:
        pass


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(_STEPS, max_size=25))
def test_an_export_survives_a_fresh_registry(adapters: list[Path], steps: list[tuple[str, str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        one, two = Registry.open(root / "one"), Registry.open(root / "two")
        for step in steps:
            do(one, adapters, step)

        one.export(root / "first")
        two.import_(root / "first")
        two.export(root / "second")

        assert tree(root / "second") == tree(root / "first")
        check_layout(root / "second")
        assert two.fsck(deep=True).faults == ()
        for registry in (one, two):
            registry.database.engine.dispose()
