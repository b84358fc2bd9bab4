"""The law of binders, checked on one binding: slots and (module path, rows) are one-to-one, and rows tile a module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ual_registry.air.roles import ROLES
from ual_registry.binders.bind import Binding
from ual_registry.binders.slots import TargetModule

__all__ = ["law_faults"]


def law_faults(binding: Binding) -> tuple[str, ...]:
    """Return a sentence for everything in which a binding breaks the law; none for a right one."""
    return (*_repeated(binding), *(fault for module in binding.modules.values() for fault in _module_faults(module)))


def _repeated(binding: Binding) -> Iterator[str]:
    slots = [slot for module in binding.modules.values() for slot in module.slots]
    counts = Counter((slot.stack, slot.layer, slot.role, slot.expert) for slot in slots)
    for (stack, layer, role, expert), count in counts.items():
        if count > 1:
            place = f"{stack or 'the stack'}, layer {layer}, {role}" + ("" if expert is None else f", expert {expert}")
            yield f"{count} modules fill one slot: {place}"
    for path in sorted(binding.modules):
        if any(form.fullmatch(path) for form in binding.without_role):
            yield f"{path}: has a role and stands in without_role"


def _module_faults(module: TargetModule) -> Iterator[str]:
    for slot in module.slots:
        if ROLES[slot.role].is_per_layer != (slot.layer is not None):
            yield f"{module.path}: {slot.role} cannot stand {'in' if slot.layer is not None else 'outside'} a block"
    for expert in dict.fromkeys(slot.expert for slot in module.slots):
        own = [slot for slot in module.slots if slot.expert == expert]
        runs = [run for slot in own for run in slot.all_rows.runs()]
        rows = sorted(row for start, count in runs for row in range(start, start + count))
        if rows != list(range(sum(slot.out_features for slot in own))):
            yield f"{module.path}: the rows of {', '.join(slot.role for slot in own)} do not tile it"
        if len({slot.in_features for slot in own}) > 1:
            yield f"{module.path}: {', '.join(slot.role for slot in own)} read different widths"
