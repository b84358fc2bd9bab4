"""The server, driven by the real client: what happens when something is made to go wrong."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants, hf_hub_download
from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, LocalEntryNotFoundError

from tests.hub_server.faults import Faults
from tests.hub_server.fixtures import HubEnvironment
from tests.hub_server.server import HubSite

_LARGE = random.Random(0).randbytes(1_500_000)

only_lfs = pytest.mark.parametrize("hub_transport", ["lfs"], indirect=True)


def _pulled(folder: Path, path: str = "x.bin") -> bytes:
    return Path(hf_hub_download("tester/a", path, local_dir=folder / "pulled")).read_bytes()


def _push() -> Any:
    return HfApi().create_commit("tester/a", operations=[CommitOperationAdd("y.bin", _LARGE)], commit_message="m")


def test_a_fault_strikes_the_calls_that_it_names_and_no_other() -> None:
    faults = Faults()
    faults.add("tree", nth=2, times=2, path="/main", status=503)
    faults.add("refs", times=None, cut=True)
    asked = ["/main", "/other", "/main", "/other", "/main", "/main"]
    assert [getattr(faults.take("tree", path), "status", None) for path in asked] == [None, None, 503, None, 503, None]
    assert [str(faults.take("refs", "/")) for _ in range(3)] == ["cut=True"] * 3
    faults.clear()
    assert faults.take("refs", "/") is None


def test_a_flipped_byte_of_equal_length_goes_unseen(hub_env: HubEnvironment, tmp_path: Path) -> None:
    site = hub_env.site
    site.put("tester/a", {"x.bin": _LARGE})
    site.faults.add(site.body_endpoint, flip=1000)
    first, second = _pulled(tmp_path / "1"), _pulled(tmp_path / "2")
    assert [place for place in range(len(_LARGE)) if first[place] != _LARGE[place]] == [1000]
    assert (len(first), second) == (len(_LARGE), _LARGE)


@only_lfs
@pytest.mark.usefixtures("hub_env", "client_waits")
def test_a_body_that_is_cut_is_resumed_even_where_ranges_are_ignored(
    hub_site: HubSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # what the client forgets of a piece that was cut
    hub_site.put("tester/a", {"x.bin": _LARGE})
    hub_site.faults.add("cdn-get", times=2, cut_after=500_000)
    hub_site.faults.add("cdn-get", nth=4, cut_after=500_000)
    hub_site.faults.add("cdn-get", nth=5, ignore_range=True)
    assert [_pulled(tmp_path / "1"), _pulled(tmp_path / "2")] == [_LARGE, _LARGE]
    asked = [(item.status, item.headers.get("range"), item.sent_bytes) for item in hub_site.log.of("cdn-get")]
    assert asked == [
        (200, None, 500_000),
        (206, "bytes=500000-", 500_000),
        (206, "bytes=1000000-", 500_000),
        (200, None, 500_000),
        (200, "bytes=500000-", 1_500_000),
    ]


@only_lfs
@pytest.mark.usefixtures("hub_env", "client_waits")
@pytest.mark.parametrize(
    ("endpoint", "fault", "error", "message"),
    [
        ("cdn-get", {"cut_after": 500_000, "reset": True}, httpx2.ReadError, "Connection reset by peer"),
        ("cdn-get", {"reset": True}, httpx2.ReadError, "Connection reset by peer"),
        ("cdn-get", {"status": 503}, HfHubHTTPError, "503 Service Unavailable"),
        ("cdn-get", {"content": b"short"}, OSError, "should be of size 1500000 but has size 5"),
        ("resolve-head", {"cut": True}, httpx2.RemoteProtocolError, "Server disconnected without sending a response"),
        ("resolve-head", {"status": 503}, LocalEntryNotFoundError, "trying to locate the file on the Hub"),
        ("resolve-head", {"headers": {"X-Repo-Commit": None}}, FileMetadataError, "missing the 'X-Repo-Commit' header"),
        ("resolve-head", {"headers": {"X-Linked-Size": "7"}}, OSError, "should be of size 7 but has size 1500000"),
    ],
)
def test_a_pull_fails_as_it_is_told_to(
    hub_site: HubSite, tmp_path: Path, *, endpoint: str, fault: dict[str, Any], error: type[Exception], message: str
) -> None:
    hub_site.put("tester/a", {"x.bin": _LARGE})
    hub_site.faults.add(endpoint, times=None, **fault)
    with pytest.raises(Exception, match=message) as caught:  # the client wraps some of them
        _pulled(tmp_path)
    chain = [caught.value, caught.value.__cause__]
    assert any(isinstance(item, error) for item in chain)
    hub_site.faults.clear()
    assert _pulled(tmp_path / "again") == _LARGE


@only_lfs
@pytest.mark.usefixtures("hub_env")
@pytest.mark.parametrize("lost", [{"status": 503}, {"cut": True}, {"reset": True}], ids=str)
@pytest.mark.parametrize("after_effect", [True, False])
def test_the_answer_to_a_commit_is_lost_before_or_after_its_effect(
    hub_site: HubSite, lost: dict[str, Any], after_effect: bool
) -> None:
    tip = hub_site.put("tester/a", {})
    hub_site.faults.add("commit", after_effect=after_effect, **lost)
    with pytest.raises((HfHubHTTPError, httpx2.TransportError)):
        _push()
    repository = hub_site.repo("tester/a")
    assert (repository.files().get("y.bin") == _LARGE, repository.commits[0].parent == tip) == (after_effect,) * 2
    assert len(hub_site.log.of("commit")) == 1


@only_lfs
@pytest.mark.usefixtures("hub_env")
@pytest.mark.parametrize("reset", [False, True])
def test_an_upload_that_is_cut_begins_again(hub_site: HubSite, client_waits: list[float], reset: bool) -> None:
    hub_site.put("tester/a", {})
    hub_site.faults.add("lfs-put", times=2, cut_request_after=500_000, reset=reset)
    _push()
    assert [item.status for item in hub_site.log.of("lfs-put")] == [0, 0, 200]
    assert (hub_site.repo("tester/a").files()["y.bin"], client_waits) == (_LARGE, [1, 2])


@pytest.mark.usefixtures("client_waits")
def test_an_upload_that_is_refused_for_a_while_arrives(hub_env: HubEnvironment) -> None:
    site = hub_env.site
    site.put("tester/a", {})
    site.faults.add(site.upload_endpoint, times=2, status=503)
    _push()
    assert [item.status for item in site.log.of(site.upload_endpoint)] == [503, 503, 200]
    assert site.repo("tester/a").files()["y.bin"] == _LARGE


@only_lfs
@pytest.mark.usefixtures("hub_env")
@pytest.mark.parametrize(
    ("headers", "waits"),
    [({}, [1, 2]), ({"Retry-After": "7"}, [8, 8]), ({"RateLimit": '"api";r=0;t=9', "Retry-After": "7"}, [10, 10])],
)
def test_a_refusal_for_too_many_requests_says_how_long_to_wait(
    hub_site: HubSite, client_waits: list[float], headers: dict[str, str], waits: list[float]
) -> None:
    hub_site.put("tester/a", {})
    hub_site.faults.add("tree", times=2, status=429, headers=headers)
    assert [item.path for item in HfApi().list_repo_tree("tester/a")] == [".gitattributes"]
    assert client_waits == waits


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_a_budget_refuses_who_does_not_heed_it_and_is_told_in_every_answer(hub_site: HubSite) -> None:
    hub_site.put("tester/a", {})
    hub_site.limits.set("api", quota=2, window_s=300)
    address = f"{hub_site.endpoint}/api/models/tester/a/refs"
    answers = [httpx2.get(address, trust_env=False) for _ in range(3)]
    told = [(answer.status_code, answer.headers["RateLimit"].partition(";t=")[0]) for answer in answers]
    assert told == [(200, '"api";r=1'), (200, '"api";r=0'), (429, '"api";r=0')]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"fixed window";"api";q=2;w=300'}
    hub_site.limits.clear()
    assert "RateLimit" not in httpx2.get(address, trust_env=False).headers


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_who_waits_as_told_is_never_refused(hub_site: HubSite) -> None:
    hub_site.put("tester/a", {})
    hub_site.limits.set("api", quota=2, window_s=1)
    address, answers = f"{hub_site.endpoint}/api/models/tester/a/refs", list[httpx2.Response]()
    for _ in range(4):
        if answers and '"api";r=0;t=' in answers[-1].headers["RateLimit"]:
            time.sleep(int(answers[-1].headers["RateLimit"].partition("t=")[2]))
        answers.append(httpx2.get(address, trust_env=False))
    assert [answer.status_code for answer in answers] == [200] * 4


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_somebody_else_is_faster_between_question_and_commit(hub_site: HubSite) -> None:
    tip = hub_site.put("tester/a", {})
    hub_site.faults.add("commit", call=lambda _: hub_site.put("tester/a", {"other.txt": b"1"}))
    with pytest.raises(HfHubHTTPError, match="412"):
        HfApi().create_commit(
            "tester/a", operations=[CommitOperationAdd("y.txt", b"2")], commit_message="m", parent_commit=tip
        )
    assert sorted(hub_site.repo("tester/a").files()) == [".gitattributes", "other.txt"]


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_slow_answers_arrive_whole(hub_site: HubSite, tmp_path: Path) -> None:
    hub_site.put("tester/a", {"x.bin": _LARGE[:50_000]})
    hub_site.faults.add("resolve-head", delay_s=0.01)
    hub_site.faults.add("cdn-get", chunk_delay_s=0.001)
    assert _pulled(tmp_path) == _LARGE[:50_000]


@only_lfs
@pytest.mark.usefixtures("hub_env")
def test_a_server_that_has_stopped_answers_nobody(hub_site: HubSite) -> None:
    hub_site.put("tester/a", {})
    with httpx2.Client(trust_env=False) as client:
        address = f"{hub_site.endpoint}/api/models/tester/a"
        assert client.get(address).status_code == 200
        hub_site.stop()
        with pytest.raises(httpx2.TransportError):
            client.get(address)
    assert Counter(hub_site.log.endpoints()) == {"model-info": 1}
