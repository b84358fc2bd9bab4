"""The proof itself: a binder that is wrong in one place is found out, and by the test that is meant to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.proof import cases, test_rotary
from tests.proof.cases import Case
from tests.proof.probe import probe_of
from tests.proof.test_functions import (
    test_every_head_of_a_slot_moves_its_own_columns as heads,
)
from tests.proof.test_functions import (
    test_every_slot_does_what_its_role_says as roles,
)
from tests.proof.test_functions import (
    test_the_rows_of_a_value_head_are_the_columns_of_the_result as value_rows,
)
from tests.proof.test_functions import (
    test_the_rows_of_gate_and_up_are_the_columns_that_go_down as mlp_rows,
)
from tests.proof.test_gguf import test_gguf_names_are_those_of_llama_cpp as gguf_names
from tests.proof.test_modules import test_slots_and_rows_of_modules_are_one_to_one as one_to_one
from tests.proof.test_norms import test_the_norms_of_a_block_stand_where_the_binder_says as norms
from tests.proof.test_rotary import test_another_style_and_another_width_change_the_attention as other_rotary
from tests.proof.test_rotary import test_turning_the_pairs_of_the_binder_changes_nothing as same_rotary
from ual_registry.binders import load

pytestmark = pytest.mark.filterwarnings("ignore")

Change = Callable[[dict[str, Any]], None]


def swapped(one: str, other: str) -> Change:
    """Return what gives two modules one another's role."""

    def change(document: dict[str, Any]) -> None:
        modules = {module["path"]: module for module in document["stacks"][0]["modules"]}
        first, second = modules[one], modules[other]
        first["roles"], second["roles"] = second["roles"], first["roles"]

    return change


def fused(path: str, **changes: Any) -> Change:
    """Return what describes a module in another way."""

    def change(document: dict[str, Any]) -> None:
        (module,) = [module for module in document["stacks"][0]["modules"] if module["path"] == path]
        module.update(changes)

    return change


def said(model_type: str, **changes: Any) -> Change:
    """Return what says something else of a model type."""
    return lambda document: document["model_types"][model_type].update(changes)


QKV = ["attention_query", "attention_key", "attention_value"]
WRONG: dict[str, tuple[str, Change, Callable[..., None]]] = {
    "key and value swapped": ("llama", swapped("self_attn.k_proj", "self_attn.v_proj"), roles),
    "gate and up swapped": ("llama", swapped("mlp.gate_proj", "mlp.up_proj"), roles),
    "up and gate of one module swapped": ("phi3", fused("mlp.gate_up_proj", roles=["mlp_up", "mlp_gate"]), roles),
    "gate and up row by row": ("phi3", fused("mlp.gate_up_proj", layout="interleaved"), mlp_rows),
    "query and key of one module swapped": (
        "gpt2",
        fused("attn.c_attn", roles=["attention_key", "attention_query", "attention_value"]),
        roles,
    ),
    "rows of heads taken for rows of roles": (
        "gpt_neox",
        fused("attention.query_key_value", layout="contiguous"),
        roles,
    ),
    "rows of roles taken for rows of heads": ("gpt2", fused("attn.c_attn", layout="per_head"), roles),
    "rows of roles taken for rows of heads, by columns": ("gpt2", fused("attn.c_attn", layout="per_head"), value_rows),
    "rows of heads taken for rows of roles, by heads": (
        "gpt_neox",
        fused("attention.query_key_value", layout="contiguous"),
        heads,
    ),
    "one role for a module of two": ("llama", fused("mlp.up_proj", roles=["mlp_gate"]), one_to_one),
    "interleaved for half": ("llama", said("llama", rotary={"style": "interleaved", "fraction": [1]}), same_rotary),
    "half for interleaved": ("cohere", said("cohere", rotary={"style": "half", "fraction": [1]}), same_rotary),
    "half a head for a whole one": ("llama", said("llama", rotary={"style": "half", "fraction": [0.5]}), same_rotary),
    "a whole head for a half one": ("phi", said("phi", rotary={"style": "half", "fraction": [1]}), same_rotary),
    "a whole head for a half one, by pairs": (
        "nemotron",
        said("nemotron", rotary={"style": "interleaved", "fraction": [1]}),
        other_rotary,
    ),
    "norms before for norms before and after": (
        "gemma2",
        said("gemma2", norms={"kind": "rms", "position": "pre", "query_key": False}),
        norms,
    ),
    "layer norms for RMS norms": (
        "llama",
        said("llama", norms={"kind": "layer", "position": "pre", "query_key": False}),
        norms,
    ),
    "no norm of query and key": (
        "qwen3",
        said("qwen3", norms={"kind": "rms", "position": "pre", "query_key": False}),
        norms,
    ),
    "another tensor of GGUF": ("llama", fused("mlp.up_proj", gguf="blk.{layer}.ffn_gate"), gguf_names),
}


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Change], None]]:
    """Return what ships a changed document of a model type in place of all others."""
    index, data = json.loads(load.INDEX.read_text()), load.INDEX.parent / "data"

    def ship(model_type: str, change: Change) -> None:
        document = json.loads((data / f"{index[model_type]}.json").read_text())
        change(document)
        (tmp_path / f"{index[model_type]}.json").write_text(json.dumps(document))
        monkeypatch.setattr(load, "_DATA", tmp_path)
        _forget()

    yield ship
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    """Forget what was bound by another document."""
    load.forget()
    cases.binding_of.cache_clear()
    probe_of.cache_clear()
    test_rotary._probe.cache_clear()


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_binder_is_found_out(name: str, shipped: Callable[[str, Change], None]) -> None:
    model_type, change, judge = WRONG[name]
    more = (None,) if judge is norms else ()
    judge(Case(model_type), *more)  # the shipped document stands
    shipped(model_type, change)
    with pytest.raises(AssertionError):
        judge(Case(model_type), *more)
