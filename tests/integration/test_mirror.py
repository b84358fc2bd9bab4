"""Mirroring from and to a Hub on this machine: what is at both ends, and what was asked for it.

Whoever is killed, interrupted or in another's way is a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.handmade import LLAMA_CONFIG, peft_config, peft_tensors, small_adapter, write_peft
from tests.hub_server.fixtures import HubEnvironment
from tests.shell import run_here
from ual_registry.air.schema import schema_problems
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.registry.registry import Registry
from ual_registry.workflows.convert import Labels, convert_to_air

COMMAND = [sys.executable, "-m", "ual_registry", "mirror"]
lfs_only = pytest.mark.parametrize("hub_transport", ["lfs"], indirect=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry's folder, for this process and those that it starts; the cache of headers is fresh, too."""
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "registry"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / "registry"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return tmp_path / "made"


def air(folder: Path, about: str) -> bytes:
    path = folder / "made.air"
    write(small_adapter(description=about), path)
    return path.read_bytes()


def fill(env: HubEnvironment, folder: Path, count: int) -> dict[str, bytes]:
    """Put adapters into repositories of ``team``, and return their bytes by the names that they get here."""
    files = {f"team.a{number:02}": air(folder, f"adapter {number}") for number in range(count)}
    for name, data in files.items():
        env.site.put(name.replace(".", "/"), {"adapter.air": data})
    env.site.clear_log()
    return files


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Mirror in this process, as far as nobody is to be killed or interrupted."""
    return run_here("mirror", *words, folder=Path.cwd(), environment=os.environ)


def mirror(*words: str, code: int = 0) -> dict[str, Any]:
    result = run(*words, "--json")
    assert (result.returncode, result.stderr) == (code, ""), result.stdout
    document: dict[str, Any] = json.loads(result.stdout)
    assert [str(problem) for problem in schema_problems("1.0/cli/mirror.json", document, root="document")] == []
    return document


def counts(document: dict[str, Any]) -> dict[str, Any]:
    lists = ("new", "unchanged", "refused", "without_adapter", "notes")
    return {name: len(document[name]) for name in lists if document[name]}


def asked(env: HubEnvironment) -> Counter[str]:
    found = Counter(exchange.endpoint for exchange in env.site.log if exchange.origin == "hub")
    env.site.clear_log()
    return found


def held(home: Path | None = None) -> dict[str, str]:
    """Return the digest of every revision of a registry."""
    registry = Registry.open(home)
    try:
        return {f"{item.name}@{item.number}": item.digest for item in registry.search("").items}
    finally:
        registry.database.engine.dispose()


def expected(files: dict[str, bytes]) -> dict[str, str]:
    return {f"{name}@1": str(Digest.of_bytes(data)) for name, data in files.items()}


def test_all_of_an_owner_comes_and_the_second_time_only_the_list_is_asked_for(
    hub_env: HubEnvironment, home: Path, made: Path
) -> None:
    files = fill(hub_env, made, 5)
    hub_env.site.put("tester/other", {"adapter.air": air(made, "of somebody else")})
    hub_env.site.clear_log()
    first = mirror("hf:team")
    assert counts(first) == {"new": 5}
    commit = hub_env.site.repo("team/a03").tip
    assert first["new"][3] == {
        "name": "team.a03",
        "number": 1,
        "digest": str(Digest.of_bytes(files["team.a03"])),
        "repository": "team/a03",
        "commit": commit,
        "path": "adapter.air",
    }
    assert {name: first[name] for name in ("direction", "endpoint", "source", "target", "is_complete", "left")} == {
        "direction": "pull",
        "endpoint": hub_env.site.endpoint,
        "source": "hf:team",
        "target": str(home),
        "is_complete": True,
        "left": 0,
    }
    assert held() == expected(files)
    asked(hub_env)
    second = mirror("hf:team")
    assert (counts(second), asked(hub_env)) == ({"unchanged": 5}, {"list-models": 1})
    assert second["unchanged"] == first["new"]


@lfs_only
def test_an_owner_without_a_repository_is_told_of(hub_env: HubEnvironment, home: Path) -> None:
    del hub_env, home  # they are set up
    document = mirror("hf:teem", "--quiet")
    assert (counts(document), document["notes"]) == (
        {"notes": 1},
        ["hf:teem has no repository that you can see; check the name"],
    )


@lfs_only
def test_only_what_changed_is_asked_for_and_becomes_the_next_revision(
    hub_env: HubEnvironment, home: Path, made: Path
) -> None:
    fill(hub_env, made, 3)
    mirror("hf:team")
    newer = air(made, "newer")
    hub_env.site.put("team/a01", {"adapter.air": newer})
    hub_env.site.put("team/a02", {"README.md": b"other words"})
    asked(hub_env)
    report = mirror("hf:team")
    assert [(item["name"], item["number"]) for item in report["new"]] == [("team.a01", 2)]
    assert counts(report) == {"new": 1, "unchanged": 2}
    assert asked(hub_env) == {"list-models": 1, "model-info": 2, "resolve-get": 1}
    assert held()["team.a01@2"] == str(Digest.of_bytes(newer))
    assert counts(mirror("hf:team")) == {"unchanged": 3}


@lfs_only
def test_what_is_gone_from_the_registry_is_pulled_again(hub_env: HubEnvironment, home: Path, made: Path) -> None:
    files = fill(hub_env, made, 2)
    mirror("hf:team")
    (home / "registry.db").unlink()
    assert counts(mirror("hf:team")) == {"new": 2}
    assert held() == expected(files)


@lfs_only
def test_refused_ones_are_told_with_their_reasons_and_do_not_stop_the_others(
    hub_env: HubEnvironment, home: Path, made: Path
) -> None:
    site = hub_env.site
    site.put("stranger/plain", {"adapter.air": air(made, "plain")})
    pair = write_peft(made / "peft", peft_tensors(), peft_config(base_model_name_or_path="stranger/base"))
    site.put("stranger/base", {"config.json": json.dumps(LLAMA_CONFIG).encode(), "model.safetensors": b"weights"})
    site.put("stranger/peft", {path.name: path.read_bytes() for path in pair.iterdir()})
    site.put("stranger/pickle", {"adapter_model.bin": b"pickle", "adapter_config.json": b"{}"})
    site.put("stranger/broken", {"adapter.air": b"no adapter"})
    several = {"one/adapter.air": air(made, "one"), "two/x.air": air(made, "two"), "bad/adapter.air": b"?"}
    site.put("stranger/several", several)
    site.put("stranger/gated", {"adapter.air": air(made, "gated")}, gated="manual")
    report = mirror("hf:stranger", code=9)
    assert sorted(f"{item['name']}@{item['number']}" for item in report["new"]) == [
        "stranger.peft@1",
        "stranger.plain@1",
        "stranger.several--one@1",
        "stranger.several--two--x@1",
    ]
    assert {(item["repository"], item["path"], item["code"]) for item in report["refused"]} == {
        ("stranger/broken", "adapter.air", "header-too-large"),
        ("stranger/gated", "adapter.air", "hub-gated"),
        ("stranger/pickle", None, "peft-pickle"),
        ("stranger/several", "bad/adapter.air", "truncated"),
    }
    assert (report["without_adapter"], report["is_complete"], report["left"]) == (["stranger/base"], False, 0)
    asked(hub_env)
    again = mirror("hf:stranger", code=9)
    assert {tuple(item.items()) for item in again["refused"]} == {tuple(item.items()) for item in report["refused"]}
    assert counts(again) == {"unchanged": 4, "refused": 4, "without_adapter": 1}
    assert asked(hub_env)["list-models"] == 1
    site.repo("stranger/gated").granted.add("tester")
    assert counts(mirror("hf:stranger", code=9)) == {"new": 1, "unchanged": 4, "refused": 3, "without_adapter": 1}


@lfs_only
def test_whoever_is_killed_is_followed_by_one_that_does_only_what_is_left(
    hub_env: HubEnvironment, home: Path, made: Path
) -> None:
    files = fill(hub_env, made, 12)
    lives = 0
    for life in range(1, 20):
        reached = threading.Event()
        hub_env.site.faults.add("resolve-get", nth=5, call=lambda _, reached=reached: reached.set())
        process = subprocess.Popen([*COMMAND, "hf:team", "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and not reached.wait(0.05):
            pass
        process.kill()
        process.communicate()
        hub_env.site.faults.clear()
        lives = life
        if process.returncode == 0:
            break
    assert lives > 2
    assert held() == expected(files)
    assert len(hub_env.site.log.of("resolve-get")) <= 12 + 2 * lives  # what was in the hands of two threads
    fetched = Counter(exchange.path.split("?")[0] for exchange in hub_env.site.log.of("resolve-get"))
    assert sorted(fetched) == [f"/team/a{number:02}/resolve/{tip(hub_env, number)}/adapter.air" for number in range(12)]
    registry = Registry.open()
    assert registry.fsck(deep=True).faults == ()
    asked(hub_env)
    assert counts(mirror("hf:team")) == {"unchanged": 12}
    assert asked(hub_env) == {"list-models": 1}


def tip(env: HubEnvironment, number: int) -> str:
    return str(env.site.repo(f"team/a{number:02}").tip)


@lfs_only
def test_a_budget_is_kept_so_that_the_hub_never_has_to_refuse(hub_env: HubEnvironment, home: Path, made: Path) -> None:
    files = fill(hub_env, made, 12)
    hub_env.site.limits.set("api", quota=6, window_s=1.5)
    hub_env.site.limits.set("resolvers", quota=4, window_s=1.5)
    assert counts(mirror("hf:team", "--jobs", "8")) == {"new": 12}
    assert held() == expected(files)
    statuses = Counter(exchange.status for exchange in hub_env.site.log if exchange.origin == "hub")
    assert statuses[429] == 0
    assert asked(hub_env)["model-info"] == 12


@lfs_only
def test_the_search_of_a_query_keeps_the_budget_too(hub_env: HubEnvironment, home: Path, made: Path) -> None:
    files = {f"team.a{number:02}": air(made, f"adapter {number}") for number in range(12)}
    for name, data in files.items():
        hub_env.site.put(name.replace(".", "/"), {"README.md": b"---\ntags: [air, peft]\n---\n", "adapter.air": data})
    hub_env.site.limits.set("api", quota=6, window_s=1.5)
    hub_env.site.limits.set("resolvers", quota=4, window_s=1.5)
    hub_env.site.clear_log()
    assert counts(mirror("adapter", "--jobs", "8")) == {"new": 12}
    assert held() == expected(files)
    statuses = Counter(exchange.status for exchange in hub_env.site.log if exchange.origin == "hub")
    assert statuses[429] == 0
    assert asked(hub_env)["resolve-get"] == 24


@lfs_only
@pytest.mark.parametrize("endpoint", ["model-info", "resolve-get", "list-models"])
def test_a_refusal_for_too_many_is_waited_for_and_comes_once(
    hub_env: HubEnvironment, home: Path, made: Path, endpoint: str
) -> None:
    files = fill(hub_env, made, 4)
    closed = Window(hub_env, endpoint)
    result = run("hf:team", "--jobs", "1")
    assert result.stdout.splitlines()[-1] == f"hf:team -> {home}: 4 new, 0 unchanged, 0 refused"
    assert held() == expected(files)
    assert (closed.early, closed.refused) == (0, 1)


class Window:
    """Refuses the second call of an endpoint for a second, and counts who of its kind comes before that is over."""

    _kinds: ClassVar = {"model-info": "api", "list-models": "api", "resolve-get": "resolvers"}

    def __init__(self, env: HubEnvironment, endpoint: str) -> None:
        self.early = 0
        self.refused = 0
        self._until = 0.0
        nth = 1 if endpoint == "list-models" else 2
        env.site.faults.add(endpoint, nth=nth, status=429, headers={"Retry-After": "1"}, call=self._close)
        for name, kind in self._kinds.items():
            if kind == self._kinds[endpoint]:
                env.site.faults.add(name, times=None, call=self._see)

    def _close(self, _: str) -> None:
        self.refused += 1
        self._until = time.monotonic() + 1.0

    def _see(self, _: str) -> None:
        self.early += time.monotonic() < self._until


@lfs_only
def test_a_wait_that_is_too_long_ends_the_mirror_and_the_next_one_goes_on(
    hub_env: HubEnvironment, home: Path, made: Path
) -> None:
    files = fill(hub_env, made, 6)
    hub_env.site.faults.add("model-info", nth=4, times=None, status=429, headers={"Retry-After": "7200"})
    report = mirror("hf:team", "--jobs", "1", code=9)
    assert (counts(report), report["left"], report["is_interrupted"]) == ({"new": 3, "refused": 1}, 2, False)
    assert report["refused"][0]["code"] == "hub-rate-limit"
    hub_env.site.faults.clear()
    assert counts(mirror("hf:team")) == {"new": 3, "unchanged": 3}
    assert held() == expected(files)


@lfs_only
def test_an_interrupt_ends_with_the_report_so_far(hub_env: HubEnvironment, home: Path, made: Path) -> None:
    files = fill(hub_env, made, 6)
    reached = threading.Event()
    hub_env.site.faults.add("model-info", nth=4, call=lambda _: reached.set(), delay_s=1.0)
    process = subprocess.Popen(
        [*COMMAND, "hf:team", "--json", "--jobs", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert reached.wait(30)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    report = json.loads(stdout)
    assert (process.returncode, stderr) == (130, "")
    assert [str(problem) for problem in schema_problems("1.0/cli/mirror.json", report, root="document")] == []
    done = len(report["new"])
    assert done in {3, 4}  # what is begun may end
    assert (report["left"], report["is_interrupted"], report["refused"]) == (6 - done, True, [])
    assert counts(mirror("hf:team")) == {"new": 6 - done, "unchanged": done}
    assert held() == expected(files)


@lfs_only
@pytest.mark.parametrize("endpoint", ["model-info", "resolve-get"])
def test_an_interrupt_does_not_wait_as_long_as_the_hub_says(
    hub_env: HubEnvironment, home: Path, made: Path, endpoint: str
) -> None:
    files = fill(hub_env, made, 4)
    reached = threading.Event()
    far = {"Retry-After": "600"}
    hub_env.site.faults.add(endpoint, nth=3, times=None, status=429, headers=far, call=lambda _: reached.set())
    process = subprocess.Popen(
        [*COMMAND, "hf:team", "--json", "--jobs", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert reached.wait(30)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    report = json.loads(stdout)
    assert (process.returncode, report["is_interrupted"], counts(report), report["left"]) == (130, True, {"new": 2}, 2)
    hub_env.site.faults.clear()
    assert counts(mirror("hf:team")) == {"new": 2, "unchanged": 2}
    assert held() == expected(files)


@lfs_only
def test_a_second_one_is_refused_while_the_first_is_at_it(hub_env: HubEnvironment, home: Path, made: Path) -> None:
    fill(hub_env, made, 2)
    reached, go_on = threading.Event(), threading.Event()

    def hold(_: str) -> None:
        reached.set()
        go_on.wait(30)

    hub_env.site.faults.add("list-models", call=hold)
    first = subprocess.Popen([*COMMAND, "hf:team"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert reached.wait(30)
        second = subprocess.run([*COMMAND, "hf:team"], capture_output=True, text=True, check=False)
    finally:
        go_on.set()
    assert second.returncode == 8
    assert second.stderr.splitlines()[0] == f"error [mirror-busy]: another process mirrors hf:team to {home} now"
    first.communicate(timeout=60)
    assert first.returncode == 0


@lfs_only
def test_a_query_brings_what_it_holds_for_into_another_registry(
    hub_env: HubEnvironment, home: Path, made: Path, tmp_path: Path
) -> None:
    site = hub_env.site
    card = b"---\ntags: [air, peft]\n---\n"
    wanted = air(made, "of medicine")
    site.put("team/one", {"README.md": card, "adapter.air": wanted})
    site.put("tester/two", {"README.md": card, "x/adapter.air": wanted, "y/adapter.air": air(made, "of law")})
    site.put("tester/three", {"README.md": card, "adapter.air": air(made, "of law")})
    target = tmp_path / "elsewhere"
    report = mirror("medicine", "--into", str(target))
    assert [(item["name"], item["repository"], item["path"]) for item in report["new"]] == [
        ("team.one", "team/one", "adapter.air"),
        ("tester.two--x", "tester/two", "x/adapter.air"),
    ]
    digest = str(Digest.of_bytes(wanted))
    assert held(target) == {"team.one@1": digest, "tester.two--x@1": digest}
    assert held() == {}
    asked(hub_env)
    assert counts(mirror("medicine", "--into", str(target))) == {"unchanged": 2}
    assert set(asked(hub_env)) == {"list-models"}


@pytest.fixture
def registered(home: Path, made: Path) -> dict[str, str]:
    """Three adapters in the registry, one of them with three revisions."""
    names = ["a", "b", "a", "a", "team.c--sub"]
    pair = write_peft(made / "pair", peft_tensors(), peft_config(base_model_name_or_path="team/base"))
    (made / "config.json").write_text(json.dumps(LLAMA_CONFIG))
    registry = Registry.open()
    for index, name in enumerate(names):
        path = made / f"{index}.air"
        labels = Labels(base_revision="a" * 40, description=f"to push {index}")
        convert_to_air(pair, path, base=made / "config.json", labels=labels)
        registry.add(path, name=name, owner="search" if name != "b" else "other")
    registry.database.engine.dispose()
    return held()


def test_every_revision_goes_to_the_repository_of_its_adapter_oldest_first(
    hub_env: HubEnvironment, registered: dict[str, str]
) -> None:
    site = hub_env.site
    report = mirror("", "--to", "hf:team")
    assert counts(report) == {"new": 5}
    assert {f"{item['name']}@{item['number']}": item["digest"] for item in report["new"]} == registered
    assert [(item["repository"], item["path"]) for item in report["new"]] == [
        *[("team/a", "adapter.air")] * 3,
        ("team/b", "adapter.air"),
        ("team/c", "sub/adapter.air"),
    ]
    commits = [item["commit"] for item in report["new"]]
    history = [digest_at(hub_env, "team/a", commit) for commit in commits[:3]]
    assert history == [registered[f"a@{number}"] for number in (1, 2, 3)]
    assert site.repo("team/a").tip == commits[2]
    asked(hub_env)
    assert counts(mirror("", "--to", "hf:team")) == {"unchanged": 5}
    assert asked(hub_env) == {"list-models": 1}
    site.hub.repositories.pop("team/b")
    assert counts(mirror("", "--to", "hf:team")) == {"new": 1, "unchanged": 4}


def digest_at(env: HubEnvironment, repository: str, commit: str) -> str:
    return str(Digest.of_bytes(env.site.repo(repository).files(commit)["adapter.air"]))


@lfs_only
def test_what_was_pushed_comes_back_under_names_that_lead_to_the_same_places(
    hub_env: HubEnvironment, home: Path, registered: dict[str, str], tmp_path: Path
) -> None:
    mirror("", "--to", "hf:team", "--private", "--air-only")
    assert {name: site_is_private(hub_env, name) for name in ("a", "b", "c")} == {"a": True, "b": True, "c": True}
    other = tmp_path / "other"
    mirror("hf:team", "--into", str(other))
    assert held(other) == {
        "team.a@1": registered["a@3"],
        "team.b@1": registered["b@1"],
        "team.c--sub@1": registered["team.c--sub@1"],
    }
    os.environ["UAL_HOME"] = str(other)  # put back with the fixture
    assert counts(mirror("", "--to", "hf:team", "--air-only")) == {"unchanged": 3}


def site_is_private(env: HubEnvironment, name: str) -> bool:
    return bool(env.site.repo(f"team/{name}").is_private)


@lfs_only
def test_revisions_wait_for_one_that_fails_and_others_do_not(
    hub_env: HubEnvironment, home: Path, registered: dict[str, str]
) -> None:
    hub_env.site.faults.add("commit", times=None, path="/team/a/", status=500)
    report = mirror("owner:search OR owner:other", "--to", "hf:team", code=9)
    assert counts(report) == {"new": 2, "refused": 3}
    assert [(item["item"], item["code"]) for item in report["refused"]] == [
        ("a@1", "hub-unavailable"),
        ("a@2", "mirror-order"),
        ("a@3", "mirror-order"),
    ]
    assert report["refused"][1]["message"] == "a@2: waits for a@1, which could not be pushed"
    hub_env.site.faults.clear()
    assert counts(mirror("owner:search OR owner:other", "--to", "hf:team")) == {
        "new": 3,
        "unchanged": 2,
    }


@lfs_only
def test_whoever_is_killed_while_pushing_is_followed_by_one_that_commits_nothing_twice(
    hub_env: HubEnvironment, home: Path, registered: dict[str, str]
) -> None:
    command = [*COMMAND, "", "--to", "hf:team", "--json"]
    for nth in (1, 2, 3):
        reached = threading.Event()
        hub_env.site.faults.add("commit", nth=nth, after_effect=True, call=lambda _, r=reached: r.set(), delay_s=0.3)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and not reached.wait(0.05):
            pass
        time.sleep(0.1)
        process.kill()
        process.communicate()
        hub_env.site.faults.clear()
    subprocess.run(command, capture_output=True, check=True)
    site = hub_env.site
    pushed = {name: [item for item in site.repo(name).commits if item.title.startswith("Push")] for name in NAMES}
    assert {name: len(commits) for name, commits in pushed.items()} == {"team/a": 3, "team/b": 1, "team/c": 1}
    assert digest_at(hub_env, "team/a", site.repo("team/a").tip) == registered["a@3"]


NAMES = ("team/a", "team/b", "team/c")


@lfs_only
def test_the_report_reads_well(hub_env: HubEnvironment, home: Path, made: Path) -> None:
    fill(hub_env, made, 2)
    hub_env.site.put("team/broken", {"adapter.air": b"?"})
    result = run("hf:team")
    commits = [tip(hub_env, number)[:12] for number in range(2)]
    broken = hub_env.site.repo("team/broken").tip[:12]
    del broken
    assert (result.returncode, result.stderr) == (9, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        f"new        team.a00@1  team/a00@{commits[0]}:adapter.air",
        f"new        team.a01@1  team/a01@{commits[1]}:adapter.air",
    ]
    assert lines[2].startswith("refused    team/broken:adapter.air [truncated]: ")
    assert lines[-1] == f"hf:team -> {home}: 2 new, 0 unchanged, 1 refused"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hf:team", "--into", "x", "--to", "hf:team"], "Error: give either --into or --to"),
        (["hf:team", "--private"], "Error: --private belongs to pushing, with --to"),
        (["", "--to", "hf:team", "--base", "x"], "Error: --base belongs to pulling"),
        (["hf:team", "--jobs", "0"], "Error: Invalid value for '--jobs': 0 is not in the range 1<=x<=32."),
    ],
)
def test_words_that_do_not_go_together_are_refused(home: Path, words: list[str], message: str) -> None:
    result = run(*words)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (2, message)


@pytest.mark.parametrize("word", ["hf:", "hf:team/a", "hf:te am", "hf:../x"])
def test_what_is_no_owner_is_refused(home: Path, word: str) -> None:
    result = run(word)
    start = f"error [hub-address]: cannot mirror {word!r}: expected hf:OWNER, a user or an organisation of the Hub"
    assert (result.returncode, result.stderr.splitlines()[0]) == (9, start)
