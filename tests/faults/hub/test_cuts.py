"""A connection that is cut once costs nothing; one that is cut for ever ends in an error, and the next run goes well.

Push and pull are cut at every request that a clean run makes: before it, within it, after its effect, in its answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.hub.points import PULL, PUSH, Point, points
from tests.faults.hub.scene import NOTHING, REPOSITORY, Here, Result, Scene, There

PUSHED_TITLE = "Push Triage: LoRA of rank 8 for example/tiny-llama"
PUSHED_FILES = ["README.md", "adapter.air", "adapter_config.json", "adapter_model.safetensors"]
NETWORK = "check the network, and HF_ENDPOINT and the proxy where they are set"
BY_HTTP = {
    "before": ["Server disconnected without sending a response."],
    "in the request": ["Server disconnected without sending a response.", r"\[Errno (32|104)\] [A-Za-z ]+"],
    "after": ["Server disconnected without sending a response.", r"\[Errno (32|104)\] [A-Za-z ]+"],
    "in the answer": [
        r"peer closed connection without sending complete message body \(received \d+ bytes, expected \d+\)"
    ],
    "reset in the answer": [r"\[Errno 104\] Connection reset by peer"],
}
"""What the client says of a cut, by where it was; a reset may meet a request that is still being sent."""

BY_XET = [
    r"error sending request for url \(http://127\.0\.0\.1:\d+/[\w/.-]*\)?",
    "error decoding response body",
]
NO_HARM = {
    *(("cas-chunk", way) for way in ("before", "in the answer", "reset in the answer")),  # whether others have it
    ("cas-grant", "in the answer"),
    ("commit", "after"),  # the tip tells
    ("commit", "in the answer"),
}
"""Cuts of a push that are got over even where they last for ever."""


def cut(points_: list[Point]) -> pytest.MarkDecorator:
    """Run a test for every point, on the transport that it is of."""
    cases = [pytest.param(point.transport, point, id=str(point)) for point in points_]
    return pytest.mark.parametrize(("hub_transport", "point"), cases, indirect=["hub_transport"])


def assert_pushed(scene: Scene, result: Result) -> None:
    """The push is done: one commit with all files, a tag on it and a link to it, and nothing else."""
    tip = scene.site.repo(REPOSITORY).tip
    assert (result.code, result.document["commit"]) == (0, tip), result.out
    there = scene.there()
    assert there is not None
    assert (there.titles, sorted(there.files), there.tags) == ((PUSHED_TITLE,), PUSHED_FILES, {"v1": tip})
    assert there.files["adapter.air"] == scene.material.air
    assert there.files["adapter_model.safetensors"] == scene.material.pair["adapter_model.safetensors"]
    assert scene.here() == registered(scene, (scene.material.digest, tip, "adapter.air", "push"))


def registered(scene: Scene, *links: tuple[str, str, str, str]) -> Here:
    """What is here before a push, with the links that it makes."""
    digest = scene.material.digest
    return Here(revisions=(("t", 1, digest),), links=links, blobs=(digest,))


def assert_told(scene: Scene, result: Result, point: Point, place: str) -> None:
    """The error is that of a connection that was cut, and says where."""
    told = BY_XET if point.endpoint.startswith(("cas-", "xet-write")) else BY_HTTP[point.way]
    assert (result.code, result.error["code"]) == (9, "hub-unavailable")
    assert result.error["hint"] == NETWORK + _hint(scene, place)
    assert result.error["message"].startswith(f"{place}: ")
    reason = result.error["message"].removeprefix(f"{place}: ")
    if told is BY_XET:
        assert reason.startswith("it cannot be reached (")
        assert any(re.search(words, reason) for words in told), reason
    else:
        alternatives = "|".join(told)
        assert re.fullmatch(rf"the connection ended too soon \(({alternatives})\)", reason), reason


def _hint(scene: Scene, place: str) -> str:
    """What else is told of a push whose commit is there."""
    again = "run the same command again, it"
    if place.startswith("cannot tag"):
        return f"; commit {scene.site.repo(REPOSITORY).tip} is pushed, without tag 'v1': {again} sets the tag"
    if len(place.partition("@")[2]) == 40:  # it speaks of a commit that was read back
        return f"; commit {place[-40:]} is pushed, but could not be checked: {again} looks first"
    return ""


@pytest.fixture
def pushing(scene: Scene) -> Iterator[Scene]:
    """A registry that holds the adapter, and no repository."""
    scene.register()
    yield scene
    assert scene.strays() == []


def test_a_clean_push_asks_what_is_cut_below(pushing: Scene) -> None:
    result = pushing.run("push", "t", REPOSITORY, "--tag", "v1")
    assert sorted(pushing.site.log.endpoints()) == sorted(PUSH[pushing.env.transport])
    assert_pushed(pushing, result)


@cut(points(PUSH, seed=1))
def test_a_push_that_is_cut_once_is_done_once(pushing: Scene, point: Point) -> None:
    pushing.site.faults.add(point.endpoint, nth=point.nth, **point.fault)
    assert_pushed(pushing, pushing.run("push", "t", REPOSITORY, "--tag", "v1"))
    assert [exchange.endpoint for exchange in pushing.site.log if exchange.fault] == [point.endpoint]


@cut(points(PUSH, seed=2, share=0.5))
def test_a_push_that_is_cut_for_ever_is_told_and_the_same_command_ends_it(pushing: Scene, point: Point) -> None:
    pushing.site.faults.add(point.endpoint, nth=point.nth, times=None, **point.fault)
    result = pushing.run("push", "t", REPOSITORY, "--tag", "v1")
    if (point.endpoint, point.way) in NO_HARM:
        assert_pushed(pushing, result)
        return
    assert_told(pushing, result, point, _push_place(pushing, point))
    assert_half_pushed(pushing, point)
    pushing.site.faults.clear()
    assert_pushed(pushing, pushing.run("push", "t", REPOSITORY, "--tag", "v1"))


def _push_place(scene: Scene, point: Point) -> str:
    """What the error speaks of."""
    if point.endpoint == "create-repo":
        return f"cannot make hf:{REPOSITORY}"
    if point.endpoint == "create-tag":
        return f"cannot tag hf:{REPOSITORY}"
    if point.endpoint != "model-info":
        return f"cannot push to hf:{REPOSITORY}@main"
    return f"cannot read hf:{REPOSITORY}@{'main' if point.nth < 3 else scene.site.repo(REPOSITORY).tip}"


def assert_half_pushed(scene: Scene, point: Point) -> None:
    """All of it is on the Hub or nothing; what is here says no more than what is known."""
    there, place = scene.there(), (point.endpoint, point.nth)
    is_done = place == ("model-info", 3) or point.endpoint == "create-tag"
    if place == ("model-info", 1) or (point.endpoint == "create-repo" and point.way in ("before", "in the request")):
        assert there is None
    elif not is_done:
        assert there == There(titles=(), files={}, tags={})
    else:
        assert there is not None
        assert (there.titles, sorted(there.files)) == ((PUSHED_TITLE,), PUSHED_FILES)
    link = (scene.material.digest, scene.site.repo(REPOSITORY).tip, "adapter.air", "push") if is_done else None
    assert scene.here() == registered(scene, *([link] if link and point.endpoint == "create-tag" else []))


@pytest.fixture
def pulling(scene: Scene) -> Iterator[Scene]:
    """A repository with a PEFT pair, and an empty registry."""
    scene.fill_pair()
    yield scene
    assert scene.strays() == []


@pytest.fixture
def pulled(pulling: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """What a clean pull leaves, found out in a registry of its own."""
    with monkeypatch.context() as patch:
        patch.setenv("UAL_HOME", str(tmp_path / "clean home"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "clean cache"))
        assert pulling.run("pull", REPOSITORY).code == 0
        assert sorted(pulling.site.log.endpoints()) == sorted(PULL[pulling.env.transport])
        found = pulling.here()
    forget_xet_tokens()
    (digest,) = found.blobs
    link = (digest, pulling.site.repo(REPOSITORY).tip, "adapter_model.safetensors", "pull")
    assert found == Here(revisions=(("medical", 1, digest),), links=(link,), blobs=(digest,))
    return found


def forget_xet_tokens() -> None:
    """Let the client forget the tokens that it keeps between pulls."""
    from huggingface_hub.utils import _xet

    _xet.XET_CONNECTION_INFO_CACHE.clear()


@cut(points(PULL, seed=3))
def test_a_pull_that_is_cut_once_goes_on(pulling: Scene, pulled: Here, point: Point) -> None:
    before = pulling.there()
    pulling.site.faults.add(point.endpoint, nth=point.nth, **point.fault)
    result = pulling.run("pull", REPOSITORY)
    assert (result.code, pulling.here(), pulling.there()) == (0, pulled, before), result.out
    assert [exchange.endpoint for exchange in pulling.site.log if exchange.fault] == [point.endpoint]


@cut(points(PULL, seed=4, share=0.5))
def test_a_pull_that_is_cut_for_ever_is_told_and_leaves_nothing(pulling: Scene, pulled: Here, point: Point) -> None:
    before = pulling.there()
    pulling.site.faults.add(point.endpoint, nth=point.nth, times=None, **point.fault)
    result = pulling.run("pull", REPOSITORY)
    assert_told(pulling, result, point, _pull_place(pulling, point))
    assert (pulling.here(), pulling.there()) == (NOTHING, before)
    pulling.site.faults.clear()
    assert (pulling.run("pull", REPOSITORY).code, pulling.here(), pulling.there()) == (0, pulled, before)


def _pull_place(scene: Scene, point: Point) -> str:
    """What the error speaks of."""
    pair, base = (f"hf:{name}@{scene.site.repo(name).tip}" for name in (REPOSITORY, "team/base"))
    places = {
        ("model-info", 1): f"hf:{REPOSITORY}",
        ("resolve-get", 1): f"{pair}:adapter_config.json",
        ("model-info", 2): "hf:team/base",
        ("resolve-get", 2): f"{base}:config.json",
    }
    return f"cannot read {places.get((point.endpoint, point.nth), f'{pair}:adapter_model.safetensors')}"
