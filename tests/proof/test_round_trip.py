"""PEFT to AIR and back, with a factor on every linear module of the blocks: the same bits, config and logits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.proof.calls import call
from tests.proof.cases import UNLIKE, Case, case_of, is_linear
from ual_registry.air.read import read
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.binders.base import load_base
from ual_registry.interop.from_peft import from_peft
from ual_registry.interop.to_peft import to_peft

pytestmark = pytest.mark.filterwarnings("ignore")


def stored(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return name, dtype, shape and bytes as the safetensors library reads them."""
    import safetensors

    raw = (folder / "adapter_model.safetensors").read_bytes()
    return {name: (row["dtype"], tuple(row["shape"]), bytes(row["data"])) for name, row in safetensors.deserialize(raw)}


def can_wrap(case: Case, path: str, module: Any) -> bool:
    """Tell whether PEFT puts a factor on this very module, and can run it there.

    It refuses Mamba's ``out_proj``; takes names that older mixtures gave to the layers of an expert for those,
    wherever they stand; and cannot run a router that is a linear layer with a ``forward`` of its own.
    """
    import torch
    from peft.utils.transformers_weight_conversion import _MOE_TARGET_MODULE_MAPPING as NAMES
    from transformers.conversion_mapping import _MODEL_TO_CONVERSION_PATTERN as FAMILIES

    name = path.rpartition(".")[2]
    experts = NAMES.get(FAMILIES.get(case.model_type, ""), {})
    is_refused = name == "out_proj" and case.model_type in {"falcon_h1", "falcon_mamba", "mamba"}
    is_own = isinstance(module, torch.nn.Linear) and type(module).forward is not torch.nn.Linear.forward
    is_router = case.binding().modules[path].slots[0].role == "moe_router"
    return is_linear(module) and name not in experts and not is_refused and not (is_own and is_router)


def adapted(case: Case) -> Any:
    """Return the model with random factors on every linear module of its blocks that PEFT can wrap."""
    import peft
    import torch

    model, modules = case.model(), case.binding().modules
    inside = [path for path, target in modules.items() if target.slots[0].layer is not None and not target.parameter]
    targets = [path for path in inside if can_wrap(case, path, model.get_submodule(path))]
    wrapped = peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=3,
            lora_alpha=5,
            target_modules="|".join(re.escape(path) for path in targets),
            fan_in_fan_out=any(modules[path].is_conv1d for path in targets),
        ),
    ).eval()
    torch.manual_seed(11)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return wrapped


@pytest.mark.parametrize("case", UNLIKE, ids=case_of)
def test_an_adapter_comes_back_bit_for_bit_and_computes_the_same(case: Case, tmp_path: Path) -> None:
    import torch

    model = adapted(case)
    model.save_pretrained(tmp_path / "adapter")
    config = case.config()
    config.architectures = [case.kind.default_class]
    config.save_pretrained(tmp_path / "base")
    with from_peft(tmp_path / "adapter", load_base(tmp_path / "base")) as adapter:
        write(adapter, tmp_path / "adapter.air")
        assert [extra.name for extra in adapter.manifest.extra] == []
        assert adapter.manifest.base_model.model_class == case.kind.default_class
    assert validate_file(tmp_path / "adapter.air").errors == ()
    with read(tmp_path / "adapter.air") as adapter:
        to_peft(adapter, tmp_path / "back")

    assert stored(tmp_path / "back") == stored(tmp_path / "adapter")
    first, second = (tmp_path / name / "adapter_config.json" for name in ("back", "adapter"))
    assert json.loads(first.read_text()) == json.loads(second.read_text())
    before = call(model, case)
    model.load_adapter(str(tmp_path / "back"), adapter_name="back")
    model.set_adapter("back")
    assert torch.equal(call(model, case), before)
    with model.disable_adapter():
        assert not torch.equal(call(model, case), before)
