"""Exact copies of a model in other coordinates: other numbers in every weight, the same text and the same logits.

A copy is a function from a model to a new model. What an adapter for the one must become for the other is known, so
a transfer between them has a right answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers

Copy = Callable[[Any], Any]

_READERS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
_WRITERS = ("self_attn.o_proj", "mlp.down_proj")


def chain(*steps: Copy) -> Copy:
    """Return the copy of the copy of the copy."""

    def copy(model: Any) -> Any:
        for step in steps:
            model = step(model)
        return model

    return copy


def _again(model: Any, **changes: Any) -> Any:
    """Return a model of the same class and weights; with other settings its weights are to be filled in."""
    config = model.config.__class__.from_dict({**model.config.to_dict(), **changes})
    made = model.__class__(config).eval()
    if not changes:
        made.load_state_dict(model.state_dict())
    return made


def renamed(model: Any) -> Any:
    """Change a setting that computes nothing: the same model, byte for byte, that is no longer told to be the same."""
    made = _again(model, initializer_range=model.config.initializer_range / 2)
    made.load_state_dict(model.state_dict())
    return made


def _blocks(model: Any) -> Iterator[Any]:
    yield from model.model.layers


def _linears(block: Any, paths: tuple[str, ...]) -> Iterator[Any]:
    for path in paths:
        yield block.get_submodule(path)


def _rotation(width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0].float()


def _permutation(width: int, seed: int) -> torch.Tensor:
    return torch.randperm(width, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def folded_llama(model: Any) -> Any:
    """Move the weights of the norms into the modules that read them."""
    made = _again(model)
    for block in _blocks(made):
        for scale, paths in (
            (block.input_layernorm.weight, _READERS[:3]),
            (block.post_attention_layernorm.weight, _READERS[3:]),
        ):
            for linear in _linears(block, paths):
                linear.weight.mul_(scale)
            scale.fill_(1.0)
    made.lm_head.weight.mul_(made.model.norm.weight)
    made.model.norm.weight.fill_(1.0)
    return made


@torch.no_grad()
def rotated_llama(model: Any) -> Any:
    """Turn the residual stream; norms without weights do not see it."""
    made = folded_llama(model)
    turn = _rotation(made.config.hidden_size, 1)
    made.model.embed_tokens.weight.copy_(made.model.embed_tokens.weight @ turn)
    made.lm_head.weight.copy_(made.lm_head.weight @ turn)
    for block in _blocks(made):
        for linear in _linears(block, _READERS):
            linear.weight.copy_(linear.weight @ turn)
        for linear in _linears(block, _WRITERS):
            linear.weight.copy_(turn.T @ linear.weight)
    return made


@torch.no_grad()
def neurons_permuted(model: Any) -> Any:
    """Put the neurons of every MLP into another order."""
    made = _again(model)
    for index, block in enumerate(_blocks(made)):
        order = _permutation(made.config.intermediate_size, 10 + index)
        for linear in _linears(block, ("mlp.gate_proj", "mlp.up_proj")):
            linear.weight.copy_(linear.weight[order])
        block.mlp.down_proj.weight.copy_(block.mlp.down_proj.weight[:, order])
    return made


def _head_orders(model: Any, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a new order of query rows and of key rows: groups change places, and so do queries within a group."""
    config = model.config
    groups, width = config.num_key_value_heads, config.head_dim
    members = config.num_attention_heads // groups
    order = _permutation(groups, seed)
    queries = torch.cat([group * members + _permutation(members, seed + int(group)) for group in order])
    within = torch.arange(width)
    return (queries[:, None] * width + within).flatten(), (order[:, None] * width + within).flatten()


@torch.no_grad()
def heads_permuted(model: Any) -> Any:
    """Put the heads of every attention into another order."""
    made = _again(model)
    for index, block in enumerate(_blocks(made)):
        queries, keys = _head_orders(made, 21 + index)
        attention = block.self_attn
        attention.q_proj.weight.copy_(attention.q_proj.weight[queries])
        attention.k_proj.weight.copy_(attention.k_proj.weight[keys])
        attention.v_proj.weight.copy_(attention.v_proj.weight[keys])
        attention.o_proj.weight.copy_(attention.o_proj.weight[:, queries])
    return made


@torch.no_grad()
def rescaled_llama(model: Any) -> Any:
    """Fold the norms, and stretch every neuron and every head, with the inverse where it is read."""
    made = folded_llama(model)
    config = made.config
    members = config.num_attention_heads // config.num_key_value_heads
    generator = torch.Generator().manual_seed(31)
    for block in _blocks(made):
        neurons = torch.exp(torch.randn(config.intermediate_size, generator=generator))
        block.mlp.up_proj.weight.mul_(neurons[:, None])
        block.mlp.down_proj.weight.div_(neurons)
        keys, values = torch.exp(torch.randn(2, config.num_key_value_heads, 1, generator=generator))
        keys, values = (scale.expand(-1, config.head_dim).flatten() for scale in (keys, values))
        block.self_attn.k_proj.weight.mul_(keys[:, None])
        block.self_attn.q_proj.weight.div_(spread(keys, members, config)[:, None])
        block.self_attn.v_proj.weight.mul_(values[:, None])
        block.self_attn.o_proj.weight.div_(spread(values, members, config))
    return made


def spread(rows: torch.Tensor, members: int, config: Any) -> torch.Tensor:
    """Repeat the rows of every key-value head for the queries of its group."""
    return rows.reshape(-1, config.head_dim, *rows.shape[1:]).repeat_interleave(members, 0).flatten(0, 1)


def spaced(*layout: int | None) -> Copy:
    """Return the copy whose blocks are those of a layout; ``None`` reads and computes, and adds nothing."""

    @torch.no_grad()
    def copy(model: Any) -> Any:
        made = _again(model, num_hidden_layers=len(layout))
        torch.manual_seed(41)
        state = {name: value for name, value in model.state_dict().items() if ".layers." not in name}
        for place, index in enumerate(layout):
            for name, value in model.model.layers[index or 0].state_dict().items():
                is_writer = name.removesuffix(".weight") in _WRITERS
                idle = torch.zeros_like(value) if is_writer else torch.randn_like(value) * 0.2
                state[f"model.layers.{place}.{name}"] = idle if index is None else value
        made.load_state_dict(state)
        return made

    return copy


def doubled(model: Any) -> Any:
    """Put a block after every block that reads and computes, and adds nothing."""
    layout = [index for block in range(model.config.num_hidden_layers) for index in (block, None)]
    return spaced(*layout)(model)


@torch.no_grad()
def widened(model: Any) -> Any:
    """Give the residual stream 8 more features, all zero, and every MLP 16 more neurons that nothing reads."""
    own = folded_llama(model)
    width, neurons = own.config.hidden_size + 8, own.config.intermediate_size + 16
    made = _again(own, hidden_size=width, intermediate_size=neurons)
    shrunk = (own.config.hidden_size / width) ** 0.5  # a norm over more features leaves its rows longer
    torch.manual_seed(42)
    state = made.state_dict()
    for name, value in own.state_dict().items():
        if value.ndim == 1:
            continue  # folded norms are 1
        rows, columns = value.shape
        wide = torch.zeros_like(state[name])
        wide[:rows, :columns] = value
        if name.endswith(("gate_proj.weight", "up_proj.weight")):
            wide[rows:, :columns] = torch.randn(len(wide) - rows, columns) * 0.2
        is_in_stream = "embed_tokens" in name or name.removesuffix(".weight").endswith(_WRITERS)
        state[name] = wide if is_in_stream else wide * shrunk
    made.load_state_dict(state)
    return made


@torch.no_grad()
def many_keys(model: Any) -> Any:
    """Give every query head a key and a value head of its own (GQA to MHA)."""
    config = model.config
    members = config.num_attention_heads // config.num_key_value_heads
    made = _again(model, num_key_value_heads=config.num_attention_heads)
    state = {
        name: spread(value, members, config) if ".k_proj." in name or ".v_proj." in name else value
        for name, value in model.state_dict().items()
    }
    made.load_state_dict(state)
    return made


@torch.no_grad()
def slower_heads(model: Any) -> Any:
    """Give every head twice the features, and rotation another base frequency: the first pairs turn as they did.

    With the square of the frequency, twice as many pairs end as slow as the square says. Those that are added have
    keys that no query looks for, and values that no output reads.
    """
    config = model.config
    width, theta = config.head_dim, config.rope_parameters["rope_theta"]
    made = _again(model, head_dim=2 * width, rope_parameters={"rope_type": "default", "rope_theta": theta**2})
    torch.manual_seed(43)
    state = dict(model.state_dict())
    for name, value in model.state_dict().items():
        part = next((part for part in ("q_proj", "k_proj", "v_proj", "o_proj") if part in name), None)
        if part is None:
            continue
        rows = (value.T if part == "o_proj" else value).unflatten(0, (-1, width))
        wide = torch.randn(len(rows), 2 * width, rows.shape[-1]) * 0.2 * (part in ("k_proj", "v_proj"))
        places = torch.arange(width)
        if part in ("q_proj", "k_proj"):  # feature i is paired with the one half a head behind it
            places = torch.cat([places[: width // 2], places[width // 2 :] + width // 2])
        wide[:, places] = rows * (2**0.5 if part == "q_proj" else 1.0)  # logits are over the root of the width
        state[name] = wide.flatten(0, 1).T if part == "o_proj" else wide.flatten(0, 1)
    made.load_state_dict(state)
    return made


@torch.no_grad()
def fused(model: Any) -> Any:
    """Turn a llama into a phi3, which computes the same with fused modules."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    names += ("vocab_size", "max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id", "rms_norm_eps")
    config = transformers.Phi3Config(
        **{name: getattr(model.config, name) for name in names},
        original_max_position_embeddings=model.config.max_position_embeddings,
    )
    made = transformers.Phi3ForCausalLM(config).eval()
    state = dict(model.state_dict())
    for index in range(config.num_hidden_layers):
        at = f"model.layers.{index}."
        parts = [state.pop(f"{at}self_attn.{name}_proj.weight") for name in "qkv"]
        state[f"{at}self_attn.qkv_proj.weight"] = torch.cat(parts)
        parts = [state.pop(f"{at}mlp.{name}_proj.weight") for name in ("gate", "up")]
        state[f"{at}mlp.gate_up_proj.weight"] = torch.cat(parts)
    made.load_state_dict(state)
    return made


@torch.no_grad()
def signed_gemma(model: Any) -> Any:
    """Put the features of the residual stream into another order and flip signs, with every norm's weight.

    A turn would not do: norms after attention and MLP have weights that no module reads.
    """
    made = _again(model)
    width = made.config.hidden_size
    order = _permutation(width, 51)
    signs = torch.where(torch.rand(width, generator=torch.Generator().manual_seed(52)) < 0.5, -1.0, 1.0)
    made.model.embed_tokens.weight.copy_(made.model.embed_tokens.weight[:, order] * signs)
    made.model.norm.weight.copy_(made.model.norm.weight[order])
    for block in _blocks(made):
        for linear in _linears(block, _READERS):
            linear.weight.copy_(linear.weight[:, order] * signs)
        for linear in _linears(block, _WRITERS):
            linear.weight.copy_(linear.weight[order] * signs[:, None])
        for name, parameter in block.named_parameters():
            if "layernorm" in name:
                parameter.copy_(parameter[order])
    return made


@torch.no_grad()
def folded_gemma(model: Any) -> Any:
    """Move what norms multiply with, one more than their weights, into the modules that read them."""
    made = _again(model)
    for block in _blocks(made):
        for norm, paths in (
            (block.input_layernorm, _READERS[:3]),
            (block.pre_feedforward_layernorm, _READERS[3:]),
        ):
            for linear in _linears(block, paths):
                linear.weight.mul_(1.0 + norm.weight)
            norm.weight.fill_(0.0)
    return made


@torch.no_grad()
def shifted_gpt2(model: Any) -> Any:
    """Let whatever writes into the residual stream of a GPT-2 add the same to all features: every norm takes it out."""
    made = _again(model)
    torch.manual_seed(91)
    for table in (made.transformer.wte, made.transformer.wpe):
        table.weight.add_(torch.randn(len(table.weight), 1))
    for block in made.transformer.h:
        for writer in (block.attn.c_proj, block.mlp.c_proj):
            writer.weight.add_(torch.randn(len(writer.weight), 1) * 0.3)
            writer.bias.add_(torch.randn(1))
    return made


@torch.no_grad()
def other_gpt2(model: Any) -> Any:
    """Fold and turn a GPT-2, and put its heads and neurons into another order.

    The turn keeps the direction of equal features, which LayerNorm takes out.
    """
    made = _again(model)
    width, heads = made.config.n_embd, made.config.n_head
    turn = _fixing_ones(width)
    for index, block in enumerate(made.transformer.h):
        _fold(block.ln_1, block.attn.c_attn)
        _fold(block.ln_2, block.mlp.c_fc)
        rows = (_permutation(heads, 61 + index)[:, None] * (width // heads) + torch.arange(width // heads)).flatten()
        _reorder(block.attn.c_attn, block.attn.c_proj, torch.cat([rows + part * width for part in range(3)]), rows)
        neurons = _permutation(4 * width, 71 + index)
        _reorder(block.mlp.c_fc, block.mlp.c_proj, neurons, neurons)
        for reader in (block.attn.c_attn, block.mlp.c_fc):
            reader.weight.copy_(turn.T @ reader.weight)
        for writer in (block.attn.c_proj, block.mlp.c_proj):
            writer.weight.copy_(writer.weight @ turn)
            writer.bias.copy_(writer.bias @ turn)
    made.lm_head.weight.copy_((made.lm_head.weight * made.transformer.ln_f.weight) @ turn)
    made.transformer.ln_f.bias.copy_((made.transformer.ln_f.bias / made.transformer.ln_f.weight) @ turn)
    made.transformer.ln_f.weight.fill_(1.0)
    for table in (made.transformer.wte, made.transformer.wpe):
        table.weight.copy_(table.weight @ turn)
    return made


def _fixing_ones(width: int) -> torch.Tensor:
    """Return a turn that leaves the vector of ones where it is."""
    basis = torch.linalg.qr(torch.cat([torch.ones(width, 1), torch.randn(width, width - 1)], dim=1).double())[0]
    inner = torch.eye(width, dtype=torch.float64)
    inner[1:, 1:] = _rotation(width - 1, 81).double()
    return (basis @ inner @ basis.T).float()


def _fold(norm: Any, reader: Any) -> None:
    """Move weight and bias of a LayerNorm into the Conv1D that reads it."""
    reader.bias.add_(norm.bias @ reader.weight)
    reader.weight.mul_(norm.weight[:, None])
    norm.weight.fill_(1.0)
    norm.bias.fill_(0.0)


def _reorder(reader: Any, writer: Any, columns: torch.Tensor, rows: torch.Tensor) -> None:
    reader.weight.copy_(reader.weight[:, columns])
    reader.bias.copy_(reader.bias[columns])
    writer.weight.copy_(writer.weight[rows])


COPIES: dict[str, tuple[str, Copy]] = {
    "hidden basis turned": ("llama", rotated_llama),
    "neurons permuted": ("llama", neurons_permuted),
    "heads permuted": ("llama", heads_permuted),
    "norms folded, heads and neurons stretched": ("llama", rescaled_llama),
    "all of these": (
        "llama",
        chain(rescaled_llama, rotated_llama, neurons_permuted, heads_permuted),
    ),
    "depth doubled by idle blocks": (
        "llama",
        chain(rotated_llama, neurons_permuted, doubled),
    ),
    "GQA to MHA": ("llama", chain(rotated_llama, heads_permuted, many_keys)),
    "fused modules": ("llama", chain(rotated_llama, neurons_permuted, fused)),
    "stream and MLP wider": ("llama", chain(widened, rotated_llama, neurons_permuted, heads_permuted)),
    "heads wider and slower": ("llama", chain(rotated_llama, heads_permuted, slower_heads)),
    "gpt2 turned and permuted": ("gpt2", other_gpt2),
    "gpt2 shifted, turned and permuted": ("gpt2", chain(shifted_gpt2, other_gpt2)),
    "gemma3 folded, signed and permuted": (
        "gemma3",
        chain(folded_gemma, signed_gemma, neurons_permuted, heads_permuted),
    ),
}
"""Families and their copies, by name."""

PARTS = {
    "neurons permuted": 0.4,
    "heads permuted": 0.7,
    "norms folded, heads and neurons stretched": 0.55,
    "gpt2 shifted, turned and permuted": 0.3,
}
"""Of which copies pairing by index keeps a part, most where the residual stream is left in its place, and at most how
much: a little over what it is. Of the others it keeps less than a fifth."""
