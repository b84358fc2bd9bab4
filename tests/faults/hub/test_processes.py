"""Commands in processes of their own: killed at any request, on a full disk, and eight that push at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.hub.points import PULL, PUSH
from tests.faults.hub.scene import NOTHING, REPOSITORY, Here, Result, Scene
from tests.handmade import small_adapter
from ual_registry.air.write import write
from ual_registry.registry.registry import Registry

ROOT = Path(__file__).parents[3]
KILLS = os.environ.get("UAL_FAULTS_HUB_KILLS", "1")
"""At how many requests of a push and of a pull it is killed, on each transport, or ``all``."""

PUSHERS = 8
RETRYING = PUSHERS if KILLS == "all" else 3
"""How many push at once; those that try again take the longest, since each round only one of them wins."""

PUSHED_TITLE = "Push Triage: LoRA of rank 8 for example/tiny-llama"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills and limits are of POSIX")


def kills(requests: dict[str, tuple[str, ...]], *, seed: int) -> list[Any]:
    """Name the requests at which a run is killed, each before its effect and after it."""
    found: list[Any] = []
    for transport, endpoints in requests.items():
        every = [
            (endpoint, endpoints[: place + 1].count(endpoint), is_after)
            for place, endpoint in enumerate(endpoints)
            for is_after in (False, True)
        ]
        count = len(every) if KILLS == "all" else min(int(KILLS), len(every))
        drawn = random.Random(seed).sample(every, count)
        found += [pytest.param(transport, *case, id=f"{transport}-{'-'.join(map(str, case))}") for case in drawn]
    return found


def kill_at(scene: Scene, endpoint: str, nth: int, words: tuple[str, ...], *, is_after: bool) -> None:
    """Run a command, and kill it when a request of it has arrived."""
    running: list[subprocess.Popen[str]] = []
    is_started = threading.Event()

    def kill(_: str) -> None:
        is_started.wait(60)
        os.kill(running[0].pid, signal.SIGKILL)
        running[0].wait()

    scene.site.faults.add(endpoint, nth=nth, call=kill, cut=True, after_effect=is_after)
    running.append(scene.start(*words))
    is_started.set()
    running[0].communicate(timeout=120)
    assert running[0].returncode == -signal.SIGKILL
    scene.site.faults.clear()


@pytest.mark.parametrize(
    ("hub_transport", "endpoint", "nth", "is_after"), kills(PUSH, seed=5), indirect=["hub_transport"]
)
def test_a_killed_push_is_ended_by_the_same_command(scene: Scene, endpoint: str, nth: int, is_after: bool) -> None:
    scene.register()
    words = ("push", "t", REPOSITORY, "--tag", "v1")
    kill_at(scene, endpoint, nth, words, is_after=is_after)
    result = scene.end(scene.start(*words))
    tip, digest = scene.site.repo(REPOSITORY).tip, scene.material.digest
    assert (result.code, result.document["commit"]) == (0, tip)
    there = scene.there()
    assert there is not None
    assert (there.titles, there.tags, there.files["adapter.air"]) == ((PUSHED_TITLE,), {"v1": tip}, scene.material.air)
    assert scene.here() == Here(
        revisions=(("t", 1, digest),), links=((digest, tip, "adapter.air", "push"),), blobs=(digest,)
    )


@pytest.mark.parametrize(
    ("hub_transport", "endpoint", "nth", "is_after"), kills(PULL, seed=6), indirect=["hub_transport"]
)
def test_a_killed_pull_is_ended_by_the_same_command(scene: Scene, endpoint: str, nth: int, is_after: bool) -> None:
    commit = scene.fill_pair()
    before = scene.there()
    kill_at(scene, endpoint, nth, ("pull", REPOSITORY), is_after=is_after)
    assert (Registry.open().linked(REPOSITORY), list(Registry.open().blobs.walk())) == ((), [])
    result = scene.end(scene.start("pull", REPOSITORY))
    assert result.code == 0, result.out
    (item,) = result.document["adapters"]
    assert scene.here() == Here(
        revisions=(("medical", 1, item["digest"]),),
        links=((item["digest"], commit, "adapter_model.safetensors", "pull"),),
        blobs=(item["digest"],),
    )
    assert scene.there() == before


@pytest.mark.parametrize("limit_kb", [16, 128])
def test_a_disk_that_is_full_is_told_and_nothing_is_left(scene: Scene, limit_kb: int) -> None:
    """No file may be longer than the limit, which the file system tells as it tells a full disk."""
    scene.fill()
    before = scene.there()
    Registry.open()  # the database is longer than the limit, and there
    result = scene.end(scene.start("pull", REPOSITORY, shell=f"ulimit -f {limit_kb}; "))
    assert (result.code, result.error["code"]) == (11, "storage"), result.err
    assert "no space left on the disk" in result.error["message"] or "File too large" in result.error["message"]
    assert (scene.here(), scene.there()) == (NOTHING, before)
    assert scene.end(scene.start("pull", REPOSITORY)).code == 0


@pytest.fixture
def others(scene: Scene, tmp_path: Path) -> dict[str, bytes]:
    """Eight registered adapters that differ, by name."""
    found = {}
    for number in range(PUSHERS):
        path = tmp_path / f"{number}.air"
        write(small_adapter(description=f"number {number}"), path)
        Registry.open().add(path, name=f"a{number}")
        found[f"a{number}"] = path.read_bytes()
    return found


def race(scene: Scene, names: list[str], *options: str) -> dict[str, Result]:
    """Push at once, each in a process; no commit takes effect before all of them have arrived."""
    barrier = threading.Barrier(len(names))
    meet: Callable[[str], object] = lambda _: barrier.wait(timeout=120)  # noqa: E731
    scene.site.faults.add("commit", times=len(names), call=meet)
    pushes = [[name, REPOSITORY, "--air-only", *options] for name in names]
    folder = scene.scratch.parent / "said"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.integration.pushing", str(folder), json.dumps(pushes)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=400)
    return {
        name: scene.checked(Result(code=code, out=json.dumps(document), err=done.stderr))
        for name, (code, document) in zip(names, json.loads(done.stdout), strict=True)
    }


def links(scene: Scene, name: str) -> list[tuple[str, str]]:
    return [(link.commit, link.direction) for link in Registry.open().links(name)]


def test_of_eight_pushers_one_wins_and_the_others_are_told_which(scene: Scene, others: dict[str, bytes]) -> None:
    parent = scene.site.put(REPOSITORY, {"notes.txt": "mine"})
    found = race(scene, list(others))
    repository = scene.site.repo(REPOSITORY)
    tip, commit = repository.tip, repository.commits[0]
    (winner,) = [name for name, result in found.items() if result.code == 0]
    assert found[winner].document["commit"] == tip
    message = (
        f"{REPOSITORY}: commit {tip[:12]} ({commit.title!r} by tester) was faster: main is no longer at {parent[:12]}; "
        "nothing was pushed"
    )
    hint = "look at what changed, then push again; --retry does so by itself"
    told = {name: (result.code, result.error) for name, result in found.items() if name != winner}
    context = {
        "repository": REPOSITORY,
        "revision": "main",
        "parent": parent,
        "commit": tip,
        "title": commit.title,
        "author": "tester",
        "tip": tip,
    }
    error = {"code": "hub-conflict", "message": message, "hint": hint, "context": context}
    assert told == {name: (9, error) for name in others if name != winner}
    assert (commit.parent, repository.files()["adapter.air"]) == (parent, others[winner])
    assert {name: links(scene, name) for name in others} == {
        name: [(tip, "push")] if name == winner else [] for name in others
    }
    assert (scene.here().left, scene.strays()) == ((), [])


def test_pushers_with_retry_all_succeed(scene: Scene, others: dict[str, bytes]) -> None:
    others = dict([*others.items()][:RETRYING])
    scene.site.put(REPOSITORY, {"notes.txt": "mine"})
    found = race(scene, list(others), "--retry")
    assert {name: result.code for name, result in found.items()} == dict.fromkeys(others, 0)
    repository = scene.site.repo(REPOSITORY)
    by_commit = {result.document["commit"]: name for name, result in found.items()}
    made = repository.commits[:RETRYING]
    assert sorted(commit.oid for commit in made) == sorted(by_commit)
    assert [repository.files(commit.oid)["adapter.air"] for commit in made] == [
        others[by_commit[commit.oid]] for commit in made
    ]
    assert [commit.title for commit in repository.commits[RETRYING:]] == ["put by a test", "initial commit"]
    assert {name: links(scene, name) for name in others} == {name: [(oid, "push")] for oid, name in by_commit.items()}
    assert repository.files()["notes.txt"] == b"mine"
    assert (scene.here().left, scene.strays()) == ((), [])
