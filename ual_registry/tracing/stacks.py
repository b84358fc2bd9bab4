"""Read the stacks off one trace: their modules, their sizes, and what moves between the modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.tracing.attention import Attention
from ual_registry.tracing.blocks import block_of
from ual_registry.tracing.gather import FoundModule, Undecided, gather
from ual_registry.tracing.layout import NO_LAYOUT, find_layout
from ual_registry.tracing.measure import heads_of, measure
from ual_registry.tracing.norms import find_norms
from ual_registry.tracing.refusal import refusal
from ual_registry.tracing.rotary import SeenRotary, find_rotary
from ual_registry.tracing.survey import Matrix
from ual_registry.tracing.trace import Trace

__all__ = ["FoundStack", "find_stacks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStack:
    """One stack of blocks as a trace shows it.

    Attributes:
        name: ``encoder``, ``decoder``, or ``None`` where there is one stack.
        root: Path of the blocks, up to the index.
        modules: Its modules with a role.
        sizes: Its dimensions.
        norms: Kind, position and whether query and key have norms.
        rotary: How the query is rotated.
    """

    name: str | None
    root: str
    modules: tuple[FoundModule, ...]
    sizes: Mapping[str, int]
    norms: Mapping[str, Any]
    rotary: SeenRotary


def find_stacks(trace: Trace) -> tuple[tuple[FoundStack, ...], list[Undecided]]:
    """Return the stacks of a traced model, the encoder first, and what could not be told.

    Raises:
        UninferableArchitectureError: There are no stacks, more than two, or roles contradict one another.
    """
    modules, undecided = gather(trace.roles.uses, trace.matrices)
    roots = list(dict.fromkeys(module.root for module in modules))
    if not 0 < len(roots) <= 2:
        listed = ", ".join(roots) or "none"
        name = type(trace.model).__name__
        raise refusal(f"{name}: expected one or two stacks of blocks with roles, found {listed}", stacks=roots)
    names: list[str | None] = [None] if len(roots) == 1 else ["encoder", "decoder"]
    if len(roots) == 2 and _crosses(roots[0], modules):
        roots.reverse()
    found = tuple(_stack(trace, name, root, modules, undecided) for name, root in zip(names, roots, strict=True))
    return found, undecided


def _crosses(root: str, modules: Sequence[FoundModule]) -> bool:
    return any(role.startswith("cross_") for module in modules if module.root == root for role in module.rows)


def _stack(
    trace: Trace, name: str | None, root: str, modules: Sequence[FoundModule], undecided: list[Undecided]
) -> FoundStack:
    own = tuple(module for module in modules if module.root == root)
    attentions = [item for item in trace.roles.attentions if _root_of(item) == root]
    uses = [use for use in trace.roles.uses if (place := block_of(use.operation.path)) and place.root == root]
    own = tuple(_agreeing(own, trace.matrices, undecided))
    sizes = measure(own, trace.matrices)
    if attentions:
        sizes |= heads_of(attentions[0], own, trace.matrices)
    runs = [module.runs for module in own if module.parameter is None and "{expert}" not in module.path]
    if runs:
        sizes["layer_repeats"] = min(runs)
    return FoundStack(
        name=name,
        root=root,
        modules=tuple(_laid_out(own, sizes, undecided)),
        sizes=sizes,
        norms=find_norms(trace.recording, uses, attentions),
        rotary=find_rotary(trace.recording, attentions),
    )


def _root_of(attention: Attention) -> str | None:
    place = block_of(attention.result.scope)
    return None if place is None else place.root


def _laid_out(
    modules: Sequence[FoundModule], sizes: Mapping[str, int], undecided: list[Undecided]
) -> Iterator[FoundModule]:
    """Yield the modules whose rows follow a known layout; the others stand without a role."""
    for module in modules:
        if len(module.rows) > 1:
            heads, groups = (sizes.get(f"num_{name}_heads") for name in ("attention", "key_value"))
            module.layout = find_layout(module.rows, heads=heads, groups=groups)
            if module.layout is None:
                reason = f"the rows of {', '.join(module.rows)} {NO_LAYOUT}"
                undecided.append(Undecided(what=f"{module.root}{{layer}}.{module.full_path}", reason=reason))
                continue
        yield module


def _agreeing(
    modules: Sequence[FoundModule], matrices: Mapping[str, Matrix], undecided: list[Undecided]
) -> Iterator[FoundModule]:
    """Yield the modules but those of state-space blocks whose inner width is not that of the MLPs beside them."""
    spaces = {module.full_path: module for module in modules if any(role.startswith("state") for role in module.rows)}
    inner = measure(tuple(spaces.values()), matrices).get("intermediate_size")
    others = [module for module in modules if module.full_path not in spaces]
    width = measure(others, matrices).get("intermediate_size", inner)
    for module in modules:
        if module.full_path in spaces and inner != width:
            reason = f"the inner width {inner} of the state space is not the {width} of the MLP: one name for two sizes"
            undecided.append(Undecided(what=f"{module.root}{{layer}}.{module.full_path}", reason=reason))
            continue
        yield module
