"""Examine an adapter for an engine: what would be rejected, what silently ignored, and what does nothing at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from ual_registry.air.tensor import Tensor
from ual_registry.engines.findings import Finding, Verdict
from ual_registry.engines.rules import EngineRules
from ual_registry.interop.peft_config import PeftConfig
from ual_registry.interop.peft_names import split_name

__all__ = ["examine", "unmatched"]

_SHOWN = 6
_BASE_NAME = "base_model_name_or_path"


def examine(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    rules: EngineRules | None,
    *,
    served_name: str | None = None,
) -> tuple[Finding, ...]:
    """Apply an engine's rules to an adapter as PEFT stores it.

    Args:
        config: The configuration; ``r``, ``lora_alpha`` and the patterns are of the types that PEFT has.
        tensors: The tensors by their PEFT names.
        rules: The engine's rules; ``None`` finds what does nothing in any engine.
        served_name: What the engine calls the base model, where its resolver is to find the adapter.

    Returns:
        What was found, the worst first.
    """
    modules = _modules(tensors)
    found: list[Finding] = []
    if rules is not None:
        found += _fields(config, rules, served_name)
        found += _names(tensors, rules)
        found += _together(modules, rules)
        found += _ranks(config, modules, rules)
    found += _no_effect(config, modules)
    order = list(Verdict)
    return tuple(sorted(found, key=lambda finding: order.index(finding.verdict)))


def unmatched(paths: Iterable[str], known: Set[str], *, base: str) -> Iterator[Finding]:
    """Yield a finding where factors belong to modules that the base model does not have."""
    missing = [path for path in paths if path not in known]
    if missing:
        says = f"{base} has no such module, so that the factors reach nothing"
        yield Finding(verdict=Verdict.NO_EFFECT, where=_listed(missing), says=says)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _modules(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the factors of every target module."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part = split_name(name)
        if part is not None:
            found.setdefault(part.path, {})[part.factor] = tensor
    return found


def _fields(config: Mapping[str, Any], rules: EngineRules, served_name: str | None) -> Iterator[Finding]:
    for field in rules.required:
        if field not in config:
            yield Finding(verdict=Verdict.REJECTED, where=field, says=f"{rules.engine} asks for it, and it is missing")
    for rule in rules.fields:
        if rule.applies(config):
            yield Finding(verdict=Verdict(rule.verdict), where=rule.field, says=rule.says, source=rule.file)
    name = config.get(_BASE_NAME)
    if served_name is not None and name != served_name:
        says = f"it says {name!r}, so that the resolver of a server of {served_name!r} does not find the adapter"
        yield Finding(verdict=Verdict.REJECTED, where=_BASE_NAME, says=says, source=_resolver(rules))


def _resolver(rules: EngineRules) -> str | None:
    return next((source.file for source in rules.sources if "resolver" in source.file), None)


def _names(tensors: Mapping[str, Tensor], rules: EngineRules) -> Iterator[Finding]:
    """Find the tensors that an engine does not know by their names."""
    others = [name for name in tensors if rules.tensor_endings and not name.endswith(rules.tensor_endings)]
    if others:
        says = f"{rules.engine} has no place for tensors of these names"
        yield Finding(verdict=Verdict(rules.other_tensors), where=_listed(others), says=says)


def _together(modules: Mapping[str, Any], rules: EngineRules) -> Iterator[Finding]:
    for rule in rules.together:
        alone = [path for path in modules if _last(path) == rule.module and not _has_all(path, rule.needs, modules)]
        if alone:
            yield Finding(verdict=Verdict(rule.verdict), where=_listed(alone), says=rule.says, source=rule.file)


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _has_all(path: str, needs: Iterable[str], modules: Mapping[str, Any]) -> bool:
    before = path.rpartition(".")[0]
    return all(f"{before}.{name}" in modules for name in needs)


def _ranks(
    config: Mapping[str, Any], modules: Mapping[str, dict[str, Tensor]], rules: EngineRules
) -> Iterator[Finding]:
    """Compare ranks with what the configuration says, and with what the engine can be started for."""
    said = PeftConfig(document=config)
    held = {path: own["lora_A"].shape[0] for path, own in modules.items() if "lora_A" in own}
    if not config.get("target_parameters") and "r" in config:
        wrong = [path for path, rank in held.items() if rank != said.rank(path)]
        if wrong:
            says = "the rank of the factors is not the one that the configuration says, by which scalings are computed"
            yield Finding(verdict=Verdict(rules.misfit), where=_listed(wrong), says=says)
        left = [path for path in held if rules.unread_targets and not said.targets(path)]
        if left:
            says = f"target_modules does not name them, and {rules.engine} leaves their factors out"
            yield Finding(verdict=Verdict(rules.unread_targets or "ignored"), where=_listed(left), says=says)
    highest = max((int(config.get("r", 0)), *(config.get("rank_pattern") or {}).values()))
    if rules.ranks and highest > rules.ranks[-1]:
        says = f"rank {highest} is over {rules.ranks[-1]}, the highest that {rules.engine} can be started for"
        yield Finding(verdict=Verdict.REJECTED, where="r", says=says, source="vllm/config/lora.py")
    elif rules.default_rank is not None and highest > rules.default_rank:
        least = next(rank for rank in rules.ranks if rank >= highest)
        says = f"rank {highest}: start {rules.engine} with --max-lora-rank {least} or more"
        yield Finding(verdict=Verdict.NOTE, where="r", says=says, source="vllm/config/lora.py")


def _no_effect(config: Mapping[str, Any], modules: Mapping[str, dict[str, Tensor]]) -> Iterator[Finding]:
    """Find factors whose product is zero, whatever the engine."""
    said = PeftConfig(document=config)
    whole = {"lora_A", "lora_B"}
    broken = [path for path, own in modules.items() if not whole <= own.keys()]
    if broken:
        says = "one of lora_A and lora_B is missing, so that there is no product"
        yield Finding(verdict=Verdict.NO_EFFECT, where=_listed(broken), says=says)
    yield from _zeros(modules)
    if "r" in config and "lora_alpha" in config:
        unscaled = [path for path in modules if said.scaling(path) == 0]
        if unscaled:
            yield Finding(verdict=Verdict.NO_EFFECT, where=_listed(unscaled), says="the scaling is zero")
    if not modules:
        yield Finding(verdict=Verdict.NO_EFFECT, where="adapter_model.safetensors", says="there are no LoRA factors")


def _zeros(modules: Mapping[str, dict[str, Tensor]]) -> Iterator[Finding]:
    """Find factors of zeros: an adapter of them does nothing; some of them may be meant so."""
    for factor in ("lora_B", "lora_A"):
        zero = [path for path, own in modules.items() if factor in own and _is_zero(own[factor])]
        acting = len(modules) > len(zero) or any({"magnitude", "bias"} & own.keys() for own in modules.values())
        if zero and acting:
            yield Finding(verdict=Verdict.NOTE, where=_listed(zero), says=f"every number of {factor} is zero")
        elif zero:
            says = f"every number of {factor} is zero in every module, so that the adapter does nothing"
            yield Finding(verdict=Verdict.NO_EFFECT, where=_listed(zero), says=says)


_SIGN = bytes(byte & 0x7F for byte in range(256))


def _is_zero(tensor: Tensor) -> bool:
    """Tell whether every number of a tensor is zero, of either sign; all floats have the sign in their last byte."""
    width = tensor.size_bytes // max(1, _count(tensor))
    for chunk in tensor.chunks():
        if chunk.count(0) == len(chunk):
            continue
        data = bytearray(chunk)
        data[width - 1 :: width] = data[width - 1 :: width].translate(_SIGN)
        if any(data):
            return False
    return True


def _count(tensor: Tensor) -> int:
    count = 1
    for size in tensor.shape:
        count *= size
    return count
