"""Base models by what a user calls them: a folder, a config, or a repository of the Hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hub_server.server import HubSite
from ual_registry.digest import Digest
from ual_registry.errors import BinderDataError, HubError, StorageError, UALError
from ual_registry.hub.address import HubAddress
from ual_registry.hub.client import Hub
from ual_registry.workflows.bases import NamedBase, address_of, find_base, own_base

CONFIG = json.dumps({"model_type": "llama", "hidden_size": 8}).encode()
DOCUMENT = {"model_type": "llama", "hidden_size": 8}


@pytest.fixture
def hub_transport() -> str:
    """A config is small, so it does not matter how large files travel."""
    return "lfs"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a base model in it, and a cache of its own."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, appauthor: str(tmp_path / "cache"))
    work = tmp_path / "work"
    (work / "models" / "base").mkdir(parents=True)
    (work / "models" / "base" / "config.json").write_bytes(CONFIG)
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def commit(hub_site: HubSite, hub_env: object) -> str:
    return hub_site.put("tester/base", {"config.json": CONFIG, "model.safetensors": b"x" * 9})


def refused(error: UALError) -> tuple[str, str, str | None]:
    return error.problem_code, error.message, error.hint


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("models/base", None),
        ("models/base/config.json", None),
        ("./models/base", None),
        ("nowhere", None),
        ("models/none.json", None),
        ("a/b/c", None),
        ("../models/base", None),
        ("C:\\models\\base", None),
        ("https://huggingface.co/org/base", None),
        ("org/base", HubAddress("org/base")),
        ("org/base@v1", HubAddress("org/base", "v1")),
        ("hf:org/base", HubAddress("org/base")),
        ("hf:models/base", HubAddress("models/base")),
        (Path("org/base"), None),
    ],
)
def test_a_path_that_exists_comes_before_a_repository(base: str | Path, expected: HubAddress | None) -> None:
    assert address_of(base) == expected


def test_a_folder_is_read_without_the_hub(place: Path) -> None:
    found = find_base("models/base")
    assert (found.config.label, found.config.document, found.id, found.revision) == ("base", DOCUMENT, None, None)


def test_a_repository_is_read_at_its_commit_and_called_by_its_id(hub_site: HubSite, commit: str) -> None:
    found = find_base("tester/base")
    assert (found.config.label, found.config.document, found.config.digest, found.id, found.revision) == (
        "tester/base",
        DOCUMENT,
        Digest.of_bytes(CONFIG),
        "tester/base",
        commit,
    )
    assert [(seen.endpoint, seen.path.rpartition("/")[2]) for seen in hub_site.log] == [
        ("model-info", "base?blobs=true"),
        ("resolve-get", "config.json"),
    ]


def test_a_pinned_commit_is_asked_for_once(hub_site: HubSite, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_base(f"hf:tester/base@{commit}")
    hub_site.clear_log()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_base(f"tester/base@{commit}") == first
    assert len(hub_site.log) == 0


def test_a_branch_is_pinned_each_time_and_read_once(hub_site: HubSite, commit: str) -> None:
    find_base("tester/base@main")
    hub_site.clear_log()
    assert find_base("tester/base").revision == commit
    newer = hub_site.put("tester/base", {"config.json": CONFIG + b" "})
    assert find_base("tester/base").revision == newer != commit
    assert hub_site.log.endpoints() == ["model-info", "model-info", "resolve-get"]


def test_a_cache_that_was_damaged_is_read_anew(hub_site: HubSite, commit: str, tmp_path: Path) -> None:
    find_base(f"tester/base@{commit}")
    for file in (tmp_path / "cache").rglob("*.config"):
        file.write_bytes(b"damaged")
    hub_site.clear_log()
    assert find_base(f"tester/base@{commit}").config.document == DOCUMENT
    assert hub_site.log.endpoints() == ["model-info", "resolve-get"]


def test_offline_a_repository_is_an_error_that_says_so(
    hub_site: HubSite, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError) as caught:
        find_base("tester/base")
    assert refused(caught.value) == (
        "hub-offline",
        "cannot read hf:tester/base: offline mode is on (nor is there a file or folder tester/base)",
        "unset HF_HUB_OFFLINE; what was pulled is in the registry",
    )
    assert str(caught.value) == caught.value.message


def test_a_repository_that_is_missing_may_be_a_path_that_was_mistyped(hub_site: HubSite, commit: str) -> None:
    reason = "cannot read hf:tester/bse: there is no such repository, or it is private"
    for base, more in (("tester/bse", " (nor is there a file or folder tester/bse)"), ("hf:tester/bse", "")):
        with pytest.raises(HubError) as caught:
            find_base(base)
        assert refused(caught.value)[:2] == ("hub-not-found", reason + more)


def test_a_path_that_is_missing_is_told_as_before() -> None:
    with pytest.raises(StorageError) as caught:
        find_base("nowhere")
    assert refused(caught.value) == (
        "storage",
        "cannot read nowhere: no such file or folder",
        "a base model is given as a model folder, its config.json, or OWNER/NAME on the Hub",
    )


def test_a_path_in_a_repository_is_no_base_model() -> None:
    with pytest.raises(HubError) as caught:
        find_base("hf:org/base:config.json")
    assert refused(caught.value) == (
        "hub-address",
        "cannot read hf:org/base:config.json: a base model is a repository, not a path in one",
        "write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION",
    )


def test_a_repository_without_a_config_is_no_base_model(hub_site: HubSite, hub_env: object) -> None:
    commit = hub_site.put("tester/adapter", {"adapter_config.json": b"{}"})
    with pytest.raises(BinderDataError) as caught:
        find_base("tester/adapter")
    assert refused(caught.value) == (
        "binder-data",
        f"hf:tester/adapter@{commit}: has no config.json, so it is no base model of transformers",
        "name the repository of the base model itself, not of an adapter or of a quantised file",
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[]", "expected a JSON object"),
        (b"{", "not JSON in UTF-8: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b'{"a":1,"a":2}', "name 'a' stands twice in one object"),
    ],
)
def test_a_config_that_is_none_is_refused_with_its_place(
    hub_site: HubSite, hub_env: object, content: bytes, reason: str
) -> None:
    commit = hub_site.put("tester/bad", {"config.json": content})
    with pytest.raises(BinderDataError) as caught:
        find_base("tester/bad")
    assert caught.value.message == f"hf:tester/bad@{commit}:config.json: {reason}"


def test_a_hostile_config_ends_quickly(hub_site: HubSite, hub_env: object) -> None:
    hub_site.put("tester/deep", {"config.json": b'{"a":' * 100_000})
    hub_site.put("tester/wide", {"config.json": b"[" + b"1," * 3_000_000 + b"1]"})
    for base in ("tester/deep", "tester/wide"):
        with pytest.raises(BinderDataError):
            find_base(base)


def test_a_config_over_the_limit_is_not_fetched(
    hub_site: HubSite, hub_env: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ual_registry.workflows.bases.MAX_CONFIG_BYTES", 10)
    commit = hub_site.put("tester/large", {"config.json": CONFIG})
    with pytest.raises(HubError) as caught:
        find_base("hf:tester/large")
    assert refused(caught.value)[:2] == (
        "hub-content",
        f"cannot read hf:tester/large@{commit}:config.json: {len(CONFIG)} bytes, over the limit of 10",
    )
    assert hub_site.log.endpoints() == ["model-info"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((None, None), ("org/base", "c0ffee")),
        (("org/base", None), ("org/base", "c0ffee")),
        ((None, "v1"), ("org/base", "v1")),
        (("org/other", None), ("org/other", None)),
        (("org/other", "v1"), ("org/other", "v1")),
    ],
)
def test_labels_are_as_told_or_else_as_the_hub_calls_it(
    place: Path, told: tuple[str | None, str | None], expected: tuple[str | None, str | None]
) -> None:
    config = find_base("models/base").config
    assert NamedBase(config=config, id="org/base", revision="c0ffee").labels(*told) == expected
    assert NamedBase(config=config).labels(*told) == told


GIVE = "pass --base with the base model's folder, its config.json, or OWNER/NAME on the Hub"


def test_the_base_that_an_adapter_names_is_read_on_its_own_hub(hub_site: HubSite, commit: str) -> None:
    found = own_base(Hub.open(), "tester/base")
    assert (found.id, found.revision, found.config.document) == ("tester/base", commit, DOCUMENT)
    assert own_base(Hub.open(), "tester/base", commit) == found


@pytest.mark.parametrize(
    "name",
    [
        "models/base/config.json",
        "/etc",
        "../models/base",
        "https://evil.example/x",
        "hf:tester/base",
        "a/b@c",
        "",
        "a b",
    ],
)
def test_what_an_adapter_names_is_never_a_path_or_an_address(hub_site: HubSite, commit: str, name: str) -> None:
    with pytest.raises(HubError) as caught:
        own_base(Hub.open(), name)
    assert refused(caught.value) == (
        "hub-address",
        f"the adapter's configuration names the base model {name!r}, which is no repository of the Hub",
        GIVE,
    )
    assert len(hub_site.log) == 0


def test_a_folder_here_is_not_what_an_adapter_names(hub_site: HubSite, commit: str) -> None:
    with pytest.raises(HubError) as caught:
        own_base(Hub.open(), "models/base")
    assert refused(caught.value) == (
        "hub-not-found",
        "cannot read hf:models/base: there is no such repository, or it is private",
        GIVE,
    )


def test_a_base_with_another_name_now_is_not_followed(hub_site: HubSite, commit: str) -> None:
    hub_site.hub.rename("tester/base", "team/base")
    with pytest.raises(HubError) as caught:
        own_base(Hub.open(), "tester/base")
    assert refused(caught.value) == (
        "hub-renamed",
        "cannot read hf:tester/base: its name is now team/base",
        "pass --base hf:team/base",
    )
