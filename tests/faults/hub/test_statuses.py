"""Answers that are no success: 429 and 503 are waited for as told and as is bearable; all others are told at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.faults.hub.points import drawn
from tests.faults.hub.scene import NOTHING, REPOSITORY, Here, Scene, There

ON_PURPOSE = "Fault on purpose"
RIGHTS = "your token needs the right to do this; see https://huggingface.co/settings/tokens"
TOKEN = "it may be mistyped, expired or revoked; log in by 'hf auth login', or set HF_TOKEN anew"
NAME = "check the name; where it is private, your token must have access to it"
LONGEST_S = 60.0
"""What a command waits in all, at most."""

STATUSES = {
    400: ("hub-answer", f"the Hub answered 400: {ON_PURPOSE}", None),
    401: ("hub-token", "the Hub does not accept the token", TOKEN),
    403: ("hub-access", f"the Hub forbids it: {ON_PURPOSE}", RIGHTS),
    404: ("hub-not-found", "there is no such repository, or it is private", NAME),
    409: (
        "hub-conflict",
        f"it changed since it was read, or exists already: {ON_PURPOSE}",
        "read it again and retry",
    ),
    429: ("hub-rate-limit", "too many requests", "try again later"),
    500: ("hub-unavailable", f"the Hub answered 500: {ON_PURPOSE}", "try again later"),
    503: ("hub-unavailable", f"the Hub answered 503: {ON_PURPOSE}", "try again later"),
}
"""Code, reason and hint of a status that stays."""

TOO_LONG = "the Hub asks to wait 3600 s, longer than this command waits (60 s in all)"
EMPTY = There(titles=(), files={}, tags={})


def registered(scene: Scene, *links: tuple[str, str, str, str]) -> Here:
    digest = scene.material.digest
    return Here(revisions=(("t", 1, digest),), links=links, blobs=(digest,))


def pushed(scene: Scene) -> Here:
    return registered(scene, (scene.material.digest, scene.site.repo(REPOSITORY).tip, "adapter.air", "push"))


def pulled(scene: Scene) -> Here:
    digest = scene.material.digest
    link = (digest, scene.site.repo(REPOSITORY).tip, "adapter.air", "pull")
    return Here(revisions=(("medical", 1, digest),), links=(link,), blobs=(digest,))


def commits(scene: Scene) -> int:
    """How many commits there are beside the first."""
    there = scene.there()
    return 0 if there is None else len(there.titles)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 503])
def test_a_commit_that_is_refused_is_told_and_changes_nothing(scene: Scene, waits: list[float], status: int) -> None:
    scene.register()
    scene.site.faults.add("commit", status=status, times=None)
    result = scene.run("push", "t", REPOSITORY)
    code, reason, hint = STATUSES[status]
    said = (result.code, result.error["code"], result.error["message"], result.error["hint"])
    assert said == (9, code, f"cannot push to hf:{REPOSITORY}@main: {reason}", hint)
    assert (scene.there(), scene.here()) == (EMPTY, registered(scene))
    assert waits == ([1.0, 2.0, 4.0] if status in (409, 429, 503) else [])
    scene.site.faults.clear()
    assert scene.run("push", "t", REPOSITORY).code == 0
    assert (commits(scene), scene.here()) == (1, pushed(scene))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 503])
def test_a_pull_that_is_refused_is_told_and_leaves_nothing(scene: Scene, waits: list[float], status: int) -> None:
    scene.fill()
    before = scene.there()
    scene.site.faults.add("model-info", status=status, times=None)
    result = scene.run("pull", REPOSITORY)
    code, reason, hint = STATUSES[status]
    said = (result.code, result.error["code"], result.error["message"], result.error["hint"])
    assert said == (9, code, f"cannot read hf:{REPOSITORY}: {reason}", hint)
    assert (scene.there(), scene.here()) == (before, NOTHING)
    assert waits == ([1.0, 2.0, 4.0] if status in (429, 500, 503) else [])
    scene.site.faults.clear()
    assert (scene.run("pull", REPOSITORY).code, scene.here()) == (0, pulled(scene))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
def test_a_store_that_refuses_its_bytes_is_told_and_leaves_nothing(
    scene: Scene, waits: list[float], status: int
) -> None:
    commit = scene.fill()
    before = scene.there()
    scene.site.faults.add(scene.site.cut_endpoint, status=status, times=None)
    result = scene.run("pull", REPOSITORY)
    assert result.error["message"].startswith(f"cannot read hf:{REPOSITORY}@{commit}:adapter.air: ")
    codes = {401: "hub-token", 403: "hub-access", 404: "hub-no-file", 429: "hub-rate-limit", 503: "hub-unavailable"}
    assert (result.code, result.error["code"]) == (9, codes[status])
    assert "log in" not in result.error["hint"] or status == 401
    assert (scene.there(), scene.here()) == (before, NOTHING)
    assert sum(waits) <= LONGEST_S
    scene.site.faults.clear()
    assert (scene.run("pull", REPOSITORY).code, scene.here()) == (0, pulled(scene))


PUT_OFF: dict[str, tuple[dict[str, Any], float]] = {
    "429-told": ({"status": 429, "headers": {"Retry-After": "3"}}, 3.0),
    "429": ({"status": 429}, 1.0),
    "503-told": ({"status": 503, "headers": {"Retry-After": "3"}}, 3.0),
    "503": ({"status": 503}, 1.0),
    "503-done": ({"status": 503, "after_effect": True}, 1.0),
}
"""What puts a call off, and the seconds that are waited then."""

_ASKED = ("model-info", "create-repo", "validate-yaml", "preupload", "create-tag")
PUSH_PUT_OFF = [
    *(("commit", name) for name in PUT_OFF),
    *drawn([(endpoint, name) for endpoint in _ASKED for name in PUT_OFF], count=7, seed=7),
]


@pytest.mark.parametrize(("endpoint", "name"), PUSH_PUT_OFF)
def test_a_push_that_is_put_off_once_is_done_once(scene: Scene, waits: list[float], endpoint: str, name: str) -> None:
    fault, waited = PUT_OFF[name]
    scene.register()
    scene.site.faults.add(endpoint, **fault)
    result = scene.run("push", "t", REPOSITORY, "--tag", "v1")
    tip = scene.site.repo(REPOSITORY).tip
    assert (result.code, result.document["commit"], commits(scene), scene.here()) == (0, tip, 1, pushed(scene))
    assert scene.site.repo(REPOSITORY).tags == {"v1": tip}
    # The client waits one second more than it is told, to be sure. A commit that is there needs no other try.
    allowed = (waited, waited + 1) if not (endpoint == "commit" and "after_effect" in fault) else (0, 0)
    assert sum(waits) in allowed


@pytest.mark.parametrize("endpoint", ["model-info", "resolve", "body"])
@pytest.mark.parametrize(
    ("fault", "waited"),
    [
        ({"status": 429, "headers": {"Retry-After": "3"}}, 3.0),
        ({"status": 429}, 1.0),
        ({"status": 503, "headers": {"Retry-After": "3"}}, 3.0),
        ({"status": 503}, 1.0),
    ],
    ids=["429-told", "429", "503-told", "503"],
)
def test_a_pull_that_is_put_off_once_goes_on(
    scene: Scene, waits: list[float], endpoint: str, fault: Mapping[str, Any], waited: float
) -> None:
    scene.fill()
    before = scene.there()
    names = {"resolve": ("paths-info", "resolve-get"), "body": (scene.site.cut_endpoint,)}
    for name in names.get(endpoint, (endpoint,)):
        scene.site.faults.add(name, **fault)
    result = scene.run("pull", REPOSITORY)
    assert (result.code, scene.here(), scene.there()) == (0, pulled(scene), before)
    assert len([exchange for exchange in scene.site.log if exchange.fault]) == 1
    is_xets_own = endpoint == "body" and scene.env.transport == "xet"  # hf_xet tries again by itself
    assert sum(waits) in ((0.0,) if is_xets_own else (waited, waited + 1))


@pytest.mark.parametrize("endpoint", ["create-repo", "preupload", "commit"])
def test_a_push_that_is_to_wait_an_hour_does_not(scene: Scene, waits: list[float], endpoint: str) -> None:
    scene.register()
    scene.site.faults.add(endpoint, status=429, headers={"Retry-After": "3600"}, times=None)
    result = scene.run("push", "t", REPOSITORY)
    place = f"cannot {'make' if endpoint == 'create-repo' else 'push to'} hf:{REPOSITORY}"
    place += "" if endpoint == "create-repo" else "@main"
    said = (result.code, result.error["code"], result.error["message"], result.error["hint"])
    assert said == (9, "hub-rate-limit", f"{place}: {TOO_LONG}", "try again in 3600 s")
    assert (waits, commits(scene), scene.here()) == ([], 0, registered(scene))
    assert result.error["context"]["wait_s"] == 3600


@pytest.mark.parametrize("endpoint", ["model-info", "resolve"])
def test_a_pull_that_is_to_wait_an_hour_does_not(scene: Scene, waits: list[float], endpoint: str) -> None:
    commit = scene.fill()
    for name in ("paths-info", "resolve-get") if endpoint == "resolve" else (endpoint,):
        scene.site.faults.add(name, status=429, headers={"Retry-After": "3600"}, times=None)
    result = scene.run("pull", REPOSITORY)
    place = f"hf:{REPOSITORY}" + (f"@{commit}:adapter.air" if endpoint == "resolve" else "")
    said = (result.code, result.error["code"], result.error["message"], result.error["hint"])
    assert said == (9, "hub-rate-limit", f"cannot read {place}: {TOO_LONG}", "try again in 3600 s")
    assert (waits, scene.here()) == ([], NOTHING)


@pytest.mark.parametrize("endpoint", ["model-info", "create-repo", "preupload", "upload", "commit", "create-tag"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_push_does_not_wait_longer_than_a_minute(
    scene: Scene, waits: list[float], endpoint: str, status: int
) -> None:
    scene.register()
    name = scene.site.upload_endpoint if endpoint == "upload" else endpoint
    scene.site.faults.add(name, status=status, times=None)
    result = scene.run("push", "t", REPOSITORY, "--tag", "v1")
    assert (result.code, result.error["code"]) == (9, "hub-rate-limit" if status == 429 else "hub-unavailable")
    assert sum(waits) <= LONGEST_S
    assert commits(scene) == (1 if endpoint == "create-tag" else 0)


@pytest.mark.parametrize("status", [429, 503])
def test_a_pull_does_not_wait_longer_than_a_minute(scene: Scene, waits: list[float], status: int) -> None:
    scene.fill()
    for name in ("paths-info", "resolve-get"):
        scene.site.faults.add(name, status=status, times=None)
    result = scene.run("pull", REPOSITORY)
    assert (result.code, result.error["code"]) == (9, "hub-rate-limit" if status == 429 else "hub-unavailable")
    assert (sum(waits) <= LONGEST_S, scene.here()) == (True, NOTHING)
