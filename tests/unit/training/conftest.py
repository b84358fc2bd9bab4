"""Tiny base models, made once for all tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.training.tiny import save_base
from ual_registry.models.loaded import LoadedBase
from ual_registry.training.heads import load_for_training


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("training") / "llama", "llama")


@pytest.fixture(scope="session")
def llama(llama_folder: Path) -> LoadedBase:
    return load_for_training(llama_folder, "causal")
