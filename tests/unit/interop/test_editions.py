"""Adapters under the names that modules had in older versions of transformers: to AIR, back, and to current names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.interop.test_round_trip import config, stored, through_air
from ual_registry.air.adapter import Adapter
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.binders.base import BaseConfig, load_base
from ual_registry.binders.load import known_model_types
from ual_registry.cli.main import run
from ual_registry.digest import Digest
from ual_registry.errors import BaseMismatchError, BinderDataError, ForeignFormatError, UnresolvedModuleError
from ual_registry.interop.editions import to_edition
from ual_registry.interop.from_peft import from_peft
from ual_registry.interop.peft_parameters import MISTAKEN_MODEL_TYPES
from ual_registry.interop.to_peft import to_peft
from ual_registry.tensors import entry_factors
from ual_registry.transfers.plan import make_plan
from ual_registry.transfers.run import run_transfer

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT remarks while tiny models are made

_COMMON: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32,
    "pad_token_id": 0,
}
_W = ("w1", "w3", "w2")
_PROJ = ("gate_proj", "up_proj", "down_proj")
KINDS: dict[str, tuple[str, str, dict[str, Any], str, tuple[str, str, str]]] = {
    "mixtral": (
        "MixtralConfig",
        "MixtralForCausalLM",
        {**_COMMON, "intermediate_size": 12, "num_local_experts": 4},
        "block_sparse_moe",
        _W,
    ),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        {**_COMMON, "intermediate_size": 20, "moe_intermediate_size": 12, "num_experts": 4},
        "mlp",
        _PROJ,
    ),
    "olmoe": (
        "OlmoeConfig",
        "OlmoeForCausalLM",
        {**{k: v for k, v in _COMMON.items() if k != "head_dim"}, "intermediate_size": 12, "num_experts": 4},
        "mlp",
        _PROJ,
    ),
}
"""Config class, model class, settings, and in the older edition the block's module and the three of an expert."""

Shapes = dict[str, tuple[int, int]]


def experts_of(kind: str, names: tuple[str, ...] | None = None) -> Shapes:
    """Return (in, out) of the modules of every expert by their paths in the older edition."""
    _, _, _, block, own = KINDS[kind]
    widths = dict(zip(own, ((16, 12), (16, 12), (12, 16)), strict=True))
    return {
        f"model.layers.{layer}.{block}.experts.{expert}.{name}": widths[name]
        for layer in (0, 1)
        for expert in range(4)
        for name in names or own
    }


def queries_of(kind: str) -> Shapes:
    return {f"model.layers.{layer}.self_attn.q_proj": (16, 16 if kind == "olmoe" else 32) for layer in (0, 1)}


def write_folder(place: Path, modules: Shapes, *, ranks: dict[str, int] | None = None, **options: Any) -> Path:
    """Write what an older PEFT has saved: random factors, and a configuration that names modules by their ends."""
    import safetensors.numpy

    rng = np.random.default_rng(5)
    targets = sorted({path.rpartition(".")[2] for path in modules})
    known = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 7, "target_modules": targets}
    tensors = {}
    for path, (into, out) in modules.items():
        rank = (ranks or {}).get(path, known["r"])
        for factor, shape in (("lora_A", (rank, into)), ("lora_B", (out, rank))):
            tensors[f"base_model.model.{path}.{factor}.weight"] = rng.normal(size=shape).astype(np.float32) / 4
    place.mkdir(parents=True)
    safetensors.numpy.save_file(tensors, place / "adapter_model.safetensors", {"format": "pt"})
    settings = {**known, "base_model_name_or_path": "base", "rank_pattern": dict(ranks or {}), **options}
    (place / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return place


def base_folder(place: Path, kind: str) -> Path:
    """Save a tiny model of the current edition."""
    import torch
    import transformers

    torch.manual_seed(0)
    config_class, model_class, settings, _, _ = KINDS[kind]
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**settings)).eval()
    model.save_pretrained(place / "base")
    return place / "base"


def loaded(base: Path, folder: Path, kind: str) -> Any:
    """Return the base model with an adapter, as PEFT loads it."""
    import peft
    import transformers

    model = getattr(transformers, KINDS[kind][1]).from_pretrained(base).eval()
    return peft.PeftModel.from_pretrained(model, folder).eval()


def lora_of(model: Any) -> dict[str, tuple[Any, float]]:
    """Return every factor with its layer's scaling."""
    found = {}
    for name, layer in model.named_modules():
        if hasattr(layer, "lora_A"):
            for factor in ("lora_A", "lora_B"):
                numbers = getattr(layer, factor)["default"].weight.detach().numpy()
                found[f"{name}.{factor}"] = (numbers, layer.scaling["default"])
    return found


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.arange(1, 9).reshape(1, 8)).logits.numpy()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_older_adapter_comes_back_bit_for_bit_under_its_names(kind: str, tmp_path: Path) -> None:
    base = base_folder(tmp_path, kind)
    folder = write_folder(tmp_path / "old", {**queries_of(kind), **experts_of(kind)})
    with through_air(folder, base, tmp_path) as adapter:
        assert {(entry.source, entry.expert, entry.slice) for entry in adapter.entries if entry.expert == 3} == {
            (path, 3, None) for path in experts_of(kind) if ".3." in path
        }
        to_peft(adapter, tmp_path / "back")

    assert stored(tmp_path / "back") == stored(folder)
    assert config(tmp_path / "back") == config(folder)


def test_the_current_names_hold_what_peft_makes_of_the_older_ones(kind: str, tmp_path: Path) -> None:
    base = base_folder(tmp_path, kind)
    folder = write_folder(tmp_path / "old", {**queries_of(kind), **experts_of(kind)})
    with through_air(folder, base, tmp_path) as adapter:
        moved = to_edition(adapter, load_base(base))
        write(moved, tmp_path / "moved.air")
        assert validate_file(tmp_path / "moved.air").errors == ()
        to_peft(moved, tmp_path / "new")

    by_peft, by_us = loaded(base, folder, kind), loaded(base, tmp_path / "new", kind)
    expected, found = lora_of(by_peft), lora_of(by_us)
    assert found.keys() == expected.keys()
    assert {name: scaling for name, (_, scaling) in found.items()} == {
        name: scaling for name, (_, scaling) in expected.items()
    }
    for name, (numbers, _) in expected.items():
        np.testing.assert_array_equal(found[name][0], numbers)
    assert (logits(by_us) == logits(by_peft)).all()
    assert len(expected) == 2 * (2 + 4)


def test_every_entry_says_the_same_under_other_names(kind: str, tmp_path: Path) -> None:
    base = base_folder(tmp_path, kind)
    with from_peft(write_folder(tmp_path / "old", experts_of(kind)), load_base(base)) as adapter:
        moved = to_edition(adapter, load_base(base))
        again = to_edition(moved, load_base(base), "transformers-4")
        for label, other in (("moved", moved), ("again", again)):
            assert [entry.key for entry in other.entries] == [entry.key for entry in adapter.entries], label
            for before, after in zip(adapter.entries, other.entries, strict=True):
                old, new = entry_factors(adapter, before), entry_factors(other, after)
                assert (new.lora_B @ new.lora_A == old.lora_B @ old.lora_A).all()
    sources = [entry.source for entry in adapter.entries]
    assert [entry.source for entry in again.entries] == sources
    block = "model.layers.0.mlp.experts"
    assert {entry.source for entry in moved.entries if entry.layer == 0} == {
        f"{block}.down_proj",
        f"{block}.gate_up_proj",
    }
    assert to_edition(moved, load_base(base)) is moved


def test_a_gate_without_its_up_takes_the_current_names(tmp_path: Path) -> None:
    """PEFT refuses it; rows that no entry holds are zeros."""
    base = base_folder(tmp_path, "mixtral")
    folder = write_folder(tmp_path / "old", experts_of("mixtral", ("w1",)))
    with from_peft(folder, load_base(base)) as adapter:
        to_peft(to_edition(adapter, load_base(base)), tmp_path / "new")

    with pytest.raises(ValueError, match="w1 without also targeting w3"):
        loaded(base, folder, "mixtral")
    with from_peft(tmp_path / "new", load_base(base)) as back:
        ups = [entry for entry in back.entries if entry.role == "mlp_up"]
        assert {entry.role for entry in back.entries} == {"mlp_gate", "mlp_up"}
        assert all(not any(back.tensors[entry.lora_B].to_bytes()) for entry in ups)


def _first(kind: str, name: str) -> str:
    return f"model.layers.0.{KINDS[kind][3]}.experts.0.{name}"


def refusal(folder: Path, base: Path, edition: str | None = None) -> str:
    with from_peft(folder, load_base(base)) as adapter, pytest.raises(ForeignFormatError) as caught:
        to_edition(adapter, load_base(base), edition)
    assert caught.value.problem_code == "other-edition"
    return caught.value.message


def test_experts_of_several_ranks_have_no_current_names(tmp_path: Path) -> None:
    base = base_folder(tmp_path, "mixtral")
    ranks = {_first("mixtral", "w2"): 5}
    alphas = dict.fromkeys(ranks, 7 * 5 / 3)
    folder = write_folder(tmp_path / "old", experts_of("mixtral"), ranks=ranks, alpha_pattern=alphas)
    assert refusal(folder, base) == (
        "model.layers.0.mlp.experts.down_proj: would hold 4 entries, from layers.0.mlp_down.experts.0 on, "
        "whose rank differs: 3, 5"
    )


def test_gate_and_up_of_two_scalings_have_no_current_names(tmp_path: Path) -> None:
    base = base_folder(tmp_path, "mixtral")
    folder = write_folder(tmp_path / "old", experts_of("mixtral"), alpha_pattern={"w1": 6})
    assert refusal(folder, base) == (
        "model.layers.0.mlp.experts.gate_up_proj: would hold 2 entries, from layers.0.mlp_gate.experts.0 on, "
        "whose scaling differs: 2.0, 2.3333333333333335"
    )


def test_gate_and_up_of_two_ranks_take_the_current_names(tmp_path: Path) -> None:
    base = base_folder(tmp_path, "mixtral")
    ranks, alphas = {"w1": 6}, {"w1": 14}
    every = dict.fromkeys(experts_of("mixtral", ("w1",)), 6)
    folder = write_folder(
        tmp_path / "old", experts_of("mixtral"), ranks=every, rank_pattern=ranks, alpha_pattern=alphas
    )
    with from_peft(folder, load_base(base)) as adapter:
        moved = to_edition(adapter, load_base(base))
        assert {(entry.role, entry.rank) for entry in moved.entries} == {
            ("mlp_down", 3),
            ("mlp_gate", 9),
            ("mlp_up", 9),
        }
        to_peft(moved, tmp_path / "new")
        with from_peft(tmp_path / "new", load_base(base)) as back:
            for before, after in zip(adapter.entries, back.entries, strict=True):
                old, new = entry_factors(adapter, before), entry_factors(back, after)
                np.testing.assert_array_equal((new.lora_B @ new.lora_A).numpy(), (old.lora_B @ old.lora_A).numpy())


def test_a_router_that_is_linear_no_more_has_no_current_name(tmp_path: Path) -> None:
    base = base_folder(tmp_path, "mixtral")
    gates = {"model.layers.1.block_sparse_moe.gate": (16, 4)}
    folder = write_folder(tmp_path / "old", {**queries_of("mixtral"), **gates})
    with through_air(folder, base, tmp_path) as adapter:
        assert [entry.source for entry in adapter.entries if entry.role == "moe_router"] == list(gates)
        to_peft(adapter, tmp_path / "back")
    assert stored(tmp_path / "back") == stored(folder)
    assert refusal(folder, base) == ("layers.1.moe_router: no module in edition transformers-5 that LoRA could act on")


def test_a_magnitude_of_an_expert_has_no_current_name(tmp_path: Path) -> None:
    import safetensors.numpy

    base = base_folder(tmp_path, "mixtral")
    folder = write_folder(tmp_path / "old", experts_of("mixtral"), use_dora=True)
    file = folder / "adapter_model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    for path, (_, out) in experts_of("mixtral").items():
        tensors[f"base_model.model.{path}.lora_magnitude_vector"] = np.ones(out, np.float32)
    safetensors.numpy.save_file(tensors, file, {"format": "pt"})
    assert refusal(folder, base) == (
        "layers.0.mlp_down.experts.0: holds a magnitude or a bias, which parameters such as "
        "model.layers.0.mlp.experts.down_proj cannot have"
    )


def test_tensors_without_a_role_have_no_current_names(tmp_path: Path) -> None:
    base = llava_base()
    vision = {"vision_tower.vision_model.encoder.layers.0.mlp.fc1": (8, 12)}
    folder = write_folder(tmp_path / "old", {**llava_modules("language_model.model."), **vision})
    with from_peft(folder, base) as adapter, pytest.raises(ForeignFormatError) as caught:
        to_edition(adapter, base)
    assert caught.value.message == (
        "base_model.model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.lora_A.weight: a tensor without a role "
        "cannot take the names of edition transformers-5"
    )


def test_another_base_model_is_refused(tmp_path: Path) -> None:
    base = base_folder(tmp_path, "mixtral")
    other = replace(load_base(base), digest=Digest.of_bytes(b"other"))
    with from_peft(write_folder(tmp_path / "old", experts_of("mixtral")), load_base(base)) as adapter:
        with pytest.raises(BaseMismatchError, match="its digest is"):
            to_edition(adapter, other)
        with pytest.raises(BinderDataError) as caught:
            to_edition(adapter, load_base(base), "transformers-3")
    assert caught.value.message == (
        "binder mixtral: model_type 'mixtral' has no edition 'transformers-3' (known: transformers-5, transformers-4)"
    )


def test_names_of_two_editions_do_not_go_together(tmp_path: Path) -> None:
    base = base_folder(tmp_path, "mixtral")
    modules = {"model.layers.0.mlp.experts.0.w1": (16, 12), _first("mixtral", "w1"): (16, 12)}
    with pytest.raises(UnresolvedModuleError, match=r"model\.layers\.0\.mlp\.experts\.0\.w1: no such module"):
        from_peft(write_folder(tmp_path / "old", modules), load_base(base))


def llava_base() -> BaseConfig:
    text = {**_COMMON, "model_type": "llama", "intermediate_size": 24}
    document = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "text_config": text}
    return BaseConfig(label="llava", document=document, digest=Digest.of_bytes(b"llava"))


def llava_modules(prefix: str, head: str = "language_model.lm_head") -> Shapes:
    return {
        f"{prefix}layers.1.self_attn.q_proj": (16, 32),
        f"{prefix}layers.0.mlp.down_proj": (24, 16),
        head: (16, 32),
    }


def test_a_text_model_inside_another_keeps_its_older_prefix_and_takes_the_current_one(tmp_path: Path) -> None:
    base = llava_base()
    folder = write_folder(tmp_path / "old", llava_modules("language_model.model."))
    with from_peft(folder, base) as adapter:
        assert adapter.manifest.base_model.model_class == "LlavaForConditionalGeneration"
        to_peft(adapter, tmp_path / "back")
        moved = to_edition(adapter, base)
        to_peft(moved, tmp_path / "new")
        assert isinstance(moved, Adapter)

    assert stored(tmp_path / "back") == stored(folder)
    renamed = {
        name.replace("language_model.model.", "model.language_model.").replace("language_model.lm_head", "lm_head"): of
        for name, of in stored(folder).items()
    }
    assert stored(tmp_path / "new") == renamed
    assert config(tmp_path / "new")["target_modules"] == sorted(llava_modules("model.language_model.", "lm_head"))


def test_an_older_adapter_is_transferred_as_one_with_current_names(tmp_path: Path) -> None:
    base = base_folder(tmp_path, "mixtral")
    folder = write_folder(tmp_path / "old", {**queries_of("mixtral"), **experts_of("mixtral")})
    with from_peft(folder, load_base(base)) as adapter:
        plan = make_plan(adapter.manifest, load_base(base))
        assert plan.counts() == {"kept": 26, "projected": 0, "dropped": 0}
        result = run_transfer(adapter, plan, method="svd", source_digest=Digest.of_bytes(b""))
        to_peft(result.adapter, tmp_path / "new")
        expected = logits(loaded(base, folder, "mixtral"))
    np.testing.assert_allclose(logits(loaded(base, tmp_path / "new", "mixtral")), expected, rtol=0, atol=1e-5)


def test_the_command_line_writes_the_names_of_an_edition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = base_folder(tmp_path, "mixtral")
    folder = write_folder(tmp_path / "old", experts_of("mixtral"))
    air, new, again = (str(tmp_path / name) for name in ("a.air", "new", "again"))
    assert run(["convert", str(folder), air, "--base", str(base)]) == 0
    assert run(["convert", air, new, "--edition", "transformers-5", "--base", str(base)]) == 0
    with from_peft(folder, load_base(base)) as adapter:
        to_peft(to_edition(adapter, load_base(base)), tmp_path / "expected")
    assert stored(Path(new)) == stored(tmp_path / "expected")
    assert config(Path(new)) == config(tmp_path / "expected")
    assert run(["convert", air, again]) == 0
    assert stored(Path(again)) == stored(folder)

    capsys.readouterr()
    assert run(["convert", air, str(tmp_path / "other"), "--edition", "transformers-5"]) == 4
    asked = capsys.readouterr().err.splitlines()[0]
    assert asked == f"error [no-base]: {air}: which base model was it trained on?"
    assert run(["convert", str(folder), air, "--base", str(base), "--edition", "transformers-5", "--force"]) == 2
    assert capsys.readouterr().err.endswith("Error: --edition belongs to converting an AIR file to a PEFT folder\n")


def granite_base() -> BaseConfig:
    document = {
        **{key: value for key, value in _COMMON.items() if key != "head_dim"},
        "model_type": "granitemoe",
        "architectures": ["GraniteMoeForCausalLM"],
        "intermediate_size": 12,
        "num_local_experts": 4,
    }
    return BaseConfig(label="granite", document=document, digest=Digest.of_bytes(b"granite"))


def test_parameters_of_all_experts_take_their_current_names(tmp_path: Path) -> None:
    base, block = granite_base(), "model.layers.1.block_sparse_moe"
    modules = {f"{block}.input_linear": (16, 24), f"{block}.output_linear": (12, 16)}
    parameters = ["input_linear.weight", "output_linear.weight"]
    stacked = write_folder(
        tmp_path / "old", modules, ranks=dict.fromkeys(modules, 3 * 4), rank_pattern={}, target_modules=[]
    )
    settings = config(stacked) | {"target_parameters": parameters}
    (stacked / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with from_peft(stacked, base) as adapter:
        assert {entry.source for entry in adapter.entries} == {f"{path}.weight" for path in modules}
        to_peft(adapter, tmp_path / "back")
        assert stored(tmp_path / "back") == stored(stacked)
        moved = to_edition(adapter, base)
        assert {entry.source for entry in moved.entries} == {
            f"{block}.experts.gate_up_proj",
            f"{block}.experts.down_proj",
        }
        to_peft(moved, tmp_path / "new")
        names = {"input_linear": "experts.base_layer", "output_linear": "experts"}
        renamed = {
            name.replace(f"{block}.{old}", f"{block}.{new}"): of
            for name, of in stored(stacked).items()
            for old, new in names.items()
            if f".{old}." in name
        }
        assert stored(tmp_path / "new") == renamed


def test_a_dense_mlp_that_peft_takes_for_experts_is_refused(tmp_path: Path) -> None:
    """Where the configuration came with the adapter, it stays as it is."""
    document = {**KINDS["qwen3_moe"][2], "model_type": "qwen3_moe", "mlp_only_layers": [0]}
    base = BaseConfig(label="qwen", document=document, digest=Digest.of_bytes(b"qwen"))
    dense = {f"model.layers.0.mlp.{name}": (20, 16) if name == "down_proj" else (16, 20) for name in _PROJ}
    sparse = {path: of for path, of in experts_of("qwen3_moe").items() if ".layers.1." in path}
    with from_peft(write_folder(tmp_path / "old", {**dense, **sparse}), base) as adapter:
        to_peft(adapter, tmp_path / "back")
        moved = to_edition(adapter, base)
        with pytest.raises(ForeignFormatError) as caught:
            to_peft(moved, tmp_path / "new")
    assert caught.value.problem_code == "peft-mistaken"
    assert caught.value.message == (
        "model.layers.0.mlp.down_proj: PEFT would take it for a part of every expert, going by its name"
    )
    assert stored(tmp_path / "back") == stored(tmp_path / "old")


def test_the_model_types_whose_targets_peft_replaces_are_those_of_peft() -> None:
    from peft.utils import transformers_weight_conversion as conversion

    replaced = {
        model_type
        for model_type, pattern in conversion._MODEL_TO_CONVERSION_PATTERN.items()
        if "gate_proj" in conversion._MOE_TARGET_MODULE_MAPPING.get(pattern, {})
    }
    assert replaced & set(known_model_types()) == MISTAKEN_MODEL_TYPES
