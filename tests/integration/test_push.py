"""Push against a Hub on this machine, by the real client, over LFS and over Xet; both sides are looked at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.tiny_adapter import make_tiny_models
from tests.commands import Result, Ual
from tests.handmade import small_adapter
from tests.hub_server.fixtures import HubEnvironment
from tests.hub_server.server import HubSite
from tests.peft_folders import PeftFolders, outputs
from ual_registry.air.model import Lineage, Parent
from ual_registry.air.read import read
from ual_registry.air.schema import schema_problems
from ual_registry.air.write import write
from ual_registry.cli.main import run
from ual_registry.digest import Digest
from ual_registry.hub import conduct
from ual_registry.registry.registry import Registry
from ual_registry.workflows import push as workflow
from ual_registry.workflows.convert import Labels, convert_to_air

REPOSITORY = "tester/medical"
PEFT_PAIR = ["adapter_config.json", "adapter_model.safetensors"]
FILES = ["README.md", "adapter.air", *PEFT_PAIR]
UNPINNED = (
    "unpinned.air: base_model.revision is missing; without a commit nobody can tell which weights of tiny it belongs to"
)
PIN_IT = (
    "write it into the file by 'ual convert FOLDER FILE.air --base BASE --base-revision COMMIT', "
    "or pass --allow-unpinned"
)
ROOT = Path(__file__).resolve().parents[2]
LFS_ONLY = pytest.mark.parametrize("hub_transport", ["lfs"], indirect=True)
XET_ONLY = pytest.mark.parametrize("hub_transport", ["xet"], indirect=True)
CHANGES = ("create-repo", "commit", "create-tag", "create-branch", "preupload", "lfs-batch", "lfs-put", "cas-xorb-put")


@pytest.fixture
def site(hub_env: HubEnvironment) -> HubSite:
    """The Hub that the client is pointed at."""
    return hub_env.site


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every test begins with, made once: see ``folder``."""
    place = tmp_path_factory.mktemp("material")
    (place / "scratch").mkdir()
    (place / "work").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place / "work")
        patch.setenv("UAL_HOME", str(place / "registry"))
        make_tiny_models(Path("tour"))
        convert_to_air("tour/adapter", "t.air", base="tour/base", labels=Labels(name="Triage", license="MIT"))
        registry = Registry.open()
        registry.add("t.air", name="t", aliases=["production"])
        registry.database.engine.dispose()
    return place


@pytest.fixture
def folder(hub_env: HubEnvironment, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a PEFT folder and its base model, ``t.air``, and a registry that holds it as ``t``."""
    del hub_env  # it is set up
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "registry"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr("ual_registry.workflows.push_material.draw_picture", lambda _: None)
    return tmp_path / "work"


@pytest.fixture
def ual(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ual:
    """Run one command, which must leave nothing in the folder for temporary files; waits are short."""
    monkeypatch.setattr(conduct, "BACKOFF_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(workflow, "_LONGEST_PAUSE_S", 0.01)

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        caught = capsys.readouterr()
        assert "Traceback" not in caught.err
        assert [*(tmp_path / "scratch").glob("ual-push-*/*")] == []
        return Result(code, caught.out, caught.err)

    return call


def titles(site: HubSite, repository: str = REPOSITORY) -> list[str]:
    """Titles of the commits, newest first, the first commit of the repository left out."""
    return [commit.title for commit in site.repo(repository).commits[:-1]]


def links(reference: str = "t") -> list[tuple[str, str, str, str]]:
    return [(link.repository, link.commit, link.path, link.direction) for link in Registry.open().links(reference)]


def paths(site: HubSite, revision: str = "main") -> list[str]:
    return sorted(path for path in site.repo(REPOSITORY).files(revision) if path != ".gitattributes")


def error_of(result: Result) -> tuple[int, str]:
    return result.code, result.err.partition("[")[2].partition("]")[0]


def test_a_push_makes_the_repository_with_one_commit_and_a_link(ual: Ual, site: HubSite, folder: Path) -> None:
    result = ual("push", "t@production", REPOSITORY, "--tag", "v1", "--json")
    assert result.code == 0, result.err
    repository = site.repo(REPOSITORY)
    digest = str(Digest.of_file(folder / "t.air"))
    files = repository.files()
    assert result.document == {
        "outcome": "pushed",
        "repository": REPOSITORY,
        "revision": "main",
        "url": f"{site.endpoint}/{REPOSITORY}",
        "digest": digest,
        "commit": repository.tip,
        "parent": repository.commits[-1].oid,
        "makes_repository": True,
        "makes_branch": False,
        "files": [
            {"path": path, "change": "new", "size_bytes": len(files[path]), "previous_bytes": None} for path in FILES
        ],
        "card_diff": result.document["card_diff"],
        "tags": ["v1"],
        "remarks": ["no picture in the card: pip install matplotlib"],
    }
    assert [*schema_problems("1.0/cli/push.json", result.document, root="document")] == []
    assert result.err == "note: no picture in the card: pip install matplotlib\n"
    assert paths(site) == FILES
    assert files["adapter.air"] == (folder / "t.air").read_bytes()
    assert files["adapter_model.safetensors"] == (folder / "tour/adapter/adapter_model.safetensors").read_bytes()
    assert json.loads(files["adapter_config.json"]) == json.loads(
        (folder / "tour/adapter/adapter_config.json").read_text()
    )
    assert [line[1:] for line in result.document["card_diff"].split("\n")[3:]] == files["README.md"].decode().split(
        "\n"
    )[:-1]
    assert (repository.tags, repository.is_private) == ({"v1": repository.tip}, False)
    commit = repository.commits[0]
    assert commit.title == "Push Triage: LoRA of rank 8 for example/tiny-llama"
    assert commit.message == (
        f"28 entries in adapter.air, and the same adapter for PEFT beside it.\n\nAIR-Digest: {digest}"
    )
    assert links() == [(REPOSITORY, repository.tip, "adapter.air", "push")]
    assert next((item.action, item.name) for item in Registry.open().log("t").items) == ("push", "t")


def test_the_same_again_changes_nothing_and_sends_nothing(ual: Ual, site: HubSite) -> None:
    ual("push", "t", REPOSITORY)
    before, known = site.repo(REPOSITORY).tip, links()
    site.clear_log()
    result = ual("push", "t", REPOSITORY)
    assert (result.code, result.out.splitlines()[0]) == (
        0,
        "nothing to change: tester/medical, branch main holds all of t already",
    )
    assert (site.repo(REPOSITORY).tip, links()) == (before, known)
    assert site.log.endpoints() == ["model-info", "resolve-get"]


def test_only_what_differs_is_sent_and_what_people_wrote_stays(ual: Ual, site: HubSite) -> None:
    ual("push", "t", REPOSITORY)
    card = site.repo(REPOSITORY).files()["README.md"].decode()
    site.put(REPOSITORY, {"README.md": card.replace("# medical", "# medical\n\nWritten by hand."), "notes.txt": "mine"})
    site.clear_log()
    write(small_adapter(description="another"), "other.air")
    result = ual("push", "other.air", REPOSITORY, "--air-only", "--json", "--message", "By hand\n\nBecause.")
    assert result.code == 0, result.err
    assert {item["path"]: item["change"] for item in result.document["files"]} == {
        "README.md": "replaced",
        "adapter.air": "replaced",
        "adapter_config.json": "removed",
        "adapter_model.safetensors": "removed",
    }
    files = site.repo(REPOSITORY).files()
    assert sorted(files) == [".gitattributes", "README.md", "adapter.air", "notes.txt"]
    assert "\n# medical\n\nWritten by hand.\n" in files["README.md"].decode()
    commit = site.repo(REPOSITORY).commits[0]
    assert (commit.title, commit.message) == (
        "By hand",
        f"Because.\n\nAIR-Digest: {Digest.of_file(Path('other.air'))}",
    )
    assert links() == [(REPOSITORY, site.repo(REPOSITORY).commits[2].oid, "adapter.air", "push")]


def test_a_peft_pair_that_came_alone_stays_beside_the_air_file(ual: Ual, site: HubSite, folder: Path) -> None:
    pair = {name: folder / "tour/adapter" / name for name in PEFT_PAIR}
    site.put(REPOSITORY, pair)
    result = ual("push", "t", REPOSITORY, "--air-only", "--json")
    assert {item["path"]: item["change"] for item in result.document["files"]} == {
        "README.md": "new",
        "adapter.air": "new",
    }
    assert paths(site) == FILES


def test_a_dry_run_says_what_would_change_and_changes_nothing(ual: Ual, site: HubSite, folder: Path) -> None:
    result = ual("push", "t", REPOSITORY, "--dry-run", "--tag", "v1", "-q")
    sizes = [(folder / name).stat().st_size for name in ("t.air", "tour/adapter/adapter_model.safetensors")]
    assert sizes == [156480, 150400]
    lines = result.out.splitlines()
    assert lines[0] == "would push t to tester/medical, branch main: 4 new; the repository would be made"
    assert [line.split() for line in lines[1:6]] == [
        ["file", "size", "before"],
        ["new", "README.md", *lines[2].split()[2:]],
        ["new", "adapter.air", "156", "kB"],
        ["new", "adapter_config.json", "366", "B"],
        ["new", "adapter_model.safetensors", "150", "kB"],
    ]
    assert lines[6:10] == ["tags v1", "", "--- /dev/null", "+++ b/README.md"]
    assert (result.code, result.err, site.has(REPOSITORY), links()) == (0, "", False, [])
    assert {item.method for item in site.log} == {"GET"}


def test_a_dry_run_needs_no_token(ual: Ual, site: HubSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put(REPOSITORY, {"README.md": "mine\n"})
    monkeypatch.delenv("HF_TOKEN")
    result = ual("push", "t", REPOSITORY, "--dry-run", "--json", "--revision", "dev")
    assert result.code == 0, result.err
    document = result.document
    assert (document["outcome"], document["commit"], document["parent"]) == (
        "planned",
        None,
        site.repo(REPOSITORY).tip,
    )
    assert (document["makes_repository"], document["makes_branch"]) == (False, True)
    assert [(item["path"], item["change"]) for item in document["files"]] == [
        ("README.md", "replaced"),
        *((path, "new") for path in FILES[1:]),
    ]
    assert document["card_diff"].startswith("--- a/README.md\n+++ b/README.md\n")
    assert site.repo(REPOSITORY).branches.keys() == {"main"}


def test_a_branch_is_made_and_main_stays(ual: Ual, site: HubSite) -> None:
    first = site.put(REPOSITORY, {"notes.txt": "mine"})
    result = ual("push", "t", REPOSITORY, "--revision", "dev", "--json")
    repository = site.repo(REPOSITORY)
    assert (result.code, result.document["makes_branch"]) == (0, True)
    assert (repository.branches["main"], repository.find("dev").parent) == (first, first)  # type: ignore[union-attr]
    assert paths(site, "dev") == [*FILES, "notes.txt"]


def test_several_adapters_share_a_repository(ual: Ual, site: HubSite) -> None:
    write(small_adapter(description="another"), "other.air")
    ual("push", "t", REPOSITORY, "--subfolder", "adapters/one")
    page = site.repo(REPOSITORY).files()["README.md"]
    ual("push", "other.air", REPOSITORY, "--subfolder", "two", "--air-only")
    assert paths(site) == ["README.md", *(f"adapters/one/{name}" for name in FILES), "two/README.md", "two/adapter.air"]
    files = site.repo(REPOSITORY).files()
    assert files["README.md"] == page
    assert b"[`adapters/one/adapter.air`](adapters/one/adapter.air)" in page
    assert b"[`adapters/one/adapter.air`](adapter.air)" in files["adapters/one/README.md"]
    assert ual("push", "t", REPOSITORY, "--subfolder", "adapters/one", "--json").document["outcome"] == "unchanged"
    assert links() == [(REPOSITORY, site.repo(REPOSITORY).commits[1].oid, "adapters/one/adapter.air", "push")]


def test_a_private_repository_is_private_from_the_start(ual: Ual, site: HubSite) -> None:
    assert ual("push", "t", REPOSITORY, "--private").code == 0
    assert site.repo(REPOSITORY).is_private
    site.put("tester/open", {"a.txt": "a"})
    site.clear_log()
    refused = ual("push", "t", "tester/open", "--private")
    assert error_of(refused) == (9, "hub-public")
    assert site.log.endpoints() == ["model-info"]


def test_the_pushed_pair_loads_with_peft_and_gives_identical_logits(
    ual: Ual, site: HubSite, peft_folders: PeftFolders, tmp_path: Path
) -> None:
    import torch
    from huggingface_hub import snapshot_download

    made = peft_folders.get("llama")
    labels = Labels(base_id="org/tiny", base_revision="1" * 40)
    convert_to_air(made.path, "real.air", base=made.base, labels=labels)
    assert ual("push", "real.air", REPOSITORY).code == 0
    place = Path(snapshot_download(REPOSITORY, local_dir=tmp_path / "download"))
    assert torch.equal(outputs(made.load(place), "llama"), made.logits)
    with read(place / "adapter.air") as adapter, read("real.air") as pushed:
        assert adapter.manifest == pushed.manifest


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 503, "after_effect": True},
        {"status": 429, "headers": {"Retry-After": "0"}},
        {"status": 412},
        {"status": 412, "after_effect": True},
        {"cut": True},
        {"cut": True, "after_effect": True},
        {"reset": True},
        {"reset": True, "after_effect": True},
        {"cut_request_after": 10},
        {"cut_after": 10},
    ],
    ids=str,
)
def test_a_lost_answer_makes_one_commit_and_no_conflict(ual: Ual, site: HubSite, fault: dict[str, Any]) -> None:
    site.faults.add("commit", **fault)
    result = ual("push", "t", REPOSITORY, "--tag", "v1", "--json")
    assert (result.code, titles(site), paths(site)) == (
        0,
        ["Push Triage: LoRA of rank 8 for example/tiny-llama"],
        FILES,
    ), result.err
    tip = site.repo(REPOSITORY).tip
    assert (result.document["outcome"], result.document["commit"]) == ("pushed", tip)
    assert (links(), site.repo(REPOSITORY).tags) == ([(REPOSITORY, tip, "adapter.air", "push")], {"v1": tip})


def test_a_commit_that_landed_and_was_built_upon_is_ours(ual: Ual, site: HubSite) -> None:
    site.put(REPOSITORY, {"notes.txt": "mine"})
    site.faults.add("commit", status=503, after_effect=True)
    site.faults.add("model-info", nth=2, call=lambda _: site.put(REPOSITORY, {"README.md": "# Later\n"}))
    result = ual("push", "t", REPOSITORY, "--json")
    assert result.code == 0, result.err
    later, ours, _ = site.repo(REPOSITORY).commits[:3]
    assert (later.title, ours.title) == ("put by a test", "Push Triage: LoRA of rank 8 for example/tiny-llama")
    assert (result.document["commit"], links()) == (ours.oid, [(REPOSITORY, ours.oid, "adapter.air", "push")])


def test_a_hub_that_stays_busy_is_told_and_nothing_is_changed(ual: Ual, site: HubSite) -> None:
    first = site.put(REPOSITORY, {"notes.txt": "mine"})
    site.faults.add("commit", status=503, times=None)
    result = ual("push", "t", REPOSITORY)
    assert error_of(result) == (9, "hub-unavailable")
    assert (site.repo(REPOSITORY).tip, links(), len(site.log.of("commit"))) == (first, [], 4)


@LFS_ONLY
@pytest.mark.parametrize("endpoint", ["preupload", "lfs-batch", "lfs-put"])
@pytest.mark.parametrize("fault", [{"status": 503}, {"cut": True}], ids=str)
def test_an_upload_is_tried_again_by_the_client_alone(
    ual: Ual, site: HubSite, client_waits: list[float], endpoint: str, fault: dict[str, Any]
) -> None:
    first = site.put(REPOSITORY, {"notes.txt": "mine"})
    site.faults.add(endpoint, times=None, **fault)
    result = ual("push", "t", REPOSITORY, "--air-only")
    assert error_of(result) == (9, "hub-unavailable")
    assert "took effect" not in result.err
    assert (len(site.log.of(endpoint)), client_waits) == (6, [1, 2, 4, 8, 8])
    assert (site.repo(REPOSITORY).tip, site.log.of("commit"), links()) == (first, [], [])


@XET_ONLY
@pytest.mark.parametrize(
    ("status", "told"),
    [(401, ("hub-token", 1)), (403, ("hub-access", 1)), (429, ("hub-rate-limit", 4)), (503, ("hub-unavailable", 4))],
)
@pytest.mark.parametrize("endpoint", ["xet-write-token", "cas-xorb-put", "cas-shard"])
def test_a_store_that_refuses_an_upload_says_why(
    ual: Ual, site: HubSite, endpoint: str, status: int, told: tuple[str, int]
) -> None:
    code, tries = told
    first = site.put(REPOSITORY, {"notes.txt": "mine"})
    site.faults.add(endpoint, times=None, status=status)
    result = ual("push", "t", REPOSITORY, "--air-only")
    assert error_of(result) == (9, code)
    assert "cannot be reached" not in result.err
    assert (len(site.log.of(endpoint)), site.repo(REPOSITORY).tip) == (tries, first)


def test_a_busy_check_of_the_card_is_asked_again(ual: Ual, site: HubSite) -> None:
    site.faults.add("validate-yaml", times=2, status=503, content=b"{}")
    assert ual("push", "t", REPOSITORY).code == 0
    assert paths(site) == FILES


@pytest.mark.parametrize("fault", [{"cut": True}, {"status": 503}, {"status": 403}], ids=str)
def test_a_hub_that_goes_away_after_the_commit_leaves_no_doubt(
    ual: Ual, site: HubSite, fault: dict[str, Any], client_waits: list[float]
) -> None:
    site.put(REPOSITORY, {"notes.txt": "mine"})
    site.faults.add("model-info", nth=2, times=None, **fault)
    result = ual("push", "t", REPOSITORY, "--json")
    tip = site.repo(REPOSITORY).tip
    error = result.document["error"]
    assert error["message"].startswith(f"cannot read hf:{REPOSITORY}@{tip}: ")
    told = f"; commit {tip} is pushed, but could not be checked: run the same command again, it looks first"
    assert error["hint"].endswith(told)
    assert (result.code, titles(site)[1:], links()) == (9, ["put by a test"], [])
    site.faults.clear()
    again = ual("push", "t", REPOSITORY, "--json")
    assert (again.document["outcome"], again.document["commit"]) == ("unchanged", tip)
    assert (site.repo(REPOSITORY).tip, links()) == (tip, [(REPOSITORY, tip, "adapter.air", "push")])


@pytest.mark.parametrize("after_effect", [True, False])
def test_a_hub_that_goes_away_with_the_commit_leaves_the_doubt_to_the_same_command_again(
    ual: Ual, site: HubSite, after_effect: bool, client_waits: list[float]
) -> None:
    site.put(REPOSITORY, {"notes.txt": "mine"})
    site.faults.add("commit", cut=True, after_effect=after_effect)
    site.faults.add("model-info", nth=2, times=None, cut=True)
    result = ual("push", "t", REPOSITORY, "--json")
    error = result.document["error"]
    assert (error["code"], error["message"].partition(": ")[0]) == (
        "hub-unavailable",
        f"cannot push to hf:{REPOSITORY}@main",
    )
    assert error["hint"] == (
        "check the network, and HF_ENDPOINT and the proxy where they are set; "
        "whether it took effect is not known: run the same command again, it looks first"
    )
    site.faults.clear()
    again = ual("push", "t", REPOSITORY, "--json")
    assert (again.code, again.document["outcome"]) == (0, "unchanged" if after_effect else "pushed")
    assert titles(site) == ["Push Triage: LoRA of rank 8 for example/tiny-llama", "put by a test"]
    assert links() == [(REPOSITORY, site.repo(REPOSITORY).tip, "adapter.air", "push")]


def test_of_a_long_history_one_page_is_read_to_name_the_winner(ual: Ual, site: HubSite) -> None:
    for number in range(60):
        site.put(REPOSITORY, {"notes.txt": str(number)})
    site.faults.add("commit", call=faster(site))
    result = ual("push", "t", REPOSITORY)
    assert "('Somebody was faster' by eve) was faster" in result.err
    assert len(site.log.of("commits")) == 1


def faster(site: HubSite) -> Callable[[str], object]:
    """Somebody who commits just before ours arrives."""
    return lambda _: site.put(REPOSITORY, {"README.md": "# By somebody\n"}, title="Somebody was faster", author="eve")


def test_whoever_was_faster_is_named(ual: Ual, site: HubSite) -> None:
    parent = site.put(REPOSITORY, {"notes.txt": "mine"})
    site.faults.add("commit", call=faster(site))
    result = ual("push", "t", REPOSITORY, "--json")
    winner = site.repo(REPOSITORY).tip
    assert result.document["error"] == {
        "code": "hub-conflict",
        "message": f"tester/medical: commit {winner[:12]} ('Somebody was faster' by eve) was faster: "
        f"main is no longer at {parent[:12]}; nothing was pushed",
        "hint": "look at what changed, then push again; --retry does so by itself",
        "context": {
            "repository": REPOSITORY,
            "revision": "main",
            "parent": parent,
            "commit": winner,
            "title": "Somebody was faster",
            "author": "eve",
            "tip": winner,
        },
    }
    assert (result.code, paths(site), links()) == (9, ["README.md", "notes.txt"], [])


def test_a_retry_pushes_on_top_of_whoever_was_faster(ual: Ual, site: HubSite) -> None:
    site.put(REPOSITORY, {"notes.txt": "mine"})
    site.faults.add("commit", times=2, call=faster(site))
    result = ual("push", "t", REPOSITORY, "--retry", "--tag", "v1", "--json")
    assert result.code == 0, result.err
    assert titles(site)[:3] == ["Push Triage: LoRA of rank 8 for example/tiny-llama", *["Somebody was faster"] * 2]
    assert b"# By somebody\n" in site.repo(REPOSITORY).files()["README.md"]
    assert (paths(site), site.repo(REPOSITORY).tags) == ([*FILES, "notes.txt"], {"v1": site.repo(REPOSITORY).tip})


def test_a_tag_elsewhere_is_a_conflict_before_anything_is_sent(ual: Ual, site: HubSite) -> None:
    first = site.put(REPOSITORY, {"notes.txt": "mine"})
    site.repo(REPOSITORY).tags["v1"] = first
    result = ual("push", "t", REPOSITORY, "--tag", "v1", "--retry")
    assert error_of(result) == (9, "hub-conflict")
    assert f"tag 'v1' is on commit {first[:12]} already; nothing was pushed" in result.err
    assert (site.log.of(*CHANGES), paths(site)) == ([], ["notes.txt"])


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 503, "after_effect": True}, {"cut": True}], ids=str)
def test_a_lost_answer_about_a_tag_sets_it_once(ual: Ual, site: HubSite, fault: dict[str, Any]) -> None:
    site.faults.add("create-tag", **fault)
    result = ual("push", "t", REPOSITORY, "--tag", "v1")
    assert (result.code, site.repo(REPOSITORY).tags) == (0, {"v1": site.repo(REPOSITORY).tip}), result.err


@pytest.mark.parametrize("endpoint", ["create-repo", "create-branch"])
@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 503, "after_effect": True}], ids=str)
def test_a_lost_answer_about_making_makes_it_once(
    ual: Ual, site: HubSite, endpoint: str, fault: dict[str, Any]
) -> None:
    site.faults.add(endpoint, **fault)
    result = ual("push", "t", REPOSITORY, "--revision", "dev")
    assert (result.code, paths(site, "dev")) == (0, FILES), result.err


def test_a_tag_that_failed_is_set_by_the_same_command_again(ual: Ual, site: HubSite) -> None:
    site.faults.add("create-tag", status=403)
    assert error_of(ual("push", "t", REPOSITORY, "--tag", "v1")) == (9, "hub-access")
    tip = site.repo(REPOSITORY).tip
    assert links() == [(REPOSITORY, tip, "adapter.air", "push")]
    assert ual("push", "t", REPOSITORY, "--tag", "v1", "--json").document["outcome"] == "unchanged"
    assert (site.repo(REPOSITORY).tip, site.repo(REPOSITORY).tags) == (tip, {"v1": tip})


@LFS_ONLY
def test_a_push_without_a_token_asks_the_hub_nothing(ual: Ual, site: HubSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    result = ual("push", "t", REPOSITORY)
    assert result.err == (
        "error [hub-token]: a push needs a token with write access, and there is none\n"
        "hint: run 'hf auth login', or set HF_TOKEN; tokens are made at https://huggingface.co/settings/tokens\n"
    )
    assert (result.code, len(site.log)) == (9, 0)


@LFS_ONLY
@pytest.mark.parametrize("exists", [True, False])
def test_a_token_that_only_reads_is_told(
    ual: Ual, site: HubSite, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exists:
        site.put(REPOSITORY, {"notes.txt": "mine"})
    monkeypatch.setenv("HF_TOKEN", site.read_token)
    result = ual("push", "t", REPOSITORY)
    assert error_of(result) == (9, "hub-access")
    words = "This token only allows to read" if exists else "You need to use a token with write access"
    assert words in result.err
    assert "hint: your token needs the right to do this; see https://huggingface.co/settings/tokens\n" in result.err
    assert site.read_token not in result.err + result.out
    assert (paths(site) if exists else site.has(REPOSITORY)) == (["notes.txt"] if exists else False)
    assert links() == []


@LFS_ONLY
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("t", "medical"),
            (
                "hub-address",
                "cannot push to 'medical': expected OWNER/NAME",
                "put your user name, or that of your organization, and '/' before the name",
            ),
        ),
        (
            ("t", "https://huggingface.co/tester/medical/tree/main"),
            (
                "hub-address",
                "cannot push to 'https://huggingface.co/tester/medical/tree/main': expected OWNER/NAME",
                "write tester/medical, the end of its address",
            ),
        ),
        (
            ("t", "tester/medical@dev"),
            (
                "hub-address",
                "cannot push to 'tester/medical@dev': expected OWNER/NAME",
                "write tester/medical; --revision names the branch, --subfolder the folder",
            ),
        ),
        (
            ("tester/medical", "t.air"),
            (
                "hub-address",
                "cannot push to 't.air': expected OWNER/NAME",
                "the adapter comes first: ual push REF OWNER/NAME",
            ),
        ),
        (
            ("hf:tester/medical", "tester/copy"),
            (
                "hub-address",
                "cannot push hf:tester/medical: it is on a server, expected a file or the name of a registered adapter",
                "pull it first: 'ual pull REPO --name NAME'",
            ),
        ),
        (
            ("t", REPOSITORY, "--subfolder", "../up"),
            (
                "hub-address",
                "subfolder '../up': expected names with '/' between them, such as adapters/medical",
                None,
            ),
        ),
        (
            ("t", REPOSITORY, "--tag", "a b"),
            (
                "hub-tag",
                "tag 'a b': expected a name of git: letters, digits, '.', '_', '-' and '/' inside",
                None,
            ),
        ),
        (
            ("t", REPOSITORY, "--revision", "v1", "--tag", "v1"),
            (
                "hub-tag",
                "tag 'v1': is the name of the branch that is pushed to, expected another one",
                None,
            ),
        ),
        (
            ("t", REPOSITORY, "--revision", "0" * 40),
            (
                "hub-revision",
                f"revision '{'0' * 40}': is a commit, expected a branch",
                "a push adds a commit to a branch; name the branch",
            ),
        ),
        (
            ("unpinned.air", REPOSITORY),
            (
                "hub-unpinned",
                UNPINNED,
                PIN_IT,
            ),
        ),
        (
            ("moved.air", REPOSITORY),
            (
                "hub-unpinned",
                UNPINNED.replace("unpinned", "moved"),
                "transfer it again with --to OWNER/NAME@COMMIT, or with --to-revision COMMIT, or pass --allow-unpinned",
            ),
        ),
        (
            ("old@1", REPOSITORY),
            (
                "hub-yanked",
                "old@1: is yanked (leaked data); nothing was pushed",
                "name another revision, or show it again by 'ual yank old@1 --undo'",
            ),
        ),
    ],
)
def test_a_word_that_cannot_be_meant_is_explained(
    ual: Ual, site: HubSite, words: tuple[str, ...], told: tuple[str, str, str | None]
) -> None:
    from tests.handmade import base_model

    parent = Parent(digest="sha256:" + "1" * 64, relation="projected_from")
    unpinned = base_model(revision=None)
    write(small_adapter(base_model=unpinned), "unpinned.air")
    write(small_adapter(base_model=unpinned, lineage=Lineage(parents=(parent,))), "moved.air")
    write(small_adapter(description="old"), "old.air")
    Registry.open().add("old.air", name="old")
    Registry.open().yank("old@1", why="leaked data")
    code, message, hint = told
    result = ual("push", *words)
    assert result.err == f"error [{code}]: {message}\n" + (f"hint: {hint}\n" if hint else "")
    assert (result.code, result.out, len(site.log)) == (9, "", 0)


@LFS_ONLY
@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("tour", (3, "folder")),
        ("./tour/adapter", (3, "folder")),
        ("tour/base/config.json", (3, "header-too-large")),
        ("none.air", (11, "storage")),
        ("t@9", (8, "not-found")),
        ("sha256:" + "0" * 64, (8, "not-found")),
    ],
)
def test_what_is_no_adapter_is_refused_before_the_hub_is_asked(
    ual: Ual, site: HubSite, reference: str, code: tuple[int, str]
) -> None:
    assert error_of(ual("push", reference, REPOSITORY)) == code
    assert len(site.log) == 0


@LFS_ONLY
def test_damaged_bytes_are_refused_before_the_hub_is_asked(ual: Ual, site: HubSite, folder: Path) -> None:
    data = bytearray((folder / "t.air").read_bytes())
    data[-1] ^= 0xFF
    (folder / "damaged.air").write_bytes(data)
    assert error_of(ual("push", "damaged.air", REPOSITORY)) == (3, "tensor-digest")
    stored = Registry.open().find("t")
    stored.chmod(0o644)
    stored.write_bytes(data)
    assert error_of(ual("push", "t", REPOSITORY)) == (3, "digest-mismatch")
    assert len(site.log) == 0


@LFS_ONLY
def test_an_unpinned_adapter_is_pushed_where_it_is_allowed(ual: Ual, site: HubSite) -> None:
    from tests.handmade import base_model

    write(small_adapter(base_model=base_model(revision=None)), "unpinned.air")
    assert ual("push", "unpinned.air", REPOSITORY, "--allow-unpinned", "--air-only").code == 0
    assert paths(site) == ["README.md", "adapter.air"]


@LFS_ONLY
def test_what_peft_cannot_say_is_pushed_as_air_only(ual: Ual, site: HubSite) -> None:
    write(small_adapter(), "extra.air")
    refused = ual("push", "extra.air", REPOSITORY)
    assert error_of(refused) == (3, "extra-without-origin")
    assert "hint: pass --air-only to push it without the PEFT pair; PEFT cannot say what it says\n" in refused.err
    assert len(site.log) == 0
    assert ual("push", "extra.air", REPOSITORY, "--air-only").code == 0


def test_a_card_that_the_hub_refuses_is_told_before_anything_is_sent(ual: Ual, site: HubSite) -> None:
    first = site.put(REPOSITORY, {"README.md": "---\nlicense: mit\nthumbnail: [1]\nmodel-index: wrong\n---\n# Mine\n"})
    result = ual("push", "t", REPOSITORY)
    assert error_of(result) == (9, "hub-card")
    assert (site.repo(REPOSITORY).tip, links()) == (first, [])
    assert site.log.of(*CHANGES) == []


@LFS_ONLY
def test_a_card_that_is_no_text_is_left_alone(ual: Ual, site: HubSite) -> None:
    first = site.put(REPOSITORY, {"README.md": b"\xff\xfe"})
    assert error_of(ual("push", "t", REPOSITORY)) == (9, "hub-card")
    assert (site.repo(REPOSITORY).tip, site.log.of(*CHANGES)) == (first, [])


@LFS_ONLY
def test_a_renamed_repository_is_named(ual: Ual, site: HubSite) -> None:
    site.put("tester/old", {"notes.txt": "mine"})
    site.hub.rename("tester/old", REPOSITORY)
    result = ual("push", "t", "tester/old")
    assert (error_of(result), REPOSITORY in result.err) == ((9, "hub-renamed"), True)
    assert paths(site) == ["notes.txt"]


@LFS_ONLY
def test_a_link_that_cannot_be_noted_is_noted_by_the_same_command_again(
    ual: Ual, site: HubSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ual_registry.errors import RegistryUnavailableError

    def fails(*_: object, **__: object) -> None:
        raise RegistryUnavailableError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "link", fails)
        result = ual("push", "t", REPOSITORY)
    tip = site.repo(REPOSITORY).tip
    assert result.err.endswith(
        "error [unavailable]: the database is away\n"
        f"hint: commit {tip} is pushed; the same command again notes it in the registry\n"
    )
    assert ual("push", "t", REPOSITORY, "--json").document["outcome"] == "unchanged"
    assert links() == [(REPOSITORY, tip, "adapter.air", "push")]


def start(*words: object) -> subprocess.Popen[str]:
    """Start a push in a process of its own, which waits long where the others of a race start slowly."""
    return python("ual_registry", "push", *map(str, words), "--json")


def python(module: str, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_DOWNLOAD_TIMEOUT": "300"}
    command = [sys.executable, "-m", module, *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def race(site: HubSite, folder: Path, pushes: list[tuple[str, ...]]) -> list[tuple[int, Any]]:
    """Push at once, each in a process; no commit takes effect before all of them have arrived."""
    barrier = threading.Barrier(len(pushes))
    site.faults.add("commit", times=len(pushes), call=lambda _: barrier.wait(timeout=300))
    process = python("tests.integration.pushing", str(folder), json.dumps(pushes))
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    return [(code, document) for code, document in json.loads(out)]


def test_of_eight_pushers_of_the_same_all_succeed_with_one_commit(site: HubSite, folder: Path) -> None:
    site.put(REPOSITORY, {"notes.txt": "mine"})
    found = race(site, folder, [("t", REPOSITORY)] * 8)
    tip = site.repo(REPOSITORY).tip
    assert [(code, document.get("commit")) for code, document in found] == [(0, tip)] * 8
    assert titles(site) == ["Push Triage: LoRA of rank 8 for example/tiny-llama", "put by a test"]
    assert links() == [(REPOSITORY, tip, "adapter.air", "push")]


@pytest.mark.parametrize(
    "strikes",
    [("lfs-batch", 1, "pushed"), ("commit", 1, "pushed"), ("model-info", 2, "unchanged")],
    ids=["in the upload", "before the commit", "after the commit"],
)
def test_after_a_kill_the_same_command_again_ends_the_work(
    ual: Ual, site: HubSite, tmp_path: Path, strikes: tuple[str, int, str]
) -> None:
    endpoint, nth, outcome = strikes
    endpoint = "cas-xorb-put" if site.xet and endpoint == "lfs-batch" else endpoint
    site.put(REPOSITORY, {"notes.txt": "mine"})
    processes: list[subprocess.Popen[str]] = []
    started = threading.Event()

    def kill(_: str) -> None:
        started.wait(60)
        processes[0].kill()
        processes[0].wait()

    site.faults.add(endpoint, nth=nth, call=kill, cut=True)
    processes.append(start("t", REPOSITORY))
    started.set()
    processes[0].communicate(timeout=300)
    assert (processes[0].returncode, links()) == (-signal.SIGKILL, [])
    assert len([*(tmp_path / "scratch").glob("ual-push-*/*")]) == 1
    again = ual("push", "t", REPOSITORY, "--json")
    assert again.code == 0, again.err
    assert again.document["outcome"] == outcome
    assert titles(site) == ["Push Triage: LoRA of rank 8 for example/tiny-llama", "put by a test"]
    assert links() == [(REPOSITORY, site.repo(REPOSITORY).tip, "adapter.air", "push")]
    assert {*paths(site)} - {"adapter.png"} == {*FILES, "notes.txt"}


@LFS_ONLY
def test_a_tag_is_no_branch(ual: Ual, site: HubSite) -> None:
    first = site.put(REPOSITORY, {"notes.txt": "mine"})
    site.repo(REPOSITORY).tags["v1"] = first
    result = ual("push", "t", REPOSITORY, "--revision", "v1")
    assert result.err == (
        "error [hub-revision]: tester/medical: 'v1' is a tag, expected a branch\n"
        "hint: a push adds a commit to a branch; --tag names the new commit\n"
    )
    assert (site.log.of(*CHANGES), paths(site)) == ([], ["notes.txt"])


@LFS_ONLY
def test_names_of_the_pushers_own_folders_are_remarked(ual: Ual, site: HubSite) -> None:
    from tests.handmade import base_model

    adapter = small_adapter(base_model=base_model(id="/home/me/my base"), extra=(), features=())
    tensors = {name: tensor for name, tensor in adapter.tensors.items() if not name.startswith("extra.")}
    write(type(adapter)(adapter.manifest, tensors), "named.air")
    result = ual("push", "named.air", REPOSITORY, "--dry-run")
    assert result.code == 0
    assert result.err == (
        "note: the base model is called '/home/me/my base', which is no id on the Hub; others cannot find it\n"
        "note: adapter_config.json names the base model '/home/me/my base'; others must name the base model by "
        "themselves\n"
        "note: no picture in the card: pip install matplotlib\n"
    )


@LFS_ONLY
def test_a_folder_for_temporary_files_that_cannot_be_written_is_told(
    ual: Ual, site: HubSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "t.air")
    assert error_of(ual("push", "t", REPOSITORY)) == (11, "storage")
    assert len(site.log) == 0


@LFS_ONLY
@pytest.mark.parametrize("kind", ["open to others", "a link"])
def test_a_folder_for_temporary_files_that_others_could_change_is_refused(
    ual: Ual, site: HubSite, tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "scratch" / f"ual-push-{os.getuid()}"
    if kind == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
        place.chmod(0o777)
    result = ual("push", "t", REPOSITORY)
    assert (result.code, len(site.log)) == (11, 0)
    assert result.err == (
        f"error [storage]: cannot write {place}: expected a folder of yours that others cannot open\n"
        "hint: remove it, or set TMPDIR to a folder of your own\n"
    )


def test_the_picture_is_pushed_with_the_card(ual: Ual, site: HubSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ual_registry.workflows.push_material.draw_picture", lambda _: b"\x89PNG picture")
    ual("push", "t", REPOSITORY)
    assert paths(site) == ["README.md", "adapter.air", "adapter.png", *PEFT_PAIR]
    assert site.repo(REPOSITORY).files()["adapter.png"] == b"\x89PNG picture"
    assert b"](adapter.png)" in site.repo(REPOSITORY).files()["README.md"]


def test_nothing_of_the_pushers_machine_is_left_in_a_full_copy(ual: Ual, site: HubSite, tmp_path: Path) -> None:
    ual("push", "t", REPOSITORY)
    assert str(tmp_path).encode() not in b"".join(site.repo(REPOSITORY).files().values())
