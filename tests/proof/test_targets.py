"""What a training chooses on every architecture: PEFT wraps these modules and no others, and each has its reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.proof.cases import UNLIKE, Case
from ual_registry.training.targets import TargetChoice, choose_targets

REASONS = {
    "head",
    "router gate",
    "outside the blocks",
    "tied weight: embedding and head are one",
    "no role: AIR has no name for it",
    "read past by kernels of Mamba, so that PEFT refuses it",
    "PEFT takes it for an expert of an older layout",
}


def wrapped(model: Any, choice: TargetChoice) -> Any:
    """Return the model as PEFT wraps it."""
    import peft

    modules, parameters = list(choice.modules) or None, list(choice.parameters) or None
    return peft.PeftModel(model, peft.LoraConfig(r=2, target_modules=modules, target_parameters=parameters)).base_model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", UNLIKE, ids=str)
def test_peft_wraps_the_modules_that_are_chosen_and_no_others(case: Case) -> None:
    import torch

    name = case.kind.default_class
    with torch.device("meta"):
        model = getattr(case.module, name)(case.config(name))
        linear = [path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
        choice = choose_targets(case.binding(), config=case.base(), linear=linear)
        tuner = wrapped(model, choice)

    assert sorted(tuner.targeted_module_names) == sorted(choice.modules)
    assert sorted(tuner.targeted_parameter_names) == sorted(choice.parameters)
    assert {own.reason for own in choice.excluded} - REASONS == set()
    assert [own.path for own in choice.included if own.layer is None or not own.roles] == []
    assert set(choice.roles) & {"lm_head", "token_embedding", "moe_router", "shared_mlp_router"} == set()
    assert set(linear) - choice.reasons.keys() == set()
    assert len(choice.reasons) == len(choice.targets)
