"""What an artifact was made from and what was made from it, over generations."""

from __future__ import annotations

import dataclasses
import datetime
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.orm import Session

from tests.unit.registry.conftest import Files
from ual_registry.errors import RegistryConflictError, RegistryNotFoundError, UALError
from ual_registry.registry.commands import add_edges
from ual_registry.registry.lineage import RELATIONS
from ual_registry.registry.registry import Registry
from ual_registry.registry.views import LineageEdge, LineageGraph, LineageNode

UNKNOWN = "sha256:" + "ab" * 32


class Family:
    """Six artifacts: an unregistered parent, a chain of three, a second child, and one made from two.

    unknown -> one -> two -> three
                 \\-> other -/
    """

    def __init__(self, registry: Registry, files: Files) -> None:
        self.registry = registry
        made: dict[str, str] = {}
        for name, parents in {
            "one": (),
            "two": (("one", "projected_from"),),
            "other": (("one", "converted_from"),),
            "three": (("two", "projected_from"), ("other", "merged_from")),
            "lonely": (),
        }.items():
            edges = tuple((made[parent], relation) for parent, relation in parents)
            if name == "one":
                edges = ((UNKNOWN, "trained_from"),)
            made[name] = registry.add(files.make(parents=edges), name=name).digest
        self.digests = {**made, "unknown": UNKNOWN}

    def edge(self, child: str, relation: str, parent: str) -> LineageEdge:
        return LineageEdge(child=self.digests[child], parent=self.digests[parent], relation=relation)

    def graph(self, root: str, members: set[str], edges: set[LineageEdge]) -> LineageGraph:
        nodes = {
            self.digests[name]: LineageNode(
                digest=self.digests[name],
                names=() if name == "unknown" else (f"{name}@1",),
                base=None if name == "unknown" else "tiny",
                state="unknown" if name == "unknown" else "present",
            )
            for name in members
        }
        return LineageGraph(root=self.digests[root], nodes=nodes, edges=tuple(sorted(edges)))


@pytest.fixture
def family(registry: Registry, files: Files) -> Family:
    return Family(registry, files)


def test_ancestors_are_followed_to_the_ends_even_where_they_are_not_registered(family: Family) -> None:
    assert family.registry.lineage("three", down=False) == family.graph(
        "three",
        {"three", "two", "other", "one", "unknown"},
        {
            family.edge("three", "projected_from", "two"),
            family.edge("three", "merged_from", "other"),
            family.edge("two", "projected_from", "one"),
            family.edge("other", "converted_from", "one"),
            family.edge("one", "trained_from", "unknown"),
        },
    )


def test_descendants_are_followed_to_the_ends(family: Family) -> None:
    assert family.registry.lineage("one", up=False) == family.graph(
        "one",
        {"one", "two", "other", "three"},
        {
            family.edge("three", "projected_from", "two"),
            family.edge("three", "merged_from", "other"),
            family.edge("two", "projected_from", "one"),
            family.edge("other", "converted_from", "one"),
        },
    )


def test_both_ways_leave_out_what_is_only_related(family: Family) -> None:
    """``other`` is a sibling of ``two``: no ancestor of it and no descendant."""
    assert family.registry.lineage("two") == family.graph(
        "two",
        {"unknown", "one", "two", "three"},
        {
            family.edge("one", "trained_from", "unknown"),
            family.edge("two", "projected_from", "one"),
            family.edge("three", "projected_from", "two"),
        },
    )


def test_neither_way_and_a_lonely_artifact_are_one_node(family: Family) -> None:
    assert family.registry.lineage("two", up=False, down=False) == family.graph("two", {"two"}, set())
    assert family.registry.lineage("lonely") == family.graph("lonely", {"lonely"}, set())


def test_an_artifact_has_every_name_it_is_kept_under(registry: Registry, files: Files) -> None:
    path = files.make()
    digest = registry.add(path, name="z").digest
    registry.add(files.make(), name="a")
    registry.add(path, name="a")
    assert registry.lineage(digest).nodes[digest].names == ("a@2", "z@1")


def write_edges(registry: Registry, *edges: tuple[str, str]) -> None:
    from ual_registry.registry.tables import LineageRow

    with registry.database.session(writes=True) as session:
        for child, parent in edges:
            session.add(LineageRow(child_digest=child, parent_digest=parent, relation="projected_from"))


def test_no_row_says_that_an_artifact_was_made_from_itself(registry: Registry, files: Files) -> None:
    one = registry.add(files.make(), name="one").digest
    with pytest.raises(UALError, match="not_itself"):
        write_edges(registry, (one, one))


@pytest.mark.parametrize("depth", [None, 0, 1, 2, 3, 50])
def test_a_circle_that_other_hands_wrote_ends(registry: Registry, files: Files, depth: int | None) -> None:
    """A digest cannot be known before the file is made, but rows can be written by other hands."""
    one, two, three = (registry.add(files.make(), name=name).digest for name in ("one", "two", "three"))
    write_edges(registry, (one, two), (two, three), (three, one))
    found = registry.lineage("one", depth=depth)
    around = {(one, two), (two, three), (three, one)}
    expected = {0: set(), 1: {(one, two), (three, one)}}.get(depth if depth is not None else 9, around)
    assert {(edge.child, edge.parent) for edge in found.edges} == expected
    assert set(found.nodes) == {one} | {digest for edge in expected for digest in edge}
    assert [record.name for record in registry.search("derived-from:one")] == ["one", "three", "two"]


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_two_that_write_at_once_close_no_circle(registry: Registry, files: Files) -> None:
    """What tombstones claim cannot be checked, and neither writer sees the other's edge before it is committed."""
    one, two = (registry.add(files.make(), name=name).digest for name in ("one", "two"))

    def claim(session: Session, child: str, parent: str) -> None:
        edge = {"child_digest": child, "parent_digest": parent, "relation": "merged_from"}
        add_edges(session, child, [edge], is_claim=True)

    def close_it() -> None:
        with registry.database.session(writes=True) as session:
            claim(session, two, one)

    with ThreadPoolExecutor(1) as pool:
        with registry.database.session(writes=True) as session:
            claim(session, one, two)
            other = pool.submit(close_it)
            with pytest.raises(TimeoutError):
                other.result(timeout=0.5)  # it waits
        with pytest.raises(RegistryConflictError, match="cannot be made from"):
            other.result(timeout=30)
    assert registry.fsck().faults == ()


def test_generations_and_relations_bound_a_lineage(family: Family) -> None:
    assert family.registry.lineage("three", down=False, depth=1) == family.graph(
        "three",
        {"three", "two", "other"},
        {family.edge("three", "projected_from", "two"), family.edge("three", "merged_from", "other")},
    )
    assert family.registry.lineage("one", up=False, relations=["projected_from"]) == family.graph(
        "one",
        {"one", "two", "three"},
        {family.edge("two", "projected_from", "one"), family.edge("three", "projected_from", "two")},
    )


def test_a_deleted_artifact_and_a_parent_that_never_was_here_have_a_lineage(family: Family) -> None:
    from sqlalchemy import update

    from ual_registry.registry.tables import ArtifactRow

    two, now = family.digests["two"], datetime.datetime.now(datetime.UTC)
    with family.registry.database.session(writes=True) as session:
        session.execute(update(ArtifactRow).where(ArtifactRow.digest == two).values(deleted_at=now))
    found = family.registry.lineage(two, up=False)
    assert found.nodes[two] == LineageNode(digest=two, names=("two@1",), base="tiny", state="deleted")
    assert [edge.child for edge in found.edges] == [family.digests["three"]]
    below = family.registry.lineage(UNKNOWN, depth=1)
    assert below.nodes[UNKNOWN] == LineageNode(digest=UNKNOWN, state="unknown")
    assert [edge.child for edge in below.edges] == [family.digests["one"]]
    with pytest.raises(RegistryNotFoundError, match=f"sha256:{'0' * 64}: no such artifact in this registry"):
        family.registry.lineage("sha256:" + "0" * 64)


def test_a_long_chain_is_followed(registry: Registry, files: Files) -> None:
    digest = registry.add(files.make(), name="chain").digest
    for _ in range(30):
        digest = registry.add(files.make(parents=((digest, "projected_from"),)), name="chain").digest
    assert [len(registry.lineage(f"chain@{number}").edges) for number in (1, 16, 31)] == [30, 30, 30]
    assert len(registry.lineage("chain@16", down=False).edges) == 15


@pytest.mark.parametrize("depth", [None, 3])
@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_a_lineage_that_is_cut_short_holds_the_nearest_generations(
    family: Family, limit: int, depth: int | None
) -> None:
    """Below ``one`` there are four edges: two to its children, then two to the child of both."""
    whole = family.registry.lineage("one", up=False)
    found = family.registry.lineage("one", up=False, limit=limit, depth=depth)
    one = family.digests["one"]
    first = {edge for edge in whole.edges if edge.parent == one}
    assert found.is_complete is (limit == 4)
    assert len(found.edges) == limit
    assert set(found.edges) <= set(whole.edges)
    assert set(found.edges) <= first or set(found.edges) >= first
    assert found.nodes == {digest: whole.nodes[digest] for edge in found.edges for digest in (edge.child, edge.parent)}
    assert whole.is_complete


def test_a_limit_holds_for_each_way_and_is_at_least_one(family: Family) -> None:
    found = family.registry.lineage("two", limit=1)
    edges = {family.edge("two", "projected_from", "one"), family.edge("three", "projected_from", "two")}
    graph = family.graph("two", {"one", "two", "three"}, edges)
    assert found == dataclasses.replace(graph, is_complete=False)
    assert family.registry.lineage("two", limit=None) == family.registry.lineage("two")
    for bounds in ({"limit": 0}, {"limit": 2**31}, {"depth": -1}, {"depth": 2**63}):
        ((what, value),) = bounds.items()
        with pytest.raises(UALError) as caught:
            family.registry.lineage("two", **bounds)
        least = {"limit": 1, "depth": 0}[what]
        assert caught.value.message == f"{what} {value}: expected at least {least}, and less than 2^31"


def test_a_relation_that_is_none_is_refused(family: Family) -> None:
    with pytest.raises(UALError) as caught:
        family.registry.lineage("two", relations=["projected_from", "projected"])
    assert caught.value.message == f"relation 'projected': expected one of {', '.join(RELATIONS)}"


def test_edges_of_one_digest_are_told_apart(family: Family) -> None:
    graph = family.registry.lineage("three", down=False)
    assert set(graph.parents()[family.digests["three"]]) == {
        family.edge("three", "projected_from", "two"),
        family.edge("three", "merged_from", "other"),
    }
    assert set(graph.children()[family.digests["one"]]) == {
        family.edge("two", "projected_from", "one"),
        family.edge("other", "converted_from", "one"),
    }


def test_a_parent_named_twice_is_one_edge(registry: Registry, files: Files) -> None:
    path = files.make(parents=((UNKNOWN, "projected_from"), (UNKNOWN, "merged_from")))
    digest = registry.add(path, name="one").digest
    assert [edge.relation for edge in registry.lineage(digest).edges] == ["merged_from", "projected_from"]


def test_lineage_of_nothing_is_told_of(registry: Registry) -> None:
    with pytest.raises(RegistryNotFoundError, match="adapter 'none': not in this registry"):
        registry.lineage("none")
