"""A Hub, a registry and an adapter for each test, and waits that take no time."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.utils.tqdm  # noqa: F401  # the fixtures patch what is loaded
import pytest

from examples.tiny_adapter import make_tiny_models
from tests.faults.hub.scene import Material, Scene
from tests.hub_server.fixtures import HubEnvironment
from ual_registry.hub import conduct, upload
from ual_registry.workflows import push
from ual_registry.workflows.convert import Labels, convert_to_air


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """An adapter of 156 kB as AIR, and as the PEFT pair that it was made of."""
    folder = tmp_path_factory.mktemp("material")
    make_tiny_models(folder / "tour")
    convert_to_air(folder / "tour/adapter", folder / "t.air", base=folder / "tour/base", labels=Labels(name="Triage"))
    config = json.loads((folder / "tour/adapter/adapter_config.json").read_text())
    pair = {
        "adapter_model.safetensors": (folder / "tour/adapter/adapter_model.safetensors").read_bytes(),
        "adapter_config.json": json.dumps(
            {**config, "base_model_name_or_path": "team/base", "revision": None}
        ).encode(),
    }
    return Material(
        air=(folder / "t.air").read_bytes(), pair=pair, base=(folder / "tour/base/config.json").read_bytes()
    )


@pytest.fixture
def waits(client_waits: list[float], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let nobody wait before another try in this process, and give the seconds that would have been waited."""
    clock = SimpleNamespace(**{**vars(time), "sleep": client_waits.append})
    for module in (conduct, upload, push):
        monkeypatch.setattr(module, "time", clock)
    return client_waits


@pytest.fixture
def scratch(home: Path, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files, of this process and of those that it starts; and no cache but an own one."""
    del home, waits  # they are set up
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def scene(
    hub_env: HubEnvironment,
    material: Material,
    scratch: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    """An empty Hub and an empty registry; nobody waits before another try, and no picture is drawn."""
    monkeypatch.setattr("ual_registry.workflows.push_material.draw_picture", lambda _: None)
    return Scene(env=hub_env, material=material, scratch=scratch, capture=capsys)
