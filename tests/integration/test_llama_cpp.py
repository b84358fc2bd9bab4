"""llama.cpp itself: what it computes with a converted adapter is what PEFT computes.

It comes as a prebuilt wheel, ``pip install 'ual-registry[llamacpp]'``; where that is not installed these tests are left
out. ``make check-llamacpp`` installs it and runs them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from examples.materials import materials_home, model_folder
from tests.integration.drawn import PROMPT, draw
from ual_registry.workflows.convert import convert_to_air
from ual_registry.workflows.engines import convert_to_gguf

xllamacpp = pytest.importorskip("xllamacpp")

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT remarks while tiny models are made

VOCABULARY = 64
_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def base_model(folder: Path) -> Any:
    """Return a random llama whose logits are far apart, and write its config."""
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=96,
        vocab_size=VOCABULARY,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        architectures=["LlamaForCausalLM"],
    )
    torch.manual_seed(0)
    model: Any = transformers.LlamaForCausalLM(config)
    draw(model, 0.25)
    config.save_pretrained(folder)
    return model.eval()


def write_base(model: Any, path: Path) -> None:
    """Write the base model as llama.cpp's converter does, rows of query and key moved."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"t{index}" for index in range(3, VOCABULARY))])
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([2, 3, 3] + [1] * (VOCABULARY - 3))
    for name, weight in model.state_dict().items():
        writer.add_tensor(*_converted(name.removesuffix(".weight"), weight.float()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _converted(path: str, weight: torch.Tensor) -> tuple[str, Any]:
    if path in _OUTER:
        return f"{_OUTER[path]}.weight", weight.numpy()
    layer, _, inner = path.removeprefix("model.layers.").partition(".")
    heads = {"self_attn.q_proj": 4, "self_attn.k_proj": 2}.get(inner)
    if heads is not None:
        halves = weight.reshape(heads, 2, -1, weight.shape[1])
        weight = halves.transpose(1, 2).reshape(weight.shape)
    return f"blk.{layer}.{_NAMES[inner]}.weight", weight.contiguous().numpy()


def llama_cpp(
    base: Path, adapter: Path | None, prompt: list[int] | None = None, count: int = VOCABULARY
) -> dict[int, float]:
    """Return the log-probabilities of the likeliest next tokens, by token."""
    asked = xllamacpp.CommonParams()
    asked.model.path = str(base)
    asked.n_ctx, asked.n_parallel, asked.n_gpu_layers, asked.warmup, asked.verbosity = 64, 1, 0, False, 0
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
    # Keys, values and sums in float32, so that only the order of additions differs.
    asked.cache_type_k = asked.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    asked.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if adapter is not None:
        asked.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    question = {"prompt": prompt or PROMPT, "n_predict": 1, "temperature": -1, "n_probs": count}
    answer = xllamacpp.Server(asked).handle_completions(question)
    document = json.loads(answer) if isinstance(answer, str) else answer
    (token,) = document["choices"][0]["logprobs"]["content"]
    return {row["id"]: row["logprob"] for row in token["top_logprobs"]}


def peft(model: Any, prompt: list[int] | None = None) -> torch.Tensor:
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([prompt or PROMPT])).logits[0, -1].double(), -1)


def gap(said: dict[int, float], wanted: torch.Tensor) -> float:
    """Return the largest difference of the log-probabilities that llama.cpp says."""
    return max(abs(value - float(wanted[token])) for token, value in said.items())


@pytest.mark.parametrize("more", [[], ["embed_tokens", "lm_head"]], ids=["blocks", "with embeddings"])
def test_llama_cpp_computes_with_a_converted_adapter_what_peft_computes(more: list[str], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = base_model(tmp_path / "base")
    write_base(model, tmp_path / "base.gguf")
    linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    patterns: dict[str, Any] = {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"down_proj": 5}}
    settings = LoraConfig(r=8, lora_alpha=12, use_rslora=True, target_modules=linear + more, **patterns)
    wrapped = get_peft_model(model, settings).eval()
    draw(wrapped, 0.1)
    wrapped.save_pretrained(str(tmp_path / "peft"))
    convert_to_air(tmp_path / "peft", tmp_path / "a.air", base=tmp_path / "base")
    convert_to_gguf(tmp_path / "a.air", tmp_path / "a.gguf")

    with wrapped.disable_adapter():
        without = peft(wrapped)
    wanted = peft(wrapped)
    assert float((wanted - without).abs().max()) > 1
    # Both sides compute in float32; measured 5e-6 without the adapter and 8e-6 with it.
    said = [llama_cpp(tmp_path / "base.gguf", adapter) for adapter in (None, tmp_path / "a.gguf")]
    assert [len(own) for own in said] == [VOCABULARY, VOCABULARY]
    assert max(gap(said[0], without), gap(said[1], wanted)) < 1e-4


@pytest.mark.skipif(not any(materials_home().glob("models/smollm2*")), reason="SmolLM2 was not fetched")
def test_llama_cpp_on_quantised_smollm2_is_as_near_to_peft_with_an_adapter_as_without(tmp_path: Path) -> None:
    """The base model is Q4_1 for llama.cpp, and the same numbers in float32 for PEFT: it computes in eight bits."""
    import transformers
    from peft import LoraConfig, get_peft_model

    folder, (quantised,) = model_folder("smollm2"), materials_home().glob("gguf/*SmolLM2*")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer("The capital of Norway is Oslo, and the capital of Denmark is")["input_ids"]
    targets = ["q_proj", "k_proj", "v_proj", "down_proj"]
    settings = LoraConfig(r=8, lora_alpha=12, use_rslora=True, target_modules=targets)
    wrapped = get_peft_model(model, settings).eval()
    draw(wrapped, 0.03)
    wrapped.save_pretrained(str(tmp_path / "peft"))
    convert_to_air(tmp_path / "peft", tmp_path / "a.air", base=folder)
    convert_to_gguf(tmp_path / "a.air", tmp_path / "a.gguf")

    with wrapped.disable_adapter():
        without = peft(wrapped, prompt)
    wanted = peft(wrapped, prompt)
    said = [llama_cpp(quantised, adapter, prompt, 20) for adapter in (None, tmp_path / "a.gguf")]
    plain, adapted = gap(said[0], without), gap(said[1], wanted)
    effect = gap(said[1], without)
    # Measured: see the printed line; a wrong row order of query or key would be of the adapter's own size.
    print(f"gap without adapter {plain:.3f}, with {adapted:.3f}, effect of the adapter {effect:.3f}")
    assert adapted < 2 * plain + 0.05
    assert effect > 5 * adapted
