"""Make a config small enough to run in a moment, and keep what makes its blocks differ.

What a field stands for is read from its name and, where the name says nothing, from its number: a number that equals
one that was shrunk, or is a small multiple of it, shrinks along. A wrong guess does no harm: the dimensions are found
by changing fields afterwards, and the result is checked against the whole model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ual_registry.errors import UninferableArchitectureError
from ual_registry.tracing.build import Builder, said
from ual_registry.tracing.refusal import refusal
from ual_registry.tracing.survey import Matrix

__all__ = ["shrink"]

_SMALL = 1_000_000
"""Numbers in the matrices of a model that runs in a moment as it is."""
_LARGE = 20_000_000
_MOST_LAYERS = 12

_LAYERS = re.compile(
    r"(num_hidden_layers|n_layers?|num_layers|num_(en|de)coder_layers|(en|de)coder_layers|depth|(num|n)_blocks)"
)
_STEP = re.compile(r".*(_step|_period|_interval|_every|_frequency|_freq|every_n_layers|_pattern)")
_RULES: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern), size)
    for pattern, size in (
        (r".*vocab_size.*", 128),
        (r"(num|n)_shared_experts", 2),
        (r".*(per_tok|per_token|topk|top_k|moe_k)", 2),
        (r"(n_group|topk_group|n_groups|mamba_n_groups|num_expert_group)", 1),
        (r".*experts?", 4),
        (r"(num_key_value_heads|num_kv_heads|n_head_kv|.*kv_heads)", 2),
        (r".*(heads?|n_head)", 4),
        (r"qk_rope_head_dim", 8),
        (r"qk_nope_head_dim", 12),
        (r"v_head_dim", 10),
        (r"rotary_dim", 8),
        (r"(.*head_dim|d_kv|kv_channels|.*head_size)", 16),
        (r"q_lora_rank", 20),
        (r"kv_lora_rank", 24),
        (r".*dt_rank|time_step_rank", 10),
        (r".*(d_state|state_size)", 6),
        (r".*(shared_.*intermediate.*|intermediate_size_mlp)", 104),
        (r".*(moe_.*intermediate|moe_ffn|expert_.*intermediate|expert_ffn).*", 88),
        (r".*(intermediate_size|ffn_hidden_size|ffn_dim|n_inner|d_ff|mlp_dim|inner_dim|feed_forward.*)", 80),
        (r".*(max_position|n_positions|n_ctx|max_seq|source_positions|target_positions|seq_length|max_length).*", 128),
        (r".*(sliding_window|window_size|local_attention|chunk_size)", 16),
    )
)
_HIDDEN = re.compile(r"(hidden_size|n_embd|d_model|dim|.*embed_dim|hidden_dim|model_dim|width|embed_size)")
_WIDE_HEADS = re.compile(r"(head_dim|d_kv|kv_channels)")


def shrink(builder: Builder, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a small config document of the same architecture.

    Args:
        builder: Builds the models.
        document: The config document.

    Raises:
        UninferableArchitectureError: No small model of this class can be built.
    """
    problem = "its class refuses every small size"
    try:
        if _size(builder.empty(document)) <= _SMALL:
            return document
    except UninferableArchitectureError:
        raise
    except Exception as error:
        raise _refused(builder, said(error)) from error
    whole = builder.config(document).to_dict()
    for hidden in (48, 64):  # heads * head_dim is 64; the first size tells it from the stream, where the class allows
        small = _shrunk(whole, hidden)
        try:
            size = _size(builder.empty(small))
        except Exception as error:  # noqa: BLE001  # any class may refuse any size in its own way
            problem = said(error)
            continue
        if size <= _LARGE:
            return {**small, "architectures": document.get("architectures")}
        problem = f"it still has {size} numbers in its matrices"
    raise _refused(builder, problem)


def _refused(builder: Builder, problem: str) -> UninferableArchitectureError:
    name = builder.model_class.__name__
    hint = "give the config of a smaller model of this type, or write the binder by hand"
    return refusal(f"no small {name} can be built: {problem}", hint=hint, model_class=name)


def _size(matrices: Mapping[str, Matrix]) -> int:
    total = 0
    for matrix in matrices.values():
        size = 1
        for length in matrix.shape:
            size *= length
        total += size
    return total


def _shrunk(document: Mapping[str, Any], hidden: int) -> dict[str, Any]:
    """Return one object of a config with small sizes, and the objects inside it."""
    has_wide_heads = any(_WIDE_HEADS.fullmatch(name) and document[name] for name in document)
    width = hidden if has_wide_heads else 64
    layers = _layers_kept(document)
    sizes = dict(_sizes(document, width, layers))
    sizes |= _following(document, sizes)
    small: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            small[name] = _shrunk(value, hidden) if name.endswith("config") else _rescaled(value, document, sizes)
        elif isinstance(value, list):
            small[name] = _shortened(value, document, layers)
        else:
            small[name] = sizes.get(name, value)
    return _with_small_tokens(small)


def _sizes(document: Mapping[str, Any], width: int, layers: int) -> Iterator[tuple[str, int]]:
    heads = next((value for name, value in document.items() if re.fullmatch(r".*attention_heads|n_heads?", name)), None)
    for name, value in document.items():
        if type(value) is not int or value < 2:
            continue
        if _LAYERS.fullmatch(name):
            yield name, min(value, layers)
        elif re.fullmatch(r"first_k_dense_replace|num_dense_layers|num_first_dense_layers", name):
            yield name, 1
        elif _HIDDEN.fullmatch(name):
            yield name, min(value, width)
        elif name == "head_dim" and value == document.get("qk_rope_head_dim"):
            yield name, 8  # another name for the rotated part
        else:
            size = next((size for pattern, size in _RULES if pattern.fullmatch(name)), None)
            if size == 2 and "kv" in name + "kv" * ("key_value" in name) and value == heads:
                size = 4  # as many key-value heads as query heads: keep it so
            if size is not None:
                yield name, min(value, size)


def _following(document: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes of fields that equal a shrunk one, or a small multiple of it."""
    before = {document[name]: size for name, size in sizes.items() if document[name] >= 64 and size != document[name]}
    found: dict[str, int] = {}
    for name, value in document.items():
        if type(value) is int and name not in sizes and value >= 64 and "id" not in name.split("_"):
            for factor in (1, 2, 3, 4, 8):
                if value % factor == 0 and value // factor in before:
                    found[name] = factor * before[value // factor]
                    break
    return found


def _layers_kept(document: Mapping[str, Any]) -> int:
    """Return how many blocks show every kind of block."""
    count = max(
        (document[name] for name in document if _LAYERS.fullmatch(name) and type(document[name]) is int), default=2
    )
    kept = 2
    for name, value in document.items():
        if isinstance(value, list) and len(value) == count and all(isinstance(item, str) for item in value):
            kept = max(kept, max(value.index(kind) for kind in set(value)) + 1)
        elif isinstance(value, list) and "layer" in name and value and all(type(item) is int for item in value):
            kept = max(kept, min(value) + 2)
        elif type(value) is int and 1 < value <= _MOST_LAYERS and _STEP.fullmatch(name):
            kept = max(kept, value + 1)
    return min(kept, count, _MOST_LAYERS)


def _shortened(value: list[Any], document: Mapping[str, Any], layers: int) -> list[Any]:
    counts = {document[name] for name in document if _LAYERS.fullmatch(name)}
    if len(value) in counts and all(isinstance(item, (str, int)) for item in value):
        return value[:layers]
    if value and all(type(item) is int for item in value) and max(value) < max(counts, default=0):
        return [item for item in value if item < layers]
    return value


def _rescaled(value: Mapping[str, Any], document: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return rotary parameters whose lists of one number per pair fit the smaller heads."""
    width = _head_dim(document, {})
    small = _head_dim(document, sizes)
    scaled = dict(value)
    for name, items in value.items():
        if isinstance(items, list) and width and all(isinstance(item, (int, float)) for item in items):
            if name.endswith("section") and sum(items) * 2 == width:
                scaled[name] = _parts(len(items), small // 2)
            elif name.endswith("factor"):
                scaled[name] = items[: max(1, len(items) * small // width)]
    return scaled


def _parts(count: int, total: int) -> list[int]:
    rest = total - (count - 1) * (total // count)
    return [total // count] * (count - 1) + [rest]


def _head_dim(document: Mapping[str, Any], sizes: Mapping[str, int]) -> int:
    values = {**document, **sizes}
    if isinstance(values.get("head_dim"), int):
        return int(values["head_dim"])
    hidden, heads = values.get("hidden_size"), values.get("num_attention_heads")
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads else 0


def _with_small_tokens(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the special tokens inside the small vocabulary, each a different one."""
    used = iter(range(3, 60))
    small = dict(document)
    for name, value in document.items():
        if name.endswith(("token_id", "token_index")):
            if type(value) is int and value >= 128:
                small[name] = next(used)
            elif isinstance(value, list):
                small[name] = [next(used) if item >= 128 else item for item in value]
    return small
