"""Which modules of a base model carry factors, and why each does or does not.

By default all linear modules of the blocks, minus router gates; the head, embeddings and whatever stands outside the
blocks are left out (T. Schulman et al., "LoRA Without Regret", 2025: all layers, the MLP above all). What a module is
follows from the binder. Nothing here loads a framework; whoever has the model gives the paths of its linear modules,
so that those without a role are named too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding
from ual_registry.binders.describe import config_fields
from ual_registry.binders.slots import TargetModule
from ual_registry.errors import TrainingError
from ual_registry.training.target_choice import Target, TargetChoice, of_layer

__all__ = ["choose_targets"]

_ROUTERS = frozenset({"moe_router", "shared_mlp_router"})
_HEAD = "lm_head"
_BYPASSED_TYPES = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
_BYPASSED = "out_proj"
"""A module that kernels of Mamba read past, so that PEFT refuses it (peft.tuners.tuners_utils)."""
# fmt: off
_REREAD_TYPES = frozenset(
    {
        "afmoe", "beam", "cohere2_moe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "ernie4_5_moe",
        "exaone_moe", "flex_olmo", "glm4_moe", "glm4_moe_lite", "glm4v_moe", "glm_moe_dsa", "hunyuan_v1_moe",
        "longcat_flash", "mellum", "olmoe", "qwen3_moe", "qwen3_next", "qwen3_omni_moe", "qwen3_omni_moe_text",
        "qwen3_omni_moe_thinker", "solar_open",
    }
)
# fmt: on
_REREAD = ("gate_proj", "up_proj", "down_proj")
"""Dense modules of mixtures of experts that PEFT takes for experts as transformers 4 named them, so that it adapts the
experts in their place (peft.utils.transformers_weight_conversion, PEFT 0.21)."""


def choose_targets(
    binding: Binding,
    *,
    roles: Iterable[str] | None = None,
    layers: Iterable[int] | None = None,
    exclude: Iterable[str] = (),
    config: BaseConfig | None = None,
    linear: Iterable[str] = (),
) -> TargetChoice:
    """Choose the modules that carry factors.

    Args:
        binding: The base model's binder, applied to it.
        roles: Roles whose modules carry factors; all linear modules of the blocks but router gates where absent. A
            router gate, or the head, is chosen by its name alone.
        layers: Layers whose modules carry factors; all where absent.
        exclude: Roles, or paths of modules, that carry none.
        config: The base model's config, which tells whether embedding and head are one weight.
        linear: Paths of all linear modules of the model, where it is at hand; those without a role are named too.

    Raises:
        TrainingError: The base model has no such role, layer or module, or nothing is left.
        BinderDataError: The config is not one that the binder knows.
    """
    wanted = _Wanted(
        roles=None if roles is None else tuple(roles),
        layers=None if layers is None else frozenset(layers),
        exclude=frozenset(exclude),
        tied=_tied_roles(binding, config),
        model_type=binding.base.model_type,
    )
    wanted.check(binding)
    known = tuple(linear)
    bound = [wanted.decide(module) for module in binding.modules.values() if not _lacks_head(module, known)]
    others = (_without_role(binding, path) for path in known if path not in binding.modules)
    choice = TargetChoice(targets=(*bound, *others))
    if not choice.included:
        raise _refusal(
            f"no module of {binding.base.id} is left to train", hint="ask for more roles or layers, or exclude fewer"
        )
    return choice


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is asked for."""

    roles: tuple[str, ...] | None
    layers: frozenset[int] | None
    exclude: frozenset[str]
    tied: frozenset[str]
    model_type: str

    def check(self, binding: Binding) -> None:
        """Refuse what the base model does not have."""
        name = binding.base.id
        held = {slot.role for module in binding.modules.values() for slot in module.slots}
        for role in self.roles or ():
            if role not in held:
                raise _refusal(f"role {role!r}: {name} has no module with it (it has {', '.join(sorted(held))})")
        depth = max(stack.num_layers for stack in binding.base.stacks)
        beyond = sorted(layer for layer in self.layers or () if not 0 <= layer < depth)
        if beyond:
            raise _refusal(f"layer {beyond[0]}: {name} has layers 0 to {depth - 1}")
        for unknown in sorted(self.exclude - held - set(binding.modules)):
            raise _refusal(f"exclude {unknown!r}: {name} has neither such a role nor a module with a role there")

    def decide(self, module: TargetModule) -> Target:
        """Tell of one module whether it carries factors, and why."""
        slot = module.slots[0]
        names = tuple(dict.fromkeys(slot.role for slot in module.slots))
        left_out = self._why_not(module, names, slot.layer)
        place = "" if slot.layer is None else of_layer(slot.layer)
        stack = f"{slot.stack} " if slot.stack else ""
        target = Target(
            path=module.path,
            is_included=left_out is None,
            reason=left_out or f"{stack}{', '.join(names)}{place}",
            roles=names,
            stack=slot.stack,
            layer=slot.layer,
            parameter=module.parameter,
        )
        further = [name for name in names if self.roles is not None and name not in self.roles]
        if target.is_included and further:
            return replace(target, reason=f"{target.reason}; {', '.join(further)} stand in the same module")
        return target

    def _why_not(self, module: TargetModule, names: tuple[str, ...], layer: int | None) -> str | None:
        """Return why a module is left out; ``None`` where it is not."""
        if self.exclude & {module.path, *names}:
            return "excluded"
        if (self.roles is not None and not set(self.roles) & set(names)) or not self._has_layer(layer):
            return "not asked for"
        if layer is None:
            return self._why_not_outside(names[0])
        if self.roles is None and set(names) <= _ROUTERS:
            return "router gate"
        return self._why_not_by_peft(module)

    def _why_not_by_peft(self, module: TargetModule) -> str | None:
        name = module.path.rpartition(".")[2]
        if self.model_type in _BYPASSED_TYPES and name == _BYPASSED:
            return "read past by kernels of Mamba, so that PEFT refuses it"
        if self.model_type in _REREAD_TYPES and name in _REREAD and module.parameter is None:
            return "PEFT takes it for an expert of an older layout"
        return None

    def _has_layer(self, layer: int | None) -> bool:
        return layer is None or self.layers is None or layer in self.layers

    def _why_not_outside(self, role: str) -> str | None:
        if self.tied and role in self.tied:
            return "tied weight: embedding and head are one"
        if self.roles is not None:
            return None
        return "head" if role == _HEAD else "outside the blocks"


def _lacks_head(module: TargetModule, linear: tuple[str, ...]) -> bool:
    """Tell whether a module is a head that the class at hand does not have."""
    return bool(linear) and module.slots[0].role == _HEAD and module.path not in linear


def _tied_roles(binding: Binding, config: BaseConfig | None) -> frozenset[str]:
    """Return the roles whose modules are one weight in this model; none where its config is not at hand."""
    if config is None:
        return frozenset()
    fields = config_fields(binding.binder, config)
    return frozenset(role for tie in binding.binder.tied if fields.satisfies_all(tie.when) for role in tie.roles)


def _without_role(binding: Binding, path: str) -> Target:
    """Return a module that the binder gives no role; where it stands tells why it is left out."""
    inside = any(layout.module_path(path.removeprefix(binding.prefix)) is not None for layout in binding.binder.stacks)
    reason = "no role: AIR has no name for it" if inside else "outside the blocks"
    return Target(path=path, is_included=False, reason=reason)


def _refusal(message: str, *, hint: str | None = None) -> TrainingError:
    return TrainingError(message, code="targets", hint=hint or "`ual train --explain` shows every module with its role")
