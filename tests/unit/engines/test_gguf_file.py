"""GGUF files of adapters: names, rows and numbers as llama.cpp's own converter gives them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.peft_folders import PeftFolder, PeftFolders
from ual_registry.air.adapter import Adapter
from ual_registry.binders.base import load_base
from ual_registry.engines.gguf_file import write_gguf
from ual_registry.errors import ForeignFormatError
from ual_registry.interop.from_peft import from_peft

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT remarks while tiny models are made

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def opened(folder: PeftFolder) -> Adapter:
    return from_peft(folder.path, load_base(folder.base))


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return fields, {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def delta(tensors: dict[str, Any], name: str, alpha: float) -> Any:
    """Return what llama.cpp adds to a weight: ``alpha / rank`` times the product."""
    lora_a, lora_b = tensors[f"{name}.lora_a"].astype("f8"), tensors[f"{name}.lora_b"].astype("f8")
    return alpha / lora_b.shape[1] * (lora_b @ lora_a)


def rotated_in_neighbours(weight: Any, heads: int) -> Any:
    """Move row ``half * h + i`` of every head to ``2 * i + h``, one row after another."""
    rows = weight.shape[0] // heads
    moved = np.empty_like(weight)
    for head in range(heads):
        for half in range(2):
            for index in range(rows // 2):
                moved[head * rows + 2 * index + half] = weight[head * rows + half * (rows // 2) + index]
    return moved


@pytest.mark.parametrize("option", ["plain", "patterns"])
def test_a_llama_adapter_says_what_peft_adds_with_rows_as_llama_cpp_has_them(
    peft_folders: PeftFolders, option: str, tmp_path: Path
) -> None:
    folder = peft_folders.get("llama", option)
    with opened(folder) as adapter:
        form = write_gguf(adapter, tmp_path / "adapter.gguf")
    fields, tensors = read(tmp_path / "adapter.gguf")
    assert fields == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(form.alpha),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter.gguf"]

    names = set()
    for path, module in folder.load().base_model.model.named_modules():
        if hasattr(module, "get_delta_weight"):
            layer, inner = path.removeprefix("model.layers.").split(".", 1)
            name = f"blk.{layer}.{_NAMES[inner]}.weight"
            wanted = module.get_delta_weight("default").detach().numpy()
            if inner in ("self_attn.q_proj", "self_attn.k_proj"):
                wanted = rotated_in_neighbours(wanted, 4 if "q_proj" in inner else 2)
            # float32 products of numbers of size 1, and one rounding where the scaling was folded in
            assert np.allclose(delta(tensors, name, form.alpha), wanted, rtol=1e-5, atol=1e-6)
            names |= {f"{name}.lora_a", f"{name}.lora_b"}
    assert set(tensors) == names


def test_a_fused_module_that_stores_its_weight_transposed_becomes_one_tensor(
    peft_folders: PeftFolders, tmp_path: Path
) -> None:
    folder = peft_folders.get("gpt2", "plain")
    with opened(folder) as adapter:
        form = write_gguf(adapter, tmp_path / "adapter.gguf")
    _, tensors = read(tmp_path / "adapter.gguf")
    model = folder.load().base_model.model
    # PEFT's delta is stored as (in, out), as the weight is.
    wanted = model.transformer.h[1].attn.c_attn.get_delta_weight("default").detach().numpy().T
    assert np.allclose(delta(tensors, "blk.1.attn_qkv.weight", form.alpha), wanted, rtol=1e-5, atol=1e-6)


def test_the_factors_of_an_embedding_are_turned_as_llama_cpp_looks_rows_up(
    peft_folders: PeftFolders, tmp_path: Path
) -> None:
    with opened(peft_folders.get("llama", "embeddings")) as adapter:
        write_gguf(adapter, tmp_path / "adapter.gguf")
    _, tensors = read(tmp_path / "adapter.gguf")
    assert {name: value.shape for name, value in tensors.items() if "blk" not in name} == {
        "token_embd.weight.lora_a": (32, 4),
        "token_embd.weight.lora_b": (16, 4),
        "output.weight.lora_a": (4, 16),
        "output.weight.lora_b": (32, 4),
    }


def refusal(folder: PeftFolder, place: Path) -> ForeignFormatError:
    with opened(folder) as adapter, pytest.raises(ForeignFormatError) as caught:
        write_gguf(adapter, place / "adapter.gguf")
    assert list(place.iterdir()) == []
    return caught.value


def test_what_is_more_than_plain_lora_is_refused_and_nothing_is_left(peft_folders: PeftFolders, tmp_path: Path) -> None:
    error = refusal(peft_folders.get("llama", "modules_to_save"), tmp_path)
    assert error.problem_code == "not-plain-lora"
    assert error.message == "GGUF has plain LoRA only, and the adapter has more: modules_to_save (lm_head.weight)"


def test_an_architecture_whose_rows_are_not_known_is_refused(peft_folders: PeftFolders, tmp_path: Path) -> None:
    error = refusal(peft_folders.get("gpt_neox"), tmp_path)
    assert (error.problem_code, error.context) == ("gguf-unknown", {"model_type": "gpt_neox"})
    assert error.message == (
        "model_type 'gpt_neox': how llama.cpp orders the rows of its weights is not known (gemma, gemma2, gemma3, "
        "gemma3_text, gpt2, llama, mistral, mixtral, phi, phi3, qwen2, qwen2_moe, qwen3, qwen3_moe, smollm3 are)"
    )


def test_an_architecture_without_a_gguf_form_is_refused(peft_folders: PeftFolders, tmp_path: Path) -> None:
    with opened(peft_folders.get("llama")) as adapter:
        base = replace(adapter.manifest.base_model, model_type="helium")
        unknown = Adapter(replace(adapter.manifest, base_model=base), adapter.tensors)
        with pytest.raises(ForeignFormatError, match="model_type 'helium' has no GGUF form that the binders know"):
            write_gguf(unknown, tmp_path / "adapter.gguf")


def test_factors_of_an_embedding_alone_are_refused(peft_folders: PeftFolders, tmp_path: Path) -> None:
    with opened(peft_folders.get("llama", "embeddings")) as adapter:
        entries = tuple(entry for entry in adapter.entries if entry.role != "lm_head")
        lonely = Adapter(replace(adapter.manifest, entries=entries), adapter.tensors)
        with pytest.raises(ForeignFormatError) as caught:
            write_gguf(lonely, tmp_path / "adapter.gguf")
    message = "model.embed_tokens: llama.cpp would give its factors to a head that is tied to it, too"
    assert (caught.value.problem_code, caught.value.message) == ("gguf-unknown", message)
