"""Which parameter a PEFT tensor belongs to, where LoRA acts on parameters of a module instead of on the module.

PEFT wraps a module once for each parameter that is targeted, in the order in which the module registers them, so the
last one is the outermost (peft 0.21, ``target_parameters``). A binder lists a module's parameters in that order. The
name of a tensor says how many wrappers stand around its own: ``experts.base_layer.lora_A.weight`` has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ual_registry.air.model import BaseModel, Entry, RowSlice
from ual_registry.binders.model import Binder, Module
from ual_registry.binders.slots import Slot, module_slots
from ual_registry.errors import AmbiguousArchitectureError

__all__ = [
    "MISTAKEN_MODEL_TYPES",
    "expert_slots",
    "factors_are_flipped",
    "mistaken_for_experts",
    "parameter_names",
    "split_wrappers",
    "wrapped_path",
]

_WRAPPER = ".base_layer"

_FLIPPED = frozenset({"llama4", "llama4_text"})
"""Model types whose classes store (experts, in, out) and do not tell PEFT so, which then takes in for out."""


MISTAKEN_MODEL_TYPES = frozenset(
    {
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "dots1",
        "ernie4_5_moe",
        "exaone_moe",
        "flex_olmo",
        "glm4_moe",
        "glm4_moe_lite",
        "glm_moe_dsa",
        "hunyuan_v1_moe",
        "mellum",
        "olmoe",
        "qwen3_moe",
        "solar_open",
    }
)
"""Model types for which PEFT replaces targets of some names by the parameters of experts (peft 0.21,
``convert_peft_config_for_transformers``): it takes a dense or shared MLP for an expert of an older adapter."""

_EXPERT_NAMES = frozenset({"gate_proj", "up_proj", "down_proj"})


def mistaken_for_experts(model_type: str, paths: Iterable[str]) -> list[str]:
    """Return the modules that PEFT would take for parts of experts where a configuration targets them, sorted."""
    if model_type not in MISTAKEN_MODEL_TYPES:
        return []
    return sorted(path for path in paths if path.rpartition(".")[2] in _EXPERT_NAMES)


def factors_are_flipped(model_type: str) -> bool:
    """Tell whether PEFT's factors of a model type's expert parameters are those of the transposed matrices."""
    return model_type in _FLIPPED


def split_wrappers(path: str) -> tuple[str, int]:
    """Return the module's path and how many wrappers stand around the one that a path names.

    >>> split_wrappers("layers.0.mlp.experts.base_layer")
    ('layers.0.mlp.experts', 1)
    """
    depth = 0
    while path.endswith(_WRAPPER):
        path, depth = path.removesuffix(_WRAPPER), depth + 1
    return path, depth


def wrapped_path(source: str, sources: Iterable[str], binder: Binder) -> str:
    """Return the path under which PEFT stores the factors of a parameter.

    Args:
        source: The module's path, a dot, and the parameter's name.
        sources: Every parameter that is targeted.
        binder: It knows in which order a module registers its parameters.
    """
    path, _, name = source.rpartition(".")
    targeted = set(sources)
    names = [other for other in parameter_names(binder, path) if f"{path}.{other}" in targeted]
    return path + _WRAPPER * (len(names) - 1 - names.index(name))


def parameter_names(binder: Binder, path: str) -> list[str]:
    """Return the parameters with a role that the module at a path has, in the order in which it registers them."""
    known = dict.fromkeys(module.parameter for stack in binder.stacks for module in stack.modules if module.parameter)
    return [name for name in known if binder.has_relative_path(f"{path}.{name}")]


def expert_slots(binder: Binder, base: BaseModel, entries: Iterable[Entry]) -> list[tuple[Slot, ...]]:
    """Return the slots of every expert of the parameter that entries are of; empty where they are of no parameter.

    Raises:
        AmbiguousArchitectureError: The parameter has several forms, and the entries do not tell which.
    """
    held = list(entries)
    stack, path = base.stack(held[0].stack), str(held[0].source)
    if stack is None or held[0].expert is None or stack.num_experts is None:
        return []
    rows = {entry.role: entry.slice for entry in held}
    forms = [
        [tuple(module_slots(module, stack, base, held[0].layer or 0, expert)) for expert in range(stack.num_experts)]
        for module in _parameters_at(binder, held[0].stack, path)
    ]
    fitting = [form for form in forms if _fits(form[0], rows)]
    if any(form != fitting[0] for form in fitting):
        raise AmbiguousArchitectureError(
            f"{path}: architecture {binder.architecture} has several forms of this parameter, and the rows that are "
            "there do not tell which",
            context={"module": path},
        )
    return fitting[0] if fitting else []


def _parameters_at(binder: Binder, stack_name: str | None, path: str) -> list[Module]:
    return [
        module
        for stack in binder.stacks
        if stack.name == stack_name
        for module in stack.modules
        if module.parameter is not None and path.endswith(f".{module.full_path}")
    ]


def _fits(slots: tuple[Slot, ...], rows: Mapping[str, RowSlice | None]) -> bool:
    return rows.items() <= {slot.role: slot.rows for slot in slots}.items()
