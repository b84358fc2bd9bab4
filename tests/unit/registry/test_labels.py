"""What a revision keeps of its owner, aliases and tags is what it has, whatever changed them, on both engines."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.unit.registry.conftest import Files
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.labels import differing_labels
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import RevisionRow

ODD = {"b": "", "a": 'quote " back \\ slash /', "c": "é 字 😀", "d": "</script> \\u0041 {}[]:,"}


def stale(registry: Registry) -> int:
    with registry.database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(RevisionRow).where(differing_labels())) or 0


def shown(registry: Registry) -> dict[str, Any]:
    return {f"{hit.name}@{hit.number}": (hit.owner, hit.aliases, hit.tags) for hit in registry.search("yanked:*")}


@pytest.fixture
def two(registry: Registry, files: Files) -> Registry:
    """An adapter of two revisions."""
    for tags in ({"team": "a"}, {}):
        registry.add(files.make(), name="one", tags=tags, aliases=["production"])
    return registry


CHANGES: dict[str, tuple[Callable[[Registry], object], dict[str, Any]]] = {
    "nothing": (lambda _: None, {}),
    "an alias moves": (
        lambda registry: registry.alias("one", "production", "1"),
        {"one@1": (None, ("production",), {"team": "a"}), "one@2": (None, (), {})},
    ),
    "a second alias": (
        lambda registry: registry.alias("one", "a-first", "2"),
        {"one@2": (None, ("a-first", "production"), {})},
    ),
    "an alias is protected": (lambda registry: registry.alias("one", "production", protect=True), {}),
    "an alias is deleted": (lambda registry: registry.unalias("one", "production"), {"one@2": (None, (), {})}),
    "odd tags": (lambda registry: registry.tag("one@2", ODD), {"one@2": (None, ("production",), ODD)}),
    "a tag is removed": (
        lambda registry: registry.tag("one@1", remove=["team"]),
        {"one@1": (None, (), {})},
    ),
    "an owner": (
        lambda registry: registry.describe("one", owner="Médecine"),
        {"one@1": ("Médecine", (), {"team": "a"}), "one@2": ("Médecine", ("production",), {})},
    ),
    "a description alone": (lambda registry: registry.describe("one", description="words"), {}),
    "a hidden revision": (lambda registry: registry.yank("one@1", why="old"), {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_written_into_the_revisions_that_show_it(two: Registry, change: str) -> None:
    work, changed = CHANGES[change]
    before = {"one@1": (None, (), {"team": "a"}), "one@2": (None, ("production",), {})}
    assert (shown(two), stale(two)) == (before, 0)
    work(two)
    assert (shown(two), stale(two)) == (before | changed, 0)


def test_what_is_added_keeps_the_text_that_the_engine_itself_would_write(registry: Registry, files: Files) -> None:
    registry.add(files.make(tags=("law", "x" * 200)), name="one", tags=ODD, owner="team é", aliases=["b", "a"])
    registry.add(files.make(), name="one")
    tags = dict(sorted((ODD | {"law": ""}).items()))
    assert shown(registry) == {"one@1": ("team é", ("a", "b"), tags), "one@2": ("team é", (), {})}
    assert [list(hit.tags) for hit in registry.search("yanked:* alias:a")] == [list(tags)]
    assert stale(registry) == 0


def test_an_import_writes_the_labels_of_what_it_brings_and_of_what_it_changes(
    two: Registry, files: Files, tmp_path: Path
) -> None:
    two.describe("one", owner="team")
    two.tag("one@1", ODD)
    two.export(tmp_path / "out")
    other = Registry.open(tmp_path / "other")
    other.add(tmp_path / "files" / "1.air", name="one")
    other.import_(tmp_path / "out")
    assert (shown(other)["one@2"], stale(other)) == (("team", ("production",), {}), 0)
    assert shown(other)["one@1"][0] == "team"

    other.describe("one", owner="")
    other.import_(tmp_path / "out")  # brings the owner and nothing else
    assert ({owner for owner, _, _ in shown(other).values()}, stale(other)) == ({"team"}, 0)
    other.database.engine.dispose()


def test_many_who_change_labels_of_one_revision_lose_none(two: Registry, files: Files) -> None:
    both = threading.Barrier(4)

    def change(number: int) -> None:
        both.wait(timeout=60)
        for step in range(3):
            two.alias("one", f"alias-{number}", str(1 + step % 2))
            two.tag("one@1", {f"key-{number}": str(step)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(4)))
    tags = {"team": "a"} | {f"key-{number}": "2" for number in range(4)}
    found = shown(two)
    assert (found["one@1"], stale(two)) == ((None, tuple(f"alias-{number}" for number in range(4)), tags), 0)
    assert found["one@2"] == (None, ("production",), {})


def test_many_files_that_are_added_at_once_keep_their_labels(registry: Registry, files: Files) -> None:
    jobs = [(files.make(), AddOrder(name=f"n{number % 2}", tags={"k": str(number)})) for number in range(4)]
    assert all(outcome.error is None for outcome in registry.add_many(jobs))
    assert {tags["k"] for _, _, tags in shown(registry).values()} == {"0", "1", "2", "3"}
    assert stale(registry) == 0
