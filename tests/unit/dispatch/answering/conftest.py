"""What dispatchers are made of: a base model, a sentence encoder and a router."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.dispatch.answering.stage import Stage, make_stage
from ual_registry.dispatch.encode import load_encoder


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Stage:
    """Return a base model, an encoder and a router to make dispatchers of."""
    return make_stage(tmp_path_factory.mktemp("stage") / "tiny", load_encoder(encoder_folder))
