"""Fresh factors on a base model: PEFT puts them on exactly the chosen modules, once, and takes them off again."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from transformers.pytorch_utils import Conv1D

from ual_registry.errors import TrainingError
from ual_registry.models.loaded import LoadedBase
from ual_registry.training.config import TrainingConfig, setting_error
from ual_registry.training.heads import TASK_TYPES
from ual_registry.training.patterns import pattern_key
from ual_registry.training.target_choice import TargetChoice
from ual_registry.training.targets import choose_targets

__all__ = ["factors_on", "linear_paths", "lora_config", "put_back", "targets_of"]


def linear_paths(model: torch.nn.Module) -> tuple[str, ...]:
    """Return the paths of all linear modules."""
    return tuple(path for path, module in model.named_modules() if isinstance(module, (torch.nn.Linear, Conv1D)))


def targets_of(base: LoadedBase, config: TrainingConfig) -> TargetChoice:
    """Return which modules of a base model carry factors.

    Raises:
        TrainingError: The base model has no such role, layer or module.
    """
    return choose_targets(
        base.binding,
        roles=config.roles,
        layers=config.layers,
        exclude=config.exclude,
        config=base.config,
        linear=linear_paths(base.model),
    )


def lora_config(base: LoadedBase, choice: TargetChoice, config: TrainingConfig) -> Any:
    """Return PEFT's configuration of the factors.

    Args:
        base: The base model.
        choice: Which modules carry factors.
        config: Ranks, scalings and kinds.

    Raises:
        TrainingError: A pattern names neither a role nor a module that is trained, or the settings do not go together.
    """
    modules = [base.binding.modules[path] for path in choice.modules]
    conv1d = {module.is_conv1d for module in modules}
    for name, is_set in (("dropout", bool(config.dropout)), ("dora", config.dora)):
        if choice.parameters and is_set:
            raise setting_error(name, f"cannot be used with the experts that {choice.parameters[0]} holds")
    if config.gradient_checkpointing and not getattr(base.model, "supports_gradient_checkpointing", True):
        raise setting_error("gradient_checkpointing", f"{type(base.model).__name__} does not support it")
    if len(conv1d) > 1:
        raise setting_error("roles", "modules whose weights are stored in two ways cannot be trained together")
    return peft.LoraConfig(
        task_type=TASK_TYPES[config.head],
        base_model_name_or_path=base.base.id,
        revision=base.base.revision,
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # PEFT divides by the rank, whatever the number
        lora_dropout=config.dropout,
        use_rslora=config.rslora,
        use_dora=config.dora,
        target_modules=list(choice.modules),
        target_parameters=list(choice.parameters) or None,
        rank_pattern=_pattern("rank_pattern", config.rank_pattern, choice),
        alpha_pattern=_pattern("alpha_pattern", config.alpha_pattern, choice),
        fan_in_fan_out=True in conv1d,
        modules_to_save=sorted({name.rpartition(".")[0] for name in base.fresh}) or None,  # what started at random
    )


def _pattern(name: str, wanted: Mapping[str, Any], choice: TargetChoice) -> dict[str, Any]:
    """Spell a pattern out: every module by its path."""
    for key in wanted:
        if not any(key in (own.path, *own.roles) for own in choice.included):
            raise setting_error(f"{name}.{key}", "there is no such role or module among those that are trained")
    keys = {own.path: pattern_key(wanted, own) for own in choice.included}
    return {path: wanted[key] for path, key in keys.items() if key is not None}


@contextlib.contextmanager
def factors_on(base: LoadedBase, settings: Any, *, seed: int, is_recomputed: bool = False) -> Iterator[Any]:
    """Put fresh factors on a base model; on leaving, it is as before.

    Args:
        base: The base model, changed in place meanwhile; its weights are frozen.
        settings: PEFT's configuration.
        seed: Seeds ``lora_A``.
        is_recomputed: Whether activations are computed again on the way back, instead of being kept.

    Yields:
        The PEFT model.

    Raises:
        TrainingError: The model carries factors already.
    """
    model = base.model
    _refuse_wrapped(base)
    device, was_cached = base.device, getattr(model.config, "use_cache", None)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT remarks on models that are of no known task
        torch.manual_seed(seed)
        wrapped: Any = peft.get_peft_model(model, settings)
    model.config.use_cache = False  # a cache costs memory, and rows that are packed would see one another
    if is_recomputed:
        _recompute(model, "enable")
    try:
        yield wrapped
    finally:
        if is_recomputed:
            _recompute(model, "disable")
        put_back(wrapped)
        model.config.use_cache = was_cached
        model.to(device).eval().requires_grad_(False)


def _recompute(model: Any, way: str) -> None:
    """Let a model compute activations again, or keep them; transformers 5.20 renamed how it is told."""
    word = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    switch = getattr(model, f"{word}_checkpointing_{way}")
    switch(**({f"{word}_checkpointing_kwargs": {"use_reentrant": False}} if way == "enable" else {}))


def put_back(wrapped: Any) -> None:
    """Take the factors of a PEFT model off its base model; a head that was trained is as before, too."""
    model = wrapped.get_base_model()
    own = {path: part for path, part in model.named_modules() if isinstance(part, AuxiliaryTrainingWrapper)}
    wrapped.unload()  # leaves the trained head in place of the model's own
    for path, part in own.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, part.original_module)


def _refuse_wrapped(base: LoadedBase) -> None:
    if isinstance(base.model, peft.PeftModel) or any(isinstance(own, BaseTunerLayer) for own in base.model.modules()):
        raise TrainingError(
            f"base model {base.base.id}: carries an adapter already",
            code="already-adapted",
            hint="give the base model itself; train on top of an adapter after merging it",
        )
