"""A training on a GPU for ``benchmarks.training``: a random model of the shape of Llama 3.2 1B, in bfloat16.

Nothing is fetched: weights are random, and the tokenizer is made of the texts. What is counted is speed and memory.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.training_arms import Arm, ours, plain, ratio_text, run_in_turns
from benchmarks.training_material import Material, config_of, examples_of, material_of
from ual_registry.training.forms import Example
from ual_registry.training.place import place_of

__all__ = ["ceiling_flops", "measure"]

_SHAPE = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 4096,
}
_TINY = {
    "vocab_size": 2048,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 4096,
}
_JOINED = 80
"""How many requests a long text is made of at most."""


def measure(data: Path, folder: Path, *, steps: int, device: str, is_tiny: bool) -> None:
    """Print tokens a second, share of the ceiling and memory on short texts and on long ones, ours beside plain."""
    rows = (16, 4) if is_tiny else (256, 16)
    requests = examples_of(data, "text", steps * rows[0])
    model = folder / "model"
    _save_model(model, [own.text or "" for own in requests], _TINY if is_tiny else _SHAPE, device)
    found = ceiling_flops(device, 256 if is_tiny else 8192)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"\n{name}: {found / 1e12:.3g} TFLOP/s in products of bfloat16 matrices", flush=True)
    for title, count, texts in (
        ("short texts", rows[0], requests),
        ("long texts", rows[1], _long(requests, steps * rows[1])),
    ):
        config = config_of(steps, (count, 1), device=device, precision="bfloat16", max_length=2048)
        (folder / title).mkdir()
        material = material_of(texts, config, model, folder / title)
        print(f"\n{title}: {count} rows a step, {statistics.mean(material.tokens()):,.0f} tokens", flush=True)
        _table(material, found)


def _long(requests: Sequence[Example], count: int) -> list[Example]:
    chance = random.Random(1)
    texts = [own.text or "" for own in requests]
    return [Example(text=". ".join(chance.choices(texts, k=chance.randint(1, _JOINED)))) for _ in range(count)]


def _save_model(folder: Path, texts: Sequence[str], shape: dict[str, Any], device: str) -> None:
    """Save the model and a tokenizer made of the texts."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special, alphabet = ["<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=2048, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1))
    model.to(torch.bfloat16).save_pretrained(folder)


def ceiling_flops(device: str, size: int) -> float:
    """Return how many operations a second a product of two square bfloat16 matrices comes to."""
    one, other = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(10):
        _wait(device)
        start = time.perf_counter()
        for _ in range(10):
            one @ other
        _wait(device)
        times.append(time.perf_counter() - start)
    return 10 * 2 * size**3 / statistics.median(times)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _table(material: Material, ceiling: float) -> None:
    arms = _arms(material)
    run_in_turns(arms)
    tokens, first = material.tokens()[1:], arms[0].times_s[1:]
    operations = _operations(arms[0])
    lines = []
    for arm in arms:
        times = arm.times_s[1:]
        speed = statistics.median(count / own for count, own in zip(tokens, times, strict=True))
        apart = max(abs(one - other) for one, other in zip(arms[0].losses(), arm.losses(), strict=True))
        lines.append((arm.name, speed, speed * operations / ceiling, ratio_text(first, times), apart))
    del arms, arm
    print(f"{'':26}{'tokens/s':>10}{'of ceiling':>12}{'times the first':>24}{'loss differs by':>17}{'peak, MB':>10}")
    for index, (name, speed, share, ratio, apart) in enumerate(lines):
        print(f"{name:26}{speed:10,.0f}{share:12.1%}{ratio:>24}{apart:17.1e}{_peak(material, index):>10}", flush=True)


def _arms(material: Material, only: int | None = None) -> list[Arm]:
    """Return all arms, or one of them."""
    makers = (
        lambda: plain("padded to the longest", material),
        lambda: ours("grouped", material, batching="grouped"),
        lambda: ours("packed", material, batching="packed"),
    )
    return [make() for index, make in enumerate(makers) if only in (None, index)]


def _operations(arm: Arm) -> float:
    """Return the operations of a token there and back: no gradient is made of a weight that stays as it is."""
    model = arm.trainer.model
    trained = sum(own.numel() for own in model.parameters() if own.requires_grad)
    return 4 * (sum(own.numel() for own in model.parameters()) - trained) + 6 * trained


def _peak(material: Material, index: int) -> str:
    """Return what the allocator held at most in a training of its own, in MB."""
    if place_of(material.config).device != "cuda":
        return "-"
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    place = material.folder / f"alone-{index}"
    place.mkdir()
    run_in_turns(_arms(replace(material, folder=place), index))
    return f"{torch.cuda.max_memory_allocated() / 1e6:,.0f}"
