"""What the servers of real dispatchers are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.tiny_encoder import sentence_encoder
from tests.unit.dispatch.answering.stage import Stage, make_stage
from ual_registry.dispatch.encode import load_encoder
from ual_registry.registry.registry import Registry


@dataclass(frozen=True)
class Desk:
    """A base model, a router, and a registry whose adapters ``letter@1`` to ``letter@2`` say A and B."""

    stage: Stage
    encoder: Path
    router: Path
    home: Path
    registry: Registry


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Return a desk; whoever moves its alias moves it back."""
    folder = tmp_path_factory.mktemp("desk")
    encoder, home = folder / "encoder", folder / "home"
    sentence_encoder(encoder)
    stage = make_stage(folder / "tiny", load_encoder(encoder))
    router = folder / "router.air"
    stage.router.save(router)
    return Desk(stage, encoder, router, home, stage.registry(home, "AB"))
