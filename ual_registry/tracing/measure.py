"""Read a stack's dimensions off the shapes of its modules, once their roles are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ual_registry.air.roles import ROLES, Axis
from ual_registry.tracing.attention import Attention
from ual_registry.tracing.gather import FoundModule
from ual_registry.tracing.survey import Matrix

__all__ = ["blocks_in", "heads_of", "in_out", "measure"]

_FROM_INPUT = {
    Axis.HIDDEN: "hidden_size",
    Axis.QUERY_LATENT: "query_latent_size",
    Axis.KEY_VALUE_LATENT: "key_value_latent_size",
    Axis.SHARED_INTERMEDIATE: "shared_intermediate_size",
    Axis.TIME_STEP: "time_step_rank",
}


def in_out(module: FoundModule, matrices: Mapping[str, Matrix]) -> tuple[int, int] | None:
    """Return (in, out) features of a module in its first block; ``None`` where it is gone."""
    matrix = matrices.get(module.path_in(module.layers[0]))
    if matrix is None:
        return None
    first, second = matrix.shape[-2:]
    return (second, first) if module.weight == "linear" else (first, second)


def measure(modules: Iterable[FoundModule], matrices: Mapping[str, Matrix]) -> dict[str, int]:
    """Return the dimensions that one shape gives each.

    Args:
        modules: The modules of one stack.
        matrices: The matrices of a model.
    """
    found: dict[str, int] = {}
    chosen: int | None = None
    for module in modules:
        sizes = in_out(module, matrices)
        if sizes is None:
            continue
        for role in module.rows:
            axis = ROLES[role].in_axis
            if axis in _FROM_INPUT:
                found.setdefault(_FROM_INPUT[axis], sizes[0])
            elif axis is Axis.INTERMEDIATE:
                has_experts = module.parameter is not None or "{expert}" in module.path
                found.setdefault("expert_intermediate_size" if has_experts else "intermediate_size", sizes[0])
        found |= _experts(module, matrices)
        if "state_space_input" in module.rows:
            chosen = sizes[1]
    if chosen is not None and "time_step_rank" in found:
        found["state_size"] = (chosen - found["time_step_rank"]) // 2  # input and output of the state are alike
    roots = {module.root for module in modules}
    if roots:
        found["num_layers"] = len({layer for root in roots for layer in blocks_in(root, matrices)})
    return found


def blocks_in(root: str, matrices: Mapping[str, Matrix]) -> set[int]:
    """Return the indices of the blocks below a path."""
    rests = (path.removeprefix(root).split(".")[0] for path in matrices if path.startswith(root))
    return {int(rest) for rest in rests if rest.isdecimal()}


def _experts(module: FoundModule, matrices: Mapping[str, Matrix]) -> dict[str, int]:
    layer = module.layers[0]
    if module.parameter is not None:
        matrix = matrices.get(module.path_in(layer))
        return {"num_experts": matrix.shape[0]} if matrix else {}
    if "{expert}" in module.path:
        count = 0
        while module.path_in(layer, count) in matrices:
            count += 1
        return {"num_experts": count}
    return {}


def heads_of(attention: Attention, modules: Iterable[FoundModule], matrices: Mapping[str, Matrix]) -> dict[str, int]:
    """Return heads and their widths, which only the run tells.

    Args:
        attention: An attention of the stack.
        modules: The modules of the stack.
        matrices: The matrices of the model that ran.
    """
    found = {"head_dim": attention.head_dim}
    if attention.value_head_dim != attention.head_dim:
        found["value_head_dim"] = attention.value_head_dim
    for module in modules:
        sizes = in_out(module, matrices)
        for role, rows in module.rows.items():
            if role in {"attention_output", "cross_attention_output"} and sizes:
                found.setdefault("num_attention_heads", sizes[0] // attention.value_head_dim)
            if role in {"attention_value", "latent_value_up"}:
                found.setdefault("num_key_value_heads", len(rows) // attention.value_head_dim)
            if role == "latent_key_rotary":
                found["rotary_head_dim"] = len(rows)
    return found
