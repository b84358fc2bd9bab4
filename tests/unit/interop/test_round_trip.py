"""PEFT to AIR and back with real adapters: the same bits, the same configuration, the same logits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.peft_folders import ARCHITECTURES, OPTIONS, PLAIN_OPTIONS, PeftFolders, outputs
from tests.reference.lora import module_delta, numbers
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import RowSlice
from ual_registry.air.read import read
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.binders.base import load_base
from ual_registry.errors import ForeignFormatError
from ual_registry.interop.from_peft import from_peft
from ual_registry.interop.to_peft import to_peft

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT remarks while tiny models are made


def stored(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return name, dtype, shape and bytes as the safetensors library reads them."""
    import safetensors

    raw = (folder / "adapter_model.safetensors").read_bytes()
    return {name: (row["dtype"], tuple(row["shape"]), bytes(row["data"])) for name, row in safetensors.deserialize(raw)}


def config(folder: Path) -> Any:
    return json.loads((folder / "adapter_config.json").read_text())


def through_air(folder: Path, base: Path, place: Path) -> Adapter:
    """Convert, write and read again."""
    with from_peft(folder, load_base(base)) as adapter:
        write(adapter, place / "adapter.air")
    assert validate_file(place / "adapter.air").errors == ()
    return read(place / "adapter.air")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_adapter_comes_back_bit_for_bit(
    peft_folders: PeftFolders, architecture: str, option: str, tmp_path: Path
) -> None:
    folder = peft_folders.get(architecture, option)
    with through_air(folder.path, folder.base, tmp_path) as adapter:
        to_peft(adapter, tmp_path / "back")

    assert stored(tmp_path / "back") == stored(folder.path)
    assert config(tmp_path / "back") == config(folder.path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_every_float_dtype_comes_back_bit_for_bit(
    peft_folders: PeftFolders, architecture: str, dtype: str, tmp_path: Path
) -> None:
    import safetensors.torch
    import torch

    folder = peft_folders.get(architecture, "plain")
    source = tmp_path / "cast"
    source.mkdir()
    (source / "adapter_config.json").write_bytes((folder.path / "adapter_config.json").read_bytes())
    tensors = safetensors.torch.load_file(folder.path / "adapter_model.safetensors")
    cast = {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
    safetensors.torch.save_file(cast, source / "adapter_model.safetensors")

    with through_air(source, folder.base, tmp_path) as adapter:
        to_peft(adapter, tmp_path / "back")

    assert stored(tmp_path / "back") == stored(source)
    assert {row[0] for row in stored(source).values()} == {{"float16": "F16", "bfloat16": "BF16"}.get(dtype, "F64")}


@pytest.mark.parametrize("option", ["plain", "patterns", "embeddings"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_entries_say_what_peft_computes(
    peft_folders: PeftFolders, architecture: str, option: str, tmp_path: Path
) -> None:
    """In float64 both sides sum at most five products, so that only the order of summing can differ: 1e-13."""
    import torch

    folder = peft_folders.get(architecture, option)
    model = folder.load().double()
    layers = {
        name.removeprefix("base_model.model."): layer
        for name, layer in model.named_modules()
        if hasattr(layer, "get_delta_weight")
    }
    with through_air(folder.path, folder.base, tmp_path) as adapter:
        sources = {entry.source for entry in adapter.entries}
        headless = {path for path in layers if "cls.predictions.transform" in path or path == "lm_head.dense"}
        assert sources == layers.keys() - headless
        for path in sources:
            with torch.no_grad():
                delta = layers[path].get_delta_weight("default").numpy()
            base_layer = layers[path].get_base_layer()
            is_transposed = isinstance(base_layer, torch.nn.Embedding) or type(base_layer).__name__ == "Conv1D"
            expected = delta.T if is_transposed else delta
            np.testing.assert_allclose(module_delta(adapter, path, len(expected)), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert", "t5_gated"])
def test_peft_loads_what_comes_back_and_computes_the_same(
    peft_folders: PeftFolders, architecture: str, option: str, tmp_path: Path
) -> None:
    import torch

    folder = peft_folders.get(architecture, option)
    with through_air(folder.path, folder.base, tmp_path) as adapter:
        to_peft(adapter, tmp_path / "back")

    assert torch.equal(outputs(folder.load(tmp_path / "back"), architecture), folder.logits)


@pytest.mark.parametrize("option", PLAIN_OPTIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_adapter_without_origin_becomes_plain_lora_with_the_same_logits(
    peft_folders: PeftFolders, architecture: str, option: str, tmp_path: Path
) -> None:
    import torch

    folder = peft_folders.get(architecture, option)
    with through_air(folder.path, folder.base, tmp_path) as adapter:
        to_peft(Adapter(replace(adapter.manifest, origin=None), adapter.tensors), tmp_path / "plain")

    assert torch.equal(outputs(folder.load(tmp_path / "plain"), architecture), folder.logits)


def test_a_composed_configuration_says_everything_that_plain_lora_needs(
    peft_folders: PeftFolders, tmp_path: Path
) -> None:
    folder = peft_folders.get("gpt2", "patterns")
    with through_air(folder.path, folder.base, tmp_path) as adapter:
        to_peft(Adapter(replace(adapter.manifest, origin=None), adapter.tensors), tmp_path / "plain")

    # rsLoRA scaling alpha / sqrt(rank) becomes alpha / rank by an alpha of its own: alpha * sqrt(rank).
    assert config(tmp_path / "plain") == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "revision": None,
        "inference_mode": True,
        "r": 5,
        "lora_alpha": 12.0,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": True,
        "use_rslora": False,
        "use_dora": False,
        "lora_bias": False,
        "target_modules": [
            "transformer.h.0.attn.c_attn",
            "transformer.h.0.attn.c_proj",
            "transformer.h.0.mlp.c_fc",
            "transformer.h.0.mlp.c_proj",
            "transformer.h.1.attn.c_attn",
            "transformer.h.1.attn.c_proj",
            "transformer.h.1.mlp.c_fc",
            "transformer.h.1.mlp.c_proj",
        ],
        "rank_pattern": {
            r"transformer\.h\.0\.attn\.c_attn": 3,
            r"transformer\.h\.0\.attn\.c_proj": 4,
            r"transformer\.h\.0\.mlp\.c_fc": 4,
            r"transformer\.h\.0\.mlp\.c_proj": 4,
        },
        "alpha_pattern": {
            r"transformer\.h\.0\.attn\.c_attn": pytest.approx(11 * 3**0.5),
            r"transformer\.h\.1\.attn\.c_attn": pytest.approx(11 * 5**0.5),
            r"transformer\.h\.1\.attn\.c_proj": pytest.approx(6 * 5**0.5),
            r"transformer\.h\.1\.mlp\.c_fc": pytest.approx(6 * 5**0.5),
            r"transformer\.h\.1\.mlp\.c_proj": pytest.approx(6 * 5**0.5),
        },
    }


@pytest.mark.parametrize("option", ["modules_to_save", "trainable_tokens", "classifier"])
def test_an_extra_tensor_that_plain_lora_cannot_say_is_refused(
    peft_folders: PeftFolders, option: str, tmp_path: Path
) -> None:
    folder = peft_folders.get("llama", option)
    with (
        through_air(folder.path, folder.base, tmp_path) as adapter,
        pytest.raises(ForeignFormatError) as caught,
    ):
        to_peft(Adapter(replace(adapter.manifest, origin=None), adapter.tensors), tmp_path / "plain")

    (extra,) = adapter.manifest.extra
    assert caught.value.problem_code == "extra-without-origin"
    assert caught.value.message == f"{extra.name}: without the original configuration PEFT would not load this tensor"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter.air"]


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_a_missing_role_of_a_fused_module_becomes_zero_rows(
    peft_folders: PeftFolders, architecture: str, tmp_path: Path
) -> None:
    folder = peft_folders.get(architecture, "lora_bias")
    with through_air(folder.path, folder.base, tmp_path) as adapter:
        kept = tuple(entry for entry in adapter.entries if entry.role != "attention_key")
        manifest = replace(adapter.manifest, origin=None, entries=kept)
        to_peft(Adapter(manifest, adapter.tensors), tmp_path / "partial")
        (path,) = {entry.source for entry in kept if entry.layer == 0}
        expected = module_delta(Adapter(manifest, adapter.tensors), path, 48)

    layer = folder.load(tmp_path / "partial").double().base_model.model.get_submodule(path)
    delta = layer.get_delta_weight("default").detach().numpy()
    np.testing.assert_allclose(delta.T if architecture == "gpt2" else delta, expected, rtol=0, atol=1e-13)
    slots = {entry.role: entry.slice for entry in adapter.entries if entry.layer == 0}
    keys = [row for start, count in slots["attention_key"].runs() for row in range(start, start + count)]
    bias = layer.lora_B["default"].bias.detach().numpy()
    assert [row for row in range(48) if not expected[row].any() and not bias[row]] == keys


def test_the_entries_of_a_fused_module_share_their_lora_a(peft_folders: PeftFolders, tmp_path: Path) -> None:
    folder = peft_folders.get("gpt_neox", "lora_bias")
    with through_air(folder.path, folder.base, tmp_path) as adapter:
        first = {entry.role: entry for entry in adapter.entries if entry.layer == 0}
        with from_peft(folder.path, load_base(folder.base)) as converted:
            whole = numbers(converted.tensors["layers.0.attention_query.lora_A"])

        assert first.keys() == {"attention_query", "attention_key", "attention_value"}
        assert {entry.lora_A for entry in first.values()} == {"layers.0.attention_query.lora_A"}
        assert [first[role].slice for role in ("attention_query", "attention_key", "attention_value")] == [
            RowSlice(offset=offset, block=4, stride=12, count=4) for offset in (0, 4, 8)
        ]
        assert numbers(adapter.tensors["layers.0.attention_query.lora_A"]).tolist() == whole.tolist()
        assert adapter.manifest.features == ("lora-bias",)
