"""Tiny base models with strong random weights, a tokenizer of bytes, text, and adapters that were trained on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.func import functional_call

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Manifest, Method
from ual_registry.air.versions import AIR_VERSION
from ual_registry.binders.slots import TargetModule
from ual_registry.models.loaded import LoadedBase
from ual_registry.tensors import from_torch

RANK = 3
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-*/=<>()[]{}#&%$@!?;:,."

LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "vocab_size": 257,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 256,
    "eos_token_id": 256,
}
GPT2 = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "vocab_size": 257,
    "n_positions": 256,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "tie_word_embeddings": False,
}
GEMMA3 = {**LLAMA, "query_pre_attn_scalar": 8, "sliding_window": 256}


def sentences(seed: int, count: int) -> list[str]:
    """Return passages of about 150 characters in an invented language.

    It has many letters, some far more frequent than others: with fewer letters than features, the inputs of the first
    block would leave some directions undetermined, however long the text is.
    """
    words = _words()
    chance = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(len(words))]
    return [" ".join(chance.choices(words, weights, k=24)) for _ in range(count)]


def _words() -> list[str]:
    chance = random.Random(0)
    return ["".join(chance.choices(_LETTERS, k=chance.randint(3, 8))) for _ in range(120)]


def byte_tokenizer() -> Any:
    """Return a fast tokenizer with one token for every byte, and a beginning of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>")


def strong_model(name: str, settings: Mapping[str, Any], table: float = 0.7) -> Any:
    """Return a model of a class whose every weight matters: no norm is 1, no bias is 0.

    Args:
        name: The class.
        settings: Of its config.
        table: The size of the numbers in its tables; a head that is tied to one makes logits of that size.
    """
    model_class = getattr(transformers, name)
    torch.manual_seed(11)
    model = model_class(model_class.config_class(**settings)).eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            is_table = "embed" in path or "wte" in path or "wpe" in path
            if parameter.ndim == 2:
                fan_in = parameter.shape[0] if ".c_" in path else parameter.shape[1]
                parameter.normal_(0.0, table if is_table else fan_in**-0.5)
            elif path.endswith("bias"):
                parameter.normal_(0.0, 0.1)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def save(model: Any, folder: Path) -> Path:
    """Save a model with the tokenizer of bytes."""
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def nll(model: Any, tokenizer: Any, texts: Iterable[str], run: Callable[..., Any] | None = None) -> torch.Tensor:
    """Return the mean negative log likelihood of texts, in nats per byte."""
    total, count = torch.zeros(()), 0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        logits = (run(ids) if run else model(input_ids=ids)).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        count += ids.shape[1] - 1
    return total / count


def trained_adapter(loaded: LoadedBase, texts: list[str], *, steps: int = 40, roles: Iterable[str] = ()) -> Adapter:
    """Return an adapter of every target module in the blocks, trained on a text."""
    wanted = set(roles)
    modules = [
        module
        for module in loaded.binding.modules.values()
        if module.slots[0].layer is not None and (not wanted or any(slot.role in wanted for slot in module.slots))
    ]
    torch.manual_seed(5)
    factors = {module.path: _fresh(module) for module in modules}
    parameters = [factor.requires_grad_() for pair in factors.values() for factor in pair]
    optimiser = torch.optim.Adam(parameters, lr=0.03)
    weights = dict(loaded.model.named_parameters())

    def run(ids: torch.Tensor) -> Any:
        changed = {}
        for module in modules:
            lora_A, lora_B = factors[module.path]
            delta = lora_B @ lora_A
            name = f"{module.path}.weight"
            changed[name] = weights[name] + (delta.T if module.is_conv1d else delta)
        return functional_call(loaded.model, changed, kwargs={"input_ids": ids})

    for step in range(steps):
        optimiser.zero_grad()
        batch = texts[4 * step % len(texts) :][:4]
        nll(loaded.model, loaded.tokenizer, batch, run).backward()
        optimiser.step()
    return adapter_of(loaded, modules, {path: (a.detach(), b.detach()) for path, (a, b) in factors.items()})


def _fresh(module: TargetModule) -> tuple[torch.Tensor, torch.Tensor]:
    out_features, in_features = module.matrix_shape
    return torch.randn(RANK, in_features) * in_features**-0.5, torch.zeros(out_features, RANK)


def adapter_of(
    loaded: LoadedBase, modules: Iterable[TargetModule], factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
) -> Adapter:
    """Return an adapter from the factors of whole modules, by their paths."""
    entries, tensors = [], {}
    for module in modules:
        lora_A, lora_B = factors[module.path]
        shared = module.slots[0].tensor_name("lora_A")
        tensors[shared] = from_torch(lora_A, "F32")
        for slot in module.slots:
            name = slot.tensor_name("lora_B")
            rows = torch.cat([lora_B[first : first + count] for first, count in slot.all_rows.runs()])
            tensors[name] = from_torch(rows, "F32")
            rank = lora_A.shape[0]
            entries.append(slot.entry(source=module.path, lora_A=shared, lora_B=name, rank=rank, scaling=1.0))
    method = Method(
        type="lora",
        task_type="CAUSAL_LM",
        rank=RANK,
        alpha=float(RANK),
        scaling_rule="alpha/rank",
        dropout=0.0,
        bias="none",
        dora=False,
    )
    manifest = Manifest(
        air_version=AIR_VERSION,
        kind="adapter",
        base_model=loaded.base,
        method=method,
        entries=tuple(sorted(entries, key=lambda entry: entry.key)),
        name="trained here",
    )
    return Adapter(manifest, tensors)
