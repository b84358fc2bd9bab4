"""The same cases against the real Hub and against the one on this machine.

Against the real one they push to a private repository of one's own, and delete it. That needs a token with write access
and the network, and happens only where both ``HF_TOKEN`` and ``UAL_TEST_REAL_HUB=1`` are set. Against the Hub on this
machine they run in any case, so that they are right when they are needed.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from examples.tiny_adapter import make_tiny_models
from tests.hub_server.fixtures import point_client_at
from tests.hub_server.server import serve
from tests.shell import run_here
from ual_registry.air.read import read
from ual_registry.digest import Digest
from ual_registry.workflows.convert import Labels, convert_to_air

IS_WANTED = os.environ.get("UAL_TEST_REAL_HUB") == "1" and bool(os.environ.get("HF_TOKEN"))
WITHOUT_XET = {"lfs": "1", "xet": "0"}
"""Value of HF_HUB_DISABLE_XET by how large files travel."""

REAL = (
    pytest.mark.real_hub,
    pytest.mark.skipif(
        not IS_WANTED, reason="the real Hub is asked only where HF_TOKEN and UAL_TEST_REAL_HUB=1 are set"
    ),
)
FILES = ["README.md", "adapter.air", "adapter_config.json", "adapter_model.safetensors"]
_LISTED_S = 60.0  # the real Hub finds a repository by its tags a while after it was made


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """An empty machine with a Hub.

    Attributes:
        call: Runs a command and gives its exit code and its JSON document.
        api: The client of the Hub.
        repository: An id that nothing has yet; whatever comes to be there is deleted.
        folder: A PEFT folder ``tour/adapter``, its base model ``tour/base``, and both as ``t.air`` and ``other.air``.
    """

    call: Callable[[tuple[str, ...]], tuple[int, Any]]
    api: Any
    repository: str
    folder: Path

    def ual(self, *words: object, code: int = 0) -> Any:
        """Run a command that must end with a code; give its JSON document."""
        got, document = self.call((*map(str, words), "--json"))
        assert got == code, document
        return document

    def digest(self, name: str) -> str:
        """Return the digest of a file of the folder."""
        return str(Digest.of_file(self.folder / name))

    def files(self, revision: str = "main") -> list[str]:
        """Return the paths in the repository, but for what the Hub puts there by itself."""
        paths = self.api.list_repo_files(self.repository, revision=revision)
        return sorted(path for path in paths if path != ".gitattributes" and not path.endswith(".png"))


@pytest.fixture(
    params=["here", pytest.param("real-lfs", marks=REAL), pytest.param("real-xet", marks=REAL)],
)
def machine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """The real Hub over each transport, or the one on this machine."""
    make_tiny_models(tmp_path / "tour")
    for name in ("t", "other"):
        convert_to_air(
            tmp_path / "tour/adapter", tmp_path / f"{name}.air", base=tmp_path / "tour/base", labels=Labels(name=name)
        )
    monkeypatch.chdir(tmp_path)
    if request.param == "here":
        yield from _here(tmp_path, monkeypatch)
    else:
        yield from _real(tmp_path, request.param.removeprefix("real-"))


def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    from huggingface_hub import HfApi, close_session

    monkeypatch.setenv("UAL_HOME", str(folder / "home"))
    monkeypatch.setattr("ual_registry.workflows.push_material.draw_picture", lambda _: None)

    def call(words: tuple[str, ...]) -> tuple[int, Any]:
        done = run_here(*words, folder=folder, environment=os.environ)
        return done.returncode, json.loads(done.stdout)

    with serve(folder / "hub-server", xet=False) as site:
        point_client_at(site, "lfs", folder / "hf-home", monkeypatch)
        api = HfApi(endpoint=site.endpoint, token=site.token)
        yield Machine(call=call, api=api, repository=f"{api.whoami()['name']}/ual-registry-test", folder=folder)
    close_session()


def _real(folder: Path, transport: str) -> Iterator[Machine]:
    from huggingface_hub import HfApi

    token = os.environ["HF_TOKEN"]
    usual = {key: value for key, value in os.environ.items() if not key.startswith(("UAL_", "HF_"))}
    own = {
        "HF_TOKEN": token,
        "HF_HOME": str(folder / "hf-home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": WITHOUT_XET[transport],
        "UAL_HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }

    def call(words: tuple[str, ...]) -> tuple[int, Any]:
        command = [sys.executable, "-m", "ual_registry", *words]
        done = subprocess.run(command, env={**usual, **own}, capture_output=True, text=True, check=False, timeout=300)
        assert token not in done.stdout + done.stderr
        return done.returncode, json.loads(done.stdout)

    api = HfApi(endpoint="https://huggingface.co", token=token)
    name = f"{api.whoami()['name']}/ual-registry-test-{secrets.token_hex(6)}"
    try:
        yield Machine(call=call, api=api, repository=name, folder=folder)
    finally:
        api.delete_repo(name, missing_ok=True)


def test_an_adapter_goes_to_the_hub_and_comes_back(machine: Machine) -> None:
    repository, digest = machine.repository, machine.digest("t.air")
    pushed = machine.ual("push", "t.air", repository, "--private", "--tag", "v1")
    assert (pushed["outcome"], pushed["digest"], machine.files()) == ("pushed", digest, FILES)
    again = machine.ual("push", "t.air", repository, "--private", "--tag", "v1")
    assert (again["outcome"], again["commit"]) == ("unchanged", pushed["commit"])
    machine.ual("show", f"hf:{repository}@v1")
    machine.ual("validate", f"hf:{repository}@v1")
    pulled = machine.ual("pull", f"{repository}@v1", "--name", "t")
    assert pulled["commit"] == pushed["commit"]
    assert [(item["name"], item["number"], item["digest"]) for item in pulled["adapters"]] == [("t", 1, digest)]
    known = machine.ual("pull", f"{repository}@{pushed['commit']}", "--name", "t")
    assert known["asked_hub"] is False


def test_what_is_not_on_the_hub_is_told(machine: Machine) -> None:
    document = machine.ual("pull", machine.repository, code=9)
    assert document["error"]["code"] == "hub-not-found"


def test_a_dry_run_makes_nothing_on_the_hub(machine: Machine) -> None:
    plan = machine.ual("push", "t.air", machine.repository, "--private", "--dry-run")
    assert (plan["outcome"], plan["makes_repository"], plan["commit"]) == ("planned", True, None)
    assert {item["path"] for item in plan["files"]} - {"adapter.png"} == set(FILES)
    assert not machine.api.repo_exists(machine.repository)


def test_what_people_wrote_into_the_card_stays_and_a_stale_parent_is_refused(machine: Machine) -> None:
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import HfHubHTTPError

    repository, api = machine.repository, machine.api
    first = machine.ual("push", "t.air", repository, "--private")["commit"]
    page = Path(api.hf_hub_download(repository, "README.md", revision=first, cache_dir=machine.folder / "copies"))
    ours = page.read_text(encoding="utf-8") + "\n## Contact\n\nmail us\n"
    api.upload_file(path_or_fileobj=ours.encode(), path_in_repo="README.md", repo_id=repository)
    updated = machine.ual("push", "other.air", repository, "--private")
    assert (updated["outcome"], updated["commit"] != first) == ("pushed", True)
    text = Path(api.hf_hub_download(repository, "README.md", cache_dir=machine.folder / "copies")).read_text()
    assert text.endswith("\n## Contact\n\nmail us\n")
    assert (machine.digest("other.air") in text, machine.digest("t.air") in text) == (True, False)
    with pytest.raises(HfHubHTTPError) as caught:  # what a push relies on where somebody is faster
        api.create_commit(
            repository,
            [CommitOperationAdd("late.txt", b"late")],
            commit_message="late",
            parent_commit=first,
        )
    assert (caught.value.response.status_code, machine.files()) == (412, FILES)


def test_several_adapters_share_a_repository_and_one_is_pulled(machine: Machine) -> None:
    repository = machine.repository
    machine.ual("push", "t.air", repository, "--private", "--subfolder", "one")
    machine.ual("push", "other.air", repository, "--private", "--subfolder", "two", "--air-only")
    assert machine.files() == ["README.md", *(f"one/{name}" for name in FILES), "two/README.md", "two/adapter.air"]
    refused = machine.ual("pull", repository, code=9)
    assert refused["error"]["code"] == "hub-several"
    (pulled,) = machine.ual("pull", repository, "--subfolder", "two")["adapters"]
    assert (pulled["path"], pulled["digest"]) == ("two/adapter.air", machine.digest("other.air"))


def test_a_repository_of_peft_alone_becomes_air(machine: Machine) -> None:
    repository, api = machine.repository, machine.api
    api.create_repo(repository, private=True)
    commit = api.upload_folder(repo_id=repository, folder_path=machine.folder / "tour/adapter").oid
    pulled = machine.ual("pull", repository, "--base", machine.folder / "tour/base", "--name", "pair")
    machine.ual("get", "pair", "-o", machine.folder / "pair.air")
    assert (pulled["commit"], pulled["adapters"][0]["path"]) == (commit, "adapter_model.safetensors")
    with read(machine.folder / "pair.air") as adapter:
        (parent,) = adapter.manifest.parents
    assert (parent.relation, parent.digest) == (
        "converted_from",
        machine.digest("tour/adapter/adapter_model.safetensors"),
    )


def test_a_pushed_adapter_is_found_by_its_tags(machine: Machine) -> None:
    machine.ual("push", "t.air", machine.repository, "--private")
    owner, until = machine.repository.partition("/")[0], time.monotonic() + _LISTED_S
    words = ("search", "--hub", "base:llama rank>=8 role:mlp_gate", "--author", owner, "--refresh")
    while not (hits := machine.ual(*words)["hits"]) and time.monotonic() < until:
        time.sleep(3)
    assert (machine.repository, machine.digest("t.air")) in [(hit["repository"], hit["digest"]) for hit in hits]
