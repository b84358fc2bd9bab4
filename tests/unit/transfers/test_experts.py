"""Transfers of mixtures: experts go to those of a mixture of the same dimensions, and have a reason elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.interop.test_experts import make_folder
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.binders.base import BaseConfig, load_base
from ual_registry.digest import Digest
from ual_registry.interop.from_peft import from_peft
from ual_registry.interop.to_peft import to_peft
from ual_registry.tensors import entry_factors
from ual_registry.transfers.plan import make_plan
from ual_registry.transfers.run import run_transfer

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT remarks while tiny models are made

_MIXTRAL = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_local_experts": 4,
    "intermediate_size": 12,
    "vocab_size": 32,
}
_LLAMA = {
    **{key: value for key, value in _MIXTRAL.items() if key != "num_local_experts"},
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
}


DIFFERENT = "the experts of two different mixtures do not correspond"


def base_of(document: dict[str, Any], **changes: Any) -> BaseConfig:
    return BaseConfig(label="target", document={**document, **changes}, digest=Digest.of_bytes(repr(changes).encode()))


@pytest.mark.parametrize(
    ("target", "counts", "reasons"),
    [
        (base_of(_MIXTRAL), {"kept": 26, "projected": 0, "dropped": 0}, {}),
        (base_of(_MIXTRAL, intermediate_size=20), {"kept": 2, "projected": 0, "dropped": 24}, {DIFFERENT: 24}),
        (base_of(_MIXTRAL, num_local_experts=3), {"kept": 2, "projected": 0, "dropped": 24}, {DIFFERENT: 24}),
        (
            base_of(_LLAMA),
            {"kept": 2, "projected": 0, "dropped": 24},
            {f"the target has {role} outside its experts": 8 for role in ("mlp_down", "mlp_gate", "mlp_up")},
        ),
    ],
)
def test_experts_go_to_those_of_the_same_index_in_a_mixture_of_the_same_dimensions(
    target: BaseConfig, counts: dict[str, int], reasons: dict[str, int], tmp_path: Path
) -> None:
    base, folder = make_folder(tmp_path, "mixtral")
    with from_peft(folder, load_base(base)) as adapter:
        plan = make_plan(adapter.manifest, target)
    assert (plan.counts(), plan.drop_reasons()) == (counts, reasons)
    assert all(move.entry.expert == move.slot.expert for move in plan.moves if move.entry and move.slot)


def test_a_dense_mlp_has_no_place_among_experts(tmp_path: Path) -> None:
    from tests.handmade import entry, small_adapter

    made = small_adapter(entries=(entry("mlp_up", 4, 6), entry("attention_query", 4, 4)), extra=(), features=())
    plan = make_plan(made.manifest, base_of(_MIXTRAL), rotary="project")
    assert plan.drop_reasons() == {"the target has mlp_up only inside its experts": 1}


def test_the_updates_of_experts_arrive_in_a_legal_adapter_that_peft_can_have(tmp_path: Path) -> None:
    base, folder = make_folder(tmp_path, "mixtral")
    target = base_of(_MIXTRAL)
    with from_peft(folder, load_base(base)) as adapter:
        plan = make_plan(adapter.manifest, target, target_revision="0" * 40)
        result = run_transfer(adapter, plan, method="truncate", source_digest=Digest.of_bytes(b"source"))
        expected = {entry.key: _update(adapter, entry) for entry in adapter.entries}
    write(result.adapter, tmp_path / "out.air")
    to_peft(result.adapter, tmp_path / "out")

    assert validate_file(tmp_path / "out.air").problems == ()
    assert len(result.adapter.entries) == 26
    for entry in result.adapter.entries:
        np.testing.assert_allclose(_update(result.adapter, entry), expected[entry.key], rtol=1e-5, atol=1e-6)


def _update(adapter: Any, entry: Any) -> Any:
    factors = entry_factors(adapter, entry)
    return (factors.lora_B @ factors.lora_A).numpy()
