"""The server, driven by the real client: what it answers when nothing goes wrong."""

from __future__ import annotations

import hashlib
import random
import threading
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub_server.fixtures import HubEnvironment
from tests.hub_server.server import HubSite
from tests.hub_server.state import GIT_ATTRIBUTES

_LARGE = random.Random(0).randbytes(1_500_000)
_CARD = (
    b"---\nlicense: mit\nlanguage: [en, de]\nbase_model: org/base\nlibrary_name: peft\ntags: [lora, air]\n---\n# A\n"
)

only_lfs = pytest.mark.parametrize("hub_transport", ["lfs"], indirect=True)


def _add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def test_what_is_pushed_is_what_is_pulled(hub_env: HubEnvironment, tmp_path: Path) -> None:
    api = HfApi()
    api.create_repo("tester/a")
    tip = api.model_info("tester/a").sha
    operations = [_add("x.safetensors", _LARGE), _add("sub/c.json", b"{}"), _add("README.md", _CARD)]
    made = api.create_commit("tester/a", operations=operations, commit_message="m", parent_commit=tip)

    folder = Path(snapshot_download("tester/a", revision=made.oid, local_dir=tmp_path / "pulled"))
    pulled = {path: (folder / path).read_bytes() for path in hub_env.site.repo("tester/a").files()}

    expected = {".gitattributes": GIT_ATTRIBUTES, "README.md": _CARD, "sub/c.json": b"{}", "x.safetensors": _LARGE}
    assert pulled == hub_env.site.repo("tester/a").files() == expected
    assert [commit.oid for commit in hub_env.site.repo("tester/a").commits] == [made.oid, tip]
    large = {"lfs": {"lfs-put", "cdn-get"}, "xet": {"cas-xorb-put", "cas-shard", "cas-reconstruction", "cas-xorb-get"}}
    travelled = {name for name in hub_env.site.log.endpoints() if name.startswith(("lfs-put", "cdn", "cas"))}
    assert travelled & set().union(*large.values()) == large[hub_env.transport]


def test_a_file_that_was_put_without_a_client_is_pulled(hub_env: HubEnvironment, tmp_path: Path) -> None:
    hub_env.site.put("tester/a", {"x.air": _LARGE})
    assert Path(hf_hub_download("tester/a", "x.air", local_dir=tmp_path / "pulled")).read_bytes() == _LARGE


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_a_file_is_uploaded_in_parts_above_a_size(hub_site: HubSite) -> None:
    hub_site.storage.part_bytes, hub_site.storage.whole_bytes = 400_000, 1_000_000
    HfApi().create_repo("tester/a")
    operations = [_add("big.bin", _LARGE), _add("little.bin", _LARGE[:1000])]
    HfApi().create_commit("tester/a", operations=operations, commit_message="m")
    stored = hub_site.log.of("lfs-put", "lfs-part", "lfs-complete")
    assert sorted((exchange.endpoint, exchange.received_bytes) for exchange in stored if exchange.method == "PUT") == [
        ("lfs-part", 300_000),
        ("lfs-part", 400_000),
        ("lfs-part", 400_000),
        ("lfs-part", 400_000),
        ("lfs-put", 1000),
    ]
    assert hub_site.repo("tester/a").files()["big.bin"] == _LARGE


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_what_is_stored_already_is_not_uploaded_again(hub_site: HubSite) -> None:
    hub_site.put("tester/a", {"x.bin": _LARGE})
    made = HfApi().create_commit("tester/a", operations=[_add("y.bin", _LARGE)], commit_message="m")
    again = HfApi().create_commit("tester/a", operations=[_add("y.bin", _LARGE)], commit_message="again")
    assert (hub_site.log.of("lfs-put"), again.oid) == ([], made.oid)


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_a_model_is_described_with_its_files_and_tags(hub_site: HubSite) -> None:
    oid = hub_site.put("tester/a", {"README.md": _CARD, "x.safetensors": _LARGE}, gated="manual")
    info = HfApi().model_info("tester/a", files_metadata=True)
    described = (info.id, info.sha, info.author, info.private, info.gated, info.disabled, info.library_name)
    assert described == ("tester/a", oid, "tester", False, "manual", False, "peft")
    assert info.tags == [
        "peft",
        "safetensors",
        "lora",
        "air",
        "en",
        "de",
        "base_model:org/base",
        "base_model:adapter:org/base",
        "license:mit",
        "region:us",
    ]
    assert info.card_data is not None
    assert info.card_data.to_dict() == {  # type: ignore[no-untyped-call]
        "license": "mit",
        "language": ["en", "de"],
        "base_model": "org/base",
        "library_name": "peft",
        "tags": ["lora", "air"],
    }
    files = {file.rfilename: (file.size, file.lfs and file.lfs.sha256) for file in info.siblings or ()}
    assert files == {
        ".gitattributes": (len(GIT_ATTRIBUTES), None),
        "README.md": (len(_CARD), None),
        "x.safetensors": (len(_LARGE), hashlib.sha256(_LARGE).hexdigest()),
    }


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_a_tree_comes_in_pages(hub_site: HubSite) -> None:
    hub_site.page_size = 2
    hub_site.put("tester/a", {"a/b/c.txt": b"1", "a/d.txt": b"2", "e.txt": b"3"})
    listed = [item.path for item in HfApi().list_repo_tree("tester/a", recursive=True)]
    assert listed == [".gitattributes", "a", "a/b", "a/b/c.txt", "a/d.txt", "e.txt"]
    assert [item.path for item in HfApi().list_repo_tree("tester/a", "a")] == ["a/b", "a/d.txt"]
    assert [item.path for item in HfApi().list_repo_tree("tester/a")] == [".gitattributes", "a", "e.txt"]
    asked = HfApi().get_paths_info("tester/a", ["a", "e.txt", "nowhere"])
    assert [item.path for item in asked] == ["a", "e.txt"]
    assert hub_site.log.endpoints() == ["tree"] * 6 + ["paths-info"]


@only_lfs
@pytest.mark.usefixtures("hub_env")
@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["tester/a", "tester/hidden", "team/b", "other/c"]),
        ({"filter": ["lora", "language_is_no_tag"]}, []),
        ({"filter": ["lora", "base_model:adapter:org/base"]}, ["tester/a", "team/b"]),
        ({"author": "team"}, ["team/b"]),
        ({"search": "/C"}, ["other/c"]),
        ({"limit": 2}, ["tester/a", "tester/hidden"]),
        ({"gated": True}, ["other/c"]),
        ({"token": "hf_loopbackOtherToken"}, ["tester/a", "team/b", "other/c"]),
        ({"token": False, "full": True}, ["tester/a", "team/b", "other/c"]),
    ],
)
def test_models_are_listed(hub_site: HubSite, asked: dict[str, object], found: list[str]) -> None:
    hub_site.page_size = 3
    hub_site.put("tester/a", {"README.md": _CARD})
    hub_site.put("tester/hidden", {}, private=True)
    hub_site.put("team/b", {"README.md": _CARD})
    hub_site.put("other/c", {}, gated="auto")
    models = list(HfApi().list_models(**asked))  # type: ignore[arg-type]
    assert [model.id for model in models] == found
    tips = [hub_site.repo(name).tip if "full" in asked else None for name in found]
    assert [model.sha for model in models] == tips


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_references_lead_to_their_commits(hub_site: HubSite) -> None:
    first, api = hub_site.put("tester/a", {"x.txt": b"1"}), HfApi()
    api.create_tag("tester/a", tag="v1")
    api.create_branch("tester/a", branch="next/one")
    made = api.create_commit(
        "tester/a", operations=[CommitOperationDelete("x.txt")], commit_message="m", revision="next/one"
    )
    refs = api.list_repo_refs("tester/a")
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": first, "next/one": made.oid}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first}
    assert [commit.title for commit in api.list_repo_commits("tester/a", revision="next/one")] == [
        "m",
        "put by a test",
        "initial commit",
    ]
    assert hub_site.repo("tester/a").files("next/one") == {".gitattributes": GIT_ATTRIBUTES}
    for repeated in (
        lambda: api.create_tag("tester/a", tag="v1"),
        lambda: api.create_branch("tester/a", branch="main"),
    ):
        with pytest.raises(HfHubHTTPError, match="409"):
            repeated()  # type: ignore[no-untyped-call]
    api.delete_tag("tester/a", tag="v1")
    api.delete_branch("tester/a", branch="next/one")
    assert (hub_site.repo("tester/a").tags, list(hub_site.repo("tester/a").branches)) == ({}, ["main"])


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_the_old_id_of_a_renamed_repository_leads_to_the_new_one(hub_site: HubSite, tmp_path: Path) -> None:
    hub_site.put("tester/old", {"x.txt": b"1"})
    HfApi().move_repo("tester/old", "team/new")
    assert HfApi().model_info("tester/old", files_metadata=True).id == "team/new"
    assert Path(hf_hub_download("tester/old", "x.txt", local_dir=tmp_path / "pulled")).read_bytes() == b"1"
    HfApi().create_commit("tester/old", operations=[_add("y.txt", b"2")], commit_message="m")
    assert sorted(hub_site.repo("team/new").files()) == [".gitattributes", "x.txt", "y.txt"]


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_a_small_file_may_be_behind_a_redirection_on_the_same_host(hub_site: HubSite, tmp_path: Path) -> None:
    hub_site.put("tester/a", {"a folder/x.txt": b"1"}, private=True)
    hub_site.redirects_small = True
    pulled = hf_hub_download("tester/a", "a folder/x.txt", local_dir=tmp_path / "pulled")
    assert Path(pulled).read_bytes() == b"1"
    assert hub_site.log.endpoints() == ["resolve-head", "resolve-cache", "resolve-cache"]


@pytest.mark.usefixtures("hub_env")
@pytest.mark.parametrize("has_parent", [True, False])
def test_of_eight_pushers_with_one_parent_one_wins(hub_site: HubSite, has_parent: bool) -> None:
    tip, told = hub_site.put("tester/a", {}), list[str]()

    def push(number: int) -> None:
        operation = _add(f"{number}.bin", bytes([number]) * 1000)
        try:
            made = HfApi().create_commit(
                "tester/a", operations=[operation], commit_message="m", parent_commit=tip if has_parent else None
            )
            told.append(made.oid)
        except HfHubHTTPError as error:
            told.append(f"{error.response.status_code} {error.server_message}")

    pushers = [threading.Thread(target=push, args=(number,)) for number in range(8)]
    for pusher in pushers:
        pusher.start()
    for pusher in pushers:
        pusher.join()
    made = [commit.oid for commit in hub_site.repo("tester/a").commits[:-2]]
    stale = "412 A commit has happened since. Please refresh and try again."
    assert sorted(told) == sorted([*made, *[stale] * (8 - len(made))])
    assert len(made) == (1 if has_parent else 8)


@only_lfs
@pytest.mark.usefixtures("hub_env")
@pytest.mark.parametrize(
    ("card", "message"),
    [
        (b"---\nbase_model: [a b]\n---\n", '"base_model[0]" with value "a b" is not valid. Use a model id from'),
        (b"---\nlicense: mine\n---\n", '"license" must be one of [afl-3.0, '),
        (b"---\nlanguage: English\n---\n", '"language" must only contain lowercase characters'),
        (b"---\ntags: lora\n---\n", '"tags" must be an array'),
        (b"---\ntags: [1]\n---\n", '"tags[0]" must be a string'),
        (b"---\nlibrary_name: 1\n---\n", '"library_name" must be a string'),
        (b"---\nbase_model_relation: lora\n---\n", '"base_model_relation" must be one of [adapter, finetune, merge'),
        (b"---\nmodel-index: [{}]\n---\n", '"model-index[0].name" is required'),
        (b"---\nmodel-index: 1\n---\n", '"model-index" must be an array'),
        (b"---\n- 1\n---\n", "YAML metadata must be an object"),
        (b"---\nlicense: [\n---\n", "YAML parse error: while parsing a flow node"),
    ],
)
def test_a_card_with_bad_metadata_is_refused(hub_site: HubSite, card: bytes, message: str) -> None:
    tip = hub_site.put("tester/a", {})
    with pytest.raises(ValueError, match=r"Invalid metadata in README.md") as caught:
        HfApi().create_commit("tester/a", operations=[_add("README.md", card)], commit_message="m")
    assert message in str(caught.value)
    assert hub_site.repo("tester/a").tip == tip


@only_lfs
@pytest.mark.usefixtures("hub_env")
@pytest.mark.parametrize(
    ("token", "call", "error", "status", "message"),
    [
        (None, "none", RepositoryNotFoundError, 404, "Repository not found"),
        (False, "none", RepositoryNotFoundError, 401, "Repository not found"),
        ("hf_loopbackOtherToken", "private", RepositoryNotFoundError, 404, "Repository not found"),
        ("hf_nobody", "open", HfHubHTTPError, 401, "Invalid credentials in Authorization header"),
        (None, "disabled", DisabledRepoError, 403, "Access to this resource is disabled."),
        (None, "revision", RevisionNotFoundError, 404, "Invalid rev id: nope"),
        (None, "path", RemoteEntryNotFoundError, 404, "nope does not exist on main"),
        ("hf_loopbackReadToken", "write", HfHubHTTPError, 403, "Authorization error. This token only allows to read."),
        (
            "hf_loopbackOtherToken",
            "write",
            HfHubHTTPError,
            403,
            "Authorization error. You have no right to write to tester/open.",
        ),
        (
            None,
            "create",
            HfHubHTTPError,
            403,
            'You don\'t have the rights to create a model under the namespace "stranger"',
        ),
    ],
)
def test_a_refusal_says_what_is_wrong(
    hub_site: HubSite, *, token: str | None, call: str, error: type[HfHubHTTPError], status: int, message: str
) -> None:
    hub_site.put("tester/open", {})
    hub_site.put("tester/private", {}, private=True)
    hub_site.put("tester/disabled", {})
    hub_site.repo("tester/disabled").is_disabled = True
    api = HfApi(token=token)
    calls = {
        "revision": lambda: api.model_info("tester/open", revision="nope"),
        "path": lambda: list(api.list_repo_tree("tester/open", "nope")),
        "write": lambda: api.create_tag("tester/open", tag="v1"),
        "create": lambda: api.create_repo("stranger/x"),
    }
    with pytest.raises(error) as caught:
        calls.get(call, lambda: api.model_info(f"tester/{call}"))()  # type: ignore[no-untyped-call]
    assert (caught.value.response.status_code, caught.value.server_message) == (status, message)


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_a_gated_repository_shows_itself_and_keeps_its_files(hub_site: HubSite, tmp_path: Path) -> None:
    hub_site.put("other/gated", {"x.txt": b"1"}, gated="auto")
    assert HfApi().model_info("other/gated").gated == "auto"
    with pytest.raises(GatedRepoError, match="you are not in the authorized list"):
        hf_hub_download("other/gated", "x.txt", local_dir=tmp_path / "no")
    hub_site.repo("other/gated").granted.add("tester")
    assert Path(hf_hub_download("other/gated", "x.txt", local_dir=tmp_path / "yes")).read_bytes() == b"1"


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_no_token_reaches_the_cdn_and_one_would_be_refused(hub_site: HubSite, tmp_path: Path) -> None:
    hub_site.put("tester/a", {"x.bin": _LARGE})
    hf_hub_download("tester/a", "x.bin", local_dir=tmp_path / "pulled")
    assert {(item.origin, "authorization" in item.headers) for item in hub_site.log} == {("hub", True), ("cdn", False)}
    address = hub_site.cdn + hub_site.log.of("cdn-get")[0].path
    refused = httpx2.get(address, headers={"Authorization": f"Bearer {hub_site.token}"}, trust_env=False)
    forged = httpx2.get(address[:-1] + "!", trust_env=False)
    assert (refused.status_code, forged.status_code) == (400, 403)


@only_lfs
@pytest.mark.parametrize("path", ["small.txt", "large.bin"])
@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        (None, 200, b"0123456789", None),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_a_range_gives_its_bytes(
    hub_site: HubSite, *, path: str, asked: str | None, status: int, content: bytes | None, told: str | None
) -> None:
    oid = hub_site.put("tester/a", {path: b"0123456789"})
    headers = {} if asked is None else {"Range": asked}
    first = httpx2.get(f"{hub_site.endpoint}/tester/a/resolve/main/{path}", headers=headers, trust_env=False)
    got = first
    if first.status_code == 302:
        assert (first.headers["X-Linked-Size"], first.headers["X-Repo-Commit"]) == ("10", oid)
        got = httpx2.get(first.headers["Location"], headers=headers, trust_env=False)
    assert (got.status_code, got.headers.get("Content-Range")) == (status, told)
    assert content is None or got.content == content
