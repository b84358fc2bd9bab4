"""A lineage as a tree on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ual_registry.registry.records import LineageEdge, LineageGraph

__all__ = ["lineage_text"]


def lineage_text(graph: LineageGraph) -> str:
    """Draw ancestors below the artifact, then descendants, each line with how it was made."""
    lines = [_node(graph, graph.root), *_Tree(graph, graph.parents, lambda edge: edge.parent).lines(graph.root)]
    if graph.children(graph.root):
        lines += ["", "made from it:", *_Tree(graph, graph.children, lambda edge: edge.child).lines(graph.root)]
    return "\n".join(lines)


class _Tree:
    """The lines below a node, in one direction; a node that was drawn already is not drawn deeper again."""

    def __init__(
        self,
        graph: LineageGraph,
        edges_of: Callable[[str], tuple[LineageEdge, ...]],
        other_end: Callable[[LineageEdge], str],
    ) -> None:
        self._graph = graph
        self._edges_of = edges_of
        self._other_end = other_end
        self._seen = {graph.root}

    def lines(self, digest: str, indent: str = "") -> Iterator[str]:
        """Yield the lines below a node, each after ``indent``."""
        edges = self._edges_of(digest)
        for index, edge in enumerate(edges):
            is_last = index == len(edges) - 1
            end = self._other_end(edge)
            yield f"{indent}{'└─ ' if is_last else '├─ '}{edge.relation} {_node(self._graph, end)}"
            if end not in self._seen:
                self._seen.add(end)
                yield from self.lines(end, indent + ("   " if is_last else "│  "))


def _node(graph: LineageGraph, digest: str) -> str:
    node = graph.nodes[digest]
    if not node.names:
        return f"{digest} (not in this registry)"
    return f"{', '.join(node.names)}  {node.base}  {digest[:19]}"
