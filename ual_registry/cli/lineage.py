"""The command lineage, and the forms in which it draws a graph: a tree of text, DOT and Mermaid."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import click

from ual_registry.cli.output import Output, common_options, one_line, print_result
from ual_registry.registry.lineage import RELATIONS
from ual_registry.registry.registry import LINEAGE_LIMIT
from ual_registry.registry.views import LineageEdge, LineageGraph, LineageNode
from ual_registry.workflows import store

__all__ = ["lineage_command", "lineage_dot", "lineage_mermaid", "lineage_text"]

_DEEPEST = 1000


@click.command("lineage")
@click.argument("ref")
@click.option("--up", is_flag=True, help="Only what it was made from.")
@click.option("--down", is_flag=True, help="Only what was made from it.")
@click.option("--depth", type=click.IntRange(0, _DEEPEST), help="Generations to follow; by default to the ends.")
@click.option(
    "--relation",
    "relations",
    multiple=True,
    type=click.Choice(RELATIONS),
    help="Follow only edges of this kind; may be repeated.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=LINEAGE_LIMIT,
    show_default=True,
    help="Edges each way at most, the nearest generations first.",
)
@click.option("--all", "is_all", is_flag=True, help="Every edge, however many there are.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "dot", "mermaid"]),
    default="text",
    show_default=True,
    help="json is the same as --json.",
)
@common_options
def lineage_command(
    ref: str,
    *,
    up: bool,
    down: bool,
    depth: int | None,
    relations: tuple[str, ...],
    limit: int,
    is_all: bool,
    form: str,
    output: Output,
) -> None:
    """Draw what an adapter was made from, and what was made from it.

    REF may also be the digest of a deleted artifact, or of a parent that never was in this registry.
    """
    both = up == down
    most = None if is_all else limit
    graph = store.lineage(ref, up=up or both, down=down or both, depth=depth, relations=relations, limit=most)
    if not graph.is_complete:
        output.note(f"there is more than {limit} edges one way; --all follows every one")
    if form in _GRAPHS and not output.as_json:
        print_result(_GRAPHS[form](graph))
        return
    nodes = [graph.nodes[digest] for digest in sorted(graph.nodes)]
    document = {"root": graph.root, "nodes": nodes, "edges": graph.edges, "is_complete": graph.is_complete}
    as_asked = Output(as_json=output.as_json or form == "json", is_quiet=output.is_quiet, is_verbose=output.is_verbose)
    as_asked.result(document, lambda: lineage_text(graph))


def lineage_text(graph: LineageGraph) -> str:
    """Draw ancestors below the artifact, then descendants, each line with how it was made.

    What several lines lead to is drawn once; later lines say so and go no deeper.
    """
    parents, children = graph.parents(), graph.children()
    lines = [_line(graph.nodes[graph.root]), *_tree(graph, parents, lambda edge: edge.parent)]
    if graph.root in children:
        lines += ["", "made from it:", *_tree(graph, children, lambda edge: edge.child)]
    return "\n".join(lines)


def _tree(
    graph: LineageGraph, edges: Mapping[str, tuple[LineageEdge, ...]], far_end: Callable[[LineageEdge], str]
) -> list[str]:
    """Return the lines below the root; a stack and no recursion, since a chain may be long."""
    lines: list[str] = []
    seen = {graph.root}
    waiting = [(edge, "", number == 0) for number, edge in enumerate(reversed(edges.get(graph.root, ())))]
    while waiting:
        edge, indent, is_last = waiting.pop()
        end = far_end(edge)
        is_known = end in seen
        again = " (see above)" if is_known and (end in edges or end == graph.root) else ""
        branch = "└─ " if is_last else "├─ "
        lines.append(f"{indent}{branch}{edge.relation} {_line(graph.nodes[end])}{again}")
        if not is_known:
            seen.add(end)
            below = indent + ("   " if is_last else "│  ")
            further = reversed(edges.get(end, ()))
            waiting += [(next_edge, below, number == 0) for number, next_edge in enumerate(further)]
    return lines


_STATES = {"present": "", "deleted": " (deleted)", "unknown": " (not in this registry)"}


def _line(node: LineageNode) -> str:
    if node.state == "unknown":
        return f"{node.digest}{_STATES[node.state]}"
    parts = [", ".join(node.names), node.base or "", node.digest[:19] if node.names else node.digest]
    return one_line("  ".join(part for part in parts if part)) + _STATES[node.state]


def _label(node: LineageNode) -> list[str]:
    """Return what stands in the box of a node, line by line."""
    parts = [", ".join(node.names), node.base or "", node.digest[:19]]
    return [part for part in parts if part] + [_STATES[node.state].strip(" ()")] * (node.state != "present")


def lineage_dot(graph: LineageGraph) -> str:
    """Write a graph for Graphviz; edges go from the parent to what was made from it."""
    names = _numbered(graph)
    lines = ["digraph lineage {", "  rankdir=LR;", "  node [shape=box];"]
    for digest, name in names.items():
        node = graph.nodes[digest]
        label = "\\n".join(_dot_text(part) for part in _label(node))
        style = {"present": "", "deleted": ", style=dashed", "unknown": ", style=dotted"}[node.state]
        lines.append(f'  {name} [label="{label}"{style}{", penwidth=2" * (digest == graph.root)}];')
    lines += [
        f'  {names[edge.parent]} -> {names[edge.child]} [label="{_dot_text(edge.relation)}"];' for edge in graph.edges
    ]
    return "\n".join([*lines, "}"])


def lineage_mermaid(graph: LineageGraph) -> str:
    """Write a graph for Mermaid; edges go from the parent to what was made from it."""
    names = _numbered(graph)
    lines = ["flowchart LR"]
    for digest, name in names.items():
        label = "<br>".join(_mermaid_text(part) for part in _label(graph.nodes[digest]))
        lines.append(f'  {name}["{label}"]{_CLASSES[graph.nodes[digest].state]}')
    lines += [
        f'  {names[edge.parent]} -->|"{_mermaid_text(edge.relation)}"| {names[edge.child]}' for edge in graph.edges
    ]
    lines += ["  classDef deleted stroke-dasharray:5", "  classDef unknown stroke-dasharray:2"]
    return "\n".join([*lines, f"  style {names[graph.root]} stroke-width:3px"])


_CLASSES = {"present": "", "deleted": ":::deleted", "unknown": ":::unknown"}
_GRAPHS: dict[str, Callable[[LineageGraph], str]] = {"dot": lineage_dot, "mermaid": lineage_mermaid}


def _numbered(graph: LineageGraph) -> dict[str, str]:
    return {digest: f"n{number}" for number, digest in enumerate(sorted(graph.nodes))}


def _plain(text: str) -> str:
    """Take out what would end a line or command a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _dot_text(text: str) -> str:
    return _plain(text).replace("\\", "\\\\").replace('"', '\\"')


def _mermaid_text(text: str) -> str:
    """Write every sign that Mermaid or HTML could read as an entity."""
    safe = " ._-/:@,()"
    return "".join(c if c.isalnum() or c in safe else f"#{ord(c)};" for c in _plain(text))
