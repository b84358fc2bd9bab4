"""Reading from the Hub through its real client, from a Hub on this machine."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.hub_server.fixtures import HubEnvironment
from tests.hub_server.server import HubSite
from ual_registry.errors import HubError, HubUnavailableError, StorageError
from ual_registry.hub import conduct
from ual_registry.hub.client import FIRST_BYTES, Hub
from ual_registry.hub.content import git_blob_id
from ual_registry.hub.limits import Limits, current
from ual_registry.hub.model import HubFile, ListedModel, Snapshot

AIR = bytes(range(256)) * 4096  # 1 MiB
CARD = b"---\nlicense: mit\ntags:\n- own\n---\n# Hi\n"
SHA256 = "fbbab289f7f94b25736c58be46a994c441fd02552cc6022352e3d86d2fab7c83"
NETWORK = "check the network, and HF_ENDPOINT and the proxy where they are set"
LOGIN = "log in by 'hf auth login', or set HF_TOKEN"

pytestmark = pytest.mark.usefixtures("hub_env")


@pytest.fixture
def hub_transport() -> str:
    """Nothing here depends on how large files travel."""
    return "lfs"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits of ours, which are told and not made."""
    waits: list[float] = []
    monkeypatch.setattr(conduct, "time", SimpleNamespace(sleep=waits.append))
    return waits


@pytest.fixture
def commit(hub_site: HubSite) -> str:
    return hub_site.put("tester/a", {"adapter.air": AIR, "README.md": CARD, "sub/config.json": b"{}"})


def refused(call: Any, *arguments: Any, **named: Any) -> tuple[str, str, str | None]:
    with pytest.raises(HubError) as caught:
        call(*arguments, **named)
    return caught.value.problem_code, caught.value.message, caught.value.hint


def test_a_pin_tells_the_commit_and_every_file_by_one_request(hub_site: HubSite, commit: str) -> None:
    snapshot = Hub.open().pin("tester/a")
    files = {path: (file.size_bytes, file.sha256) for path, file in snapshot.files.items()}
    assert (snapshot.repository, snapshot.commit, snapshot.is_private, snapshot.gated) == (
        "tester/a",
        commit,
        False,
        None,
    )
    assert files == {
        ".gitattributes": (176, None),
        "README.md": (len(CARD), None),
        "adapter.air": (len(AIR), SHA256),
        "sub/config.json": (2, None),
    }
    assert snapshot.files["README.md"].blob_id == git_blob_id(CARD)
    assert snapshot.card == {"license": "mit", "tags": ["own"]}
    assert {"own", "license:mit"} <= set(snapshot.tags)
    assert hub_site.log.endpoints() == ["model-info"]


@pytest.mark.parametrize("form", ["branch", "commit"])
def test_a_pin_takes_a_revision_of_any_form(hub_site: HubSite, commit: str, form: str) -> None:
    other = hub_site.put("tester/a", {"b": b"b"}, branch="dev")
    asked = {"branch": "dev", "commit": other}[form]
    assert Hub.open().pin("tester/a", asked).commit == other != commit


def test_a_private_and_a_gated_repository_say_so(hub_site: HubSite) -> None:
    hub_site.put("tester/p", {}, private=True)
    hub_site.put("tester/g", {}, gated="manual")
    hub = Hub.open()
    assert [(found.is_private, found.gated) for found in map(hub.pin, ("tester/p", "tester/g"))] == [
        (True, None),
        (False, "manual"),
    ]


def test_a_repository_with_another_name_now_is_refused_with_that_name(hub_site: HubSite, commit: str) -> None:
    hub_site.hub.rename("tester/a", "team/b")
    with pytest.raises(HubError) as caught:
        Hub.open().pin("tester/a")
    assert (caught.value.problem_code, caught.value.message, caught.value.hint, caught.value.context) == (
        "hub-renamed",
        "cannot read hf:tester/a: its name is now team/b",
        "use hf:team/b",
        {"repository": "tester/a", "renamed_to": "team/b"},
    )
    assert Hub.open().pin("team/b").commit == commit


NOT_THERE = "there is no such repository, or it is private"


def test_what_is_missing_is_told_apart(hub_site: HubSite, commit: str) -> None:
    hub = Hub.open()
    assert refused(hub.pin, "tester/none") == (
        "hub-not-found",
        f"cannot read hf:tester/none: {NOT_THERE}",
        "check the name; where it is private, your token must have access to it",
    )
    assert refused(hub.pin, "tester/a", "none") == (
        "hub-no-revision",
        "cannot read hf:tester/a@none: it has no revision none",
        "name a branch, a tag or a full commit; the repository's page lists them",
    )
    none = HubFile(path="none.json", size_bytes=2, sha256=None, blob_id=git_blob_id(b"{}"))
    place = f"hf:tester/a@{commit}:none.json"
    expected = (
        "hub-no-file",
        f"cannot read {place}: it has no file none.json",
        "the repository's page lists its files",
    )
    assert refused(hub.read_small, hub.pin("tester/a"), none, limit_bytes=9) == expected
    assert refused(hub.open_range, hub.pin("tester/a"), none) == expected


def test_without_a_token_a_private_repository_is_not_there(hub_site: HubSite, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_site.put("tester/p", {}, private=True)
    monkeypatch.delenv("HF_TOKEN")
    assert refused(Hub.open().pin, "tester/p") == (
        "hub-not-found",
        f"cannot read hf:tester/p: {NOT_THERE}",
        f"check the name; where it is private, {LOGIN}",
    )


def test_a_token_that_is_none_is_told(hub_site: HubSite, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = Hub.open().pin("tester/a")
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrong")
    hub = Hub.open()
    reason = "the Hub does not accept the token"
    hint = f"it may be mistyped, expired or revoked; {LOGIN} anew"
    assert refused(hub.pin, "tester/a") == ("hub-token", f"cannot read hf:tester/a: {reason}", hint)
    for call in (hub.open_range, lambda *asked: hub.read_small(*asked, limit_bytes=999)):
        assert refused(call, snapshot, snapshot.files["README.md"]) == (
            "hub-token",
            f"cannot read hf:tester/a@{commit}:README.md: {reason}",
            hint,
        )


@pytest.mark.parametrize("known", [True, False])
def test_a_gated_file_says_where_to_ask(hub_site: HubSite, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub_site.put("tester/g", {"adapter.air": AIR, "README.md": CARD}, gated="manual")
    if known:
        monkeypatch.setenv("HF_TOKEN", hub_site.other_token)
    else:
        monkeypatch.delenv("HF_TOKEN")
    hub = Hub.open()
    snapshot = hub.pin("tester/g")
    hint = f"open {hub_site.endpoint}/tester/g and ask for access" + ("" if known else f", then {LOGIN}")
    for path in ("adapter.air", "README.md"):
        expected = (
            "hub-gated",
            f"cannot read hf:tester/g@{commit}:{path}: access must be asked for, and yours is not granted",
            hint,
        )
        assert refused(hub.open_range, snapshot, snapshot.files[path]) == expected
        assert refused(hub.read_small, snapshot, snapshot.files[path], limit_bytes=len(AIR)) == expected


def test_a_disabled_repository_is_told(hub_site: HubSite, commit: str) -> None:
    hub_site.repo("tester/a").is_disabled = True
    assert refused(Hub.open().pin, "tester/a") == (
        "hub-disabled",
        "cannot read hf:tester/a: its owner or the Hub has disabled it",
        None,
    )


def test_offline_nothing_is_asked(hub_site: HubSite, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    hub_site.clear_log()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    file = snapshot.files["README.md"]
    calls = [
        lambda: hub.pin("tester/a"),
        lambda: hub.open_range(snapshot, file),
        lambda: hub.read_small(snapshot, file, limit_bytes=999),
        lambda: list(hub.list_models(limit=1)),
    ]
    assert {refused(call)[0] for call in calls} == {"hub-offline"}
    assert len(hub_site.log) == 0


def test_a_small_file_is_read_and_verified(hub_site: HubSite, commit: str) -> None:
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    hub_site.clear_log()
    assert hub.read_small(snapshot, snapshot.files["README.md"], limit_bytes=len(CARD)) == CARD
    assert hub.read_small(snapshot, snapshot.files["adapter.air"], limit_bytes=len(AIR)) == AIR
    assert [(seen.endpoint, seen.headers.get("authorization")) for seen in hub_site.log] == [
        ("resolve-get", f"Bearer {hub_site.token}"),
        ("resolve-get", f"Bearer {hub_site.token}"),
        ("cdn-get", None),
    ]


def test_a_file_over_the_limit_is_not_asked_for(hub_site: HubSite, commit: str) -> None:
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    hub_site.clear_log()
    assert refused(hub.read_small, snapshot, snapshot.files["adapter.air"], limit_bytes=100) == (
        "hub-content",
        f"cannot read hf:tester/a@{commit}:adapter.air: 1048576 bytes, over the limit of 100",
        None,
    )
    assert len(hub_site.log) == 0


def test_a_flipped_byte_is_asked_for_again_once(hub_site: HubSite, commit: str) -> None:
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    hub_site.faults.add("resolve-get", flip=0)
    assert hub.read_small(snapshot, snapshot.files["README.md"], limit_bytes=999) == CARD
    hub_site.clear_log()
    hub_site.faults.add("resolve-get", flip=0, times=None)
    wrong = git_blob_id(bytes([CARD[0] ^ 0xFF]) + CARD[1:])
    assert refused(hub.read_small, snapshot, snapshot.files["README.md"], limit_bytes=999) == (
        "hub-content",
        f"cannot read hf:tester/a@{commit}:README.md: git blob {wrong} (expected {git_blob_id(CARD)})",
        "try again; it came twice like this",
    )
    assert len(hub_site.log) == 2


def test_more_than_a_file_should_have_is_not_read_to_its_end(hub_site: HubSite, commit: str) -> None:
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    hub_site.faults.add("resolve-get", content=b"x" * (8 << 20), times=None)
    code, message, _ = refused(hub.read_small, snapshot, snapshot.files["README.md"], limit_bytes=999)
    assert (code, message.rpartition(": ")[2]) == (
        "hub-content",
        f"{len(CARD) + 1} bytes came (expected {len(CARD)})",
    )


def test_a_header_is_read_by_two_requests_after_the_pin(hub_site: HubSite, commit: str) -> None:
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    source = hub.open_range(snapshot, snapshot.files["adapter.air"])
    assert (source.size_bytes, source.read(8, 1000)) == (len(AIR), AIR[8:1008])
    assert [(seen.endpoint, seen.status, seen.headers.get("authorization")) for seen in hub_site.log] == [
        ("model-info", 200, f"Bearer {hub_site.token}"),
        ("resolve-get", 302, f"Bearer {hub_site.token}"),
        ("cdn-get", 206, None),
    ]
    assert sum(seen.sent_bytes for seen in hub_site.log) < 256 * 1024
    assert source.read(FIRST_BYTES, 100) == AIR[FIRST_BYTES : FIRST_BYTES + 100]
    assert len(hub_site.log) == 4
    source.close()


def test_a_short_file_is_asked_for_no_further_than_it_goes(hub_site: HubSite, commit: str) -> None:
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    source = hub.open_range(snapshot, snapshot.files["README.md"])
    assert source.read(0, len(CARD)) == CARD
    source.close()
    assert hub_site.log[-1].headers["range"] == f"bytes=0-{len(CARD) - 1}"


def test_a_server_without_ranges_is_told_by_a_code_of_its_own(hub_site: HubSite, commit: str) -> None:
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    hub_site.faults.add("cdn-get", ignore_range=True, times=None)
    with pytest.raises(StorageError) as caught:
        hub.open_range(snapshot, snapshot.files["adapter.air"])
    assert caught.value.problem_code == "remote-no-ranges"


def test_lists_come_page_by_page_as_they_are_taken(hub_site: HubSite) -> None:
    commits = [hub_site.put(f"tester/m{number}", {"README.md": CARD}) for number in range(5)]
    hub_site.put("team/other", {})
    hub_site.page_size = 2
    listed = Hub.open().list_models(filters=("own",), author="tester", search="m", limit=4)
    assert len(hub_site.log) == 0
    first = next(listed)
    assert len(hub_site.log) == 1
    found = [first, *listed]
    assert [(model.repository, model.is_private, model.gated) for model in found] == [
        (f"tester/m{number}", False, None) for number in range(4)
    ]
    assert {model.commit for model in found} <= set(commits)
    assert len(hub_site.log) == 2


def test_a_list_of_nothing_is_empty() -> None:
    assert list(Hub.open().list_models(author="nobody", limit=3)) == []


def test_a_token_does_not_follow_a_list_to_another_host(hub_site: HubSite) -> None:
    hub_site.put("tester/m", {})
    away = f'<{hub_site.cdn}/api/models?cursor=1>; rel="next"'
    hub_site.faults.add("list-models", headers={"Link": away})
    refused(lambda: list(Hub.open().list_models(limit=9)))
    assert [(seen.origin, seen.headers.get("authorization")) for seen in hub_site.log] == [
        ("hub", f"Bearer {hub_site.token}"),
        ("cdn", None),
    ]


def test_a_busy_hub_is_asked_again_after_growing_waits(hub_site: HubSite, commit: str, slept: list[float]) -> None:
    hub_site.faults.add("model-info", status=503, times=2)
    assert Hub.open().pin("tester/a").commit == commit
    assert (slept, len(hub_site.log)) == ([1.0, 2.0], 3)


@pytest.mark.parametrize("fault", [{"cut": True}, {"reset": True}, {"cut_after": 5}, {"status": 500}, {"status": 504}])
def test_a_lost_answer_is_asked_for_again(
    hub_site: HubSite, commit: str, slept: list[float], fault: dict[str, Any]
) -> None:
    hub = Hub.open()
    snapshot = Hub.open().pin("tester/a")
    hub_site.faults.add("model-info", **fault)
    hub_site.faults.add("resolve-get", **fault)
    hub_site.faults.add("resolve-get", nth=3, **fault)
    assert hub.pin("tester/a") == snapshot
    assert hub.read_small(snapshot, snapshot.files["README.md"], limit_bytes=999) == CARD
    source = hub.open_range(snapshot, snapshot.files["README.md"])
    assert source.read(0, 4) == CARD[:4]
    source.close()
    assert slept == [1.0, 1.0, 1.0]


def test_a_hub_that_stays_busy_is_left_after_four_tries(hub_site: HubSite, commit: str, slept: list[float]) -> None:
    hub_site.faults.add("model-info", status=503, times=None)
    assert refused(Hub.open().pin, "tester/a") == (
        "hub-unavailable",
        "cannot read hf:tester/a: the Hub answered 503: Fault on purpose",
        "try again later",
    )
    assert (slept, len(hub_site.log)) == ([1.0, 2.0, 4.0], 4)


@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_a_refusal_is_not_asked_for_again(hub_site: HubSite, commit: str, slept: list[float], status: int) -> None:
    hub_site.faults.add("model-info", status=status, times=None)
    refused(Hub.open().pin, "tester/a")
    assert (slept, len(hub_site.log)) == ([], 1)


LIMIT = [{"RateLimit": '"api";r=0;t=20'}, {"Retry-After": "20"}]


@pytest.mark.parametrize("headers", LIMIT)
def test_a_wait_is_made_as_told(hub_site: HubSite, commit: str, slept: list[float], headers: dict[str, str]) -> None:
    hub_site.faults.add("model-info", status=429, headers=headers, times=2)
    assert Hub.open().pin("tester/a").commit == commit
    assert slept == [20.0, 20.0]


def test_a_wait_that_is_too_long_is_refused_with_its_length(hub_site: HubSite, commit: str, slept: list[float]) -> None:
    hub_site.faults.add("model-info", status=429, headers=LIMIT[0], times=None)
    hub = Hub.open(wait_limit_s=50)
    with pytest.raises(HubUnavailableError) as caught:
        hub.pin("tester/a")
    assert (caught.value.problem_code, caught.value.message, caught.value.hint) == (
        "hub-rate-limit",
        "cannot read hf:tester/a: the Hub asks to wait 20 s, longer than this command waits (50 s in all)",
        "try again in 20 s",
    )
    assert caught.value.context == {"repository": "tester/a", "wait_s": 20, "wait_limit_s": 50}
    assert (slept, len(hub_site.log)) == ([20.0, 20.0], 3)


def test_waits_of_ranges_and_of_the_clients_own_tries_count_too(
    hub_site: HubSite, commit: str, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs: list[float] = []
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=theirs.append))
    hub = Hub.open(wait_limit_s=50)
    snapshot = hub.pin("tester/a")
    hub_site.faults.add("resolve-get", status=429, headers={"Retry-After": "20"})
    hub_site.faults.add("list-models", status=429, headers={"Retry-After": "20"}, times=None)
    hub.open_range(snapshot, snapshot.files["README.md"]).close()
    with pytest.raises(HubUnavailableError) as caught:
        list(hub.list_models(limit=1))
    assert caught.value.context == {"wait_s": 20, "wait_limit_s": 50}
    assert (slept, theirs) == ([20.0], [21.0])


def test_a_silent_hub_is_left(
    hub_site: HubSite, commit: str, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=slept.append))
    for endpoint in ("model-info", "resolve-get", "list-models"):
        hub_site.faults.add(endpoint, delay_s=0.3, times=None)
    file = snapshot.files["README.md"]
    assert refused(hub.pin, "tester/a")[0] == "hub-timeout"
    assert refused(hub.read_small, snapshot, file, limit_bytes=999)[0] == "hub-timeout"
    assert refused(hub.open_range, snapshot, file)[0] == "hub-timeout"
    assert refused(lambda: list(hub.list_models(limit=1)))[0] == "hub-timeout"


def test_a_dripping_hub_is_left(hub_site: HubSite, monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> None:
    hub_site.put("tester/slow", {"config.json": b"x" * 40_000})
    hub = Hub.open()
    snapshot = hub.pin("tester/slow")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr("ual_registry.hub.content._BYTES_PER_S", 1_000_000)
    hub_site.faults.add("resolve-get", chunk_delay_s=0.1, times=None)
    assert refused(hub.read_small, snapshot, snapshot.files["config.json"], limit_bytes=99_999) == (
        "hub-timeout",
        f"cannot read hf:tester/slow@{snapshot.commit}:config.json: no answer in time",
        f"try again; {NETWORK}; HF_HUB_DOWNLOAD_TIMEOUT gives more seconds",
    )


def test_where_nobody_listens_there_is_no_connection_and_no_second_try(
    hub_site: HubSite, slept: list[float], client_waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    hub = replace(Hub.open(), endpoint="http://127.0.0.1:9")
    hub.api.endpoint = hub.endpoint
    snapshot = Snapshot(repository="a/b", commit="0" * 40, files={})
    file = HubFile(path="x", size_bytes=9, sha256=None, blob_id="")
    assert refused(hub.pin, "a/b") == (
        "hub-unavailable",
        "cannot read hf:a/b: no connection ([Errno 111] Connection refused)",
        NETWORK,
    )
    assert refused(hub.open_range, snapshot, file)[:2] == (
        "hub-unavailable",
        f"cannot read hf:a/b@{'0' * 40}:x: no connection",
    )
    assert refused(lambda: list(hub.list_models(limit=1))) == (
        "hub-unavailable",
        "cannot list the Hub: no connection ([Errno 111] Connection refused)",
        NETWORK,
    )
    assert (slept, client_waits, capsys.readouterr()) == ([], [], ("", ""))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>", "JSONDecodeError: "),
        (b"[]", "TypeError: "),
        (b'{"id":"tester/a"}', "no commit"),
        (b'{"id":"tester/a","sha":"main"}', "no commit"),
        (b'{"id":"tester/a","sha":"SHA","siblings":[{}]}', "KeyError: "),
        (b'{"id":"tester/a","sha":"SHA","siblings":[{"rfilename":"../x","size":1}]}', "'../x' is no path"),
        (b'{"id":"tester/a","sha":"SHA","siblings":[{"rfilename":"/x","size":1}]}', "'/x' is no path"),
        (b'{"id":"tester/a","sha":"SHA","siblings":[{"rfilename":5,"size":1}]}', "'5' is no path"),
        (b'{"id":"tester/a","sha":"SHA","siblings":[{"rfilename":"x"}]}', "x has no size"),
        (b'{"id":"tester/a","sha":"SHA","siblings":[{"rfilename":"x","size":-1}]}', "x has no size"),
        (
            b'{"id":"tester/a","sha":"SHA","siblings":[{"rfilename":"x","lfs":{"size":1,"sha256":"z","pointerSize":1}}]}',
            "x has no digest",
        ),
    ],
)
def test_a_description_that_is_none_is_not_understood(hub_site: HubSite, content: bytes, reason: str) -> None:
    hub_site.faults.add("model-info", status=200, content=content.replace(b"SHA", b"a" * 40), times=None)
    code, message, hint = refused(Hub.open().pin, "tester/a")
    assert (code, hint) == ("hub-answer", "check HF_ENDPOINT; is it a Hub?")
    assert message.startswith(f"cannot read hf:tester/a: the answer is not understood ({reason}")


def test_tokens_and_signatures_are_not_logged(
    hub_site: HubSite, hub_env: HubEnvironment, commit: str, capfd: pytest.CaptureFixture[str], slept: list[float]
) -> None:
    logger = logging.getLogger("huggingface_hub.utils._http")
    with conduct.conducting(conduct.Conduct()):
        Hub.open()
        logger.warning("at %s with %s", "https://cdn/x?X-Signature=s", "Bearer hf_secretsecret")
    for handler in logging.getLogger("huggingface_hub").handlers:
        handler.flush()
    seen = capfd.readouterr()
    assert "hf_secretsecret" not in seen.err
    assert "X-Signature" not in seen.err


def test_the_factory_of_somebody_else_is_left_alone(monkeypatch: pytest.MonkeyPatch, commit: str) -> None:
    from huggingface_hub.utils import _http

    def own() -> Any:
        return _http.default_client_factory()

    monkeypatch.setattr(_http, "_GLOBAL_CLIENT_FACTORY", own)
    assert Hub.open().pin("tester/a").commit == commit
    assert _http._GLOBAL_CLIENT_FACTORY is own


def test_another_hub_can_be_named(hub_site: HubSite, commit: str, tmp_path: Path) -> None:
    hub = Hub.open(hub_site.endpoint + "/")
    assert (hub.endpoint, hub.pin("tester/a").commit) == (hub_site.endpoint, commit)
    assert json.loads(json.dumps(hub.endpoint)) == hub_site.endpoint


def test_a_line_of_a_list_may_say_little(hub_site: HubSite) -> None:
    hub_site.faults.add("list-models", status=200, content=b'[{"id":"a/b"},{"id":"c/d","gated":"auto","private":true}]')
    assert list(Hub.open().list_models(limit=5)) == [
        ListedModel(repository="a/b"),
        ListedModel(repository="c/d", is_private=True, gated="auto"),
    ]


def test_on_a_first_use_nothing_is_asked_for_the_clients_statistics(
    hub_site: HubSite, hub_env: HubEnvironment, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)
    (hub_env.home / ".agent_harnesses.json").unlink()
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    hub.open_range(snapshot, snapshot.files["adapter.air"]).close()
    hub.read_small(snapshot, snapshot.files["README.md"], limit_bytes=999)
    assert hub_site.log.endpoints() == ["model-info", "resolve-get", "cdn-get", "resolve-get"]
    assert not (hub_env.home / ".agent_harnesses.json").exists()


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"cut": True}])
def test_what_the_client_tries_again_itself_is_not_tried_again(
    hub_site: HubSite, commit: str, fault: dict[str, Any], client_waits: list[float], slept: list[float]
) -> None:
    hub_site.faults.add("list-models", times=None, **fault)
    code, _, _ = refused(lambda: list(Hub.open().list_models(limit=5)))
    assert code == ("hub-rate-limit" if fault.get("status") == 429 else "hub-unavailable")
    assert (len(hub_site.log.of("list-models")), client_waits, slept) == (6, [1, 2, 4, 8, 8], [])


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_who_is_known_is_not_told_to_log_in_by_a_storage_that_refuses(
    hub_site: HubSite, commit: str, status: int, slept: list[float]
) -> None:
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    file = snapshot.files["adapter.air"]
    hub_site.faults.add("cdn-get", status=status, times=None)
    told = {
        401: (
            "hub-token",
            "the Hub does not accept the token",
            f"it may be mistyped, expired or revoked; {LOGIN} anew",
        ),
        403: (
            "hub-access",
            "the Hub forbids it: Fault on purpose",
            "your token needs the right to do this; see https://huggingface.co/settings/tokens",
        ),
        404: (
            "hub-no-file",
            "its storage does not hold adapter.air",
            "try again later; where it stays so, tell whoever owns the repository",
        ),
        429: ("hub-rate-limit", "too many requests", "try again later"),
    }
    code, reason, hint = told[status]
    expected = (code, f"cannot read hf:tester/a@{commit}:adapter.air: {reason}", hint)
    assert refused(hub.read_small, snapshot, file, limit_bytes=len(AIR)) == expected
    found = refused(hub.open_range, snapshot, file)
    assert (found[0], found[2]) == (code, hint)


def test_what_is_asked_without_the_client_passes_the_limits_too(hub_site: HubSite, commit: str) -> None:
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    hub_site.limits.set("resolvers", quota=2, window_s=1.0)
    hub_site.clear_log()
    with Limits().installed():
        for _ in range(5):
            hub.open_range(snapshot, snapshot.files["adapter.air"], first_bytes=100).close()
    assert [seen.status for seen in hub_site.log.of("resolve-get")] == [302] * 5
    assert current() is None
