"""How the encoder of a router is found: the usual one on the Hub, any other there, or a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.hub_server.fixtures import HubEnvironment
from tests.hub_server.server import HubSite
from tests.unit.dispatch.clouds import fitted
from ual_registry.dispatch.encode import View
from ual_registry.dispatch.router import Router
from ual_registry.errors import HubError, RouteError
from ual_registry.workflows.encoders import DEFAULT_ENCODER, find_encoder, matching_encoder

NOT_NEEDED = {
    "pytorch_model.bin": b"a pickle",
    "onnx/model.json": b"{}",
    "openvino/model.txt": b"",
    "README.md": b"# Hi",
}


@pytest.fixture
def hub_transport() -> str:
    """How large files travel is tested where files are fetched; here once is enough."""
    return "lfs"


@pytest.fixture
def published(hub_site: HubSite, hub_env: HubEnvironment, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Publish the tiny encoder as the usual one, and return its commit."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(hub_env.home.parent / "own-cache"))
    files = {str(path.relative_to(encoder_folder)): path for path in encoder_folder.rglob("*") if path.is_file()}
    return hub_site.put(DEFAULT_ENCODER, {**files, **NOT_NEEDED})


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def router_of(**identity: object) -> Router:
    router = fitted(5).router
    encoder = replace(router.manifest.encoder, **identity)  # type: ignore[arg-type]
    return replace(router, manifest=replace(router.manifest, encoder=encoder))


def test_the_usual_encoder_comes_from_the_hub_at_a_commit_and_is_fetched_once(
    published: str, hub_site: HubSite, hub_env: HubEnvironment, encoder_folder: Path
) -> None:
    assert DEFAULT_ENCODER == "sentence-transformers/all-MiniLM-L6-v2"
    found, local = find_encoder(), find_encoder(encoder_folder)
    assert found.identity == replace(local.identity, id=DEFAULT_ENCODER, revision=published)
    assert found.encode(["money"]).tolist() == local.encode(["money"]).tolist()
    (folder,) = (hub_env.home.parent / "own-cache").rglob(published)
    assert files_of(folder) == files_of(encoder_folder) - {"README.md"}  # no pickle, no other engine's files
    hub_site.clear_log()
    router = router_of(**{name: getattr(found.identity, name) for name in found.identity.__dataclass_fields__})
    assert matching_encoder(router).identity == found.identity
    assert [str(own) for own in hub_site.log] == []  # so that a router works without a connection, too


def test_a_router_of_the_plain_view_gets_the_plain_view(encoder_folder: Path) -> None:
    found = find_encoder(encoder_folder, dimension=32)
    assert (found.view, found.identity.dimension) == (View.PLAIN, 32)


def test_what_is_no_encoder_is_told(hub_env: HubEnvironment) -> None:
    with pytest.raises(RouteError) as caught:
        find_encoder("all-MiniLM-L6-v2")
    assert (caught.value.message, caught.value.hint) == (
        "all-MiniLM-L6-v2: there is no such folder",
        "give the folder of a sentence-transformers model, or OWNER/NAME on the Hub",
    )
    with pytest.raises(HubError, match="nobody/encoder"):
        find_encoder("nobody/encoder")
