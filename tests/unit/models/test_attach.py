"""Adapters as hooks: the numbers of PEFT, on every kind of module, and nothing left behind."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.handmade import base_model, entry, floats, method, small_adapter
from tests.peft_folders import ARCHITECTURES, PeftFolders, outputs
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Manifest
from ual_registry.errors import BaseMismatchError, TransferError, UALError, UnresolvedModuleError
from ual_registry.models.attach import attach
from ual_registry.tensors import from_torch
from ual_registry.workflows.convert import from_peft

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs peft"),
    pytest.mark.filterwarnings("ignore"),  # what PEFT remarks while tiny models are made
]

CASES = [
    *((architecture, "plain") for architecture in ARCHITECTURES if architecture not in ("bert", "roberta")),
    *((architecture, "patterns") for architecture in ARCHITECTURES),
    *((architecture, "lora_bias") for architecture in ("llama", "gpt2", "gpt_neox", "t5")),
    *((architecture, "embeddings") for architecture in ("llama", "gemma3_text", "gpt2")),
]


def logits(model: Any, architecture: str) -> torch.Tensor:
    """Return what a plain model computes for the fixed input of the PEFT folders."""
    tokens = torch.arange(2, 14).reshape(2, 6)
    more = {}
    if architecture.startswith("t5"):
        tokens = torch.cat([tokens, torch.ones(2, 1, dtype=torch.long)], dim=1)
        more["decoder_input_ids"] = tokens
    with torch.no_grad():
        return model(input_ids=tokens, **more).logits


@pytest.mark.parametrize(("architecture", "option"), CASES)
def test_an_attached_adapter_computes_what_peft_computes(
    peft_folders: PeftFolders, architecture: str, option: str
) -> None:
    folder = peft_folders.get(architecture, option)
    adapter, model = from_peft(folder.path, folder.base), folder.base_model()
    before = logits(model, architecture)
    with attach(model, adapter) as attachment:
        found = logits(model, architecture)
    # float32 through two layers: the scaling is folded into lora_B here, and multiplied afterwards there
    torch.testing.assert_close(found, folder.logits, atol=2e-5, rtol=1e-4)
    assert not torch.allclose(found, before, atol=1e-3)
    assert attachment.unused() == ()
    assert torch.equal(logits(model, architecture), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_as_peft_computes_it(peft_folders: PeftFolders, dtype: torch.dtype) -> None:
    import peft

    folder = peft_folders.get("llama", "plain")
    wrapped = peft.PeftModel.from_pretrained(folder.base_model().to(dtype), str(folder.path)).eval()
    model = folder.base_model().to(dtype)
    with attach(model, from_peft(folder.path, folder.base)):
        found = logits(model, "llama")
    # factors in float32 on both sides; the folded scaling may move the last bit of the half-precision output
    torch.testing.assert_close(found, outputs(wrapped, "llama"), atol=2e-2, rtol=2e-2)


def test_adapters_on_top_of_each_other_add_up_and_come_off_in_any_order(peft_folders: PeftFolders) -> None:
    folder = peft_folders.get("llama", "plain")
    adapter, model = from_peft(folder.path, folder.base), folder.base_model()
    doubled = Adapter(
        replace(adapter.manifest, entries=tuple(replace(own, scaling=2 * own.scaling) for own in adapter.entries)),
        adapter.tensors,
    )
    before = logits(model, "llama")
    with attach(model, doubled):
        twice = logits(model, "llama")
    outer, inner = attach(model, adapter), attach(model, adapter)
    with outer:
        once = logits(model, "llama")
        inner.__enter__()
        torch.testing.assert_close(logits(model, "llama"), twice, atol=2e-5, rtol=1e-4)
    assert torch.equal(logits(model, "llama"), once)
    inner.__exit__(None, None, None)
    assert torch.equal(logits(model, "llama"), before)


def test_an_error_inside_takes_the_adapter_off(peft_folders: PeftFolders) -> None:
    folder = peft_folders.get("llama", "plain")
    model = folder.base_model()
    before = logits(model, "llama")
    with pytest.raises(KeyError), attach(model, from_peft(folder.path, folder.base)):
        raise KeyError
    assert torch.equal(logits(model, "llama"), before)


def test_modules_that_were_not_run_are_named(peft_folders: PeftFolders) -> None:
    folder = peft_folders.get("gpt2", "plain")
    model = folder.base_model()
    with attach(model, from_peft(folder.path, folder.base)) as attachment:
        model.transformer.h[0](torch.zeros(1, 2, 16))
    assert sorted(attachment.unused()) == [
        f"transformer.h.1.{name}" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]


def tiny(*entries: Any, **tensors: Any) -> Adapter:
    """Return an adapter of these entries; each has factors of ones where no others are given."""
    parts = {}
    for own in entries:
        parts[own.lora_A] = floats(own.rank, own.in_features)
        parts[own.lora_B] = floats(own.out_features, own.rank)
    manifest = Manifest(
        air_version="1.0", kind="adapter", base_model=base_model(), method=method(), entries=tuple(entries)
    )
    return Adapter(manifest, {**parts, **tensors})


class Block(torch.nn.Module):
    """A model of one linear module, a norm, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(4, 6, bias=False)
        self.norm = torch.nn.LayerNorm(4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.up(self.norm(inputs))


UP = entry("mlp_up", 4, 6, source="up")
BROKEN: list[tuple[Adapter, type[UALError], str]] = [
    (
        small_adapter(),
        TransferError,
        "cannot attach: tensors without a role (base_model.model.score.weight) would be left out",
    ),
    (
        tiny(replace(UP, expert=0)),
        TransferError,
        "cannot attach layers.0.mlp_up: experts of one parameter have no module of their own",
    ),
    (
        tiny(replace(UP, magnitude="layers.0.mlp_up.magnitude")),
        TransferError,
        "cannot attach layers.0.mlp_up: a DoRA magnitude needs the base model's weights",
    ),
    (
        tiny(replace(UP, source=None)),
        UnresolvedModuleError,
        "layers.0.mlp_up: does not say which module of the base model it belongs to",
    ),
    (
        tiny(replace(UP, source="model.up")),
        UnresolvedModuleError,
        "layers.0.mlp_up: Block has no module model.up",
    ),
    (
        tiny(replace(UP, source="norm")),
        BaseMismatchError,
        "norm: is a LayerNorm, expected a linear module or an embedding",
    ),
    (
        tiny(entry("mlp_up", 4, 5, source="up")),
        BaseMismatchError,
        "layers.0.mlp_up: updates (5, 4), but up has the shape (6, 4)",
    ),
    (
        tiny(entry("mlp_up", 3, 6, source="up")),
        BaseMismatchError,
        "layers.0.mlp_up: updates (6, 3), but up has the shape (6, 4)",
    ),
]


@pytest.mark.parametrize(("adapter", "kind", "message"), BROKEN, ids=[message for _, _, message in BROKEN])
def test_what_hooks_cannot_add_is_refused_by_name(adapter: Adapter, kind: type[UALError], message: str) -> None:
    model = Block()
    with pytest.raises(kind) as caught, attach(model, adapter):
        pass
    assert caught.value.message == message
    assert not model.up._forward_hooks


def test_a_nan_in_a_factor_is_refused() -> None:
    broken = from_torch(torch.ones(2, 4), "F32")
    data = bytearray(broken.to_bytes())
    data[:4] = b"\x00\x00\xc0\x7f"
    nan = type(broken).of_bytes("F32", (2, 4), bytes(data))
    with pytest.raises(UALError) as caught, attach(Block(), tiny(UP, **{UP.lora_A: nan})):
        pass
    assert caught.value.message == "layers.0.mlp_up.lora_A: holds a NaN or an infinity"
