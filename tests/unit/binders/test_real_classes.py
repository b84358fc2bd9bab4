"""Every binder against the real transformers classes: paths, shapes, coverage, dimensions, row slices, rotary."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.peft_folders import ARCHITECTURES, model_module, tiny_config, tiny_model
from ual_registry.air.model import Stack
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import RotaryStructure, bind, describe_base, rotary_structure
from ual_registry.binders.load import binder_for, load_binders
from ual_registry.digest import Digest

pytestmark = pytest.mark.filterwarnings("ignore")

VARIANTS = {
    **{name: (name, {}) for name in ARCHITECTURES},
    "gpt2_cross": ("gpt2", {"add_cross_attention": True, "is_decoder": True}),
    "bert_cross": ("bert", {"add_cross_attention": True, "is_decoder": True}),
    "roberta_cross": ("roberta", {"add_cross_attention": True, "is_decoder": True}),
}
ENCODER_ALONE = {"T5EncoderModel", "T5ForTokenClassification"}
OLDER_NAMES = {"embed_out"}
"""The head of GPT-NeoX before transformers 5.23; its adapters keep their tensors as extras."""

CASES = [
    (variant, name)
    for variant, (architecture, _) in VARIANTS.items()
    for name in binder_for("t5" if architecture == "t5_gated" else architecture).classes
]


def base_of(config: Any) -> BaseConfig:
    """Return the config as its ``config.json`` says it."""
    text = config.to_json_string()
    return BaseConfig(label="tiny", document=json.loads(text), digest=Digest.of_bytes(text.encode()))


def variant_config(variant: str) -> Any:
    architecture, changes = VARIANTS[variant]
    return tiny_config(architecture, **changes)


def empty_model(variant: str, class_name: str) -> dict[str, Any]:
    """Return the modules of a class by path, without memory for its weights."""
    import torch

    with torch.device("meta"):
        model = getattr(model_module(VARIANTS[variant][0]), class_name)(variant_config(variant))
    return dict(model.named_modules())


def is_linear(module: Any) -> bool:
    return type(module).__name__ in ("Linear", "Conv1D")


@pytest.mark.parametrize(("variant", "class_name"), CASES)
def test_every_module_of_a_binder_is_in_the_real_class(variant: str, class_name: str) -> None:
    modules = empty_model(variant, class_name)
    binding = bind(base_of(variant_config(variant)), class_name)
    heads = {path for path, module in binding.modules.items() if module.slots[0].role == "lm_head"}
    absent = {path for path in binding.modules if path not in modules}

    if class_name in ENCODER_ALONE:
        absent -= {path for path in absent if path.startswith(f"{binding.prefix}decoder.")}
    assert absent <= heads
    for path in binding.modules.keys() & modules.keys():
        target, real = binding.modules[path], modules[path]
        assert target.is_conv1d == (type(real).__name__ == "Conv1D"), path
        stored = tuple(real.weight.shape)
        expected = (sum(slot.out_features for slot in target.slots), target.slots[0].in_features)
        assert (stored if type(real).__name__ == "Linear" else stored[::-1]) == expected, path
        assert {slot.in_features for slot in target.slots} == {expected[1]}, path


@pytest.mark.parametrize(("variant", "class_name"), CASES)
def test_a_binder_misses_no_linear_module_of_the_real_class(variant: str, class_name: str) -> None:
    modules = empty_model(variant, class_name)
    binding = bind(base_of(variant_config(variant)), class_name)
    linear = {path for path, module in modules.items() if is_linear(module) or type(module).__name__ == "Embedding"}

    assert {path for path in linear if not binding.knows(path)} == set()
    blocks = tuple(binding.prefix + layout.path.partition("{layer}")[0] for layout in binding.binder.stacks)
    assert {path for path in linear if path.startswith(blocks) and is_linear(modules[path])} <= binding.modules.keys()


@pytest.mark.parametrize("architecture", [binder.architecture for binder in load_binders()])
def test_every_module_without_a_role_is_in_some_real_class(architecture: str) -> None:
    binder = binder_for(architecture)
    for pattern in binder.without_role:
        paths = {name: pattern.format(backbone=prefix) for name, prefix in binder.classes.items()}
        holders = [name for name, path in paths.items() if path in empty_model(architecture, name)]
        assert bool(holders) != (pattern in OLDER_NAMES), pattern


@pytest.mark.parametrize("architecture", [binder.architecture for binder in load_binders()])
def test_a_binder_lists_every_public_class_of_its_config(architecture: str) -> None:
    import transformers

    module = model_module(architecture)
    config = type(tiny_config(architecture))
    public = [getattr(module, name) for name in module.__all__]
    models = {
        kind.__name__
        for kind in public
        if isinstance(kind, type)
        and issubclass(kind, transformers.PreTrainedModel)
        and kind.config_class is config
        and not kind.__name__.endswith("PreTrainedModel")
    }
    assert set(binder_for(architecture).classes) == models


ONE = {
    "hidden_size": 16,
    "num_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 4,
    "intermediate_size": 24,
}
DIMENSIONS = {
    "llama": [{**ONE, "num_key_value_heads": 2, "head_dim": 8}],
    "gemma3_text": [{**ONE, "num_key_value_heads": 2, "head_dim": 8}],
    "qwen2": [{**ONE, "num_key_value_heads": 2}],
    "gpt2": [{**ONE, "intermediate_size": 64}],
    "gpt_neox": [ONE],
    "bert": [ONE],
    "roberta": [ONE],
    "t5": [{**ONE, "name": "encoder", "head_dim": 8}, {**ONE, "name": "decoder", "num_layers": 3, "head_dim": 8}],
}


@pytest.mark.parametrize("architecture", DIMENSIONS)
def test_the_dimensions_of_a_base_model_are_read_from_its_config(architecture: str) -> None:
    base = describe_base(base_of(tiny_config(architecture)), id="org/tiny", revision="abc")

    assert base.stacks == tuple(Stack(**sizes) for sizes in DIMENSIONS[architecture])
    assert (base.id, base.revision, base.vocab_size) == ("org/tiny", "abc", 32)
    assert (base.architecture, base.model_type) == (architecture, architecture)


@pytest.mark.parametrize(
    ("architecture", "changes", "rotated"),
    [
        ("llama", {}, 8),
        ("gemma3_text", {}, 8),
        ("qwen2", {}, 4),
        ("gpt_neox", {}, 1),
        ("gpt_neox", {"rotary_pct": 0.5}, 2),
    ],
)
def test_the_rotary_structure_is_that_of_the_real_model(
    architecture: str, changes: dict[str, Any], rotated: int
) -> None:
    config = tiny_config(architecture, **changes)
    found = rotary_structure(describe_base(base_of(config)), base_of(config))

    assert found == RotaryStructure(style="half", head_dim=DIMENSIONS[architecture][0]["head_dim"], rotated=rotated)
    model = getattr(model_module(architecture), next(iter(binder_for(architecture).classes)))(config)
    frequencies = next(buffer for name, buffer in model.named_buffers() if name.endswith("inv_freq"))
    assert len(frequencies) == (rotated + 1) // 2


@pytest.mark.parametrize("architecture", ["gpt2", "bert", "roberta", "t5"])
def test_a_model_without_rotary_positions_has_no_rotated_features(architecture: str) -> None:
    head_dim = DIMENSIONS[architecture][0]["head_dim"]
    found = rotary_structure(describe_base(base_of(tiny_config(architecture))))
    assert found == RotaryStructure(style="none", head_dim=head_dim, rotated=0)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_the_slices_of_a_fused_weight_are_what_the_model_splits(architecture: str) -> None:
    """What reaches the attention function as query, key and value is the sliced rows of the weight times the input."""
    import torch

    model = tiny_model(architecture, ARCHITECTURES[architecture].causal)
    binding = bind(base_of(model.config))
    (target,) = (item for path, item in binding.modules.items() if len(item.slots) == 3 and ".0." in path)
    fused = model.get_submodule(target.path)
    captured = capture_attention(model, architecture)
    seen: list[Any] = []
    fused.register_forward_hook(lambda _module, args, _output: seen.append(args[0]))
    with torch.no_grad():
        model(input_ids=torch.arange(2, 8)[None])

    weight = fused.weight.T if target.is_conv1d else fused.weight
    for slot, got in zip(target.slots, captured[:3], strict=True):
        rows = [row for start, count in slot.rows.runs() for row in range(start, start + count)]
        expected = seen[0] @ weight[rows].T + fused.bias[rows]  # (batch, position, heads * head_dim)
        heads = expected.unflatten(-1, (4, 4)).transpose(1, 2)
        torch.testing.assert_close(got, heads, rtol=0, atol=1e-6, msg=slot.role)


def capture_attention(model: Any, architecture: str) -> list[Any]:
    """Return a list that query, key and value of the first block are put into, before rotation."""
    from transformers import AttentionInterface

    module = model_module(architecture)
    captured: list[Any] = []
    if architecture == "gpt_neox":
        # Rotation acts between the split and the attention; with no angle it is the identity.
        rotary = model.gpt_neox.rotary_emb
        rotary.inv_freq.zero_()
    original = module.eager_attention_forward

    def spy(owner: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        captured.extend((query, key, value))
        return original(owner, query, key, value, *args, **kwargs)

    AttentionInterface.register("spy", spy)
    model.config._attn_implementation = "spy"
    return captured


def test_the_cross_attention_slices_of_gpt2_are_what_the_model_splits() -> None:
    import torch

    config = tiny_config("gpt2", add_cross_attention=True, is_decoder=True)
    torch.manual_seed(3)
    attention = model_module("gpt2").GPT2Attention(config, is_cross_attention=True, layer_idx=0)
    binding = bind(base_of(config))
    target = binding.modules["transformer.h.0.crossattention.c_attn"]
    states = torch.randn(1, 6, 16)

    key, value = attention.c_attn(states).split(16, dim=2)  # as GPT2Attention.forward does

    assert [slot.role for slot in target.slots] == ["cross_attention_key", "cross_attention_value"]
    for slot, expected in zip(target.slots, (key, value), strict=True):
        rows = [row for start, count in slot.rows.runs() for row in range(start, start + count)]
        got = states @ attention.c_attn.weight.T[rows].T + attention.c_attn.bias[rows]
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
