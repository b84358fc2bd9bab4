"""The factor tensors of a PEFT file, by the module or parameter that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ual_registry.air.tensor import FLOAT_DTYPES, Tensor
from ual_registry.binders.model import Binder
from ual_registry.errors import ForeignFormatError
from ual_registry.interop.peft_config import WEIGHTS_FILE, PeftConfig
from ual_registry.interop.peft_names import PREFIX, join_name, split_name
from ual_registry.interop.peft_parameters import parameter_names, split_wrappers

__all__ = ["ModuleFactors", "check_factors", "check_targets", "group_factors", "locate_factors", "misfit"]


@dataclass(frozen=True, slots=True)
class ModuleFactors:
    """The tensors of one target module or parameter, by factor.

    Attributes:
        path: Its path.
        stored_path: Its path in the file, which counts the wrappers around that of a parameter.
        tensors: The tensors.
        names: Their names in the file.
    """

    path: str
    stored_path: str
    tensors: dict[str, Tensor]
    names: dict[str, str]


def group_factors(stored: Mapping[str, Tensor]) -> dict[str, ModuleFactors]:
    """Sort the factor tensors by target module; everything else is left for the extras.

    Raises:
        ForeignFormatError: A tensor has a name that PEFT does not give, or there are no factors.
    """
    found: dict[str, ModuleFactors] = {}
    for name, tensor in stored.items():
        if not name.startswith(PREFIX):
            raise ForeignFormatError(
                f"{WEIGHTS_FILE}: tensor {name!r} does not start with {PREFIX!r}",
                code="peft-tensor-name",
                context={"tensor": name},
                hint="write the adapter again with save_pretrained of a recent PEFT",
            )
        parts = split_name(name)
        if parts is not None:
            module = found.setdefault(parts.path, ModuleFactors(parts.path, parts.path, {}, {}))
            if parts.factor in module.tensors:
                raise misfit(module, f"{parts.factor} is stored under two names")
            module.tensors[parts.factor] = tensor
            module.names[parts.factor] = name
    if not found:
        raise ForeignFormatError(f"{WEIGHTS_FILE}: holds no LoRA factors", code="peft-no-factors")
    return found


def locate_factors(stored: Mapping[str, ModuleFactors], config: PeftConfig, binder: Binder) -> dict[str, ModuleFactors]:
    """Give the factors of parameters the paths of these: the module's path, a dot, and the parameter's name.

    Raises:
        ForeignFormatError: A module has other wrappers than the configuration names parameters.
    """
    modules: dict[str, dict[int, ModuleFactors]] = {}
    for path, factors in stored.items():
        module, depth = split_wrappers(path)
        modules.setdefault(module, {})[depth] = factors
    found: dict[str, ModuleFactors] = {}
    for module, wrappers in modules.items():
        names = [name for name in parameter_names(binder, module) if config.targets_parameter(f"{module}.{name}")]
        paths = [f"{module}.{name}" for name in reversed(names)] or [module]
        if sorted(wrappers) != list(range(len(paths))):
            text = f"{len(paths)} targets ({', '.join(paths)}), but factors under {len(wrappers)} names"
            raise misfit(wrappers[max(wrappers)], text)
        found |= {path: replace(wrappers[depth], path=path) for depth, path in enumerate(paths)}
    return found


def check_targets(factors: Mapping[str, ModuleFactors], config: PeftConfig) -> None:
    """Check that the configuration names every target.

    Raises:
        ForeignFormatError: It does not.
    """
    for path, module in factors.items():
        if not config.targets(path):
            raise misfit(module, "holds factors, but adapter_config.json does not name it in target_modules")


def misfit(module: ModuleFactors, text: str) -> ForeignFormatError:
    """Return the error of factors that do not go together."""
    return ForeignFormatError(f"{module.path}: {text}", code="peft-misfit", context={"module": module.path})


def check_factors(module: ModuleFactors, config: PeftConfig, *, is_embedding: bool = False, experts: int = 1) -> None:
    """Check one target's tensors against one another and against the configuration.

    Args:
        module: The target.
        config: What PEFT says of it.
        is_embedding: Whether the target is an embedding, whose factors have other names.
        experts: How many experts a parameter holds; their factors are stacked.

    Raises:
        ForeignFormatError: They do not go together.
    """
    for factor in ("lora_A", "lora_B"):
        if factor not in module.tensors:
            raise misfit(module, f"{factor} is missing")
    lora_a, lora_b = module.tensors["lora_A"], module.tensors["lora_B"]
    if len(lora_a.shape) != 2 or len(lora_b.shape) != 2:
        raise misfit(module, f"factors of shape {lora_a.shape} and {lora_b.shape}: expected two axes each")
    rank = config.rank(module.path)
    if lora_a.shape[0] != rank * experts or lora_b.shape[1] != rank * experts:
        shapes = f"lora_A {lora_a.shape} and lora_B {lora_b.shape}"
        of_experts = f" and {experts} experts" if experts > 1 else ""
        raise misfit(module, f"{shapes} do not match rank {rank} of adapter_config.json{of_experts}")
    if ("magnitude" in module.tensors) != config.method.dora:
        raise misfit(module, f"use_dora is {config.method.dora}, but the magnitude is {_presence(module, 'magnitude')}")
    for factor in ("magnitude", "bias"):
        if factor in module.tensors and module.tensors[factor].shape != (lora_b.shape[0],):
            raise misfit(module, f"{factor} of shape {module.tensors[factor].shape}: expected ({lora_b.shape[0]},)")
    for factor, tensor in module.tensors.items():
        expected = join_name(module.stored_path, factor, is_embedding=is_embedding)
        if module.names[factor] != expected:
            raise misfit(module, f"{factor} is stored as {module.names[factor]}, expected {expected}")
        if tensor.dtype not in FLOAT_DTYPES:
            raise misfit(module, f"{factor} of dtype {tensor.dtype}: expected one of {', '.join(sorted(FLOAT_DTYPES))}")


def _presence(module: ModuleFactors, factor: str) -> str:
    return "there" if factor in module.tensors else "missing"
