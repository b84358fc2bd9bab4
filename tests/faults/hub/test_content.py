"""Bytes that are changed on their way, of equal length: refused, fetched once more, then told; and ranges ignored."""

from __future__ import annotations

import hashlib

import pytest

from tests.faults.hub.scene import NOTHING, REPOSITORY, Here, Scene

HINT = "something between you and the Hub changes bytes, or its copy is damaged; try another network"
PLACES = [0, 9, 70_000, -1]
"""Bytes that are flipped: of the length of the header, of the header, and of the tensors."""


def pulled(scene: Scene) -> Here:
    digest = scene.material.digest
    link = (digest, scene.site.repo(REPOSITORY).tip, "adapter.air", "pull")
    return Here(revisions=(("medical", 1, digest),), links=(link,), blobs=(digest,))


def bodies(scene: Scene) -> int:
    """How often the bytes were asked for."""
    return len(scene.site.log.of(scene.site.body_endpoint))


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0xFF
    return bytes(changed)


@pytest.mark.parametrize("place", PLACES)
def test_a_byte_that_is_flipped_once_is_fetched_again(scene: Scene, place: int) -> None:
    scene.fill()
    before = scene.there()
    scene.site.faults.add(scene.site.body_endpoint, flip=place)
    result = scene.run("pull", REPOSITORY)
    assert (result.code, bodies(scene)) == (0, 2)
    assert (scene.here(), scene.there()) == (pulled(scene), before)


@pytest.mark.parametrize("place", PLACES)
def test_a_byte_that_is_flipped_twice_is_told(scene: Scene, place: int) -> None:
    commit = scene.fill()
    before, data = scene.there(), scene.material.air
    scene.site.faults.add(scene.site.body_endpoint, times=None, flip=place)
    result = scene.run("pull", REPOSITORY)
    got = hashlib.sha256(flipped(data, place)).hexdigest()
    expected = scene.material.digest.removeprefix("sha256:")
    assert (result.code, result.error) == (
        9,
        {
            "code": "hub-content",
            "message": f"cannot read hf:{REPOSITORY}@{commit}:adapter.air: sha256 {got} (expected {expected}), twice",
            "hint": HINT,
            "context": {"repository": REPOSITORY, "revision": commit, "path": "adapter.air"},
        },
    )
    assert (bodies(scene), scene.here(), scene.there()) == (2, NOTHING, before)
    scene.site.faults.clear()
    assert (scene.run("pull", REPOSITORY).code, scene.here()) == (0, pulled(scene))


@pytest.mark.parametrize("name", ["adapter_config.json", "config.json"])
def test_a_byte_of_a_small_file_that_is_flipped_is_found_too(scene: Scene, name: str) -> None:
    commit = scene.fill_pair()
    scene.site.faults.add("resolve-get", path=f"/{name}$", times=2, flip=40)
    repository = REPOSITORY if name.startswith("adapter") else "team/base"
    place = f"hf:{repository}@{commit if repository == REPOSITORY else scene.site.repo(repository).tip}:{name}"
    result = scene.run("pull", REPOSITORY)
    assert (result.code, result.error["code"]) == (9, "hub-content")
    assert result.error["message"].startswith(f"cannot read {place}: git blob ")
    assert scene.here() == NOTHING
    scene.site.faults.add("resolve-get", path=f"/{name}$", flip=40)
    assert scene.run("pull", REPOSITORY).code == 0
    assert scene.here().left == ()


@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "cut"])
def test_a_server_that_ignores_ranges_is_no_hindrance(scene: Scene, is_cut: bool) -> None:
    scene.fill()
    before, endpoint = scene.there(), scene.site.cut_endpoint
    if is_cut:
        scene.site.faults.add(endpoint, cut_after=50_000)
    scene.site.faults.add(endpoint, times=None, ignore_range=True)
    result = scene.run("pull", REPOSITORY)
    assert (result.code, scene.here(), scene.there()) == (0, pulled(scene), before), result.out


def test_a_server_that_ignores_ranges_shows_no_header_and_is_not_read_whole(scene: Scene) -> None:
    scene.fill()
    scene.site.faults.add("cdn-get", times=None, ignore_range=True)
    result = scene.run("show", f"hf:{REPOSITORY}")
    assert (result.code, result.error["code"], scene.here()) == (11, "remote-no-ranges", NOTHING)
    assert result.error["message"].endswith("the server sends whole files only")
