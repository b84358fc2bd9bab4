"""What the tensors of a base model are called in GGUF, by the paths of its modules."""

from __future__ import annotations

from collections.abc import Iterator

from ual_registry.air.model import BaseModel, Entry
from ual_registry.binders.load import binder_for
from ual_registry.binders.model import Binder
from ual_registry.errors import ForeignFormatError

__all__ = ["gguf_architecture", "gguf_name"]


def gguf_architecture(base: BaseModel) -> str:
    """Return the name of an architecture in GGUF.

    Raises:
        ForeignFormatError: GGUF has none for it.
    """
    found = binder_for(base.model_type).model_types[base.model_type].gguf
    if found is None:
        raise ForeignFormatError(
            f"model_type {base.model_type!r} has no GGUF form that the binders know",
            code="gguf-unknown",
            context={"model_type": base.model_type},
        )
    return found


def gguf_name(base: BaseModel, entry: Entry) -> str:
    """Return the name of the weight that an entry changes, such as ``blk.3.attn_q.weight``.

    Raises:
        ForeignFormatError: The entry is one of many experts, or its module has no name in GGUF.
    """
    names = set(_templates(binder_for(base.model_type), entry)) if entry.expert is None else set()
    if len(names) != 1:
        raise ForeignFormatError(
            f"{entry.label}: {entry.source} has no tensor of its own in GGUF",
            code="gguf-unknown",
            context={"entry": entry.label, "module": entry.source or ""},
            hint="merge it into its base model: 'ual convert REF DIR --to merged --base BASE'",
        )
    return f"{names.pop().replace('{layer}', str(entry.layer))}.weight"


def _templates(binder: Binder, entry: Entry) -> Iterator[str]:
    path = f".{entry.source}"
    if entry.layer is None:
        outer = (module for module in binder.outer if module.role == entry.role)
        yield from (module.gguf for module in outer if module.gguf and path.endswith(f".{module.path}"))
        return
    for layout in binder.stacks:
        if layout.name == entry.stack:
            inside = (module for module in layout.modules if entry.role in module.roles)
            yield from (module.gguf for module in inside if module.gguf and path.endswith(f".{module.full_path}"))
