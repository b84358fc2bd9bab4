"""The real Hub: push to a private repository of one's own, look at it, pull it into an empty registry, and delete it.

These tests need a token with write access and the network. They run only where both ``HF_TOKEN`` and
``UAL_TEST_REAL_HUB=1`` are set; the same cases run against the Hub on this machine in any case.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.tiny_adapter import make_tiny_models
from ual_registry.digest import Digest
from ual_registry.workflows.convert import Labels, convert_to_air

IS_WANTED = os.environ.get("UAL_TEST_REAL_HUB") == "1" and bool(os.environ.get("HF_TOKEN"))
TRANSPORTS = {"lfs": "1", "xet": "0"}
"""Value of HF_HUB_DISABLE_XET by how large files travel."""

pytestmark = [
    pytest.mark.real_hub,
    pytest.mark.skipif(
        not IS_WANTED, reason="the real Hub is asked only where HF_TOKEN and UAL_TEST_REAL_HUB=1 are set"
    ),
]


def ual(environment: dict[str, str], *words: object) -> tuple[int, Any]:
    """Run a command in a process of its own; its exit code and its JSON document."""
    command = [sys.executable, "-m", "ual_registry", *map(str, words), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert os.environ["HF_TOKEN"] not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(params=sorted(TRANSPORTS))
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of a client of the real Hub, with nothing cached and an empty registry."""
    usual = {key: value for key, value in os.environ.items() if not key.startswith(("UAL_", "HF_"))}
    return {
        **usual,
        "HF_TOKEN": os.environ["HF_TOKEN"],
        "HF_HOME": str(tmp_path / "hf-home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": TRANSPORTS[request.param],
        "UAL_HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }


@pytest.fixture
def repository(environment: dict[str, str]) -> Iterator[str]:
    """An id of the token's user that nothing has yet; whatever comes to be there is deleted."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint="https://huggingface.co", token=environment["HF_TOKEN"])
    name = f"{api.whoami()['name']}/ual-registry-test-{secrets.token_hex(6)}"
    yield name
    api.delete_repo(name, missing_ok=True)


def test_an_adapter_goes_to_the_real_hub_and_comes_back(
    environment: dict[str, str], repository: str, tmp_path: Path
) -> None:
    make_tiny_models(tmp_path / "tour")
    air = tmp_path / "t.air"
    convert_to_air(tmp_path / "tour/adapter", air, base=tmp_path / "tour/base", labels=Labels(name="Triage"))
    digest = str(Digest.of_file(air))
    code, pushed = ual(environment, "push", air, repository, "--private", "--tag", "v1")
    assert (code, pushed["outcome"], pushed["digest"]) == (0, "pushed", digest)
    code, again = ual(environment, "push", air, repository, "--private", "--tag", "v1")
    assert (code, again["outcome"], again["commit"]) == (0, "unchanged", pushed["commit"])
    assert ual(environment, "show", f"hf:{repository}@v1")[0] == 0
    assert ual(environment, "validate", f"hf:{repository}@v1")[0] == 0
    code, pulled = ual(environment, "pull", f"{repository}@v1", "--name", "t")
    assert (code, pulled["commit"]) == (0, pushed["commit"])
    assert [(item["name"], item["number"], item["digest"]) for item in pulled["adapters"]] == [("t", 1, digest)]
    code, known = ual({**environment, "HF_HUB_OFFLINE": "1"}, "pull", f"{repository}@{pushed['commit']}", "--name", "t")
    assert (code, known["asked_hub"]) == (0, False)


def test_what_is_not_on_the_real_hub_is_told(environment: dict[str, str], repository: str) -> None:
    code, document = ual(environment, "pull", repository)
    assert (code, document["error"]["code"]) == (9, "hub-not-found")
