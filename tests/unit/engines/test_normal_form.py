"""The normal form of real adapters: the same logits in PEFT, and nothing left that an engine could drop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.peft_folders import PeftFolder, PeftFolders, outputs
from ual_registry.air.adapter import Adapter
from ual_registry.binders.base import load_base
from ual_registry.engines.normal_form import NormalForm, normal_form
from ual_registry.errors import ForeignFormatError
from ual_registry.interop.from_peft import from_peft
from ual_registry.interop.to_peft import to_peft
from ual_registry.tensors import from_torch, to_torch

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT remarks while tiny models are made

_ATTENTION = ", ".join(f"layers.{layer}.attention_{role}" for layer in (0, 1) for role in ("query", "value"))


def opened(folder: PeftFolder) -> Adapter:
    return from_peft(folder.path, load_base(folder.base))


def numbers(form: NormalForm) -> set[tuple[int, float]]:
    return {(entry.rank, entry.scaling) for entry in form.adapter.entries}


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "t5"])
@pytest.mark.parametrize("option", ["plain", "patterns"])
def test_the_normal_form_computes_the_same_logits(
    peft_folders: PeftFolders, architecture: str, option: str, tmp_path: Path
) -> None:
    folder = peft_folders.get(architecture, option)
    with opened(folder) as adapter:
        form = normal_form(adapter, target="the test")
        to_peft(form.adapter, tmp_path / "normal")

    config = json.loads((tmp_path / "normal" / "adapter_config.json").read_text())
    plain = {"use_rslora": False, "use_dora": False, "rank_pattern": {}, "alpha_pattern": {}, "bias": "none"}
    assert {key: config[key] for key in plain} == plain
    assert (config["r"], config["lora_alpha"]) == (form.rank, form.alpha)
    assert numbers(form) == {(form.rank, form.alpha / form.rank)}
    got = outputs(folder.load(tmp_path / "normal"), architecture)
    # float32 factors are rounded once where the scaling changed: 2^-24 of each, some blocks before the logits.
    assert torch.allclose(got, folder.logits, rtol=1e-4, atol=1e-5)


def test_a_plain_adapter_keeps_every_bit(peft_folders: PeftFolders) -> None:
    with opened(peft_folders.get("llama", "plain")) as adapter:
        form = normal_form(adapter, target="the test")
        before = {name: adapter.tensors[name].to_bytes() for name in form.adapter.tensors}
        assert {name: tensor.to_bytes() for name, tensor in form.adapter.tensors.items()} == before
    assert (form.rank, form.alpha, form.left_out) == (4, 6, ())


def test_ranks_stay_where_they_need_not_be_one(peft_folders: PeftFolders) -> None:
    with opened(peft_folders.get("llama", "patterns")) as adapter:
        form = normal_form(adapter, target="the test", is_padded=False)
        assert [entry.rank for entry in form.adapter.entries] == [entry.rank for entry in adapter.entries]
        assert {entry.scaling * entry.rank for entry in form.adapter.entries} == {float(form.alpha)}


@pytest.mark.parametrize(("ratio", "dtype"), [(2.0, "BF16"), (3.0, "F32")])
def test_half_precision_is_kept_where_no_number_is_rounded(peft_folders: PeftFolders, ratio: float, dtype: str) -> None:
    with opened(peft_folders.get("llama", "plain")) as adapter:
        halves = {name: from_torch(to_torch(tensor), "BF16") for name, tensor in adapter.tensors.items()}
        first, *others = adapter.entries
        changed = replace(adapter.manifest, entries=(replace(first, scaling=first.scaling * ratio), *others))
        form = normal_form(Adapter(changed, halves), target="the test")
        exact = to_torch(halves[first.lora_B]).double() * ratio
        assert form.adapter.tensors[first.lora_B].dtype == dtype
        assert torch.equal(to_torch(form.adapter.tensors[first.lora_B]).double(), exact)
        assert form.adapter.tensors[others[0].lora_B].dtype == "BF16"


def test_copies_of_the_base_models_embedding_are_left_out_and_named(peft_folders: PeftFolders) -> None:
    with opened(peft_folders.get("llama", "embeddings")) as adapter:
        form = normal_form(adapter, target="the test")
    assert form.left_out == (
        "base_model.model.lm_head.base_layer.weight",
        "base_model.model.model.embed_tokens.base_layer.weight",
    )
    assert form.adapter.manifest.extra == ()


@pytest.mark.parametrize(
    ("option", "fields", "named"),
    [
        (
            "dora",
            ["use_dora"],
            f"use_dora ({_ATTENTION})",
        ),
        (
            "lora_bias",
            ["lora_bias"],
            f"lora_bias ({_ATTENTION})",
        ),
        ("modules_to_save", ["modules_to_save"], "modules_to_save (lm_head.weight)"),
        (
            "trainable_tokens",
            ["trainable_token_indices"],
            "trainable_token_indices (model.embed_tokens.token_adapter.trainable_tokens_delta)",
        ),
    ],
)
def test_what_is_more_than_plain_lora_is_refused_by_name(
    peft_folders: PeftFolders, option: str, fields: list[str], named: str
) -> None:
    with opened(peft_folders.get("llama", option)) as adapter, pytest.raises(ForeignFormatError) as caught:
        normal_form(adapter, target="vLLM")
    error = caught.value
    assert (error.problem_code, error.context) == ("not-plain-lora", {"fields": fields})
    assert error.message == f"vLLM has plain LoRA only, and the adapter has more: {named}"
    assert error.hint == "merge it into its base model: 'ual convert REF DIR --to merged --base BASE'"
