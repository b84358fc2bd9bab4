"""Forward passes on a device, for ``benchmarks.transfer_gpu``: statistics, likelihoods, a teacher, texts drawn."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from benchmarks.transfer_gpu_clock import Ceilings, Floor, Row, relative_error, seconds
from benchmarks.transfer_gpu_fits import statistics_floor
from ual_registry.binders.base import load_base
from ual_registry.binders.bind import bind
from ual_registry.binders.describe import describe_base
from ual_registry.distillation.draw import draw
from ual_registry.distillation.likelihoods import Scorer
from ual_registry.evaluation.likelihood import answer_scores
from ual_registry.evaluation.prompts import Question
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.moments import PairMoments
from ual_registry.transfers.layers import layer_map
from ual_registry.transfers.sites import Reader, Site, SitePair

__all__ = ["forward_rows"]

_SMOLLM = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
}
_GEMMA = {
    "vocab_size": 262144,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "sliding_window": 512,
}
_SMALL = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
_ROLES = ("attention_query", "attention_output", "mlp_gate", "mlp_down")
"""One role for each different thing that is read: key and value read what query reads, up what gate reads."""
_SKIPPED = 4


def forward_rows(device: str, ceilings: Ceilings, *, is_tiny: bool) -> list[Row]:
    """Read a passage by both models, then score answers, likeliest tokens and drawn texts by the wider head."""
    errors = _errors(device)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        pair = _pair(device, dtype, *((_SMALL, _SMALL) if is_tiny else (_SMOLLM, _GEMMA)))
        name = str(dtype).removeprefix("torch.")
        rows = [
            *_pair_rows(device, ceilings, pair, 64 if is_tiny else 512, errors),
            *_scored_rows(device, ceilings, pair[1].model, is_tiny=is_tiny, errors=errors),
        ]
        found += [replace(row, name=f"{row.name}, {name}") for row in rows]
    return found


def _pair(device: str, dtype: torch.dtype, own: dict[str, int], other: dict[str, int]) -> tuple[LoadedBase, LoadedBase]:
    shared = {"max_position_embeddings": 2048, "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 1}
    return (
        _base(LlamaForCausalLM, LlamaConfig(**own, **shared), device, dtype),
        _base(Gemma3ForCausalLM, Gemma3TextConfig(**other, **shared, query_pre_attn_scalar=256), device, dtype),
    )


def _base(model_class: Any, config: Any, device: str, dtype: torch.dtype) -> LoadedBase:
    """Return a random model as if it had been loaded; it has no tokenizer."""
    config.architectures = [model_class.__name__]
    torch.manual_seed(0)
    with torch.device(device):
        model = model_class(config).to(dtype).eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        described = load_base(Path(folder))
    base = describe_base(described, id=model_class.__name__)
    binding = bind(described, model_class.__name__)
    return LoadedBase(model=model, tokenizer=None, base=base, config=described, binding=binding)


def _ids(count: int, size: int) -> list[int]:
    chosen = random.Random(count)
    return [chosen.randrange(2, size) for _ in range(count)]


def _pair_rows(
    device: str, ceilings: Ceilings, pair: tuple[LoadedBase, LoadedBase], tokens: int, errors: dict[str, float]
) -> Iterator[Row]:
    """Time a bare forward pass of both models, the same with rows taken, and with their moments."""
    pairs = list(_site_pairs(*pair))
    sites = [{own.source for own in pairs}, {own.target for own in pairs}]
    ids = [_ids(tokens, base.model.config.vocab_size) for base in pair]
    readers = [Reader(base) for base in pair]
    positions = range(_SKIPPED, tokens)

    @torch.inference_mode()
    def bare() -> None:
        for base, own in zip(pair, ids, strict=True):
            base.model.base_model(input_ids=torch.tensor([own], device=device), use_cache=False)

    def read() -> list[dict[Site, torch.Tensor]]:
        return [reader.rows(own, positions, some) for reader, own, some in zip(readers, ids, sites, strict=True)]

    taken = read()
    widths = {own: (taken[0][own.source].shape[1], taken[1][own.target].shape[1]) for own in pairs}
    moments = {own: PairMoments(*width, device=device) for own, width in widths.items()}

    def collect() -> None:
        rows = read()
        for own in pairs:
            moments[own].update(rows[0][own.source], rows[1][own.target])

    floor = ceilings.floor({pair[0].model.dtype: sum(_flops(base, tokens) for base in pair)}, 0)
    sums = [statistics_floor(ceilings, len(positions), width, torch.float32) for width in widths.values()]
    whole = _together([floor, *sums])
    for name, task, least in (("forward pass of both", bare, floor), ("rows read", read, floor)):
        yield _row(device, (name, task), tokens, least, None if task is bare else errors["rows"])
    yield _row(device, (f"statistics of {len(pairs)} pairs of sites", collect), tokens, whole, errors["rows"])


def _together(floors: Sequence[Floor]) -> Floor:
    """Return the floor of things that are done one after the other."""
    return Floor(
        sum(own.flops for own in floors),
        sum(own.time_s for own in floors),
        sum(own.moved for own in floors),
        0.0,
    )


def _row(
    device: str, named: tuple[str, Callable[[], object]], tokens: int, floor: Floor, error: float | None = None
) -> Row:
    name, task = named
    time_s = seconds(device, task, runs=7)
    return Row(name=name, time_s=time_s, rate=f"{tokens / time_s:,.0f} tokens/s", floor=floor, error=error)


def _site_pairs(source: LoadedBase, target: LoadedBase) -> Iterator[SitePair]:
    places = [
        {(own.slots[0].layer, own.slots[0].role): own.path for own in base.binding.modules.values()}
        for base in (source, target)
    ]
    layers = layer_map(source.base.stacks[0].num_layers, target.base.stacks[0].num_layers)
    for layer, own in enumerate(layers):
        for role in _ROLES:
            yield SitePair(Site(places[0][own, role]), Site(places[1][layer, role]))


def _flops(base: LoadedBase, tokens: int) -> float:
    """Return the operations of a pass without a head: products with weights, and of queries, keys and values."""
    config = base.model.config
    weights = sum(own.weight.numel() for own in base.model.modules() if isinstance(own, torch.nn.Linear))
    head = base.model.get_output_embeddings().weight.numel()
    attention = 4 * tokens**2 * config.num_attention_heads * config.head_dim * config.num_hidden_layers / 2
    return 2 * (weights - head) * tokens + attention


def _scored_rows(
    device: str, ceilings: Ceilings, model: Any, *, is_tiny: bool, errors: dict[str, float]
) -> Iterator[Row]:
    """Time likelihoods of labels, likeliest tokens for a distillation, and the drawing of texts."""
    size, width = model.get_output_embeddings().weight.shape
    body, head = sum(own.numel() for own in model.parameters()) - size * width, (size, width)
    row = _labels_row(device, ceilings, model, (body, head), (2, 3) if is_tiny else (16, 150))
    yield replace(row, error=errors["labels"])
    row = _teacher_row(device, ceilings, model, (body, head), 2 if is_tiny else 16)
    yield replace(row, error=errors["likeliest"])
    yield _drawn_row(device, ceilings, model, body + size * width, (4, 4) if is_tiny else (64, 32))


_Sizes = tuple[int, tuple[int, int]]
"""Weights of a model without its output table, and the shape of that."""


def _labels_row(device: str, ceilings: Ceilings, model: Any, sizes: _Sizes, counts: tuple[int, int]) -> Row:
    items, labels = counts
    questions = _questions(items, labels, sizes[1][0])
    floor = _scoring_floor(ceilings, model.dtype, sizes, items * (32 + labels * 2), items * (1 + labels * 2))
    name = f"{labels} labels of {items} items"
    return _row(device, (name, lambda: answer_scores(model, questions)), items * (32 + labels * 2), floor)


def _teacher_row(device: str, ceilings: Ceilings, model: Any, sizes: _Sizes, texts: int) -> Row:
    ids = [_ids(128 + index, sizes[1][0]) for index in range(texts)]
    wanted = [range(64, len(own)) for own in ids]
    run, scorer = sum(map(len, ids)), Scorer(model)
    floor = _scoring_floor(ceilings, model.dtype, sizes, run, sum(map(len, wanted)))
    name = f"likeliest tokens of {texts} texts"
    return _row(device, (name, lambda: scorer.likeliest(ids, wanted, 32)), run, floor)


def _drawn_row(device: str, ceilings: Ceilings, model: Any, weights: int, counts: tuple[int, int]) -> Row:
    rows, steps = counts
    size, dtype = int(model.config.vocab_size), model.dtype
    prompts = [_ids(48, size)] * rows

    @torch.inference_mode()
    def drawn() -> None:
        draw(model, prompts, most=steps, temperature=1.0, top_p=0.95, is_over=lambda _: False)

    # Every step reads all weights and writes the logits of every row.
    moved = steps * (weights + rows * size) * dtype.itemsize
    floor = ceilings.floor({dtype: 2.0 * rows * steps * weights}, moved)
    return _row(device, (f"{rows} texts drawn, {steps} tokens", drawn), rows * steps, floor)


def _questions(items: int, labels: int, size: int) -> list[Question]:
    answers = tuple(tuple(_ids(3 + 5 * index, size)[-3:]) for index in range(labels))
    return [Question(tuple(_ids(32, size)), answers) for _ in range(items)]


def _scoring_floor(ceilings: Ceilings, dtype: torch.dtype, sizes: _Sizes, run: int, kept: int) -> Floor:
    """Return the least time of the products of ``run`` tokens and of ``kept`` rows of logits, written and read once."""
    body, (size, width) = sizes
    return ceilings.floor({dtype: 2.0 * body * run + 2.0 * kept * size * width}, 2.0 * kept * size * dtype.itemsize)


def _errors(device: str) -> dict[str, float]:
    """Compare what small models in float64 give on the device with what they give on the CPU."""
    own, other = (_small(place) for place in (device, "cpu"))
    return {name: relative_error(own[name], other[name]) for name in own}


def _small(device: str) -> dict[str, torch.Tensor]:
    pair = _pair("cpu", torch.float64, _SMALL, _SMALL)
    for base in pair:
        base.model.to(device)
    size, (source, target) = _SMALL["vocab_size"], pair
    sites = {own.source for own in _site_pairs(source, target)}
    rows = Reader(source).rows(_ids(40, size), range(40), sites)
    scorer, ids = Scorer(target.model), [_ids(30, size), _ids(20, size)]
    likeliest = scorer.likeliest(ids, [range(5, 30), range(5, 20)], 4)
    return {
        "rows": torch.cat([rows[site].reshape(-1) for site in sorted(rows)]),
        "labels": torch.tensor(answer_scores(target.model, _questions(3, 4, size))),
        "likeliest": torch.cat([part[0] for part in likeliest]),
    }
