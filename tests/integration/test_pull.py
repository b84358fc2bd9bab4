"""Pulling from a Hub on this machine, by the real client, over both transports: what is there afterwards, and what not.

Each test looks at both sides: what the registry, its store and the client's folders hold, and what the Hub was asked.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import LLAMA_CONFIG, peft_config, peft_tensors, small_adapter, write_peft
from tests.hub_server.fixtures import HubEnvironment
from ual_registry.air.model import Lineage, Parent
from ual_registry.air.read import read, verify
from ual_registry.air.schema import schema_problems
from ual_registry.air.tensor import Tensor
from ual_registry.air.write import write
from ual_registry.cli.main import run
from ual_registry.digest import Digest
from ual_registry.errors import (
    BaseMismatchError,
    ContainerError,
    DigestMismatchError,
    ForeignFormatError,
    HubAccessError,
    HubError,
    HubNotFoundError,
    HubUnavailableError,
    RegistryError,
    StorageError,
    UALError,
)
from ual_registry.registry.registry import Registry
from ual_registry.workflows.pull import pull
from ual_registry.workflows.pull_model import Pulled, PullOptions, PullResult

NOW = datetime.timedelta(0)
PARENT = str(Digest.of_bytes(b"parent"))
LARGE = 600_000
"""Bytes of a tensor that is long enough to be cut, flipped and waited for."""

UNPINNED = (
    "adapter_model.safetensors: its configuration does not say which commit of the base model it was trained on, "
    "so the base model is not pinned"
)

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return tmp_path / "made"


def air(folder: Path, **changes: Any) -> bytes:
    """Return the bytes of an AIR file."""
    path = folder / "made.air"
    write(small_adapter(**changes), path)
    return path.read_bytes()


def large_air(folder: Path, *, seed: int = 0) -> bytes:
    """Return an AIR file with a long tensor of random bytes."""
    adapter = small_adapter(description=f"large {seed}")
    name = "extra.base_model.model.score.weight"
    tensors = {**adapter.tensors, name: Tensor.of_bytes("I8", (LARGE,), random.Random(seed).randbytes(LARGE))}
    path = folder / "large.air"
    write(type(adapter)(adapter.manifest, tensors), path)
    return path.read_bytes()


def peft(folder: Path, name: str = "peft", **changes: Any) -> dict[str, bytes]:
    """Return the files of a PEFT pair; ``changes`` are of its configuration."""
    config = peft_config(**{"base_model_name_or_path": "team/base", **changes})
    place = write_peft(folder / name, peft_tensors(), config)
    return {path.name: path.read_bytes() for path in place.iterdir()}


def base_config() -> bytes:
    return json.dumps(LLAMA_CONFIG).encode()


def digest_of(data: bytes) -> str:
    return str(Digest.of_bytes(data))


def requests(env: HubEnvironment) -> int:
    return len(list(env.site.log))


def links(repository: str = "team/a") -> list[tuple[str, str, str, str]]:
    return [(link.digest, link.commit, link.path, link.direction) for link in Registry.open().linked(repository)]


def revisions() -> list[tuple[str, int, str]]:
    registry = Registry.open()
    found = [record for item in registry.list().items for record in registry.revisions(item.name).items]
    return sorted((record.name, record.number, record.digest) for record in found)


def assert_clean(env: HubEnvironment) -> None:
    """Nothing is left in staging, in the client's cache, or in the store without a row."""
    registry = Registry.open()
    assert list(registry.blobs.walk_staging()) == []
    assert registry.gc(grace=NOW).garbage == ()
    assert registry.fsck(deep=True).faults == ()
    cached = [path for path in (env.home / "hub").rglob("*") if path.is_file()]
    assert cached == []


def assert_nothing(env: HubEnvironment) -> None:
    """Nothing was pulled and nothing is left."""
    assert_clean(env)
    assert (revisions(), links(), list(Registry.open().blobs.walk())) == ([], [], [])


def pulled(path: str, digest: str, **changes: Any) -> Pulled:
    """Return what is said of an AIR file that was pulled as ``a@1``."""
    usual = {"form": "air", "is_fetched": True, "name": "a", "number": 1, "is_new": True, "moves": ()}
    return Pulled(path=path, digest=digest, **{**usual, **changes})


def refusal(address: str, kind: type[UALError], **options: Any) -> UALError:
    with pytest.raises(kind) as caught:
        pull(address, PullOptions(**options))
    assert type(caught.value) is kind
    return caught.value


# --- an AIR file


def fetched(env: HubEnvironment, name: str) -> set[str]:
    """What was asked of the Hub for the bytes of large files."""
    asked = (exchange for exchange in env.site.log if exchange.endpoint in ("resolve-get", "xet-read-token"))
    return {item.path for item in asked if item.endpoint == "xet-read-token" or item.path.endswith(f"/{name}")}


def place(env: HubEnvironment, commit: str, name: str) -> str:
    """Where the bytes of a large file of ``team/a`` are asked for, or what lets us in to them."""
    is_xet = env.transport == "xet"
    return f"/api/models/team/a/xet-read-token/{commit}" if is_xet else f"/team/a/resolve/{commit}/{name}"


def test_an_air_file_is_pulled_as_it_is(hub_env: HubEnvironment, folder: Path) -> None:
    lineage = Lineage(parents=(Parent(digest=PARENT, relation="trained_from"),))
    data = air(folder, lineage=lineage)
    commit = hub_env.site.put("team/a", {"adapter.air": data, "README.md": "# a", **peft(folder)})

    result = pull("team/a")

    assert result == PullResult(
        repository="team/a", commit=commit, asked_hub=True, adapters=(pulled("adapter.air", digest_of(data)),)
    )
    registry = Registry.open()
    assert registry.find("a").read_bytes() == data
    assert links() == [(digest_of(data), commit, "adapter.air", "pull")]
    assert [entry.action for entry in registry.log("a").items] == ["pull", "add"]
    with read(registry.find("a")) as adapter:
        assert adapter.manifest.lineage == lineage
    assert fetched(hub_env, "adapter.air") == {place(hub_env, commit, "adapter.air")}
    assert_clean(hub_env)


def test_the_same_commit_is_not_asked_for_twice(hub_env: HubEnvironment, folder: Path) -> None:
    data = air(folder)
    commit = hub_env.site.put("team/a", {"adapter.air": data})
    pull(f"team/a@{commit}")
    hub_env.site.clear_log()

    again = pull(f"team/a@{commit}")

    assert again == PullResult(
        repository="team/a",
        commit=commit,
        asked_hub=False,
        adapters=(pulled("adapter.air", digest_of(data), is_fetched=False, is_new=False),),
    )
    assert requests(hub_env) == 0
    assert (len(revisions()), len(links())) == (1, 1)


def test_a_branch_is_asked_for_once_and_nothing_is_fetched_again(hub_env: HubEnvironment, folder: Path) -> None:
    data = air(folder)
    hub_env.site.put("team/a", {"adapter.air": data})
    pull("team/a")
    hub_env.site.clear_log()

    again = pull("team/a@main")

    assert again.adapters == (pulled("adapter.air", digest_of(data), is_fetched=False, is_new=False),)
    assert hub_env.site.log.endpoints() == ["model-info"]


def test_a_new_commit_is_the_next_revision_and_an_old_one_the_one_that_it_was(
    hub_env: HubEnvironment, folder: Path
) -> None:
    first, second = air(folder, description="one"), air(folder, description="two")
    old = hub_env.site.put("team/a", {"adapter.air": first})
    pull("team/a")
    new = hub_env.site.put("team/a", {"adapter.air": second})

    assert pull("team/a").adapters == (pulled("adapter.air", digest_of(second), number=2),)
    assert pull(f"team/a@{old}").adapters == (pulled("adapter.air", digest_of(first), is_fetched=False, is_new=False),)
    assert [link[:2] for link in links()] == [(digest_of(first), old), (digest_of(second), new)]


def test_what_another_repository_brought_is_linked_and_not_fetched(hub_env: HubEnvironment, folder: Path) -> None:
    data = air(folder)
    hub_env.site.put("team/a", {"adapter.air": data})
    commit = hub_env.site.put("team/b", {"copy.air": data})
    pull("team/a")
    hub_env.site.clear_log()

    assert pull("team/b").adapters == (pulled("copy.air", digest_of(data), name="b", is_fetched=False),)
    assert hub_env.site.log.endpoints() == ["model-info"]
    assert links("team/b") == [(digest_of(data), commit, "copy.air", "pull")]


def test_what_was_pushed_from_here_is_not_asked_for(hub_env: HubEnvironment, folder: Path) -> None:
    (folder / "own.air").write_bytes(air(folder))
    registry, commit = Registry.open(), "c" * 40
    digest = registry.add(folder / "own.air", name="own").digest
    registry.link(digest, repository="team/a", commit=commit, path="adapter.air", direction="push")
    assert pull(f"team/a@{commit}").adapters == (
        pulled("adapter.air", digest, name="own", is_fetched=False, is_new=False),
    )
    assert [link[3] for link in links()] == ["push", "pull"]
    assert requests(hub_env) == 0


def test_name_alias_and_tag_are_set_also_where_nothing_is_fetched(hub_env: HubEnvironment, folder: Path) -> None:
    commit = hub_env.site.put("team/a", {"adapter.air": air(folder)})
    pull(f"team/a@{commit}", PullOptions(name="triage"))
    hub_env.site.clear_log()

    (found,) = pull(f"team/a@{commit}", PullOptions(aliases=("candidate",), tags={"team": "search"})).adapters

    assert (found.name, found.number, found.is_new) == ("triage", 1, False)
    assert [(move.alias, move.previous, move.number) for move in found.moves] == [("candidate", None, 1)]
    assert Registry.open().search("tag:team=search alias:candidate").items[0].name == "triage"
    assert requests(hub_env) == 0


def test_damaged_bytes_are_fetched_anew(hub_env: HubEnvironment, folder: Path) -> None:
    data = air(folder)
    commit = hub_env.site.put("team/a", {"adapter.air": data})
    pull(f"team/a@{commit}")
    Registry.open().find("a").write_bytes(data[:-1] + b"x")

    assert pull(f"team/a@{commit}").adapters == (pulled("adapter.air", digest_of(data), is_new=False),)
    assert Registry.open().find("a").read_bytes() == data
    assert_clean(hub_env)


def test_a_file_that_is_no_legal_air_is_refused_under_its_name_on_the_hub(
    hub_env: HubEnvironment, folder: Path
) -> None:
    data = air(folder)
    commit = hub_env.site.put("team/a", {"adapter.air": data[:-1] + bytes([data[-1] ^ 1])})
    error = refusal("team/a", DigestMismatchError)
    assert (error.problem_code, error.message.partition(": ")[0]) == (
        "tensor-digest",
        f"hf:team/a@{commit}:adapter.air",
    )
    assert_nothing(hub_env)


# --- several adapters


def several(folder: Path) -> dict[str, bytes]:
    return {
        "law/adapter.air": air(folder, description="law"),
        "maths.air": air(folder, description="maths"),
        **{f"code/{name}": data for name, data in peft(folder).items()},
    }


def test_several_adapters_are_listed_and_none_is_pulled(hub_env: HubEnvironment, folder: Path) -> None:
    hub_env.site.put("team/a", several(folder))
    error = refusal("team/a", HubError)
    assert error.problem_code == "hub-several"
    assert error.context["paths"] == ["code/adapter_model.safetensors", "law/adapter.air", "maths.air"]
    assert hub_env.site.log.endpoints() == ["model-info"]
    assert_nothing(hub_env)


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("team/a", {"files": ("law/adapter.air",)}),
        ("team/a", {"subfolder": "law"}),
        ("hf:team/a:law/adapter.air", {}),
        ("hf:team/a@main:law", {}),
    ],
)
def test_one_of_several_is_pulled_by_its_path(
    hub_env: HubEnvironment, folder: Path, address: str, options: dict[str, Any]
) -> None:
    files = several(folder)
    hub_env.site.put("team/a", files)
    expected = pulled("law/adapter.air", digest_of(files["law/adapter.air"]), name="a-law")
    assert pull(address, PullOptions(**options)).adapters == (expected,)
    assert_clean(hub_env)


def test_all_are_pulled_and_one_that_cannot_be_does_not_stop_the_others(
    hub_env: HubEnvironment, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = several(folder)
    commit = hub_env.site.put("team/a", {**files, "broken.air": b"short", "old/adapter_model.bin": b"pickle"})
    hub_env.site.put("team/base", {"config.json": base_config()})

    code = run(["pull", "team/a", "--all", "--json"])

    document = json.loads(capsys.readouterr().out)
    assert (code, list(schema_problems("1.0/cli/pull.json", document, root="document"))) == (3, [])
    assert [(item["name"], item["path"], item["form"]) for item in document["adapters"]] == [
        ("a-code", "code/adapter_model.safetensors", "peft"),
        ("a-law", "law/adapter.air", "air"),
        ("a-maths", "maths.air", "air"),
    ]
    assert [(item["path"], item["code"]) for item in document["failed"]] == [("broken.air", "truncated")]
    assert document["failed"][0]["message"].startswith(f"hf:team/a@{commit}:broken.air: ")
    assert document["notes"][0] == "left out old/adapter_model.bin: a pickle, which can run code when it is opened"
    assert [link[2] for link in links()] == ["code/adapter_model.safetensors", "law/adapter.air", "maths.air"]
    assert_clean(hub_env)


def test_all_once_more_fetches_nothing(hub_env: HubEnvironment, folder: Path) -> None:
    hub_env.site.put("team/a", several(folder))
    hub_env.site.put("team/base", {"config.json": base_config()})
    first = pull("team/a", PullOptions(all_of_them=True))
    hub_env.site.clear_log()
    again = pull("team/a", PullOptions(all_of_them=True))
    assert [(item.name, item.digest) for item in again.adapters] == [
        (item.name, item.digest) for item in first.adapters
    ]
    assert {(item.is_fetched, item.is_new) for item in again.adapters} == {(False, False)}
    assert hub_env.site.log.endpoints() == ["model-info"]


# --- a PEFT pair


def test_a_pair_becomes_air_with_where_it_came_from(hub_env: HubEnvironment, folder: Path) -> None:
    files = peft(folder)
    commit = hub_env.site.put("team/a", files)
    hub_env.site.put("team/base", {"config.json": base_config(), "model.safetensors": b"weights"})

    result = pull("team/a")

    with read(Registry.open().find("a")) as adapter:
        verify(adapter)
        manifest = adapter.manifest
    weights = digest_of(files["adapter_model.safetensors"])
    assert manifest.lineage == Lineage(parents=(Parent(digest=weights, relation="converted_from"),))
    (statement,) = manifest.provenance
    root = f"hf://team/a@{commit}"
    assert statement.type == "conversion"
    assert statement.parameters == {"from_format": "peft", "to_format": "air"}
    assert [dict(material) for material in statement.materials] == [
        {
            "name": "adapter_model.safetensors",
            "digest": weights,
            "uri": f"{root}/adapter_model.safetensors",
        },
        {
            "name": "adapter_config.json",
            "digest": digest_of(files["adapter_config.json"]),
            "uri": f"{root}/adapter_config.json",
        },
        {"name": "base config", "digest": digest_of(base_config()), "uri": "hf://team/base/config.json"},
    ]
    assert (manifest.base_model.id, manifest.base_model.revision) == ("team/base", None)
    assert manifest.base_model.config_digest == digest_of(base_config())
    assert result.notes == (UNPINNED,)
    assert links() == [(result.adapters[0].digest, commit, "adapter_model.safetensors", "pull")]
    tensors = "adapter_model.safetensors"
    assert fetched(hub_env, tensors) == {place(hub_env, commit, tensors)}
    assert_clean(hub_env)


def test_the_commit_that_a_pair_names_pins_its_base_model(hub_env: HubEnvironment, folder: Path) -> None:
    base = hub_env.site.put("team/base", {"config.json": base_config()})
    hub_env.site.put("team/base", {"config.json": b"{}"})
    hub_env.site.put("team/a", peft(folder, revision=base))
    result = pull("team/a")
    with read(Registry.open().find("a")) as adapter:
        manifest = adapter.manifest
    assert (manifest.base_model.revision, result.notes) == (base, ())
    assert manifest.provenance[0].materials[2]["uri"] == f"hf://team/base@{base}/config.json"


def test_a_branch_that_a_pair_names_pins_nothing(hub_env: HubEnvironment, folder: Path) -> None:
    hub_env.site.put("team/base", {"config.json": base_config()})
    hub_env.site.put("team/a", peft(folder, revision="main"))
    pull("team/a")
    with read(Registry.open().find("a")) as adapter:
        assert adapter.manifest.base_model.revision is None


def test_the_same_pair_gives_the_same_digest_on_another_machine(
    hub_env: HubEnvironment, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub_env.site.put("team/a", peft(folder))
    hub_env.site.put("team/base", {"config.json": base_config()})
    first = pull("team/a")
    hub_env.site.put("team/base", {"README.md": "another commit with the same config"})
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "another machine"))
    second = pull(f"team/a@{commit}")
    assert second == first


def test_a_pair_is_not_asked_for_twice(hub_env: HubEnvironment, folder: Path, tmp_path: Path) -> None:
    commit = hub_env.site.put("team/a", peft(folder))
    hub_env.site.put("team/base", {"config.json": base_config()})
    (first,) = pull(f"team/a@{commit}").adapters
    hub_env.site.clear_log()
    (again,) = pull(f"team/a@{commit}").adapters
    assert again == pulled(first.path, first.digest, form="peft", is_fetched=False, is_new=False)
    (tmp_path / "config.json").write_bytes(base_config())
    assert pull(f"team/a@{commit}", PullOptions(base=str(tmp_path / "config.json"))).adapters == (again,)
    assert requests(hub_env) == 0


def test_another_base_gives_another_adapter(hub_env: HubEnvironment, folder: Path, tmp_path: Path) -> None:
    commit = hub_env.site.put("team/a", peft(folder))
    hub_env.site.put("team/base", {"config.json": base_config()})
    pull(f"team/a@{commit}")
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA_CONFIG, "vocab_size": 9}))
    (other,) = pull(f"team/a@{commit}", PullOptions(base=str(tmp_path / "config.json"))).adapters
    assert (other.number, other.is_fetched, other.is_new) == (2, True, True)
    with read(Registry.open().find("a@2")) as adapter:
        assert [sorted(item) for item in adapter.manifest.provenance[0].materials][2] == ["digest", "name"]


def test_a_base_that_does_not_fit_is_refused_before_the_tensors_count(
    hub_env: HubEnvironment, folder: Path, tmp_path: Path
) -> None:
    hub_env.site.put("team/a", peft(folder))
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA_CONFIG, "hidden_size": 8}))
    refusal("team/a", BaseMismatchError, base=str(tmp_path / "config.json"))
    assert_nothing(hub_env)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"peft_type": "IA3"}, "peft-type"),
        ({"use_qalora": True}, "peft-unsupported"),
        ({"base_model_name_or_path": None}, "no-base"),
        ({"base_model_name_or_path": "/home/me/models/llama"}, "hub-address"),
        ({"base_model_name_or_path": "team/nothing"}, "hub-not-found"),
    ],
)
def test_a_pair_that_cannot_be_carried_is_refused_before_its_tensors_are_fetched(
    hub_env: HubEnvironment, folder: Path, changes: dict[str, Any], code: str
) -> None:
    commit = hub_env.site.put("team/a", peft(folder, **changes))
    with pytest.raises(UALError) as caught:
        pull("team/a")
    error = caught.value
    assert error.problem_code == code
    if not isinstance(error, HubError):
        assert error.message.startswith(f"hf:team/a@{commit}:adapter_model.safetensors: adapter_config.json: ")
    assert [exchange.path for exchange in hub_env.site.log if "safetensors" in exchange.path] == []
    assert_nothing(hub_env)


def test_a_base_model_that_is_gated_is_told_with_the_way_around(hub_env: HubEnvironment, folder: Path) -> None:
    hub_env.site.put("other/gated", {"config.json": base_config()}, gated="manual")
    hub_env.site.put("team/a", {**peft(folder, base_model_name_or_path="other/gated"), "law/adapter.air": air(folder)})
    error = refusal("team/a", HubAccessError, files=("adapter_model.safetensors",))
    assert (error.problem_code, error.context["repository"]) == ("hub-gated", "other/gated")
    assert str(error.hint).endswith("; or pass --base with the base model's folder or its config.json")
    result = pull("team/a", PullOptions(all_of_them=True))
    assert [item.name for item in result.adapters] == ["a-law"]
    assert [(item.path, item.error.problem_code) for item in result.failed] == [
        ("adapter_model.safetensors", "hub-gated")
    ]
    assert_clean(hub_env)


def test_broken_tensors_are_refused_under_their_name_on_the_hub(hub_env: HubEnvironment, folder: Path) -> None:
    commit = hub_env.site.put("team/a", {**peft(folder), "adapter_model.safetensors": b"short"})
    hub_env.site.put("team/base", {"config.json": base_config()})
    error = refusal("team/a", ContainerError)
    assert error.message.startswith(f"hf:team/a@{commit}:adapter_model.safetensors: ")
    assert_nothing(hub_env)


def test_a_pickle_is_refused_and_not_fetched(hub_env: HubEnvironment) -> None:
    hub_env.site.put("team/a", {"adapter_model.bin": b"\x80\x04.", "adapter_config.json": "{}"})
    assert refusal("team/a", ForeignFormatError).problem_code == "peft-pickle"
    assert hub_env.site.log.endpoints() == ["model-info"]
    assert_nothing(hub_env)


# --- offline


@contextlib.contextmanager
def offline() -> Iterator[None]:
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


def test_offline_the_registry_answers_alone(hub_env: HubEnvironment, folder: Path) -> None:
    data = air(folder, description="two")
    hub_env.site.put("team/a", {"adapter.air": air(folder, description="one")})
    pull("team/a")
    commit = hub_env.site.put("team/a", {"adapter.air": data})
    pull("team/a")
    hub_env.site.clear_log()
    with offline():
        by_commit, newest = pull(f"team/a@{commit}"), pull("team/a")
    assert by_commit == PullResult(
        repository="team/a",
        commit=commit,
        asked_hub=False,
        adapters=(pulled("adapter.air", digest_of(data), number=2, is_fetched=False, is_new=False),),
    )
    assert (newest.commit, newest.adapters) == (commit, by_commit.adapters)
    assert newest.notes == ("offline: the newest that this registry holds of team/a; the Hub may have a newer one",)
    assert requests(hub_env) == 0


def test_offline_what_is_not_here_is_told(hub_env: HubEnvironment, folder: Path) -> None:
    commit = hub_env.site.put("team/a", {"adapter.air": air(folder)})
    pull("team/a")
    with offline():
        unknown = refusal("team/b", HubUnavailableError)
        other = refusal("team/a@v2", HubUnavailableError)
    assert (unknown.problem_code, other.problem_code) == ("hub-offline", "hub-offline")
    assert other.hint == f"this registry holds commits of it: {commit}"


def test_offline_all_means_all_that_is_here(hub_env: HubEnvironment, folder: Path) -> None:
    commit = hub_env.site.put("team/a", several(folder))
    pull("team/a", PullOptions(files=("law/adapter.air", "maths.air")))
    with offline():
        found = pull(f"team/a@{commit}", PullOptions(all_of_them=True))
        refused = refusal(f"team/a@{commit}", HubUnavailableError)
    assert [item.name for item in found.adapters] == ["a-law", "a-maths"]
    assert found.notes == ("offline: everything that this registry holds of team/a at that commit",)
    assert refused.problem_code == "hub-offline"


# --- words and access


@pytest.mark.parametrize(
    ("address", "options", "kind", "code"),
    [
        ("no-owner", {}, HubError, "hub-address"),
        ("team/a", {"files": ("x.air",), "subfolder": "y"}, HubError, "hub-address"),
        ("team/a", {"name": "not legal"}, RegistryError, "name"),
        ("team/a", {"aliases": ("1",)}, RegistryError, "name"),
        ("team/a", {"tags": {"a b": ""}}, RegistryError, "name"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_asked(
    hub_env: HubEnvironment, address: str, options: dict[str, Any], kind: type[UALError], code: str
) -> None:
    assert refusal(address, kind, **options).problem_code == code
    assert requests(hub_env) == 0


def test_what_may_not_be_seen_is_told_apart(hub_env: HubEnvironment, folder: Path) -> None:
    site, data = hub_env.site, air(folder)
    site.put("other/gated", {"adapter.air": data}, gated="manual")
    site.put("other/private", {"adapter.air": data}, private=True)
    site.put("team/old", {"adapter.air": data})
    site.hub.rename("team/old", "team/new")
    assert refusal("other/gated", HubAccessError).problem_code == "hub-gated"
    assert refusal("other/private", HubNotFoundError).problem_code == "hub-not-found"
    assert refusal("team/nothing", HubNotFoundError).problem_code == "hub-not-found"
    assert refusal("team/new@v9", HubNotFoundError).problem_code == "hub-no-revision"
    assert refusal("team/old", HubError).problem_code == "hub-renamed"
    assert_nothing(hub_env)


# --- faults


def test_a_flipped_byte_is_fetched_again(hub_env: HubEnvironment, folder: Path) -> None:
    data = large_air(folder)
    hub_env.site.put("team/a", {"adapter.air": data})
    hub_env.site.faults.add(hub_env.site.body_endpoint, flip=LARGE // 2)
    assert pull("team/a").adapters == (pulled("adapter.air", digest_of(data)),)
    assert len(hub_env.site.log.of(hub_env.site.body_endpoint)) == 2
    assert Registry.open().find("a").read_bytes() == data
    assert_clean(hub_env)


def test_bytes_that_are_wrong_twice_are_refused(hub_env: HubEnvironment, folder: Path) -> None:
    data = large_air(folder)
    hub_env.site.put("team/a", {"adapter.air": data})
    hub_env.site.faults.add(hub_env.site.body_endpoint, times=None, flip=LARGE // 2)
    error = refusal("team/a", HubError)
    assert error.problem_code == "hub-content"
    assert f"(expected {digest_of(data).removeprefix('sha256:')})" in error.message
    assert len(hub_env.site.log.of(hub_env.site.body_endpoint)) == 2
    assert_nothing(hub_env)


def test_a_server_that_ignores_ranges_is_no_hindrance(hub_env: HubEnvironment, folder: Path) -> None:
    data = large_air(folder)
    hub_env.site.put("team/a", {"adapter.air": data})
    endpoint = hub_env.site.cut_endpoint
    hub_env.site.faults.add(endpoint, cut_after=LARGE // 3)
    hub_env.site.faults.add(endpoint, nth=2, times=None, ignore_range=True)
    with contextlib.suppress(HubError):  # what follows must hold whether the client gets over it or not
        pull("team/a")
    hub_env.site.faults.clear()
    assert list(Registry.open().blobs.walk_staging()) == []
    assert pull("team/a").adapters[0].digest == digest_of(data)
    assert Registry.open().find("a").read_bytes() == data
    assert_clean(hub_env)


@pytest.mark.parametrize("fault", [{"cut_after": 1000, "reset": True}, {"status": 403}, {"status": 404}])
def test_a_pull_that_fails_leaves_nothing_and_the_next_one_works(
    hub_env: HubEnvironment, folder: Path, fault: dict[str, Any]
) -> None:
    data = large_air(folder)
    hub_env.site.put("team/a", {"adapter.air": data})
    hub_env.site.faults.add(hub_env.site.cut_endpoint, times=None, **fault)
    with pytest.raises(UALError) as caught:
        pull("team/a")
    assert caught.value.problem_code.startswith("hub-")
    assert_nothing(hub_env)
    hub_env.site.faults.clear()
    assert pull("team/a").adapters == (pulled("adapter.air", digest_of(data)),)
    assert_clean(hub_env)


def start(env: HubEnvironment, *words: str, file_limit: int | None = None) -> subprocess.Popen[bytes]:
    """Start a pull in a process of its own; it may write no file longer than ``file_limit`` bytes."""
    command = [sys.executable, "-m", "ual_registry", "pull", *words, "--json"]
    limit = f"ulimit -f {file_limit // 1024}; " if file_limit else ""
    return subprocess.Popen(
        ["bash", "-c", f'{limit}exec "$@"', "bash", *command],
        env={**os.environ, **env.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_killed_pull_is_swept_by_the_same_command(hub_env: HubEnvironment, folder: Path) -> None:
    data = large_air(folder)
    hub_env.site.put("team/a", {"adapter.air": data})
    arrived = threading.Event()
    hub_env.site.faults.add(hub_env.site.body_endpoint, call=lambda _: arrived.set(), chunk_delay_s=0.2)
    process = start(hub_env, "team/a")
    assert arrived.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    registry = Registry.open()
    (stray,) = registry.blobs.walk_staging()
    assert (stray.is_dir(), revisions(), links()) == (True, [], [])

    out, _ = start(hub_env, "team/a").communicate()

    assert [item["digest"] for item in json.loads(out)["adapters"]] == [digest_of(data)]
    assert registry.find("a").read_bytes() == data
    assert_clean(hub_env)


def test_three_that_pull_the_same_at_once_make_one_revision(hub_env: HubEnvironment, folder: Path) -> None:
    data = large_air(folder)
    commit = hub_env.site.put("team/a", {"adapter.air": data})
    Registry.open()  # so that none of them has to make the database
    processes = [start(hub_env, "team/a") for _ in range(3)]
    found = [json.loads(process.communicate()[0])["adapters"][0] for process in processes]
    assert {(item["name"], item["number"], item["digest"]) for item in found} == {("a", 1, digest_of(data))}
    assert sum(item["is_new"] for item in found) == 1
    assert (revisions(), links()) == ([("a", 1, digest_of(data))], [(digest_of(data), commit, "adapter.air", "pull")])
    assert_clean(hub_env)


def test_a_commit_that_is_known_does_not_even_load_the_client(hub_env: HubEnvironment, folder: Path) -> None:
    commit = hub_env.site.put("team/a", {"adapter.air": air(folder)})
    pull("team/a")
    probe = (
        "import sys; from ual_registry.cli.main import run; code = run(sys.argv[1:]); "
        "sys.exit(code or sorted({'huggingface_hub', 'torch', 'numpy', 'peft'} & sys.modules.keys()) or None)"
    )
    words = [sys.executable, "-c", probe, "pull", f"team/a@{commit}", "-q"]
    result = subprocess.run(words, env={**os.environ, **hub_env.variables}, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_full_disk_is_told_and_nothing_is_left(hub_env: HubEnvironment, folder: Path) -> None:
    hub_env.site.put("team/a", {"adapter.air": large_air(folder)})
    process = start(hub_env, "team/a", file_limit=LARGE * 2 // 3)
    out, err = process.communicate()

    assert (process.returncode, json.loads(out)["error"]["code"]) == (StorageError.exit_code, "storage"), err
    assert_nothing(hub_env)


def test_a_pull_in_a_process_of_its_own_says_nothing_but_its_result(hub_env: HubEnvironment, folder: Path) -> None:
    data = air(folder)
    commit = hub_env.site.put("team/a", {"adapter.air": data})
    process = start(hub_env, "team/a", "--alias", "candidate", "--tag", "team=search")
    out, err = process.communicate()
    document = json.loads(out)
    assert (process.returncode, err) == (0, b"")
    assert list(schema_problems("1.0/cli/pull.json", document, root="document")) == []
    assert document == {
        "repository": "team/a",
        "commit": commit,
        "asked_hub": True,
        "adapters": [
            {
                "path": "adapter.air",
                "form": "air",
                "is_fetched": True,
                "name": "a",
                "number": 1,
                "digest": digest_of(data),
                "is_new": True,
                "moves": [{"name": "a", "alias": "candidate", "previous": None, "number": 1, "is_protected": False}],
            }
        ],
        "failed": [],
        "notes": [],
    }


def test_people_read_where_it_came_from(
    hub_env: HubEnvironment, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = air(folder)
    commit = hub_env.site.put("team/a", {"adapter.air": data})
    assert run(["pull", "team/a", "--alias", "candidate"]) == 0
    assert capsys.readouterr() == (
        f"pulled a@1 (candidate)  team/a@{commit[:12]}:adapter.air\n{digest_of(data)}\n",
        "",
    )
    assert run(["pull", "team/a"]) == 0
    assert capsys.readouterr().out == f"already there: a@1  team/a@{commit[:12]}:adapter.air\n{digest_of(data)}\n"


def test_a_terminal_shows_how_far_it_is(
    hub_env: HubEnvironment, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = large_air(folder)
    hub_env.site.put("team/a", {"adapter.air": data})
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(["pull", "team/a"]) == 0
    shown = capsys.readouterr().err
    steps = [step.partition(", ")[0] for step in shown.split("\r\x1b[K") if step]
    assert steps[-1] == "pulling: 603 kB of 603 kB"
    assert shown.endswith("\r\x1b[K")
    assert run(["pull", "team/a", "--name", "other", "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_many_large_adapters_come_side_by_side(hub_env: HubEnvironment, folder: Path) -> None:
    files = {f"{number:02}.air": large_air(folder, seed=number) for number in range(12)}
    hub_env.site.put("team/a", files)
    result = pull("team/a", PullOptions(all_of_them=True))
    assert [(item.name, item.digest) for item in result.adapters] == [
        (f"a-{number:02}", digest_of(files[f"{number:02}.air"])) for number in range(12)
    ]
    assert_clean(hub_env)


def test_when_the_hub_refuses_midway_what_was_pulled_stays_and_the_same_command_goes_on(
    hub_env: HubEnvironment, folder: Path
) -> None:
    files = {f"{number:02}.air": large_air(folder, seed=number) for number in range(12)}
    hub_env.site.put("team/a", files)
    repository = hub_env.site.repo("team/a")
    ends = {path: repository.objects.xet_hash(digest_of(data)[7:]) or f"/{path}" for path, data in files.items()}
    asking = "resolve-get" if hub_env.transport == "lfs" else "cas-reconstruction"
    refused = "|".join(end for path, end in ends.items() if path >= "04")
    hub_env.site.faults.add(asking, times=None, path=refused, status=403)

    result = pull("team/a", PullOptions(all_of_them=True))

    assert [item.path for item in result.adapters] == ["00.air", "01.air", "02.air", "03.air"]
    assert {item.error.problem_code for item in result.failed} == {"hub-access"}
    assert [item.path for item in result.failed] == sorted(files)[4:]
    asked = {exchange.path for exchange in hub_env.site.log.of(asking)}
    last = tuple(ends[path] for path in ("09.air", "10.air", "11.air"))
    assert not any(path.endswith(last) for path in asked)  # the others would fare no better
    assert_clean(hub_env)
    hub_env.site.faults.clear()
    again = pull("team/a", PullOptions(all_of_them=True))
    assert [item.digest for item in again.adapters] == [digest_of(files[path]) for path in sorted(files)]
    assert [item.is_fetched for item in again.adapters] == [False] * 4 + [True] * 8
    assert_clean(hub_env)
