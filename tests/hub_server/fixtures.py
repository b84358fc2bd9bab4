"""Fixtures that run a Hub on this machine and point the real client at it, over LFS and over Xet."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.hub_server.server import HubSite, serve

__all__ = ["TRANSPORTS", "HubEnvironment", "client_waits", "hub_env", "hub_site", "hub_transport", "point_client_at"]

TRANSPORTS = ("lfs", "xet")
_UNSET = (
    "HUGGING_FACE_HUB_TOKEN",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_TOKEN_PATH",
    "HF_XET_CACHE",
    "HF_ASSETS_CACHE",
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubEnvironment:
    """The environment of a client of the Hub on this machine.

    Attributes:
        site: The Hub.
        transport: ``lfs`` or ``xet``: how large files travel.
        home: ``HF_HOME``: an own folder, empty but for what the client would ask for once a day.
        variables: What was set in the environment, for a process of one's own making.
    """

    site: HubSite
    transport: str
    home: Path
    variables: dict[str, str]


@pytest.fixture(params=TRANSPORTS)
def hub_transport(request: pytest.FixtureRequest) -> str:
    """How large files travel: a test that asks for ``hub_site`` or ``hub_env`` runs once for each."""
    name: str = request.param
    return name


@pytest.fixture
def hub_site(hub_transport: str, tmp_path: Path) -> Iterator[HubSite]:
    """An empty Hub that runs."""
    with serve(tmp_path / "hub-server", xet=hub_transport == "xet") as site:
        yield site


@pytest.fixture
def hub_env(
    hub_site: HubSite, hub_transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubEnvironment]:
    """Point the client at the Hub, in this process and in those that it starts."""
    home = tmp_path / "hf-home"
    variables = point_client_at(hub_site, hub_transport, home, monkeypatch)
    yield HubEnvironment(site=hub_site, transport=hub_transport, home=home, variables=variables)
    _forget_connections()


@pytest.fixture
def client_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let the client wait no time before it tries again, and give the seconds that it would have waited."""
    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    waits: list[float] = []
    clock = SimpleNamespace(**{**vars(time), "sleep": waits.append})
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", clock)
    return waits


def point_client_at(site: HubSite, transport: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set the client's environment, and give the variables that were set.

    Args:
        site: The Hub.
        transport: ``lfs`` or ``xet``.
        home: ``HF_HOME``; made here.
        monkeypatch: Undoes it all.
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / ".agent_harnesses.json").write_text(json.dumps({"standardEnvVars": [], "harnesses": {}}))
    variables = {
        "HF_ENDPOINT": site.endpoint,
        "HF_TOKEN": site.token,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1" if transport == "lfs" else "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "XDG_CACHE_HOME": str(home.parent / "cache"),  # of ours, beside the client's home
        "HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms",
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "3",
        "NO_PROXY": "127.0.0.1",
    }
    for name in (*_UNSET, *_PROXIES, *(proxy.lower() for proxy in _PROXIES)):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    _patch_loaded_client(site, transport, home, monkeypatch)
    return variables


def _patch_loaded_client(site: HubSite, transport: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change what the client read from the environment when it was imported."""
    from huggingface_hub import constants, hf_api
    from huggingface_hub.utils import _detect_agent, _http, _xet

    read = {
        "ENDPOINT": site.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": site.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_URL_HOSTS": constants.HF_URL_HOSTS | {"127.0.0.1"},
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_XET_CACHE": str(home / "xet"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "AGENT_HARNESSES_PATH": str(home / ".agent_harnesses.json"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": transport == "lfs",
        "HF_HUB_DISABLE_TELEMETRY": True,
    }
    for name, value in read.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(importlib.import_module("huggingface_hub.utils.tqdm"), "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(_http, "_HUB_ORIGINS", _http._HUB_ORIGINS | {_http._url_origin(site.endpoint)})
    monkeypatch.setattr(_detect_agent, "_registry", None)
    monkeypatch.setattr(hf_api.api, "endpoint", site.endpoint)
    monkeypatch.setattr(_xet, "XET_CONNECTION_INFO_CACHE", {})
    _forget_connections()


def _forget_connections() -> None:
    """Close what the client keeps open between calls: its connections, and its session with Xet."""
    from huggingface_hub.utils import _http, _xet

    _http.close_session()
    _xet._GLOBAL_XET_HOLDER._session = None
