"""Fetching files of a commit, over LFS and over Xet: all of them as they should be, or none and nothing left."""

from __future__ import annotations

import errno
import hashlib
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.hub_server.fixtures import HubEnvironment
from tests.hub_server.server import HubSite
from ual_registry.errors import HubError, StorageError, UALError
from ual_registry.hub import conduct
from ual_registry.hub.client import Hub
from ual_registry.hub.content import check_content, check_file, git_blob_id, read_body
from ual_registry.hub.download import download
from ual_registry.hub.model import HubFile, Snapshot

AIR = hashlib.shake_128(b"air").digest(300_000)
OTHER = hashlib.shake_128(b"other").digest(200_000)
FILES = {"adapter.air": AIR, "sub/adapter.air": OTHER, "README.md": b"# Hi\n", "empty.txt": b""}


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits of ours and of the client, which are told and not made."""
    waits: list[float] = []
    still = SimpleNamespace(sleep=waits.append, time=lambda: 0.0)
    monkeypatch.setattr(conduct, "time", still)
    monkeypatch.setattr("huggingface_hub.utils._http.time", still)
    monkeypatch.setattr("huggingface_hub.file_download.time", still)
    return waits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pulled"
    made.mkdir()
    return made


@pytest.fixture
def pinned(hub_site: HubSite, hub_env: HubEnvironment) -> tuple[Hub, Snapshot]:
    hub_site.put("tester/a", FILES)
    hub = Hub.open()
    return hub, hub.pin("tester/a")


def fetch(pinned: tuple[Hub, Snapshot], folder: Path, *paths: str, **named: Any) -> dict[str, Path]:
    hub, snapshot = pinned
    return download(hub, snapshot, [snapshot.files[path] for path in paths], folder, **named)


def refused(pinned: tuple[Hub, Snapshot], folder: Path, *paths: str, **named: Any) -> UALError:
    with pytest.raises(UALError) as caught:
        fetch(pinned, folder, *paths, **named)
    assert list(folder.iterdir()) == []
    return caught.value


def name_in_store(site: HubSite, data: bytes) -> str | None:
    """What a file is called in the Xet store, where there is one."""
    return site.repo("tester/a").objects.xet_hash(hashlib.sha256(data).hexdigest())


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_come_under_their_paths_and_nothing_else(
    pinned: tuple[Hub, Snapshot], folder: Path, hub_env: HubEnvironment
) -> None:
    came: list[int] = []
    found = fetch(pinned, folder, *FILES, on_bytes=came.append)
    assert found == {path: folder / path for path in FILES}
    assert held(folder) == FILES
    assert sum(came) == sum(len(data) for data in FILES.values())
    assert not (hub_env.home / "hub").exists()


def test_no_file_is_no_work(pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite) -> None:
    hub_site.clear_log()
    assert (fetch(pinned, folder), len(hub_site.log), list(folder.iterdir())) == ({}, 0, [])


def test_the_token_goes_to_the_hub_alone(pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite) -> None:
    fetch(pinned, folder, *FILES)
    told = {(seen.origin, hub_site.token in seen.headers.get("authorization", "")) for seen in hub_site.log}
    assert ("hub", True) in told
    assert told <= {("hub", True), ("cdn", False), ("cas", False)}


def test_a_byte_that_was_flipped_is_fetched_again(
    pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite, slept: list[float]
) -> None:
    hub_site.faults.add(hub_site.body_endpoint, flip=-1)
    came: list[int] = []
    fetch(pinned, folder, "adapter.air", on_bytes=came.append)
    assert held(folder) == {"adapter.air": AIR}
    assert sum(came) == len(AIR)


def test_a_byte_that_is_flipped_each_time_is_refused(
    hub_site: HubSite, hub_env: HubEnvironment, folder: Path, slept: list[float]
) -> None:
    hub_site.put("tester/a", {"adapter.air": AIR, "README.md": b"# Hi\n"})
    hub = Hub.open()
    pinned = hub, hub.pin("tester/a")
    hub_site.faults.add("resolve-get", flip=0, times=None, path="README.md")
    error = refused(pinned, folder, "adapter.air", "README.md")
    wrong = git_blob_id(bytes([ord("#") ^ 0xFF]) + b" Hi\n")
    place = f"hf:tester/a@{pinned[1].commit}:README.md"
    assert (error.problem_code, error.message, error.context) == (
        "hub-content",
        f"cannot read {place}: git blob {wrong} (expected {git_blob_id(FILES['README.md'])}), twice",
        {"repository": "tester/a", "revision": pinned[1].commit, "path": "README.md"},
    )


def test_a_large_file_that_is_wrong_each_time_is_refused(
    pinned: tuple[Hub, Snapshot],
    folder: Path,
    hub_site: HubSite,
    slept: list[float],
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub_site.faults.add(hub_site.body_endpoint, flip=-1, times=None)
    error = refused(pinned, folder, "adapter.air", "sub/adapter.air")
    expected = {"adapter.air": AIR, "sub/adapter.air": OTHER}[str(error.context["path"])]
    assert error.problem_code == "hub-content"
    assert error.message.endswith(f" (expected {hashlib.sha256(expected).hexdigest()}), twice")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "fault", [{"cut_after": 1000}, {"cut_after": 1000, "reset": True}, {"status": 503}, {"cut": True}]
)
def test_a_connection_that_breaks_is_made_again(
    pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite, fault: dict[str, Any], slept: list[float]
) -> None:
    hub_site.faults.add(hub_site.cut_endpoint, **fault)
    hub_site.faults.add("paths-info", **fault)
    hub_site.faults.add("xet-read-token", **fault)
    hub_site.faults.add("resolve-get", **fault)
    came: list[int] = []
    fetch(pinned, folder, *FILES, on_bytes=came.append)
    assert held(folder) == FILES
    assert sum(came) == sum(len(data) for data in FILES.values())


def test_a_hub_that_stays_away_leaves_nothing(
    pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite, slept: list[float]
) -> None:
    hub_site.faults.add("resolve-get", status=503, times=None, path="sub/adapter.air")
    hub_site.faults.add("cas-reconstruction", status=503, times=None, path=name_in_store(hub_site, OTHER))
    error = refused(pinned, folder, *FILES)
    assert (error.problem_code, error.context["path"]) == ("hub-unavailable", "sub/adapter.air")


def test_a_file_that_is_gone_leaves_nothing(pinned: tuple[Hub, Snapshot], folder: Path) -> None:
    hub, snapshot = pinned
    gone = HubFile(path="gone.air", size_bytes=3, sha256="0" * 64, blob_id="")
    with pytest.raises(HubError) as caught:
        download(hub, snapshot, [snapshot.files["adapter.air"], gone], folder, threads=1)
    assert (caught.value.problem_code, list(folder.iterdir())) == ("hub-no-file", [])


def test_the_first_failure_ends_the_others(pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite) -> None:
    many = {f"f{number}.txt": b"x" * 10 for number in range(20)}
    hub_site.put("tester/many", many)
    hub = pinned[0]
    hub_site.faults.add("resolve-get", status=404, headers={"X-Error-Code": "EntryNotFound"}, path="f0.txt")
    hub_site.clear_log()
    error = refused((hub, hub.pin("tester/many")), folder, *many, threads=1)
    assert error.problem_code == "hub-no-file"
    assert hub_site.log.endpoints()[:2] == ["model-info", "resolve-get"]
    assert len(hub_site.log) < 6


def test_an_answer_of_another_length_is_refused(hub_site: HubSite, hub_env: HubEnvironment, folder: Path) -> None:
    hub_site.put("tester/a", {"README.md": b"# Hi\n"})
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    lying = HubFile(path="README.md", size_bytes=4, sha256=None, blob_id=git_blob_id(b"# Hi"))
    with pytest.raises(HubError) as caught:
        download(hub, snapshot, [lying], folder)
    assert (caught.value.problem_code, caught.value.message) == (
        "hub-content",
        f"cannot read hf:tester/a@{snapshot.commit}:README.md: more than 4 bytes came (expected 4), twice",
    )


def test_a_full_disk_is_told_and_leaves_nothing(
    pinned: tuple[Hub, Snapshot], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ual_registry.hub.content.Check.update", full)
    monkeypatch.setattr("ual_registry.hub.xet.XetStore.fetch", full)
    error = refused(pinned, folder, "adapter.air")
    assert (type(error), error.message) == (
        StorageError,
        f"cannot read hf:tester/a@{pinned[1].commit}:adapter.air: no space left on the disk",
    )


def test_a_folder_that_is_missing_is_told(pinned: tuple[Hub, Snapshot], tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        fetch(pinned, tmp_path / "none", "README.md")
    assert caught.value.message == f"cannot write {tmp_path / 'none'}: No such file or directory"


def test_a_name_that_leaves_the_folder_is_refused(pinned: tuple[Hub, Snapshot], folder: Path) -> None:
    hub, snapshot = pinned
    for path in ("../x", "../../x", "/tmp/x", "C:\\x", "a/../../../x"):
        wicked = HubFile(path=path, size_bytes=1, sha256=None, blob_id="")
        with pytest.raises(HubError) as caught:
            download(hub, snapshot, [snapshot.files["README.md"], wicked], folder)
        assert caught.value.message == (
            f"cannot read hf:tester/a@{snapshot.commit}: {path!r} is no path of a file in a repository"
        )
        assert list(folder.iterdir()) == []


def test_a_stop_of_the_user_leaves_nothing(pinned: tuple[Hub, Snapshot], folder: Path) -> None:
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(pinned, folder, "README.md", on_bytes=stop)
    assert list(folder.iterdir()) == []


def test_files_are_fetched_side_by_side(pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite) -> None:
    together = threading.Barrier(2, timeout=10)
    first = "resolve-get" if hub_site.xet is None else "cas-reconstruction"
    hub_site.faults.add(first, call=lambda _: together.wait(), times=2)
    fetch(pinned, folder, "adapter.air", "sub/adapter.air", threads=2)
    assert held(folder) == {"adapter.air": AIR, "sub/adapter.air": OTHER}


xet_only = pytest.mark.parametrize("hub_transport", ["xet"], indirect=True)


@xet_only
def test_where_many_files_are_and_what_lets_in_is_asked_once(
    hub_site: HubSite, hub_env: HubEnvironment, tmp_path: Path
) -> None:
    files = {f"{number}.air": hashlib.shake_128(bytes([number])).digest(50_000) for number in range(6)}
    hub_site.put("tester/a", {**files, "README.md": b"# Hi\n"})
    hub = Hub.open()
    snapshot = hub.pin("tester/a")
    hub_site.clear_log()
    for number, paths in enumerate((("0.air", "1.air", "2.air"), ("3.air",), ("4.air", "5.air"))):
        place = tmp_path / str(number)
        place.mkdir()
        download(hub, snapshot, [snapshot.files[path] for path in paths], place)
        assert held(place) == {path: files[path] for path in paths}
    of_the_hub = [seen.endpoint for seen in hub_site.log if seen.origin == "hub"]
    assert of_the_hub == ["paths-info", "xet-read-token"]


@xet_only
def test_what_lets_in_is_asked_for_anew_before_it_ends(
    pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite
) -> None:
    assert hub_site.xet is not None
    hub_site.xet.valid_s = 30
    fetch(pinned, folder, "adapter.air")
    fetch(pinned, folder, "sub/adapter.air")
    assert len(hub_site.log.of("xet-read-token")) >= 2
    assert held(folder) == {"adapter.air": AIR, "sub/adapter.air": OTHER}


@xet_only
@pytest.mark.parametrize("told", [b"[]", b'[{"type": "file", "path": "adapter.air", "oid": "", "size": 3}]'])
def test_what_is_not_in_the_xet_store_comes_from_its_address(
    pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite, told: bytes
) -> None:
    hub_site.faults.add("paths-info", content=told)
    hub_site.clear_log()
    fetch(pinned, folder, "adapter.air")
    assert held(folder) == {"adapter.air": AIR}
    assert hub_site.log.endpoints() == ["paths-info", "resolve-get", "cdn-get"]


@xet_only
def test_a_hub_that_does_not_tell_how_to_reach_the_store_is_told(
    pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite
) -> None:
    hub_site.faults.add("xet-read-token", times=None, headers={"X-Xet-Cas-Url": None})
    error = refused(pinned, folder, "adapter.air")
    reason = "the answer is not understood (FileMetadataError: it does not tell how to reach the Xet store)"
    place = f"hf:tester/a@{pinned[1].commit}:adapter.air"
    assert (error.problem_code, error.message) == ("hub-answer", f"cannot read {place}: {reason}")


@pytest.mark.parametrize("endpoint", ["paths-info", "xet-read-token", "cas-reconstruction", "cas-xorb-get"])
@xet_only
def test_a_store_that_is_busy_for_ever_is_asked_no_more_than_a_few_times(
    pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite, slept: list[float], endpoint: str
) -> None:
    hub_site.faults.add(endpoint, times=None, status=503)
    hub_site.clear_log()
    error = refused(pinned, folder, "adapter.air")
    assert error.problem_code == "hub-unavailable"
    assert len(hub_site.log.of(endpoint)) <= 4
    assert slept == ([] if endpoint.startswith("cas") else [1.0, 2.0, 4.0])


@xet_only
def test_the_first_failure_ends_what_the_store_still_sends(
    pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite
) -> None:
    is_asked = threading.Event()
    hub_site.faults.add("cas-xorb-get", times=None, chunk_delay_s=1.0, call=lambda _: is_asked.set())
    hub_site.faults.add("resolve-get", status=404, call=lambda _: is_asked.wait(10))
    error = refused(pinned, folder, "adapter.air", "README.md")
    assert error.context["path"] == "README.md"


@pytest.mark.usefixtures("slept")
@pytest.mark.parametrize("heeded", [True, False])
def test_a_file_goes_on_where_it_broke_off_or_begins_again(
    pinned: tuple[Hub, Snapshot],
    folder: Path,
    hub_site: HubSite,
    monkeypatch: pytest.MonkeyPatch,
    heeded: bool,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub_site.faults.add("cdn-get", cut_after=120_000)
    hub_site.faults.add("cdn-get", nth=2, ignore_range=not heeded)
    hub_site.clear_log()
    came: list[int] = []
    fetch(pinned, folder, "adapter.air", on_bytes=came.append)
    assert (held(folder), sum(came)) == ({"adapter.air": AIR}, len(AIR))
    assert [seen.headers.get("range") for seen in hub_site.log.of("cdn-get")] == [None, "bytes=120000-"]


def test_a_connection_that_breaks_again_and_again_is_enough_while_bytes_come(
    pinned: tuple[Hub, Snapshot], folder: Path, hub_site: HubSite, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    large = hashlib.shake_128(b"large").digest(12 << 20)
    hub_site.put("tester/large", {"adapter.air": large})
    hub = pinned[0]
    hub_site.faults.add("cdn-get", cut_after=3 << 19, times=None)
    fetch((hub, hub.pin("tester/large")), folder, "adapter.air")
    assert held(folder) == {"adapter.air": large}
    assert len(hub_site.log.of("cdn-get")) == 8
    assert slept == [1.0, 2.0, 4.0, 1.0, 2.0, 4.0]


LARGE = HubFile(path="a.air", size_bytes=3, sha256=hashlib.sha256(b"abc").hexdigest(), blob_id="0" * 40)
SMALL = HubFile(path="a.md", size_bytes=3, sha256=None, blob_id=git_blob_id(b"abc"))


@pytest.mark.parametrize(
    ("file", "data", "fault"),
    [
        (LARGE, b"abc", None),
        (SMALL, b"abc", None),
        (LARGE, b"ab", "2 bytes came (expected 3)"),
        (SMALL, b"abcd", "4 bytes came (expected 3)"),
        (LARGE, b"abd", f"sha256 {hashlib.sha256(b'abd').hexdigest()} (expected {LARGE.sha256})"),
        (SMALL, b"abd", f"git blob {git_blob_id(b'abd')} (expected {SMALL.blob_id})"),
    ],
)
def test_content_is_compared_in_memory_as_on_the_disk(
    file: HubFile, data: bytes, fault: str | None, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(data)
    assert (check_content(file, data), check_file(file, tmp_path / "x")) == (fault, fault)


def test_a_file_whose_name_the_hub_does_not_tell_cannot_be_verified() -> None:
    unnamed = HubFile(path="a", size_bytes=3, sha256=None, blob_id="")
    assert check_content(unnamed, b"abc") == f"git blob {SMALL.blob_id} (expected one, the Hub tells none)"


def test_a_file_that_cannot_be_read_is_no_content(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        check_file(SMALL, tmp_path / "none")


def test_a_body_is_read_to_its_limit() -> None:
    taken: list[int] = []

    def chunks() -> Any:
        for number in range(9):
            taken.append(number)
            yield b"abc"

    assert (read_body(chunks(), limit_bytes=7, silence_s=9), len(taken)) == (b"abcabca", 3)
    assert read_body([], limit_bytes=7, silence_s=9) == b""
    with pytest.raises(TimeoutError):
        read_body(chunks(), limit_bytes=99, silence_s=-99)
