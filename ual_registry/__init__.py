"""The registry and portable format for LoRA adapters.

Importing the package loads neither a deep-learning framework nor a database; each name loads what it needs when it is
first used (PEP 562).

    import ual_registry as ual

    report = ual.validate("medical.air")            # what is wrong with it, all at once
    adapter = ual.read("medical.air")               # manifest, entries, lazy tensors
    adapter = ual.from_peft("peft_folder", base="base_model_folder")
    digest = ual.write(adapter, "medical.air")      # the same adapter gives the same bytes
    ual.to_peft(adapter, "peft_folder")             # the same tensors bit for bit

    registry = ual.Registry.open()
    registry.add("medical.air", name="medical", aliases=["candidate"])
    result = ual.transfer(adapter, target="other_base_folder", method="svd")
    result = ual.train("base_folder", "examples.jsonl", output="medical.air")
    dispatcher = ual.LoRADispatcher("router.air", "base_folder", registry, encoder="encoder_folder")
    answer = dispatcher.generate("a query")         # by the adapter of its domain
    model = ual.UniversalAdapter("base_folder")     # all of it round one base model
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ual_registry.air.adapter import Adapter
    from ual_registry.air.problem import ValidationReport
    from ual_registry.air.read import read
    from ual_registry.air.write import write
    from ual_registry.digest import Digest
    from ual_registry.dispatch.dispatcher import LoRADispatcher
    from ual_registry.errors import UALError
    from ual_registry.facade import UniversalAdapter
    from ual_registry.interop.to_peft import to_peft
    from ual_registry.projector import DimensionProjector
    from ual_registry.registry.registry import Registry
    from ual_registry.workflows.convert import from_peft
    from ual_registry.workflows.train import train
    from ual_registry.workflows.transfer import plan_transfer, transfer
    from ual_registry.workflows.validate import validate

__all__ = [
    "Adapter",
    "Digest",
    "DimensionProjector",
    "LoRADispatcher",
    "Registry",
    "UALError",
    "UniversalAdapter",
    "ValidationReport",
    "from_peft",
    "plan_transfer",
    "read",
    "to_peft",
    "train",
    "transfer",
    "validate",
    "write",
]

_HOMES = {
    "Adapter": "ual_registry.air.adapter",
    "Digest": "ual_registry.digest",
    "DimensionProjector": "ual_registry.projector",
    "LoRADispatcher": "ual_registry.dispatch.dispatcher",
    "Registry": "ual_registry.registry.registry",
    "UALError": "ual_registry.errors",
    "UniversalAdapter": "ual_registry.facade",
    "ValidationReport": "ual_registry.air.problem",
    "from_peft": "ual_registry.workflows.convert",
    "plan_transfer": "ual_registry.workflows.transfer",
    "read": "ual_registry.air.read",
    "to_peft": "ual_registry.interop.to_peft",
    "train": "ual_registry.workflows.train",
    "transfer": "ual_registry.workflows.transfer",
    "validate": "ual_registry.workflows.validate",
    "write": "ual_registry.air.write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
