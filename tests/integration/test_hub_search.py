"""Searching the Hub: tags narrow, headers decide, nothing is read twice, and nothing is dropped without a word."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from examples.tiny_adapter import make_tiny_models
from tests.handmade import small_adapter
from tests.hub_server.fixtures import HubEnvironment
from tests.hub_server.server import HubSite
from tests.unit.cli.conftest import Result, Ual, folder, ual
from ual_registry.air.read import read
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.hub.card_tags import card_tags
from ual_registry.workflows.hub_search import index_folder

__all__ = ["folder", "ual"]  # fixtures of the command line in this process

pytestmark = pytest.mark.parametrize("hub_transport", ["lfs"], indirect=True)

OWNER = "it is who answers for an adapter in a registry; --author ORG asks for the owner on the Hub"


def card(*tags: str) -> str:
    return f"---\ntags: {json.dumps(list(tags))}\n---\n"


@pytest.fixture
def site(hub_env: HubEnvironment, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubSite:
    """A Hub with two AIR files, a PEFT pair and its base model, and what cannot be read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    site = hub_env.site
    write(small_adapter(name="Law", domain="legal", tags=("court",)), folder / "law.air")
    for repository, file in (("team/medical", "small.air"), ("tester/law", "law.air")):
        with read(folder / file) as adapter:
            tags = card_tags(adapter.manifest)
        site.put(repository, {"adapter.air": folder / file, "README.md": card(*tags)})
    make_tiny_models(folder / "tour")
    base = site.put("example/tiny-llama", {"config.json": folder / "tour/base/config.json"})
    put_pair(site, "tester/pair", revision=base)
    site.clear_log()
    return site


def put_pair(site: HubSite, repository: str, **changes: Any) -> None:
    """Put a PEFT pair with another configuration."""
    config = {**json.loads(Path("tour/adapter/adapter_config.json").read_text()), **changes}
    weights = Path("tour/adapter/adapter_model.safetensors")
    files: dict[str, str | Path] = {
        "adapter_config.json": json.dumps(config),
        weights.name: weights,
        "README.md": card("peft"),
    }
    site.put(repository, files)


def found(result: Result) -> list[str]:
    """Return the repositories of the hits."""
    assert result.code == 0, result.err
    return [hit["repository"] for hit in result.document["hits"]]


def asked(site: HubSite) -> dict[str, int]:
    """Return how often each endpoint was asked, and forget it."""
    counts = Counter(site.log.endpoints())
    site.clear_log()
    return dict(counts)


@pytest.mark.parametrize(
    ("query", "repositories"),
    [
        ("", ["team/medical", "tester/law", "tester/pair"]),
        ("base:llama rank>=8", ["tester/pair"]),
        ("base:gpt_neox order:-name", ["tester/law", "team/medical"]),
        ("domain:medical OR base:example/tiny-llama", ["team/medical", "tester/pair"]),
        ("NOT domain:legal", ["team/medical", "tester/pair"]),
        ("role:mlp_gate", ["tester/pair"]),
        ("name:tester/*", ["tester/law", "tester/pair"]),
        ("court", ["tester/law"]),
        ("rank:2..4 params<1K", ["team/medical", "tester/law"]),
        ("rank>=9", []),
    ],
)
def test_a_query_means_what_it_means_in_a_registry(
    site: HubSite, ual: Ual, query: str, repositories: list[str]
) -> None:
    assert found(ual("search", "--hub", query, "--json")) == repositories


def test_the_table_says_where_and_the_notes_how_far(site: HubSite, ual: Ual) -> None:
    tips = {name: str(site.repo(name).tip)[:12] for name in ("team/medical", "tester/pair")}
    assert ual("search", "--hub", "domain:medical OR base:llama") == Result(
        0,
        "repository    file                       base                        method    rank    roles    "
        "domain    size     commit\n"
        "team/medical  adapter.air                tiny (gpt_neox)             lora      2       3        "
        f"medical   2.61 kB  {tips['team/medical']}\n"
        "tester/pair   adapter_model.safetensors  example/tiny-llama (llama)  lora      8       7        "
        f"          150 kB   {tips['tester/pair']}\n",
        "looked at 3 of 3 repositories (0 from the cache)\n",
    )


def test_a_hit_says_everything_that_its_header_says(site: HubSite, ual: Ual) -> None:
    ual("add", "law.air", "--name", "law")
    record = ual("search", "name:law", "--json").document["hits"][0]
    of_a_registry = ("name", "number", "created_at", "owner", "aliases", "yank_reason")
    document = ual("search", "--hub", "domain:legal", "--json").document
    oldest = document.pop("oldest")
    assert document == {
        "hits": [
            {
                **{name: value for name, value in record.items() if name not in of_a_registry},
                "repository": "tester/law",
                "commit": str(site.repo("tester/law").tip),
                "path": "adapter.air",
                "form": "air",
                "is_private": False,
                "gated": None,
                "tags": ["court"],
            }
        ],
        "has_more": False,
        "repositories": {"looked_at": 1, "from_cache": 0, "listed": 1, "is_complete": True},
        "unread": [],
        "offline": None,
    }
    assert oldest.endswith("Z")
    assert found(ual("search", "--hub", f"digest:{Digest.of_file(Path('law.air')).hex[:8]}", "--json")) == [
        "tester/law"
    ]


def test_asking_again_reads_no_header_again(site: HubSite, ual: Ual) -> None:
    first = ual("search", "--hub", "rank>=1", "--json").document
    counts = asked(site)
    assert counts == {"list-models": 2, "model-info": 4, "resolve-get": 5, "cdn-get": 3}
    again = ual("search", "--hub", "rank>=1", "--json").document
    assert asked(site) == {"list-models": 2}
    assert again == {**first, "repositories": {**first["repositories"], "from_cache": 3}}
    assert found(ual("search", "--hub", "role:mlp_up", "--json")) == ["team/medical", "tester/law", "tester/pair"]
    assert asked(site) == {"list-models": 2}
    ual("search", "--hub", "rank>=1", "--refresh")
    assert asked(site)["cdn-get"] == 3


def test_a_new_commit_is_read_and_the_old_one_is_not_found(site: HubSite, ual: Ual) -> None:
    ual("search", "--hub")
    write(small_adapter(domain="tax"), Path("tax.air"))
    site.put("tester/law", {"adapter.air": Path("tax.air"), "README.md": card("air")})
    site.clear_log()
    assert found(ual("search", "--hub", "NOT domain:medical", "--json")) == ["tester/law", "tester/pair"]
    assert asked(site) == {"list-models": 2, "model-info": 1, "resolve-get": 1, "cdn-get": 1}
    assert found(ual("search", "--hub", "legal", "--json")) == []


def test_tags_spare_what_cannot_be_meant(site: HubSite, ual: Ual) -> None:
    assert found(ual("search", "--hub", "domain:medical rank:2", "--json")) == ["team/medical"]
    assert [exchange.path for exchange in site.log.of("list-models")] == [
        "/api/models?filter=air&filter=air%3Adomain%3Amedical&filter=air%3Arank%3A2&limit=200&full=true"
    ]
    assert asked(site) == {"list-models": 1, "model-info": 1, "resolve-get": 1, "cdn-get": 1}
    assert found(ual("search", "--hub", "base:gpt_neox rank>=3", "--json")) == []
    assert "cdn-get" not in [item.endpoint for item in site.log if "tester/law" in item.path]


def test_an_author_and_limits_bound_what_is_looked_at(site: HubSite, ual: Ual) -> None:
    assert found(ual("search", "--hub", "--author", "team", "--json")) == ["team/medical"]
    assert asked(site)["cdn-get"] == 1
    few = ual("search", "--hub", "base:llama", "--limit-repositories", "1")
    assert few.err == "looked at 1 of 1 repositories (0 from the cache)\n"
    asked(site)
    more = ual("search", "--hub", "--limit-repositories", "3", "domain:medical OR base:llama", "--json")
    assert more.document["repositories"] == {"looked_at": 3, "from_cache": 2, "listed": 3, "is_complete": True}
    few = ual("search", "--hub", "--limit-repositories", "2")
    assert few.err == "looked at 2 of 3 repositories (2 from the cache); --limit-repositories looks at more\n"
    one = ual("search", "--hub", "--limit", "1", "--json")
    assert (found(one), one.document["has_more"]) == (["team/medical"], True)
    assert "there are more than 1; --limit shows more\n" in one.err


def test_what_cannot_be_read_is_listed_with_the_reason(site: HubSite, ual: Ual) -> None:
    put_pair(site, "tester/nowhere", base_model_name_or_path="/home/me/model", revision=None)
    put_pair(site, "tester/unknown", base_model_name_or_path="example/none", revision=None)
    put_pair(site, "tester/other", peft_type="IA3")
    site.put("tester/pickle", {"adapter_model.bin": b"x", "adapter_config.json": "{}", "README.md": card("peft")})
    site.put("tester/broken", {"a.air": b"no AIR", "b.air": Path("law.air"), "README.md": card("air")})
    site.put("stranger/gated", {"adapter.air": Path("law.air"), "README.md": card("air")}, gated="auto")
    result = ual("search", "--hub", "rank>=1", "--json")
    assert found(result) == ["team/medical", "tester/broken", "tester/law", "tester/pair"]
    unread = [(item["repository"], item["path"], item["code"]) for item in result.document["unread"]]
    weights = "adapter_model.safetensors"
    assert unread == [
        ("stranger/gated", "adapter.air", "hub-gated"),
        ("tester/broken", "a.air", "truncated"),
        ("tester/nowhere", weights, "hub-address"),
        ("tester/other", weights, "peft-type"),
        ("tester/pickle", "", "peft-pickle"),
        ("tester/unknown", weights, "hub-not-found"),
    ]
    assert (
        "not read: tester/broken:a.air [truncated]: a.air: file has 6 bytes, fewer than the 8 that hold the header's "
        "length\n" in result.err
    )
    asked(site)
    assert ual("search", "--hub", "rank>=1", "--json").document["unread"] == result.document["unread"]
    assert asked(site) == {"list-models": 2}


def test_of_a_large_repository_the_first_adapters_are_looked_at(
    site: HubSite, ual: Ual, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ual_registry.workflows.hub_headers.MOST_ADAPTERS", 2)
    names = ("a.air", "b.air", "c.air", "checkpoint-1/d.air")
    site.put("team/large", {**{name: Path("law.air") for name in names}, "README.md": card("air")})
    document = ual("search", "--hub", "--author", "team", "domain:legal OR title:none", "--json").document
    assert [hit["path"] for hit in document["hits"]] == ["a.air", "b.air"]
    unread = [(item["path"], item["code"], item["reason"]) for item in document["unread"]]
    assert unread == [
        ("c.air", "left-out", "of one repository the first 32 adapters are looked at"),
        ("checkpoint-1/d.air", "left-out", "an earlier state of a training run"),
    ]


def test_what_may_be_better_tomorrow_is_tried_again(site: HubSite, ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ual_registry.hub.conduct.BACKOFF_S", (0.0,))
    site.faults.add("cdn-get", status=500, times=None)
    result = ual("search", "--hub", "domain:legal", "--json")
    assert [item["repository"] for item in result.document["unread"]] == ["tester/law"]
    site.faults.clear()
    assert found(ual("search", "--hub", "domain:legal", "--json")) == ["tester/law"]


def test_without_the_hub_the_cache_answers_alone(site: HubSite, ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ual("search", "--hub", "--json").document
    asked(site)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = ual("search", "--hub", "rank>=8", "--json")
    assert found(result) == ["tester/pair"]
    assert result.document["offline"] == "cannot list the Hub: offline mode is on"
    assert result.document["repositories"] == {"looked_at": 3, "from_cache": 3, "listed": 3, "is_complete": False}
    assert result.err.splitlines() == [
        "cannot list the Hub: offline mode is on",
        f"this is the answer of the cache alone, as of {known['oldest']} or later",
    ]
    assert found(ual("search", "--hub", "--author", "team", "--json")) == ["team/medical"]
    nothing = ual("search", "--hub", "--author", "stranger")
    assert (nothing.code, nothing.err.partition(":")[0]) == (9, "error [hub-offline]")
    assert asked(site) == {}


@pytest.mark.parametrize(
    ("query", "place", "reason"),
    [
        ("alias:production", 7, "alias cannot be asked of the Hub: aliases are names in a registry"),
        ("rank>=8 NOT (owner:me)", 20, f"owner cannot be asked of the Hub: {OWNER}"),
        (
            "tag:a",
            5,
            "tag cannot be asked of the Hub: tags are set in a registry; a bare word finds the tags of a file",
        ),
        ("yanked:true", 8, "yanked cannot be asked of the Hub: hiding is done in a registry"),
        (
            "created>=2026-01-01",
            10,
            "created cannot be asked of the Hub: it is when a revision was added to a registry",
        ),
        (
            "a order:created",
            3,
            "order:created cannot be asked of the Hub: it is when a revision was added to a registry",
        ),
        (
            "derived-from:medical@3",
            14,
            "derived-from cannot be asked of the Hub: names are those of a registry; give a digest, sha256:...",
        ),
    ],
)
def test_what_only_a_registry_knows_cannot_be_asked(
    site: HubSite, ual: Ual, query: str, place: int, reason: str
) -> None:
    result = ual("search", "--hub", query)
    assert (result.code, result.err.splitlines()) == (
        8,
        [
            f"error [query]: query, column {place}: {reason}",
            f"  {query}",
            f"  {' ' * (place - 1)}^",
            "hint: leave it out, or search the registry, without --hub",
        ],
    )
    assert asked(site) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--author", "x"], "--author belongs to --hub"),
        (["--refresh"], "--refresh belongs to --hub"),
        (["--limit-repositories", "3"], "--limit-repositories belongs to --hub"),
        (["--hub", "--after", "x"], "--after belongs to a search of the registry"),
    ],
)
def test_options_of_one_search_are_refused_by_the_other(
    site: HubSite, ual: Ual, words: list[str], message: str
) -> None:
    result = ual("search", *words)
    assert (result.code, result.err.splitlines()[-1]) == (2, f"Error: {message}")


def test_a_damaged_cache_is_told_with_what_to_do(site: HubSite, ual: Ual) -> None:
    cache = index_folder(site.endpoint)
    cache.mkdir(parents=True)
    (cache / "registry.db").write_bytes(b"no database" * 1000)
    result = ual("search", "--hub")
    assert (result.code, result.err.splitlines()[-1]) == (
        8,
        f"hint: it is a cache: delete the folder {cache}, and run the command again",
    )


def test_a_cache_of_another_migration_is_left_alone(site: HubSite, ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("ual_registry.workflows.hub_search.SCHEMA_REVISION", "0000")
        older = index_folder(site.endpoint)
    older.mkdir(parents=True)
    (older / "registry.db").write_bytes(b"of another migration")
    found(ual("search", "--hub", "--json"))
    assert (older / "registry.db").read_bytes() == b"of another migration"
    assert (index_folder(site.endpoint) / "registry.db").is_file()
    assert {path.name for path in older.parent.iterdir()} == {older.name, index_folder(site.endpoint).name}


def test_a_refusal_is_asked_again_after_a_day(site: HubSite, ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("stranger/gated", {"adapter.air": Path("law.air"), "README.md": card("air")}, gated="auto")
    assert found(ual("search", "--hub", "--author", "stranger", "--json")) == []
    site.repo("stranger/gated").granted.add("tester")
    assert found(ual("search", "--hub", "--author", "stranger", "--json")) == []
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1, minutes=1)
    monkeypatch.setattr("ual_registry.registry.header_index.now", lambda: later)
    assert found(ual("search", "--hub", "--author", "stranger", "--json")) == ["stranger/gated"]
