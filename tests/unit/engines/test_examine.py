"""What engines would reject and silently ignore: the rules fire, and only where they should."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ual_registry.air.tensor import Tensor
from ual_registry.engines.examine import examine
from ual_registry.engines.findings import Verdict
from ual_registry.engines.rules import ENGINES, load_rules

CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "base_model_name_or_path": "served",
    "r": 2,
    "lora_alpha": 4,
    "bias": "none",
    "init_lora_weights": True,
    "target_modules": ["q_proj", "v_proj"],
}


def tensor(*shape: int, value: float = 1.0) -> Tensor:
    count = shape[0] * shape[1]
    return Tensor.of_bytes("F32", shape, struct.pack(f"<{count}f", *[value] * count))


def factors(*paths: str, rank: int = 2, lora_b: float = 1.0) -> dict[str, Tensor]:
    found = {}
    for path in paths:
        found[f"base_model.model.{path}.lora_A.weight"] = tensor(rank, 3)
        found[f"base_model.model.{path}.lora_B.weight"] = tensor(3, rank, value=lora_b)
    return found


ATTENTION = factors("layers.0.q_proj", "layers.0.v_proj")


def found(engine: str, config: dict[str, Any], tensors: dict[str, Tensor] | None = None) -> list[tuple[str, str]]:
    rules = load_rules(engine)
    return [(str(item.verdict), item.where) for item in examine(config, tensors or ATTENTION, rules)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_plain_adapter_is_clean_for_every_engine(engine: str) -> None:
    assert found(engine, CONFIG) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_every_rule_names_a_file_that_was_read(engine: str) -> None:
    rules = load_rules(engine)
    assert rules.version
    files = {source.file for source in rules.sources}
    assert {rule.file for rule in rules.fields} | {rule.file for rule in rules.together} <= files
    assert {rule.verdict for rule in rules.fields} <= {*Verdict}


@pytest.mark.parametrize(
    ("change", "verdicts"),
    [
        ({"use_dora": True}, {"vllm": "rejected", "sglang": "rejected", "gguf": "rejected"}),
        ({"modules_to_save": ["lm_head"]}, {"vllm": "rejected", "sglang": "ignored"}),
        ({"modules_to_save": ["score"]}, {"sglang": "ignored"}),
        ({"bias": "all"}, {"vllm": "rejected", "sglang": "ignored"}),
        ({"lora_bias": True}, {"vllm": "rejected", "sglang": "ignored"}),
        ({"init_lora_weights": "pissa_niter_4"}, {"vllm": "rejected"}),
        ({"init_lora_weights": "gaussian"}, {}),
        ({"use_rslora": True}, {"sglang": "ignored", "gguf": "ignored"}),
        ({"alpha_pattern": {"q_proj": 8}}, {"vllm": "note", "sglang": "ignored", "gguf": "ignored"}),
        ({"alpha_pattern": {"q_proj": 4}}, {}),
        ({"target_modules": "all-linear"}, {}),
        ({"target_modules": r".*\.(q|v)_proj"}, {"sglang": "rejected"}),
        ({"layer_replication": [[0, 1]]}, {"vllm": "rejected", "sglang": "ignored", "gguf": "ignored"}),
    ],
)
def test_each_engine_does_its_own_with_a_field(change: dict[str, Any], verdicts: dict[str, str]) -> None:
    ((field, _),) = change.items()
    got = {engine: found(engine, {**CONFIG, **change}) for engine in ENGINES}
    assert got == {engine: [(verdicts[engine], field)] if engine in verdicts else [] for engine in ENGINES}


def test_a_missing_field_is_rejected_where_it_is_asked_for() -> None:
    config = {key: value for key, value in CONFIG.items() if key != "target_modules"}
    assert found("vllm", config) == [("rejected", "target_modules")]


def test_a_name_that_the_server_does_not_go_by_is_rejected() -> None:
    (finding,) = examine(CONFIG, ATTENTION, load_rules("vllm"), served_name="other")
    assert (finding.verdict, finding.where, finding.says, finding.source) == (
        "rejected",
        "base_model_name_or_path",
        "it says 'served', so that the resolver of a server of 'other' does not find the adapter",
        "vllm/plugins/lora_resolvers/filesystem_resolver.py",
    )
    assert examine(CONFIG, ATTENTION, load_rules("vllm"), served_name="served") == ()


def test_tensors_that_an_engine_does_not_know_are_found() -> None:
    name = "base_model.model.lm_head.weight"
    tensors = {**ATTENTION, name: tensor(2, 2)}
    got = {engine: found(engine, CONFIG, tensors) for engine in ENGINES}
    assert got == {
        "vllm": [("rejected", name)],
        "sglang": [("ignored", name)],
        "gguf": [("rejected", name)],
        "peft": [],
    }


@pytest.mark.parametrize(
    ("names", "finding"),
    [
        (("q_proj",), ("rejected", "layers.0.q_proj")),
        (("v_proj",), ("ignored", "layers.0.v_proj")),
        (("up_proj",), ("ignored", "layers.0.up_proj")),
    ],
)
def test_modules_that_sglang_reads_only_together_are_found_alone(
    names: tuple[str, ...], finding: tuple[str, str]
) -> None:
    assert found("sglang", CONFIG, factors(*(f"layers.0.{name}" for name in names))) == [finding]


@pytest.mark.parametrize(
    ("rank", "findings"),
    [
        (16, []),
        (17, [("note", "r", "rank 17: start vllm with --max-lora-rank 32 or more")]),
        (513, [("rejected", "r", "rank 513 is over 512, the highest that vllm can be started for")]),
    ],
)
def test_vllm_is_started_for_certain_ranks(rank: int, findings: list[tuple[str, str, str]]) -> None:
    tensors = factors("layers.0.q_proj", rank=rank)
    got = examine({**CONFIG, "r": rank}, tensors, load_rules("vllm"))
    assert [(item.verdict, item.where, item.says) for item in got] == findings


def test_a_rank_that_the_configuration_does_not_say_gives_a_wrong_scaling() -> None:
    tensors = factors("layers.0.q_proj", "layers.0.v_proj", rank=4)
    got = {engine: found(engine, CONFIG, tensors) for engine in ENGINES}
    both = "layers.0.q_proj, layers.0.v_proj"
    assert got == {engine: [("rejected" if engine == "peft" else "ignored", both)] for engine in ENGINES}


def test_peft_leaves_out_what_target_modules_does_not_name() -> None:
    tensors = {**ATTENTION, **factors("layers.0.o_proj")}
    assert found("peft", CONFIG, tensors) == [("ignored", "layers.0.o_proj")]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_an_adapter_whose_lora_b_is_zero_does_nothing(zero: float) -> None:
    tensors = factors("layers.0.q_proj", "layers.0.v_proj", lora_b=zero)
    (finding,) = examine(CONFIG, tensors, load_rules("peft"))
    assert (finding.verdict, finding.where, finding.says) == (
        "no_effect",
        "layers.0.q_proj, layers.0.v_proj",
        "every number of lora_B is zero in every module, so that the adapter does nothing",
    )


def test_zeros_in_some_modules_are_a_note() -> None:
    tensors = {**factors("layers.0.q_proj", lora_b=0.0), **factors("layers.0.v_proj")}
    assert found("peft", CONFIG, tensors) == [("note", "layers.0.q_proj")]


def test_a_scaling_of_zero_and_a_missing_factor_do_nothing() -> None:
    assert found("peft", {**CONFIG, "lora_alpha": 0}) == [("no_effect", "layers.0.q_proj, layers.0.v_proj")]
    lonely = {name: tensor for name, tensor in ATTENTION.items() if "q_proj.lora_A" not in name}
    assert found("peft", CONFIG, lonely) == [("no_effect", "layers.0.q_proj")]
    assert found("peft", CONFIG, {"base_model.model.x": tensor(1, 1)}) == [("no_effect", "adapter_model.safetensors")]
