"""A lineage on a terminal, for Graphviz and for Mermaid."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise

import pytest

from ual_registry.cli.lineage import lineage_dot, lineage_mermaid, lineage_text
from ual_registry.registry.views import LineageEdge, LineageGraph, LineageNode


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def node(letter: str, name: str | None, state: str = "present") -> LineageNode:
    names = () if name is None else (name,)
    return LineageNode(digest=digest(letter), names=names, base=None if state == "unknown" else "tiny", state=state)


def edge(child: str, relation: str, parent: str) -> LineageEdge:
    return LineageEdge(child=digest(child), parent=digest(parent), relation=relation)


NODES = [
    node("a", None, "unknown"),
    node("b", "one@1"),
    node("c", None, "deleted"),
    node("d", 'od"d@2'),
    node("e", "root@1"),
    node("f", "child@3"),
]
EDGES = [
    edge("b", "trained_from", "a"),
    edge("c", "projected_from", "b"),
    edge("d", "merged_from", "b"),
    edge("e", "merged_from", "c"),
    edge("e", "merged_from", "d"),
    edge("f", "converted_from", "e"),
]
GRAPH = LineageGraph(root=digest("e"), nodes={node.digest: node for node in NODES}, edges=tuple(EDGES))

TEXT = f"""\
root@1  tiny  sha256:eeeeeeeeeeee
├─ merged_from tiny  {digest("c")} (deleted)
│  └─ projected_from one@1  tiny  sha256:bbbbbbbbbbbb
│     └─ trained_from {digest("a")} (not in this registry)
└─ merged_from od"d@2  tiny  sha256:dddddddddddd
   └─ merged_from one@1  tiny  sha256:bbbbbbbbbbbb (see above)

made from it:
└─ converted_from child@3  tiny  sha256:ffffffffffff"""

DOT = r"""digraph lineage {
  rankdir=LR;
  node [shape=box];
  n0 [label="sha256:aaaaaaaaaaaa\nnot in this registry", style=dotted];
  n1 [label="one@1\ntiny\nsha256:bbbbbbbbbbbb"];
  n2 [label="tiny\nsha256:cccccccccccc\ndeleted", style=dashed];
  n3 [label="od\"d@2\ntiny\nsha256:dddddddddddd"];
  n4 [label="root@1\ntiny\nsha256:eeeeeeeeeeee", penwidth=2];
  n5 [label="child@3\ntiny\nsha256:ffffffffffff"];
  n0 -> n1 [label="trained_from"];
  n1 -> n2 [label="projected_from"];
  n1 -> n3 [label="merged_from"];
  n2 -> n4 [label="merged_from"];
  n3 -> n4 [label="merged_from"];
  n4 -> n5 [label="converted_from"];
}"""

MERMAID = """flowchart LR
  n0["sha256:aaaaaaaaaaaa<br>not in this registry"]:::unknown
  n1["one@1<br>tiny<br>sha256:bbbbbbbbbbbb"]
  n2["tiny<br>sha256:cccccccccccc<br>deleted"]:::deleted
  n3["od#34;d@2<br>tiny<br>sha256:dddddddddddd"]
  n4["root@1<br>tiny<br>sha256:eeeeeeeeeeee"]
  n5["child@3<br>tiny<br>sha256:ffffffffffff"]
  n0 -->|"trained_from"| n1
  n1 -->|"projected_from"| n2
  n1 -->|"merged_from"| n3
  n2 -->|"merged_from"| n4
  n3 -->|"merged_from"| n4
  n4 -->|"converted_from"| n5
  classDef deleted stroke-dasharray:5
  classDef unknown stroke-dasharray:2
  style n4 stroke-width:3px"""


def test_a_tree_draws_what_is_met_twice_once() -> None:
    assert lineage_text(GRAPH) == TEXT


def test_what_a_file_calls_its_base_cannot_look_like_a_line_of_the_tree() -> None:
    forged = "tiny\n└─ trained_from official@1  \x1b[2J"
    graph = LineageGraph(
        root=digest("a"),
        nodes={digest("a"): LineageNode(digest=digest("a"), names=("mine@1",), base=forged, state="present")},
        edges=(),
    )
    assert lineage_text(graph) == ("mine@1  tiny\\n└─ trained_from official@1  \\x1b[2J  sha256:aaaaaaaaaaaa")


def test_a_graph_is_written_for_graphviz() -> None:
    assert lineage_dot(GRAPH) == DOT


def test_a_graph_is_written_for_mermaid() -> None:
    assert lineage_mermaid(GRAPH) == MERMAID


@pytest.mark.skipif(shutil.which("dot") is None, reason="no Graphviz here")
def test_graphviz_reads_the_graph() -> None:
    done = subprocess.run(["dot", "-Tplain"], input=lineage_dot(GRAPH), capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()].count("edge") == len(EDGES)


def test_a_chain_of_ten_thousand_is_drawn() -> None:
    digests = [f"sha256:{number:064x}" for number in range(10_000)]
    nodes = {item: LineageNode(digest=item, names=(f"a@{number}",)) for number, item in enumerate(digests)}
    edges = [LineageEdge(child=child, parent=parent, relation="merged_from") for parent, child in pairwise(digests)]
    graph = LineageGraph(root=digests[-1], nodes=nodes, edges=tuple(edges))
    assert len(lineage_text(graph).splitlines()) == 10_000


def test_a_circle_is_drawn_and_ends() -> None:
    edges = (edge("a", "merged_from", "b"), edge("b", "merged_from", "a"))
    nodes = {digest(letter): node(letter, f"{letter}@1") for letter in "ab"}
    graph = LineageGraph(root=digest("a"), nodes=nodes, edges=edges)
    one, two = "a@1  tiny  sha256:aaaaaaaaaaaa", "b@1  tiny  sha256:bbbbbbbbbbbb"
    assert lineage_text(graph).splitlines() == [
        one,
        f"└─ merged_from {two}",
        f"   └─ merged_from {one} (see above)",
        "",
        "made from it:",
        f"└─ merged_from {two}",
        f"   └─ merged_from {one} (see above)",
    ]
