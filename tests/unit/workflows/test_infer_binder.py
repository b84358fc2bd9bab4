"""A binder is inferred from a config alone."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from ual_registry.errors import MissingExtraError, UninferableArchitectureError
from ual_registry.workflows.infer_binder import infer_binder

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 20,
    "vocab_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def write(folder: Path, **changed: Any) -> Path:
    (folder / "config.json").write_text(json.dumps({**LLAMA, **changed}), encoding="utf-8")
    return folder


def module(path: str, role: str) -> dict[str, Any]:
    return {"path": path, "roles": [role]}


def test_the_binder_of_a_llama_is_inferred_as_a_whole(tmp_path: Path) -> None:
    found = infer_binder(write(tmp_path))

    assert found.document == {
        "binder_version": "1.0",
        "architecture": "llama",
        "model_types": {
            "llama": {
                "default_class": "LlamaForCausalLM",
                "classes": {
                    "": ["LlamaModel"],
                    "model.": [
                        "LlamaForCausalLM",
                        "LlamaForSequenceClassification",
                        "LlamaForTokenClassification",
                    ],
                    "transformer.": ["LlamaForQuestionAnswering"],
                },
                "defaults": {
                    "vocab_size": 32000,
                    "hidden_size": 4096,
                    "intermediate_size": 11008,
                    "num_hidden_layers": 32,
                    "num_attention_heads": 32,
                    "tie_word_embeddings": False,
                },
            }
        },
        "vocab_size": ["vocab_size"],
        "rotary": {"style": "half", "fraction": [1]},
        "norms": {"kind": "rms", "position": "pre", "query_key": False},
        "tied": [
            {"roles": ["token_embedding", "lm_head"], "when": [{"field": "tie_word_embeddings", "values": [True]}]}
        ],
        "stacks": [
            {
                "path": "layers.{layer}.",
                "dimensions": {
                    "hidden_size": ["hidden_size"],
                    "intermediate_size": ["intermediate_size"],
                    "num_layers": ["num_hidden_layers"],
                    "head_dim": ["head_dim", {"quotient": ["hidden_size", "num_attention_heads"]}],
                    "num_key_value_heads": ["num_key_value_heads", "num_attention_heads"],
                    "num_attention_heads": ["num_attention_heads"],
                },
                "modules": [
                    module("self_attn.q_proj", "attention_query"),
                    module("self_attn.k_proj", "attention_key"),
                    module("self_attn.v_proj", "attention_value"),
                    module("self_attn.o_proj", "attention_output"),
                    module("mlp.gate_proj", "mlp_gate"),
                    module("mlp.up_proj", "mlp_up"),
                    module("mlp.down_proj", "mlp_down"),
                ],
            }
        ],
        "outer": [
            {"path": "embed_tokens", "role": "token_embedding", "within": "backbone"},
            {"path": "lm_head", "role": "lm_head", "within": "model"},
        ],
        "without_role": ["qa_outputs", "score"],
    }
    assert [(item.path, dict(item.seen), item.layers, item.confidence) for item in found.evidence][:1] == [
        (
            "model.layers.{layer}.self_attn.q_proj",
            {"attention_query": "its result reaches the query of attention"},
            (0, 1),
            1.0,
        )
    ]
    assert found.confidence == 1.0
    assert [(item.what, item.reason) for item in found.undecided] == [
        (
            "when, unless",
            "truth values were switched one by one; what words, or several settings together, switch on is not known",
        )
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"auto_map": {"AutoModel": "modeling_own.Own"}},
            "model_type 'llama' brings its own code (auto_map), which is never run",
        ),
        ({"hidden_act": "none"}, "no small LlamaForCausalLM can be built: KeyError: 'none'"),
    ],
)
def test_what_cannot_be_run_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UninferableArchitectureError) as refused:
        infer_binder(write(tmp_path, **changed))

    assert refused.value.message == message
    assert refused.value.hint in {
        "write the binder by hand; see CONTRIBUTING.md, 'Add a binder'",
        "give the config of a smaller model of this type, or write the binder by hand",
    }


def test_rows_with_two_roles_are_refused(tmp_path: Path) -> None:
    from tests.unit.tracing.shared_key_value import swapped

    with swapped(), pytest.raises(UninferableArchitectureError) as refused:
        infer_binder(write(tmp_path))

    assert refused.value.message == (
        "model.layers.{layer}.self_attn.k_proj: row 0 is both attention_key and attention_value"
    )


@pytest.mark.parametrize(("package", "extra"), [("torch", "torch"), ("transformers", "torch")])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingExtraError) as refused:
        infer_binder(write(tmp_path))

    assert refused.value.message == f"inference of a binder needs the extra '{extra}', which is not installed"
