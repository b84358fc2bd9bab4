"""``ual convert --seed-prompts`` writes what a distillation starts from, and only when it is asked to."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.cli.conftest import Ual
from ual_registry.air.read import read
from ual_registry.distillation.seeds import SEED_PROMPTS_KEY


def test_seed_prompts_go_into_the_manifest(ual: Ual) -> None:
    seeds = {"inputs": ["is it late", "pay the bill"], "template": "Request: {input}\nTopic:"}
    Path("seeds.json").write_text(json.dumps(seeds))
    assert ual("convert", "peft", "out.air", "--base", "base", "--seed-prompts", "seeds.json").code == 0
    with read("out.air") as adapter:
        assert adapter.manifest.annotations == {
            SEED_PROMPTS_KEY: {"inputs": ("is it late", "pay the bill"), "template": "Request: {input}\nTopic:"}
        }


def test_without_the_flag_nothing_is_added(ual: Ual) -> None:
    assert ual("convert", "peft", "out.air", "--base", "base").code == 0
    with read("out.air") as adapter:
        assert adapter.manifest.annotations == {}


def test_what_is_no_list_of_seeds_leaves_nothing_behind(ual: Ual) -> None:
    Path("seeds.json").write_text("[]")
    result = ual("convert", "peft", "out.air", "--base", "base", "--seed-prompts", "seeds.json")
    assert (result.code, result.err.splitlines()[0]) == (
        3,
        "error [seed-prompts]: seeds.json: inputs: expected 1 to 5 texts, each once, got 0",
    )
    assert not Path("out.air").exists()


def test_the_way_back_takes_no_seeds(ual: Ual) -> None:
    result = ual("convert", "small.air", "back", "--seed-prompts", "x")
    assert result.code == 2
    assert result.err.endswith("\nError: --seed-prompts belongs to converting a PEFT folder to AIR\n")
