"""The plan of a transfer of the whole adapter names the modules that the method will fit, without torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.transfers.bases import gpt2, llama
from tests.unit.transfers.test_run_predictions import random_adapter
from ual_registry.binders.base import load_base
from ual_registry.errors import NoCounterpartError
from ual_registry.transfers.rungs import RUNGS, Rung
from ual_registry.transfers.whole_adapter import WHOLE, modules_of_role
from ual_registry.transfers.whole_plan import make_whole_plan

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made


def test_the_plan_names_what_is_fitted(tmp_path: Path) -> None:
    source, target = llama(tmp_path), gpt2(tmp_path)
    manifest = random_adapter(source).manifest
    config = load_base(tmp_path / "gpt2")
    plans = {name: make_whole_plan(manifest, config, RUNGS[name]) for name in ("predictions", "residual", "distill")}
    every = [module.path for module in modules_of_role(target, "mlp_down").values()]
    assert [str(move.module.path) for move in plans["predictions"].moves if move.module] == every[-1:]
    assert [str(move.module.path) for move in plans["residual"].moves if move.module] == every
    assert plans["distill"].counts() == {"kept": 0, "projected": 18, "dropped": 0}
    assert {move.source for plan in plans.values() for move in plan.moves} == {WHOLE}
    assert plans["residual"].layers == {None: (0, 1, 1)}
    assert (plans["residual"].target.id, plans["residual"].source) == ("gpt2", manifest.base_model)


def test_a_target_without_such_modules_is_refused(tmp_path: Path) -> None:
    manifest = random_adapter(llama(tmp_path)).manifest
    rung = Rung(name="odd", roles=("moe_router",), summary="odd")
    with pytest.raises(NoCounterpartError) as caught:
        make_whole_plan(manifest, load_base(tmp_path / "llama"), rung)
    assert caught.value.message == "base model llama has no moe_router that could get an update"
