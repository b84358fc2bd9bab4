"""Laws of binders: slots and (module path, rows) are one-to-one, and the slices of a fused module tile its rows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ual_registry.air.roles import ROLES
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, bind, describe_base, fused_slots
from ual_registry.binders.load import binder_for, load_binders
from ual_registry.digest import Digest

small = st.integers(1, 4)
FIELDS: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": small, "head_dim": small},
    "gemma3_text": {"intermediate_size": small, "head_dim": small},
    "qwen2": {"intermediate_size": small},
    "gpt_neox": {"intermediate_size": small},
    "bert": {"intermediate_size": small, "add_cross_attention": st.booleans()},
    "roberta": {"intermediate_size": small, "add_cross_attention": st.booleans()},
}


@st.composite
def configs(draw: st.DrawFn, architecture: str) -> BaseConfig:
    """Return a random config of a small model."""
    heads, groups, head_dim, layers = draw(small), draw(small), draw(small), draw(small)
    document: dict[str, Any] = {"model_type": architecture, "vocab_size": draw(small)}
    if architecture == "gpt2":
        document |= {"n_embd": heads * groups * head_dim, "n_head": heads * groups, "n_layer": layers}
        document |= {"n_inner": draw(st.none() | small), "add_cross_attention": draw(st.booleans())}
    elif architecture == "t5":
        document |= {"d_model": draw(small), "num_heads": heads, "d_kv": head_dim, "d_ff": draw(small)}
        document |= {"num_layers": layers, "num_decoder_layers": draw(st.none() | small)}
        document |= {"feed_forward_proj": draw(st.sampled_from(["relu", "gated-gelu"]))}
    else:
        document |= {"hidden_size": heads * groups * head_dim, "num_hidden_layers": layers}
        document |= {"num_attention_heads": heads * groups, "num_key_value_heads": draw(st.sampled_from([heads, None]))}
        document |= {name: draw(values) for name, values in FIELDS[architecture].items()}
    return BaseConfig(label="random", document=document, digest=Digest.of_bytes(b""))


def places(binding: Binding) -> list[tuple[tuple[Any, ...], tuple[str, int]]]:
    """Return ((stack, layer, role), (path, row)) for every row of every slot."""
    return [
        ((slot.stack, slot.layer, slot.role), (path, row))
        for path, module in binding.modules.items()
        for slot in module.slots
        for start, count in (slot.rows.runs() if slot.rows else [(0, slot.out_features)])
        for row in range(start, start + count)
    ]


@pytest.mark.parametrize("architecture", [binder.architecture for binder in load_binders()])
@given(data=st.data())
@settings(max_examples=25)
def test_slots_and_rows_of_modules_are_one_to_one(architecture: str, data: st.DataObject) -> None:
    config = data.draw(configs(architecture))
    for class_name in binder_for(architecture).classes:
        binding = bind(config, class_name)
        found = places(binding)

        assert len({place for _, place in found}) == len(found)  # no row belongs to two slots
        assert {key for key, _ in found} == binding.slots().keys()  # every slot has rows
        assert sum(len(module.slots) for module in binding.modules.values()) == len(binding.slots())
        for path, module in binding.modules.items():
            rows = sorted(row for _, (owner, row) in found if owner == path)
            assert rows == list(range(sum(slot.out_features for slot in module.slots)))  # slices tile exactly
            for slot in module.slots:
                assert slot.out_features == (slot.rows.rows if slot.rows else slot.out_features)
                assert ROLES[slot.role].is_per_layer == (slot.layer is not None)
        assert binding.modules.keys() & binding.without_role == set()


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
@given(data=st.data())
@settings(max_examples=15)
def test_the_slots_of_a_fused_module_are_found_from_the_manifest_alone(architecture: str, data: st.DataObject) -> None:
    config = data.draw(configs(architecture))
    base = describe_base(config)
    for path, module in bind(config).modules.items():
        if len(module.slots) > 1:
            slots, is_conv1d = fused_slots(base, None, path)
            assert [(slot.role, slot.rows) for slot in slots] == [(slot.role, slot.rows) for slot in module.slots]
            assert is_conv1d == module.is_conv1d
