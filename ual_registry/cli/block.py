"""A drawing of one block: every way from the residual stream back to it, and the roles that stand on it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from ual_registry.binders.model import Module, Norms

__all__ = ["draw_block"]


@dataclass(frozen=True, slots=True)
class _Way:
    """One way from the residual stream back to it.

    Attributes:
        rows: What reads the stream, side by side; a row of several roles is one after the other.
        joint: How the rows meet.
        output: The role that writes to the stream.
        inside: Roles inside the joint.
        note: What is particular to it.
        router: The role that decides how much of it counts.
    """

    rows: tuple[tuple[str, ...], ...]
    joint: str
    output: str
    inside: tuple[str, ...] = ()
    note: str = ""
    router: str = ""


_ATTENTION = _Way(
    (
        ("attention_query",),
        ("latent_query_down", "latent_query_up"),
        ("attention_key",),
        ("latent_key_value_down", "latent_key_up"),
        ("latent_key_rotary",),
        ("attention_value",),
        ("latent_key_value_down", "latent_value_up"),
    ),
    "attention",
    "attention_output",
    inside=("attention_position_query", "attention_position_key"),
)
_CROSS_ATTENTION = _Way(
    (("cross_attention_query",), ("cross_attention_key",), ("cross_attention_value",)),
    "attention to the encoder",
    "cross_attention_output",
)
_STATE_SPACE = _Way(
    (("state_space_in",), ("state_space_gate",)),
    "scan",
    "state_space_out",
    inside=("state_space_step_down", "state_space_step_up", "state_space_input", "state_space_output"),
)
_MLP = _Way((("mlp_gate",), ("mlp_up",)), "act", "mlp_down")
_EXPERTS = _Way((("mlp_gate",), ("mlp_up",)), "act", "mlp_down", note="each expert", router="moe_router")
_SHARED = _Way(
    (("shared_mlp_gate",), ("shared_mlp_up",)),
    "act",
    "shared_mlp_down",
    note="every token",
    router="shared_mlp_router",
)
_BRANCHES = ((_ATTENTION,), (_CROSS_ATTENTION,), (_STATE_SPACE,), (_MLP,), (_EXPERTS, _SHARED))
"""The branches of a block in their order; the ways of one branch read the same and are added up."""


@dataclass(frozen=True, slots=True)
class _Drawing:
    """The lines of one way; ``main`` is the index of the line that goes from the stream back to it."""

    lines: tuple[str, ...]
    main: int
    remark: str
    below: str


def draw_block(modules: Sequence[Module], norms: Norms, marks: Callable[[Module], str]) -> Iterator[str]:
    """Yield the lines of a drawing of one block.

    Args:
        modules: What stands in the block.
        norms: Where its norms are.
        marks: Says of a module when it exists, in a word; empty for one that always does.
    """
    branches = [[drawn for way in branch if (drawn := _draw_way(way, modules, marks))] for branch in _BRANCHES]
    if norms.position == "parallel":
        branches = [[_with_norm(way) for branch in branches for way in branch]]
    for branch in filter(None, branches):
        yield from _joined(branch, norms)
        yield ""


def _draw_way(way: _Way, modules: Sequence[Module], marks: Callable[[Module], str]) -> _Drawing | None:
    """Draw a way as far as its roles are there; ``None`` where nothing of it is."""
    own = [module for module in modules if module.has_experts == (way is _EXPERTS)]
    held = {role for module in own for role in module.roles}
    rows = [" -- ".join(role for role in row if role in held) for row in way.rows if row[-1] in held]
    if not rows:
        return None
    joint = "act(gate) * up" if way.joint == "act" and len(rows) > 1 else way.joint
    end = f"[{joint}]" + (f" -- {way.output}" if way.output in held else "")
    inside = [role for role in way.inside if role in held]
    return _Drawing(
        lines=_lines(rows, end),
        main=len(rows) // 2,
        remark=_remark(way, own, {role for module in modules for role in module.roles}, marks),
        below=f"inside [{way.joint}]: {', '.join(inside)}" if inside else "",
    )


def _lines(rows: Sequence[str], end: str) -> tuple[str, ...]:
    if len(rows) == 1:
        return (f"-- {rows[0]} -- {end}",)
    width = max(map(len, rows))
    main = len(rows) // 2
    lines = [f"+-- {row}{' ' if len(row) < width else ''}".ljust(width + 4) + " --+" for row in rows]
    return tuple(f"--{line}-- {end}" if index == main else f"  {line}" for index, line in enumerate(lines))


def _remark(way: _Way, own: Sequence[Module], held: Collection[str], marks: Callable[[Module], str]) -> str:
    """Say what is particular to a way: for whom it is, what decides, and when it exists."""
    when = dict.fromkeys(marks(module) for module in own if way.output in module.roles)
    parts = [way.note, f"weighted by {way.router}" if way.router in held else ""]
    parts += [" or ".join(when) if all(when) else ""]
    text = ", ".join(filter(None, parts))
    return f"   {text}" if text else ""


def _with_norm(way: _Drawing) -> _Drawing:
    lines = ["-- norm " + line if index == way.main else " " * 8 + line for index, line in enumerate(way.lines)]
    return _Drawing(tuple(lines), way.main, way.remark, way.below)


def _joined(ways: Sequence[_Drawing], norms: Norms) -> Iterator[str]:
    """Yield one branch: its ways between the stream and the sum."""
    before = "  x -- norm " if norms.position in {"pre", "both"} else "  x "
    after = {"both": "-- norm -- + -- x", "post": "-- [+, norm] -- x"}.get(norms.position, "-- + -- x")
    if len(ways) == 1:
        for index, line in enumerate(ways[0].lines):
            is_main = index == ways[0].main
            yield f"{before}{line} {after}{ways[0].remark}" if is_main else " " * len(before) + line
    else:
        yield from _forked(ways, before, after)
    yield from (f"{' ' * len(before)}  {way.below}" for way in ways if way.below)


def _forked(ways: Sequence[_Drawing], before: str, after: str) -> Iterator[str]:
    """Yield several ways side by side: the stream forks before them, and they are added up after them."""
    width = max(len(line) for way in ways for line in way.lines)
    for number, way in enumerate(ways):
        is_first, is_last = number == 0, number == len(ways) - 1
        for index, line in enumerate(way.lines):
            if index == way.main:
                start, end = (f"{before}--+", after) if is_first else (f"{' ' * len(before)}  +", "")
                yield f"{start}{line} {'-' * (width - len(line))}--+{end}{way.remark}"
            else:
                is_between = index > way.main if is_first else index < way.main if is_last else True
                bar = "|" if is_between else " "
                yield f"{' ' * len(before)}  {bar}{line.ljust(width)}   {bar}".rstrip()
        if not is_last:
            yield f"{' ' * len(before)}  |{' ' * width}   |"
