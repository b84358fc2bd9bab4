"""Parameters that hold the matrices of all experts: PEFT to AIR and back, and what each expert's entries say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from tests.proof.calls import call
from tests.proof.cases import CASES, Case, case_of
from tests.proof.probe import place, rows_of
from tests.proof.test_round_trip import stored
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry
from ual_registry.air.read import read
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.binders.base import load_base
from ual_registry.interop.from_peft import from_peft
from ual_registry.interop.to_peft import to_peft
from ual_registry.tensors import entry_factors

pytestmark = pytest.mark.filterwarnings("ignore")

MIXTURES = [case for case in CASES if any(target.parameter for target in case.binding().modules.values())]


def adapted(case: Case, folder: Path) -> Any:
    """Return the model with random factors on every parameter with experts; write the adapter and the config."""
    parameters = [path for path, target in case.binding().modules.items() if target.parameter]
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=[], target_parameters=parameters)
    model = peft.get_peft_model(case.model(), config).eval()
    torch.manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(str(folder / "adapter"))
    base = case.config()
    base.architectures = [case.kind.default_class]
    base.save_pretrained(folder / "base")
    with from_peft(folder / "adapter", load_base(folder / "base")) as adapter:
        write(adapter, folder / "adapter.air")
    return model


@pytest.mark.parametrize("case", MIXTURES, ids=case_of)
def test_factors_of_experts_come_back_bit_for_bit_and_compute_the_same(case: Case, tmp_path: Path) -> None:
    model = adapted(case, tmp_path)
    assert validate_file(tmp_path / "adapter.air").errors == ()
    with read(tmp_path / "adapter.air") as adapter:
        assert adapter.manifest.extra == ()
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


@pytest.mark.parametrize("case", MIXTURES, ids=case_of)
def test_the_entries_of_an_expert_are_what_peft_adds_to_its_rows(case: Case, tmp_path: Path) -> None:
    plain = dict(case.model().named_parameters())
    merged = dict(adapted(case, tmp_path).merge_and_unload().named_parameters())
    with read(tmp_path / "adapter.air") as adapter:
        said = {entry.key[1:]: delta_of(adapter, entry) for entry in adapter.manifest.entries}

    added = {}
    for path, target in case.binding().modules.items():
        for slot in target.slots if target.parameter else ():
            change = (merged[path] - plain[path]).detach().double()[slot.expert]
            rows = (change.T if target.is_conv1d else change)[rows_of(slot)]
            added[place(slot)[1:]] = rows
    assert said.keys() == added.keys()
    for key, delta in said.items():
        torch.testing.assert_close(added[key], delta, rtol=0, atol=1e-5)


def delta_of(adapter: Adapter, entry: Entry) -> torch.Tensor:
    """Return what an entry adds to its rows, in float64."""
    factors = entry_factors(adapter, entry)
    return factors.lora_B @ factors.lora_A
