"""Tiny base models, and a source adapter that has learnt the toy language; made once for all tests of this room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.distillation.material import fit, make_base, sentences
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Manifest, Method
from ual_registry.air.read import read
from ual_registry.air.versions import AIR_VERSION
from ual_registry.air.write import write
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.distillation.trainee import module_ranks, trainee
from ual_registry.models.loaded import LoadedBase, load_base_model


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distillation")


@pytest.fixture(scope="session")
def source(places: Path) -> LoadedBase:
    """The source: a start token of its own, short tokens."""
    return load_base_model(make_base(places / "source", vocab_size=280, has_start=True, seed=1))


@pytest.fixture(scope="session")
def target(places: Path) -> LoadedBase:
    """The target: another model with longer tokens, and no start token before a text."""
    folder = make_base(places / "target", vocab_size=320, has_start=False, seed=2, hidden_size=48)
    return load_base_model(folder)


@pytest.fixture(scope="session")
def adapter(source: LoadedBase, places: Path) -> Named:
    """An adapter of the source that has learnt the toy language, read from its file."""
    recipe = Recipe(rank=4, alpha=8.0)
    with trainee(source, recipe, module_ranks(source.binding, recipe, {})) as student:
        factors = list(student.parameters().values())
        fit(student.model, source.tokenizer, factors, sentences(240, seed=2), steps=120, learning_rate=1e-2)
        entries, tensors = student.entries()
    manifest = Manifest(
        air_version=AIR_VERSION,
        kind="adapter",
        base_model=replace(source.base, id="source"),
        method=Method(
            type="lora",
            task_type="CAUSAL_LM",
            rank=4,
            alpha=8.0,
            scaling_rule="alpha/rank",
            dropout=0.0,
            bias="none",
            dora=False,
        ),
        entries=entries,
        name="toy language",
    )
    digest = write(Adapter(manifest, tensors), places / "adapter.air")
    return Named(adapter=read(places / "adapter.air"), digest=digest)
