"""What a PEFT folder cannot say is refused, and nothing is left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import entry, floats, llama_base, method, peft_config, peft_tensors, small_adapter, write_peft
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Extra
from ual_registry.air.tensor import Tensor
from ual_registry.errors import ForeignFormatError, UnresolvedModuleError
from ual_registry.interop.from_peft import from_peft
from ual_registry.interop.patterns import match_pattern, refuse_costly_patterns
from ual_registry.interop.peft_config import PeftConfig
from ual_registry.interop.peft_names import PeftName, join_name, split_name
from ual_registry.interop.to_peft import to_peft

FUSED = "gpt_neox.layers.0.attention.query_key_value"


def plain(**changes: Any) -> Adapter:
    """Return the small adapter without its extra tensor."""
    made = small_adapter(extra=(), features=(), **changes)
    names = {name for item in made.entries for name in item.tensor_names().values()}
    return Adapter(made.manifest, {name: made.tensors.get(name, floats(4)) for name in names})


def changed(index: int, **fields: Any) -> Adapter:
    entries = list(small_adapter().entries)
    entries[index] = replace(entries[index], **fields)
    return plain(entries=tuple(entries))


def mixed_widths() -> Adapter:
    made = plain()
    halves = Tensor.of_bytes("F16", (4, 2), bytes(16))
    return Adapter(made.manifest, {**made.tensors, "layers.0.attention_key.lora_B": halves})


def with_magnitudes() -> Adapter:
    entries = tuple(
        replace(item, magnitude=f"{item.label}.magnitude") for item in small_adapter().entries if item.slice
    )
    return plain(entries=entries)


def two_names() -> Adapter:
    made = plain()
    name = f"base_model.model.{FUSED}.lora_A.weight"
    manifest = replace(made.manifest, extra=(Extra(tensor=f"extra.{name}", name=name),))
    return Adapter(manifest, {**made.tensors, f"extra.{name}": floats(1)})


@pytest.mark.parametrize(
    ("adapter_", "code", "message"),
    [
        (
            changed(2, source=None),
            "no-module-path",
            "layers.0.mlp_up: no source, so its module path is unknown",
        ),
        (
            changed(0, scaling=3.0),
            "fused-factors",
            f"{FUSED}: its entries do not share one lora_A, one rank, one scaling and one set of factors",
        ),
        (
            changed(0, bias="layers.0.attention_key.bias"),
            "fused-factors",
            f"{FUSED}: its entries do not share one lora_A, one rank, one scaling and one set of factors",
        ),
        (
            changed(0, slice=None),
            "fused-factors",
            f"{FUSED}.lora_B: rows 0 to 4 are held twice or by no slice",
        ),
        (mixed_widths(), "fused-factors", f"{FUSED}.lora_B: the slices differ in dtype or width"),
        (
            with_magnitudes(),
            "fused-factors",
            f"{FUSED}: no entry of attention_value, whose magnitude is a row norm of the base model's weight",
        ),
        (
            changed(2, magnitude="layers.0.mlp_up.magnitude"),
            "mixed-dora",
            "some entries have a magnitude and some have none, use_dora is one for all",
        ),
        (
            two_names(),
            "repeated-name",
            f"base_model.model.{FUSED}.lora_A.weight: held by an entry and by an extra tensor",
        ),
        (
            small_adapter(),
            "extra-without-origin",
            "base_model.model.score.weight: without the original configuration PEFT would not load this tensor",
        ),
    ],
)
def test_what_peft_cannot_say_is_refused(tmp_path: Path, adapter_: Adapter, code: str, message: str) -> None:
    with pytest.raises(ForeignFormatError) as caught:
        to_peft(adapter_, tmp_path / "out")
    assert (caught.value.problem_code, caught.value.message) == (code, message)
    assert list(tmp_path.iterdir()) == []


def test_a_slice_of_a_module_that_is_not_fused_is_refused(tmp_path: Path) -> None:
    path = "gpt_neox.layers.0.mlp.dense_h_to_4h"
    entries = tuple(replace(item, source=path) for item in small_adapter().entries[:2])
    with pytest.raises(UnresolvedModuleError) as caught:
        to_peft(plain(entries=entries), tmp_path / "out")
    assert caught.value.message == f"{path}: architecture gpt_neox has no fused module there"


def test_biases_of_the_base_model_need_no_original_configuration(tmp_path: Path) -> None:
    made = plain(method=method(bias="all"))
    extra = Extra(tensor="extra.base_model.model.norm.bias", name="base_model.model.norm.bias")
    manifest = replace(made.manifest, extra=(extra,))
    to_peft(Adapter(manifest, {**made.tensors, extra.tensor: floats(4)}), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["bias"] == "all"


@pytest.mark.parametrize("fields", [{"scaling": 3.0}, {"rank": 1}])
def test_entries_that_differ_from_the_original_configuration_are_refused(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    with from_peft(write_peft(tmp_path / "a", peft_tensors(), peft_config()), llama_base()) as adapter:
        (item,) = adapter.entries
        manifest = replace(adapter.manifest, entries=(replace(item, **fields),))
        with pytest.raises(ForeignFormatError) as caught:
            to_peft(Adapter(manifest, adapter.tensors), tmp_path / "out")
    now = {"rank": 2, "scaling": 2.0} | fields
    assert caught.value.problem_code == "origin-differs"
    assert caught.value.message == (
        f"model.layers.0.self_attn.q_proj: rank {now['rank']} and scaling {now['scaling']}, "
        "the original configuration says rank 2 and scaling 2.0"
    )
    assert caught.value.hint == "remove origin from the manifest where the entries were changed on purpose"


def test_a_hostile_original_configuration_is_refused(tmp_path: Path) -> None:
    with from_peft(write_peft(tmp_path / "a", peft_tensors(), peft_config()), llama_base()) as adapter:
        origin = replace(adapter.manifest.origin, config=peft_config(rank_pattern={"(a+)+$": 2}))
        manifest = replace(adapter.manifest, origin=origin)
        with pytest.raises(ForeignFormatError) as caught:
            to_peft(Adapter(manifest, adapter.tensors), tmp_path / "out")
    assert caught.value.problem_code == "peft-pattern"


@pytest.mark.parametrize(("scaling", "rank"), [(0.1, 4), (1 / 3, 7), (2.0, 8), (16 / 12**0.5, 12), (1e-320, 3)])
def test_alpha_over_rank_is_the_scaling_again(tmp_path: Path, scaling: float, rank: int) -> None:
    item = replace(entry("mlp_up", 4, 6, source="gpt_neox.layers.0.mlp.dense_h_to_4h"), rank=rank, scaling=scaling)
    manifest = replace(plain().manifest, entries=(item,))
    to_peft(Adapter(manifest, {item.lora_A: floats(rank, 4), item.lora_B: floats(6, rank)}), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["lora_alpha"] / config["r"] == scaling


@pytest.mark.parametrize(
    ("document", "base_id"),
    [
        ({"base_model_name_or_path": "org/model"}, "org/model"),
        ({"base_model_name_or_path": "gpt2"}, "gpt2"),
        ({"base_model_name_or_path": "/home/me/models/tiny/"}, "tiny"),
        ({"base_model_name_or_path": "./tiny"}, "tiny"),
        ({"base_model_name_or_path": "~/a/tiny"}, "tiny"),
        ({"base_model_name_or_path": "a/b/tiny"}, "tiny"),
        ({"base_model_name_or_path": "C:\\models\\tiny"}, "tiny"),
        ({"base_model_name_or_path": ""}, None),
        ({"base_model_name_or_path": None}, None),
        ({}, None),
    ],
)
def test_the_base_model_is_labelled_without_local_paths(document: dict[str, Any], base_id: str | None) -> None:
    assert PeftConfig(document=document).base_id == base_id


def test_revision_and_class_are_read_where_they_are_named() -> None:
    named = PeftConfig(document={"revision": "abc", "auto_mapping": {"base_model_class": "LlamaModel"}})
    assert (named.revision, named.model_class) == ("abc", "LlamaModel")
    for document in ({}, {"revision": "", "auto_mapping": {}}, {"revision": 3, "auto_mapping": "x"}):
        config = PeftConfig(document=document)
        assert (config.revision, config.model_class) == (None, None)


def test_the_configuration_in_the_words_of_the_manifest() -> None:
    document = peft_config(task_type="CAUSAL_LM", use_rslora=True, lora_dropout=0.1, bias="all", use_dora=True)
    assert PeftConfig(document=document).method == method(
        scaling_rule="alpha/sqrt(rank)", dropout=0.1, bias="all", dora=True
    )


def test_the_keys_of_peft_are_all_known() -> None:
    from peft import LoraConfig

    from ual_registry.interop.peft_config import _CARRIED, _REFUSED

    assert set(LoraConfig().to_dict()) == _CARRIED | set(_REFUSED)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("q_proj", "model.layers.0.self_attn.q_proj"),
        (r"layers\.\d+\.mlp\..*", "model.layers.11.mlp.up_proj"),
        (r"^model\.decoder\.layers\.0\.k_proj", "model.decoder.layers.0.k_proj"),
        (r"model\.layers\.(1|2|3)\.self_attn\.(q|k|v)_proj", "model.layers.2.self_attn.v_proj"),
        (r".*\.layers\.[0-9]{1,2}\..*_proj", "model.layers.2.self_attn.v_proj"),
        (r"(?:self_attn)?\.?q_proj", "a.q_proj"),
        (r"(?i:Q_PROJ)", "a.q_proj"),
        (r"(?<!x)q_proj", "a.q_proj"),
        ("(q)(?(1)_proj|x)", "a.q_proj"),
    ],
)
def test_a_pattern_is_matched_as_peft_matches_it(pattern: str, path: str) -> None:
    from peft.utils.other import get_pattern_key

    refuse_costly_patterns({pattern: 1}, field="rank_pattern")
    for candidate in (path, f"{path}x", "other.q_proj", "q_proj", "xq_proj"):
        theirs = get_pattern_key([pattern], candidate) == pattern
        assert (match_pattern({pattern: 5}, candidate) == 5) == theirs


def test_the_first_pattern_that_matches_counts() -> None:
    patterns = {"k_proj": 1, "q.*": 2, "q_proj": 3}
    assert match_pattern(patterns, "a.q_proj") == 2
    assert match_pattern(patterns, "a.v_proj") is None


@pytest.mark.parametrize(
    ("factor", "is_embedding", "suffix"),
    [
        ("lora_A", False, "lora_A.weight"),
        ("lora_B", False, "lora_B.weight"),
        ("lora_A", True, "lora_embedding_A"),
        ("lora_B", True, "lora_embedding_B"),
        ("magnitude", False, "lora_magnitude_vector"),
        ("magnitude", True, "lora_magnitude_vector"),
        ("bias", False, "lora_B.bias"),
    ],
)
def test_a_peft_name_is_split_and_joined(factor: str, is_embedding: bool, suffix: str) -> None:
    name = f"base_model.model.a.b.{suffix}"
    assert split_name(name) == PeftName("a.b", factor)
    assert join_name("a.b", factor, is_embedding=is_embedding) == name


@pytest.mark.parametrize("name", ["base_model.model.score.weight", "base_model.model.a.lora_A.default.weight", ""])
def test_another_name_is_no_factor(name: str) -> None:
    assert split_name(name) is None
