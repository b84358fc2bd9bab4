"""What dispatchers are made of: a base model, a sentence encoder and a router."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.dispatch.answering.stage import Stage, make_stage
from ual_registry.dispatch.acting import AdapterLoader
from ual_registry.dispatch.encode import load_encoder
from ual_registry.dispatch.mixing import MixingModel


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Stage:
    """Return a base model, an encoder and a router to make dispatchers of."""
    return make_stage(tmp_path_factory.mktemp("stage") / "tiny", load_encoder(encoder_folder))


@pytest.fixture(scope="module")
def loader(stage: Stage) -> Iterator[AdapterLoader]:
    """Yield a loader on the base model; its hooks are taken off again, since the model is that of all tests."""
    model = MixingModel(stage.base.model)
    yield AdapterLoader(model, stage.base.base)
    model.close()
