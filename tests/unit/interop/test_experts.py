"""Mixtures of experts whose weights are one parameter: from PEFT to AIR and back, bit for bit and logit for logit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.interop.test_round_trip import config, stored, through_air
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import RowSlice
from ual_registry.air.read import read
from ual_registry.air.tensor import Tensor
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.binders.base import load_base
from ual_registry.errors import BaseMismatchError, ForeignFormatError
from ual_registry.interop.expert_factors import stack_experts, unstack_experts
from ual_registry.interop.from_peft import from_peft
from ual_registry.interop.peft_config import check_config
from ual_registry.interop.to_peft import to_peft

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT remarks while tiny models are made

_COMMON = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": 32,
    "pad_token_id": 0,
}
KINDS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {**_COMMON, "intermediate_size": 12}, "mlp"),
    "gpt_oss": ("GptOssConfig", "GptOssForCausalLM", {**_COMMON, "intermediate_size": 16}, "mlp"),
    "llama4_text": (
        "Llama4TextConfig",
        "Llama4ForCausalLM",
        {**_COMMON, "intermediate_size": 12, "intermediate_size_mlp": 20, "interleave_moe_layer_step": 1},
        "feed_forward",
    ),
}
"""Config class, model class, settings, and the block's module that holds the experts, by kind."""
_BOTH = ("experts.gate_up_proj", "experts.down_proj")


def make_folder(place: Path, kind: str, *, parameters: tuple[str, ...] = _BOTH, **options: Any) -> tuple[Path, Path]:
    """Save a base model and an adapter of its experts; return both folders."""
    import peft
    import torch
    import transformers

    config_class, model_class, settings, module = KINDS[kind]
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**settings)).eval()
    model.save_pretrained(place / "base")
    lora = {"r": 3, "lora_alpha": 7, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **options}
    lora["target_parameters"] = [f"{module}.{name}" for name in parameters]
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**lora))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) / 4)
    wrapped.save_pretrained(place / "peft")
    return place / "base", place / "peft"


def logits(base: Path, folder: Path, kind: str) -> Any:
    """Return what the model says with an adapter."""
    import peft
    import torch
    import transformers

    model = getattr(transformers, KINDS[kind][1]).from_pretrained(base).eval()
    with torch.no_grad():
        return peft.PeftModel.from_pretrained(model, folder).eval()(torch.arange(1, 9).reshape(1, 8)).logits.numpy()


def deltas(base: Path, folder: Path, kind: str) -> dict[str, Any]:
    """Return the updates of the expert parameters as PEFT computes them, (experts, two axes) by path."""
    import peft
    import torch
    import transformers
    from peft.tuners.lora.layer import ParamWrapper

    model = getattr(transformers, KINDS[kind][1]).from_pretrained(base)
    wrapped = peft.PeftModel.from_pretrained(model, folder)
    with torch.no_grad():
        return {
            f"{name.removeprefix('base_model.model.').replace('.base_layer', '')}.{module.parameter_name}": (
                module.get_delta_weight("default").numpy()
            )
            for name, module in wrapped.named_modules()
            if isinstance(module, ParamWrapper)
        }


@pytest.mark.parametrize("parameters", [_BOTH, _BOTH[:1], _BOTH[1:]])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_experts_comes_back_bit_for_bit(kind: str, parameters: tuple[str, ...], tmp_path: Path) -> None:
    base, folder = make_folder(tmp_path, kind, parameters=parameters)
    with through_air(folder, base, tmp_path) as adapter:
        to_peft(adapter, tmp_path / "back")

    assert stored(tmp_path / "back") == stored(folder)
    assert config(tmp_path / "back") == config(folder)
    assert (logits(base, tmp_path / "back", kind) == logits(base, folder, kind)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_original_configuration_it_says_the_same(kind: str, tmp_path: Path) -> None:
    base, folder = make_folder(tmp_path, kind)
    with from_peft(folder, load_base(base)) as adapter:
        to_peft(Adapter(replace(adapter.manifest, origin=None), adapter.tensors), tmp_path / "back")

    prefix = "model.layers"
    found = config(tmp_path / "back")
    module = KINDS[kind][3]
    assert found["target_modules"] == [f"{prefix}.{layer}.self_attn.q_proj" for layer in (0, 1)]
    assert found["target_parameters"] == [
        f"{prefix}.{layer}.{module}.experts.{name}" for layer in (0, 1) for name in ("down_proj", "gate_up_proj")
    ]
    assert stored(tmp_path / "back") == stored(folder)
    assert (logits(base, tmp_path / "back", kind) == logits(base, folder, kind)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_expert_has_the_update_that_peft_gives_it(kind: str, tmp_path: Path) -> None:
    base, folder = make_folder(tmp_path, kind)
    expected = deltas(base, folder, kind)
    is_stored_in_out = kind != "mixtral"
    with from_peft(folder, load_base(base)) as adapter:
        for entry in adapter.entries:
            if entry.expert is None:
                continue
            lora_A, lora_B = (_numbers(adapter.tensors[name]) for name in (entry.lora_A, entry.lora_B))
            whole = expected[str(entry.source)][entry.expert]
            matrix = whole.T if is_stored_in_out else whole
            rows = entry.slice or RowSlice(offset=0, block=entry.out_features, stride=1, count=1)
            taken = [row for start, count in rows.runs() for row in range(start, start + count)]
            np.testing.assert_allclose(entry.scaling * lora_B @ lora_A, matrix[taken], rtol=1e-5, atol=1e-6)


def _numbers(tensor: Tensor) -> Any:
    return np.frombuffer(tensor.to_bytes(), "<f4").reshape(tensor.shape)


def test_entries_say_which_expert_and_which_rows(tmp_path: Path) -> None:
    base, folder = make_folder(tmp_path, "gpt_oss", target_modules=[])
    with from_peft(folder, load_base(base)) as adapter:
        found = [
            (entry.label, entry.source, entry.lora_A, entry.rank, entry.slice)
            for entry in adapter.entries
            if entry.layer == 1 and entry.expert == 3
        ]
    experts = "model.layers.1.mlp.experts"
    gate = "layers.1.mlp_gate.experts.3"
    assert found == [
        ("layers.1.mlp_down.experts.3", f"{experts}.down_proj", "layers.1.mlp_down.experts.3.lora_A", 3, None),
        (gate, f"{experts}.gate_up_proj", f"{gate}.lora_A", 3, RowSlice(offset=0, block=1, stride=2, count=16)),
        (
            "layers.1.mlp_up.experts.3",
            f"{experts}.gate_up_proj",
            f"{gate}.lora_A",
            3,
            RowSlice(offset=1, block=1, stride=2, count=16),
        ),
    ]


def test_a_parameter_may_have_its_own_rank_and_alpha(tmp_path: Path) -> None:
    patterns = {"rank_pattern": {"experts.down_proj": 2}, "alpha_pattern": {"experts.down_proj": 5}}
    base, folder = make_folder(tmp_path, "mixtral", **patterns)
    with through_air(folder, base, tmp_path) as adapter:
        numbers = {(entry.role, entry.rank, entry.scaling) for entry in adapter.entries}
        to_peft(adapter, tmp_path / "back")
    assert numbers == {
        ("attention_query", 3, 7 / 3),
        ("mlp_down", 2, 2.5),
        ("mlp_gate", 3, 7 / 3),
        ("mlp_up", 3, 7 / 3),
    }
    assert stored(tmp_path / "back") == stored(folder)


def test_an_expert_without_an_entry_becomes_zeros(tmp_path: Path) -> None:
    base, folder = make_folder(tmp_path, "mixtral")
    with from_peft(folder, load_base(base)) as adapter:
        kept = tuple(
            entry for entry in adapter.entries if (entry.expert, entry.role) in ((2, "mlp_up"), (1, "mlp_down"))
        )
        names = {name for entry in kept for name in entry.tensor_names().values()}
        tensors = {name: adapter.tensors[name] for name in names}
        write(Adapter(replace(adapter.manifest, entries=kept, origin=None), tensors), tmp_path / "few.air")
    with read(tmp_path / "few.air") as few:
        to_peft(few, tmp_path / "back")
    whole, back = deltas(base, folder, "mixtral"), deltas(base, tmp_path / "back", "mixtral")
    for path, expected in whole.items():
        left = np.zeros_like(expected)
        if path.endswith("gate_up_proj"):
            left[2, 12:] = expected[2, 12:]
        else:
            left[1] = expected[1]
        np.testing.assert_array_equal(back[path], left)


def test_experts_of_several_ranks_are_refused(tmp_path: Path) -> None:
    base, folder = make_folder(tmp_path, "mixtral")
    with from_peft(folder, load_base(base)) as adapter:
        first, *others = [entry for entry in adapter.entries if entry.role == "mlp_down" and entry.layer == 0]
        lora_A, lora_B = (adapter.tensors[name] for name in (first.lora_A, first.lora_B))
        changed = {
            first.lora_A: Tensor.of_bytes("F32", (2, 12), lora_A.to_bytes()[: 2 * 12 * 4]),
            first.lora_B: Tensor.of_bytes("F32", (16, 2), lora_B.to_bytes()[: 16 * 2 * 4]),
        }
        entries = (replace(first, rank=2), *others)
        manifest = replace(adapter.manifest, entries=entries, origin=None)
        with pytest.raises(ForeignFormatError) as caught:
            to_peft(Adapter(manifest, {**adapter.tensors, **changed}), tmp_path / "back")
    path = "model.layers.0.mlp.experts.down_proj"
    assert caught.value.problem_code == "fused-factors"
    assert (
        caught.value.message
        == f"{path}: its entries do not share one lora_A, one rank, one scaling and one set of factors"
    )


def _edited(folder: Path, change: Any) -> None:
    path = folder / "adapter_config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            lambda document: document.update(target_parameters=["mlp.experts.down_proj"]),
            ForeignFormatError,
            (
                "model.layers.0.mlp.experts.base_layer: 1 targets (model.layers.0.mlp.experts.down_proj), "
                "but factors under 2 names"
            ),
        ),
        (
            lambda document: document.update(r=4),
            ForeignFormatError,
            (
                "model.layers.0.mlp.experts.down_proj: lora_A (12, 12) and lora_B (16, 12) do not match rank 4 of "
                "adapter_config.json and 4 experts"
            ),
        ),
        (
            lambda document: document.update(use_dora=True),
            ForeignFormatError,
            "model.layers.0.mlp.experts.down_proj: use_dora is True, but the magnitude is missing",
        ),
        (
            lambda document: document.update(target_parameters="mlp.experts.down_proj"),
            ForeignFormatError,
            "adapter_config.json: target_parameters 'mlp.experts.down_proj': expected a list of strings",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change: Any, kind: type[Exception], message: str, tmp_path: Path) -> None:
    base, folder = make_folder(tmp_path, "mixtral", target_modules=[])
    _edited(folder, change)
    with pytest.raises(kind) as caught:
        from_peft(folder, load_base(base))
    assert getattr(caught.value, "message", "") == message


def test_factors_of_the_other_orientation_are_refused(tmp_path: Path) -> None:
    base, folder = make_folder(tmp_path, "mixtral", target_modules=[])
    import safetensors.torch

    path = folder / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(path)
    swapped = {
        name.replace("lora_A", "x").replace("lora_B", "lora_A").replace("x.", "lora_B."): tensor.T.contiguous()
        for name, tensor in tensors.items()
    }
    safetensors.torch.save_file(swapped, path)
    with pytest.raises(BaseMismatchError, match="features, the base model has"):
        from_peft(folder, load_base(base))


@pytest.mark.parametrize("dtypes", [("U8", "F16"), ("F32", "BF16"), ("F64", "F64")])
@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize("sizes", [(4, 3, 5, 6), (1, 2, 3, 4), (3, 1, 2, 2), (2, 6, 3, 2)])
def test_stacked_factors_are_taken_apart_as_peft_does_and_put_together_again(
    sizes: tuple[int, int, int, int], is_flipped: bool, dtypes: tuple[str, str]
) -> None:
    experts, rank, into, out = sizes
    kinds = {"U8": "u1", "F16": "<u2", "BF16": "<u2", "F32": "<u4", "F64": "<u8"}
    numbers = np.random.default_rng(0)
    ends = (out, into) if is_flipped else (into, out)
    stacked = [(rank * experts, ends[0]), (ends[1], rank * experts)]
    lora_A, lora_B = (
        numbers.integers(0, 200, shape).astype(kinds[dtype]) for shape, dtype in zip(stacked, dtypes, strict=True)
    )
    rows = [RowSlice(offset=start, block=1, stride=2, count=out // 2) for start in (0, 1)]
    tensors = [
        Tensor.of_bytes(dtype, array.shape, array.tobytes())
        for dtype, array in zip(dtypes, (lora_A, lora_B), strict=True)
    ]

    def array(item: Tensor) -> Any:
        return np.frombuffer(item.to_bytes(), kinds[item.dtype]).reshape(item.shape)

    found = unstack_experts(*tensors, rows, experts=experts, is_flipped=is_flipped)
    by_expert = lora_A.reshape(experts, rank, -1), lora_B.reshape(-1, rank, experts).transpose(2, 0, 1)
    for expert, own in enumerate(found):
        first, second = by_expert[0][expert], by_expert[1][expert]
        if is_flipped:
            first, second = second.T, first.T
        np.testing.assert_array_equal(array(own.lora_A), first)
        for part in own.parts:
            np.testing.assert_array_equal(array(part.lora_B), second[part.rows.offset :: 2])
    again = stack_experts(found, is_flipped=is_flipped)
    assert [(item.dtype, item.shape, item.to_bytes()) for item in again] == [
        (item.dtype, item.shape, item.to_bytes()) for item in tensors
    ]


def test_the_converted_file_is_legal(tmp_path: Path) -> None:
    base, folder = make_folder(tmp_path, "gpt_oss")
    with from_peft(folder, load_base(base), base_revision="0" * 40) as adapter:
        write(adapter, tmp_path / "adapter.air")
    assert validate_file(tmp_path / "adapter.air").problems == ()


def test_what_was_rearranged_may_be_forgotten_and_is_made_again(tmp_path: Path, monkeypatch: Any) -> None:
    base, folder = make_folder(tmp_path, "gpt_oss")
    monkeypatch.setattr("ual_registry.interop.expert_factors._KEPT_BYTES", 0)
    with through_air(folder, base, tmp_path) as adapter:
        to_peft(adapter, tmp_path / "back")
    assert stored(tmp_path / "back") == stored(folder)


def test_a_module_whose_weight_is_targeted_as_a_parameter_is_looked_up_by_it() -> None:
    document = {
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["q_proj"],
        "target_parameters": ["mlp.router.weight", "experts.down_proj"],
        "rank_pattern": {"router.weight": 2, "experts.down_proj": 4},
    }
    found = check_config(document)
    paths = ("layers.0.q_proj", "layers.0.mlp.router", "layers.0.mlp.experts.down_proj", "layers.0.mlp.up")
    assert [(found.targets(path), found.rank(path)) for path in paths] == [(True, 8), (True, 2), (True, 4), (False, 8)]
    none = check_config({**document, "target_modules": None})
    assert [none.targets(path) for path in paths] == [False, True, True, False]


def test_a_bias_of_a_parameter_is_refused(tmp_path: Path) -> None:
    import safetensors.torch
    import torch

    base, folder = make_folder(tmp_path, "mixtral", target_modules=[])
    path = folder / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(path)
    name = "base_model.model.model.layers.0.mlp.experts.lora_B.bias"
    safetensors.torch.save_file({**tensors, name: torch.ones(16)}, path)
    with pytest.raises(ForeignFormatError) as caught:
        from_peft(folder, load_base(base))
    source = "model.layers.0.mlp.experts.down_proj"
    assert caught.value.message == f"{source}: holds a magnitude or a bias, which PEFT has only for modules"
