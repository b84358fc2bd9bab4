"""The store of Xet, driven by the real client and the real hf_xet."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants, hf_hub_download
from huggingface_hub.hf_api import RepoFile

from tests.hub_server.fixtures import HubEnvironment

pytestmark = pytest.mark.parametrize("hub_transport", ["xet"], indirect=True)

REPOSITORY = "tester/a"
NOISE = random.Random(0).randbytes(1_500_000)
CONTENTS = {
    "noise": NOISE,
    "one byte": b"x",
    "chunks that repeat": bytes(range(256)) * 5000,
    "a run that comes twice": NOISE[:300_000] + bytes(1_000_000) + NOISE[:300_000],
    "numbers, packed by bytes": b"".join(random.Random(1).randrange(1000).to_bytes(4, "little") for _ in range(90_000)),
}
UP = ["xet-write-token", "cas-chunk", "cas-grant", "cas-xorb-put", "cas-shard"]
DOWN = ["resolve-head", "xet-read-token", "cas-reconstruction", "cas-xorb-get"]


def push(content: bytes, path: str = "x.safetensors") -> str:
    api = HfApi()
    api.create_repo(REPOSITORY, exist_ok=True)
    made = api.create_commit(REPOSITORY, [CommitOperationAdd(path, content)], commit_message="m")
    return made.oid


def pull(folder: Path, path: str = "x.safetensors") -> bytes:
    return Path(hf_hub_download(REPOSITORY, path, local_dir=folder, force_download=True)).read_bytes()


def struck(env: HubEnvironment) -> int:
    """How many requests met a fault."""
    return sum(exchange.fault is not None for exchange in env.site.log)


def asked(env: HubEnvironment, *origins: str) -> list[str]:
    """Endpoints that were asked, without hf_xet's repeats of the same."""
    names = [exchange.endpoint for exchange in env.site.log if exchange.origin in origins or "xet" in exchange.endpoint]
    return [name for number, name in enumerate(names) if number == 0 or names[number - 1] != name]


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_what_goes_up_by_xet_comes_down_by_xet(content: bytes, hub_env: HubEnvironment, tmp_path: Path) -> None:
    push(content)
    up = asked(hub_env, "cas", "cdn")
    hub_env.site.clear_log()
    assert (pull(tmp_path / "pulled"), hub_env.site.repo(REPOSITORY).files()["x.safetensors"]) == (content, content)
    assert [name for name in up if name != "cas-chunk"] == [name for name in UP if name != "cas-chunk"]
    assert asked(hub_env, "cas", "cdn") == DOWN[1:]


def test_what_goes_up_by_xet_comes_down_without(
    hub_env: HubEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(NOISE)
    hub_env.site.clear_log()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    assert pull(tmp_path / "pulled") == NOISE
    assert asked(hub_env, "cas", "cdn") == ["cdn-get"]


def test_what_goes_up_without_xet_comes_down_by_xet(
    hub_env: HubEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setattr(constants, "HF_HUB_DISABLE_XET", True)
        push(NOISE)
    assert asked(hub_env, "cas", "cdn") == ["lfs-put"]
    hub_env.site.clear_log()
    assert pull(tmp_path / "pulled") == NOISE
    assert asked(hub_env, "cas", "cdn") == DOWN[1:]


def test_what_a_test_puts_comes_down_by_xet(hub_env: HubEnvironment, tmp_path: Path) -> None:
    hub_env.site.put(REPOSITORY, {"x.safetensors": NOISE})
    assert pull(tmp_path / "pulled") == NOISE
    assert hub_env.site.log.endpoints() == DOWN


def test_the_tree_and_the_headers_tell_the_xet_hash(hub_env: HubEnvironment) -> None:
    commit = hub_env.site.put(REPOSITORY, {"x.safetensors": b"small file", "y.txt": b"small file"})
    digest, xet_hash = (
        hashlib.sha256(b"small file").hexdigest(),
        "e71123bf53f825b58ecad39d8ab03cbafdb2ea118668534655149fe4d44d8d18",
    )
    items = {
        item.path: (item.lfs and item.lfs.sha256, item.xet_hash)
        for item in HfApi().list_repo_tree(REPOSITORY)
        if isinstance(item, RepoFile)
    }
    assert items == {".gitattributes": (None, None), "x.safetensors": (digest, xet_hash), "y.txt": (None, None)}
    route = f"{hub_env.site.endpoint}/api/models/{REPOSITORY}/xet-read-token/{commit}"
    headers = head(f"{hub_env.site.endpoint}/{REPOSITORY}/resolve/main/x.safetensors")
    assert {name: value for name, value in headers.items() if "xet" in f"{name} {value}".lower()} == {
        "X-Xet-Hash": xet_hash,
        "X-Xet-Refresh-Route": route,
        "Link": f'<{route}>; rel="xet-auth"',
    }


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def head(url: str) -> dict[str, str]:
    request = urllib.request.Request(url, method="HEAD")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.build_opener(_Stay).open(request)
    return dict(caught.value.headers)


@pytest.mark.parametrize("place", [0, 700_001, -1])
def test_a_flipped_byte_is_taken_silently_once(place: int, hub_env: HubEnvironment, tmp_path: Path) -> None:
    push(NOISE)
    hub_env.site.faults.add("cas-reconstruction", flip=place)
    arrived = pull(tmp_path / "pulled")
    differences = [(at, arrived[at] ^ NOISE[at]) for at in range(len(NOISE)) if arrived[at] != NOISE[at]]
    assert (len(arrived), differences) == (len(NOISE), [(place % len(NOISE), 0xFF)])
    assert pull(tmp_path / "pulled") == NOISE


@pytest.mark.parametrize("endpoint", ["cas-reconstruction", "cas-xorb-get"])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 429},
        {"cut": True},
        {"cut_after": 100},
        {"cut_after": 100, "reset": True},
        {"reset": True},
    ],
    ids=str,
)
def test_hf_xet_gets_over_a_fault_on_the_way_down(
    fault: dict[str, Any], endpoint: str, hub_env: HubEnvironment, tmp_path: Path
) -> None:
    push(NOISE)
    hub_env.site.faults.add(endpoint, **fault)
    assert (pull(tmp_path / "pulled"), struck(hub_env)) == (NOISE, 1)


@pytest.mark.parametrize("endpoint", ["cas-xorb-put", "cas-shard"])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"cut": True},
        {"cut_request_after": 50},
        {"after_effect": True, "cut": True},
        {"after_effect": True, "status": 503},
    ],
    ids=str,
)
def test_hf_xet_gets_over_a_fault_on_the_way_up(fault: dict[str, Any], endpoint: str, hub_env: HubEnvironment) -> None:
    hub_env.site.faults.add(endpoint, **fault)
    tip = push(NOISE)
    repository = hub_env.site.repo(REPOSITORY)
    assert (repository.tip, len(repository.commits), struck(hub_env)) == (tip, 2, 1)
    assert repository.files()["x.safetensors"] == NOISE


def test_a_store_that_is_away_ends_the_download_and_leaves_nothing(hub_env: HubEnvironment, tmp_path: Path) -> None:
    push(NOISE)
    hub_env.site.faults.add("cas-reconstruction", status=503, times=None)
    with pytest.raises(RuntimeError, match=r"^Task error: File reconstruction error: .*503 Service Unavailable"):
        pull(tmp_path / "pulled")
    assert [path.name for path in (tmp_path / "pulled").glob("*") if path.is_file()] == []


def test_a_store_that_is_away_ends_the_upload_without_a_commit(hub_env: HubEnvironment) -> None:
    hub_env.site.faults.add("cas-xorb-put", status=503, times=None)
    with pytest.raises(ConnectionError, match=r"^Server error: .*503 Service Unavailable"):
        push(NOISE)
    assert len(hub_env.site.repo(REPOSITORY).commits) == 1


def test_a_token_that_the_store_does_not_know_is_an_error(hub_env: HubEnvironment, tmp_path: Path) -> None:
    push(NOISE)
    pull(tmp_path / "first")
    assert hub_env.site.xet
    hub_env.site.xet.expire_tokens()
    with pytest.raises(RuntimeError, match=r"^Task error: File reconstruction error: .*401 Unauthorized"):
        pull(tmp_path / "second")


def test_a_token_that_has_run_out_is_asked_for_again(hub_env: HubEnvironment, tmp_path: Path) -> None:
    push(NOISE)
    assert hub_env.site.xet
    hub_env.site.xet.valid_s = 30  # less than the client's own margin
    pull(tmp_path / "first")
    hub_env.site.clear_log()
    assert pull(tmp_path / "second") == NOISE
    assert "xet-read-token" in hub_env.site.log.endpoints()


def test_a_second_upload_of_the_same_bytes_sends_no_chunk(hub_env: HubEnvironment) -> None:
    push(NOISE)
    hub_env.site.clear_log()
    push(NOISE, "copy.safetensors")
    assert asked(hub_env, "cas", "cdn") == ["xet-write-token", "cas-shard"]
    assert hub_env.site.repo(REPOSITORY).files()["copy.safetensors"] == NOISE


PUSHER = """
import random, sys
from huggingface_hub import CommitOperationAdd, HfApi
number = int(sys.argv[1])
content = random.Random(number).randbytes(400_000)
HfApi().create_commit("tester/a", [CommitOperationAdd(f"{number}.safetensors", content)], commit_message="m")
"""


def test_three_processes_upload_at_once(hub_env: HubEnvironment) -> None:
    HfApi().create_repo(REPOSITORY)
    running = [subprocess.Popen([sys.executable, "-c", PUSHER, str(number)]) for number in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    files = hub_env.site.repo(REPOSITORY).files()
    assert {path: content for path, content in files.items() if path != ".gitattributes"} == {
        f"{number}.safetensors": random.Random(number).randbytes(400_000) for number in range(3)
    }


def ask(url: str, *, token: str = "", body: bytes | None = None, wanted: str = "") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Range": wanted} if wanted else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers)) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]


def test_the_store_explains_a_range_of_a_file(hub_env: HubEnvironment) -> None:
    store = hub_env.site.xet
    assert store
    hub_env.site.put(REPOSITORY, {"x.safetensors": NOISE})
    file = store.file(store.find(hashlib.sha256(NOISE).hexdigest()) or "")
    assert file
    xorb = file.segments[0].xorb
    chunks = store.chunks(xorb) or ()
    start = chunks[0].length + 7
    told = ask(
        f"{store.origin}/v2/reconstructions/{file.hash}",
        token=store.connection("read", REPOSITORY, "main").token,
        wanted=f"bytes={start}-{start + 9}",
    )
    assert told == (
        200,
        {
            "offset_into_first_range": 7,
            "terms": [{"hash": xorb, "unpacked_length": chunks[1].length, "range": {"start": 1, "end": 2}}],
            "xorbs": {
                xorb: [
                    {
                        "url": f"{store.origin}/xorbs/{xorb}",
                        "ranges": [
                            {
                                "chunks": {"start": 1, "end": 2},
                                "bytes": {"start": chunks[1].start, "end": chunks[1].end - 1},
                            }
                        ],
                    }
                ]
            },
        },
    )


NO_TOKEN = "The token of the store is unknown, has expired or does not allow this"


@pytest.mark.parametrize(
    ("path", "kind", "body", "expected"),
    [
        ("v2/reconstructions/{file}", "", None, (401, NO_TOKEN)),
        ("v1/xorbs/default/aa", "read", b"x", (401, NO_TOKEN)),
        ("v2/shards", "read", b"x", (401, NO_TOKEN)),
        ("v2/reconstructions/aa", "write", None, (404, "No such file")),
        ("xorbs/aa", "", None, (404, "No such xorb")),
        ("v1/reconstructions/{file}", "read", None, (404, "Not Found")),
        ("v2/shards", "write", b"x", (400, "The shard is not in order: not a shard of version 2")),
    ],
)
def test_the_store_refuses(
    path: str, kind: str, body: bytes | None, expected: tuple[int, str], hub_env: HubEnvironment
) -> None:
    store = hub_env.site.xet
    assert store
    hub_env.site.put(REPOSITORY, {"x.safetensors": b"small file"})
    file = store.find(hashlib.sha256(b"small file").hexdigest())
    token = store.connection(kind, REPOSITORY, "main").token if kind else "unknown"
    assert ask(f"{store.origin}/{path.format(file=file)}", token=token, body=body) == expected


def test_a_shard_whose_xorb_is_missing_is_refused(hub_env: HubEnvironment) -> None:
    store = hub_env.site.xet
    assert store
    head_, end = b"HFRepoMetaData".ljust(32, b"\0") + (2).to_bytes(16, "little"), b"\xff" * 32 + bytes(16)
    file = b"a" * 32 + (0).to_bytes(4, "little") + (1).to_bytes(12, "little")
    segment = b"x" * 32 + bytes(8) + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    told = ask(
        f"{store.origin}/v2/shards",
        token=store.connection("write", REPOSITORY, "main").token,
        body=head_ + file + segment + end + end,
    )
    assert told == (400, f"The shard is not in order: no xorb {'78' * 32}")


def test_a_range_beyond_the_end_is_refused(hub_env: HubEnvironment) -> None:
    store = hub_env.site.xet
    assert store
    hub_env.site.put(REPOSITORY, {"x.safetensors": b"small file"})
    file = store.find(hashlib.sha256(b"small file").hexdigest())
    token = store.connection("read", REPOSITORY, "main").token
    told = ask(f"{store.origin}/v2/reconstructions/{file}", token=token, wanted="bytes=10-")
    assert told == (416, "The range begins beyond the end of the file")
