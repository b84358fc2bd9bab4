"""Mixtures of experts, latent attention and state-space blocks: legal files, and what is at fault in others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spec.vectors.craft import (
    File,
    entry,
    latent_base,
    legal,
    llama_base,
    mixture_base,
    state_space_base,
    t5_base,
)

__all__ = ["block_faults", "block_files"]

_GATE_UP = "model.layers.0.mlp.experts.gate_up_proj"


def block_files() -> Iterator[tuple[str, str, File]]:
    """Yield name, description and file of every legal case."""
    yield from _mixtures()
    yield from _parameters()
    yield from _other_blocks()
    yield from _dimensions()


def _mixtures() -> Iterator[tuple[str, str, File]]:
    block = [
        *[entry("mlp_down", 3, 4, expert=expert) for expert in (0, 3)],
        entry("mlp_gate", 4, 3, expert=0),
        *[entry("mlp_up", 4, 3, expert=expert) for expert in range(4)],
        entry("moe_router", 4, 4),
        entry("shared_mlp_down", 5, 4),
        entry("shared_mlp_gate", 4, 5),
        entry("shared_mlp_router", 4, 1),
        entry("shared_mlp_up", 4, 5),
    ]
    yield "mixture", "Every role of a mixture, some of its experts.", legal(mixture_base(), block)
    dense = [entry("mlp_up", 4, 3, expert=0), entry("mlp_up", 4, 6, layer=1)]
    yield (
        "mixture-with-dense-block",
        "Experts in one block, a wider dense MLP in another.",
        legal(mixture_base(), dense),
    )
    both = [entry("mlp_up", 4, 6), entry("mlp_up", 4, 3, expert=0)]
    yield "mixture-beside-dense", "No expert stands before expert 0.", legal(mixture_base(), both)
    same = mixture_base()
    del same["stacks"][0]["expert_intermediate_size"]
    wide = [entry("mlp_down", 6, 4, expert=0), entry("mlp_up", 4, 6, expert=0)]
    yield "mixture-of-full-width", "Without a width of their own, experts are as wide as the MLP.", legal(same, wide)
    many = [entry("mlp_up", 4, 3, expert=expert) for expert in (2, 10)]
    yield "experts-sort-as-numbers", "Expert 2 stands before expert 10.", legal(mixture_base(num_experts=11), many)
    ranks = [entry("mlp_up", 4, 3, expert=expert, rank=1 + expert) for expert in range(3)]
    yield "experts-of-several-ranks", "Every expert has its own rank.", legal(mixture_base(), ranks)
    base = t5_base()
    base["stacks"][1] |= {"num_experts": 2}
    stacked = [entry("mlp_up", 4, 6, expert=1, stack="decoder"), entry("mlp_up", 8, 6, stack="encoder")]
    yield "experts-in-one-stack", "One stack has experts, the other none.", legal(base, stacked)
    dora = entry("mlp_up", 4, 3, expert=1, magnitude="layers.0.mlp_up.experts.1.magnitude")
    file = legal(mixture_base(), [{**dora, "bias": "layers.0.mlp_up.experts.1.bias"}], features=["dora", "lora-bias"])
    yield "expert-with-every-factor", "An expert's magnitude and bias.", file


def _gate_up(expert: int, **rows: tuple[int, int, int, int]) -> list[dict[str, Any]]:
    """Return slices of one expert's matrix: offset, block, stride and count by role."""
    shared = {"lora_A": f"layers.0.mlp_gate.experts.{expert}.lora_A", "source": _GATE_UP, "expert": expert}
    names = ("offset", "block", "stride", "count")
    return [entry(role, 4, 3, **shared, slice=dict(zip(names, numbers, strict=True))) for role, numbers in rows.items()]


def _sorted(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda item: (item["layer"], item["role"], item["expert"]))


def _parameters() -> Iterator[tuple[str, str, File]]:
    contiguous = {"mlp_gate": (0, 3, 3, 1), "mlp_up": (3, 3, 3, 1)}
    halves = _sorted([item for expert in (0, 1) for item in _gate_up(expert, **contiguous)])
    yield "experts-fused", "Gate and up of two experts of one parameter, half by half.", legal(mixture_base(), halves)
    by_turns = {"mlp_gate": (0, 1, 2, 3), "mlp_up": (1, 1, 2, 3)}
    rows = _sorted([item for expert in (0, 1, 2) for item in _gate_up(expert, **by_turns)])
    yield "experts-interleaved", "Gate and up of three experts, row by row.", legal(mixture_base(), rows)
    lone = _gate_up(2, mlp_up=(1, 1, 2, 3))
    yield "expert-named-after-absent", "The gate, which names the lora_A, has no entry.", legal(mixture_base(), lone)
    equal = [entry("mlp_up", 4, 3, expert=expert, source=_GATE_UP, slice=lone[0]["slice"]) for expert in (0, 1)]
    yield "experts-of-equal-rows", "The same rows of two experts are not the same.", legal(mixture_base(), equal)
    down = [entry("mlp_down", 3, 4, expert=expert, source="experts.down_proj") for expert in (0, 1)]
    yield "experts-of-one-parameter", "Experts of one parameter have one source.", legal(mixture_base(), down)


def _other_blocks() -> Iterator[tuple[str, str, File]]:
    latent = [
        entry("attention_output", 6, 4),
        entry("latent_key_rotary", 4, 2),
        entry("latent_key_up", 7, 6),
        entry("latent_key_value_down", 4, 7),
        entry("latent_query_down", 4, 6),
        entry("latent_query_up", 6, 10),
        entry("latent_value_up", 7, 6),
    ]
    yield "latent-attention", "Every role of latent attention.", legal(latent_base(), latent)
    yield "latent-attention-fused", "Two fused modules of latent attention.", legal(latent_base(), _fused_latent())
    plain_query = [entry("attention_query", 4, 10)]
    yield "latent-attention-plain-query", "A query that is not compressed.", legal(latent_base(), plain_query)
    values = [entry("attention_output", 6, 4), entry("attention_value", 4, 6)]
    yield "value-heads", "Heads of the value that are narrower than those of the key.", legal(latent_base(), values)
    positions = [entry("attention_position_key", 4, 4), entry("attention_position_query", 4, 4)]
    yield "relative-positions", "Projections of relative positions.", legal(llama_base(), positions)
    space = [
        entry("state_space_gate", 4, 6),
        entry("state_space_in", 4, 6),
        entry("state_space_input", 6, 3),
        entry("state_space_out", 6, 4),
        entry("state_space_output", 6, 3),
        entry("state_space_step_down", 6, 2),
        entry("state_space_step_up", 2, 6),
    ]
    yield (
        "state-space",
        "Every role of a state-space block; there are no heads.",
        legal(state_space_base(), space),
    )


def _fused_latent() -> list[dict[str, Any]]:
    down = {"source": "kv_a", "lora_A": "layers.0.latent_key_value_down.lora_A"}
    up = {"source": "kv_b", "lora_A": "layers.0.latent_key_up.lora_A"}
    return [
        entry("latent_key_rotary", 4, 2, **down, slice={"offset": 7, "block": 2, "stride": 2, "count": 1}),
        entry("latent_key_up", 7, 6, **up, slice={"offset": 0, "block": 3, "stride": 6, "count": 2}),
        entry("latent_key_value_down", 4, 7, **down, slice={"offset": 0, "block": 7, "stride": 7, "count": 1}),
        entry("latent_value_up", 7, 6, **up, slice={"offset": 3, "block": 3, "stride": 6, "count": 2}),
    ]


def _dimensions() -> Iterator[tuple[str, str, File]]:
    narrow = llama_base()
    narrow["stacks"][0] |= {"embedding_size": 3, "layer_repeats": 12}
    outer = [entry("lm_head", 3, 5, layer=None), entry("token_embedding", 5, 3, layer=None)]
    yield "narrow-embedding", "An embedding that is narrower than the stream.", legal(narrow, outer)
    few = llama_base(stacks=[{"hidden_size": 4, "num_layers": 2}])
    wide = [entry("lm_head", 4, 5, layer=None), entry("token_embedding", 5, 4, layer=None)]
    yield "two-dimensions", "A stack of no more than width and depth.", legal(few, wide)
    no_heads = llama_base(stacks=[{"hidden_size": 4, "num_layers": 2, "intermediate_size": 6}])
    yield "no-heads", "A stack without heads whose MLP is changed.", legal(no_heads, [entry("mlp_up", 4, 6)])


def block_faults() -> Iterator[tuple[str, str, bytes, str, str]]:
    """Yield name, description, bytes, code and place of every case that is refused."""
    yield from _expert_faults()
    yield from _expert_names()
    yield from _dimension_faults()
    yield from _schema_faults()


def _expert_faults() -> Iterator[tuple[str, str, bytes, str, str]]:
    for name, description, base, item in (
        ("after-last", "Expert 4 of four.", mixture_base(), entry("mlp_up", 4, 3, expert=4)),
        ("without-experts", "An expert in a stack that has none.", llama_base(), entry("mlp_up", 4, 6, expert=0)),
        ("of-attention", "Attention has no experts.", mixture_base(), entry("attention_query", 4, 4, expert=0)),
        ("of-router", "The router is no expert.", mixture_base(), entry("moe_router", 4, 4, expert=0)),
        ("of-shared", "The shared MLP is no expert.", mixture_base(), entry("shared_mlp_up", 4, 5, expert=0)),
    ):
        place = item["lora_B"].rpartition(".")[0]
        yield f"expert-{name}", description, legal(base, [item]).bytes(), "expert-range", place
    outer = legal(mixture_base(), [entry("lm_head", 4, 5, layer=None, expert=0)])
    yield "expert-of-head", "A head has no experts.", outer.bytes(), "expert-range", "lm_head.experts.0"
    twice = [entry("mlp_up", 4, 3, expert=1)] * 2
    place = "layers.0.mlp_up.experts.1"
    yield "expert-repeated", "Two entries of one expert.", legal(mixture_base(), twice).bytes(), "repeated-entry", place
    for name, description, order in (
        ("unsorted", "Expert 1 before expert 0.", (1, 0)),
        ("unsorted-as-text", "Expert 10 before expert 2.", (10, 2)),
        ("before-none", "An expert before the dense MLP.", (0, None)),
    ):
        entries = [
            entry("mlp_up", 4, 3, expert=expert) if expert is not None else entry("mlp_up", 4, 6) for expert in order
        ]
        file = legal(mixture_base(num_experts=11), entries)
        yield f"experts-{name}", description, file.bytes(), "unsorted-entries", "manifest.entries"
    roles = legal(mixture_base(), [entry("mlp_up", 4, 3, expert=0), entry("mlp_down", 3, 4, expert=1)])
    yield (
        "experts-before-roles",
        "Entries are sorted by role first, then by expert.",
        roles.bytes(),
        "unsorted-entries",
        "manifest.entries",
    )


def _expert_names() -> Iterator[tuple[str, str, bytes, str, str]]:
    for name, own, text in (
        ("missing", 1, "layers.0.mlp_up.lora_B"),
        ("other", 1, "layers.0.mlp_up.experts.2.lora_B"),
        ("leading-zero", 1, "layers.0.mlp_up.experts.01.lora_B"),
        ("too-much", None, "layers.0.mlp_up.experts.1.lora_B"),
    ):
        fields = {} if own is None else {"expert": own}
        file = legal(mixture_base(), [entry("mlp_up", 4, 3 if fields else 6, lora_B=text, **fields)])
        yield f"name-expert-{name}", "A factor is named after its own expert.", file.bytes(), "tensor-name", text
    rows = {"mlp_gate": (0, 3, 3, 1), "mlp_up": (3, 3, 3, 1)}
    for name, text, description in (
        ("other-expert", "layers.0.mlp_gate.experts.1.lora_A", "A shared factor is named after its own expert."),
        ("role-without-experts", "layers.0.moe_router.experts.0.lora_A", "It is named after a role that has experts."),
        ("no-expert", "layers.0.mlp_gate.lora_A", "A shared factor of an expert is named with it."),
    ):
        items = [{**item, "lora_A": text} for item in _gate_up(0, **rows)]
        yield f"shared-by-{name}", description, legal(mixture_base(), items).bytes(), "tensor-name", text
    overlap = legal(mixture_base(), _gate_up(1, mlp_gate=(0, 1, 2, 3), mlp_up=(2, 1, 2, 3)))
    yield (
        "slice-of-one-expert",
        "Two slices of one expert share rows.",
        overlap.bytes(),
        "slice",
        "layers.0.mlp_up.experts.1",
    )


def _dimension_faults() -> Iterator[tuple[str, str, bytes, str, str]]:
    latent, space, mixture = latent_base(), state_space_base(), mixture_base()
    uneven = latent_base()
    uneven["stacks"][0]["rotary_head_dim"] = 5
    narrow = llama_base()
    narrow["stacks"][0]["embedding_size"] = 3
    for name, base, item in (
        ("expert-as-dense", mixture, entry("mlp_up", 4, 6, expert=0)),
        ("dense-as-expert", mixture, entry("mlp_up", 4, 3)),
        ("router", mixture, entry("moe_router", 4, 3)),
        ("shared", mixture, entry("shared_mlp_up", 4, 6)),
        ("shared-router", mixture, entry("shared_mlp_router", 4, 2)),
        ("value-heads", latent, entry("attention_value", 4, 10)),
        ("attended-heads", latent, entry("attention_output", 10, 4)),
        ("latent-key", latent, entry("latent_key_up", 7, 10)),
        ("latent-rotary", latent, entry("latent_key_rotary", 4, 4)),
        ("latent-all-rotated", uneven, entry("latent_key_up", 7, 6)),
        ("state", space, entry("state_space_input", 6, 2)),
        ("narrow-head", narrow, entry("lm_head", 4, 5, layer=None)),
        ("without-experts", llama_base(), entry("moe_router", 4, 4)),
        ("without-shared", llama_base(), entry("shared_mlp_down", 6, 4)),
        ("without-latent", llama_base(), entry("latent_query_down", 4, 4)),
        ("without-rotary", llama_base(), entry("latent_key_up", 4, 2)),
        ("without-state", llama_base(), entry("state_space_step_up", 4, 6)),
        ("without-heads", space, entry("attention_query", 4, 4)),
        ("without-heads-in", space, entry("attention_output", 4, 4)),
    ):
        place = item["lora_B"].rpartition(".")[0]
        description = "Features follow from the dimensions that the stack has."
        yield f"dimension-of-{name}", description, legal(base, [item]).bytes(), "dimension", place


def _schema_faults() -> Iterator[tuple[str, str, bytes, str, str]]:
    for name, value in (("negative", -1), ("too-large", 10**9), ("fraction", 0.5), ("text", "0")):
        item = {**entry("mlp_up", 4, 3, expert=0), "expert": value}
        yield f"expert-{name}", "An expert is an index.", legal(mixture_base(), [item]).bytes(), "schema", ""
    for name in ("hidden_size", "num_layers"):
        base = llama_base()
        del base["stacks"][0][name]
        file = legal(base, [entry("mlp_up", 4, 6)])
        low = name.replace("_", "-")
        yield f"stack-without-{low}", "Width and depth are in every stack.", file.bytes(), "schema", ""
    for name, value in (("num_experts", 0), ("state_size", -1), ("layer_repeats", 1.5), ("experts", 4)):
        base = llama_base()
        base["stacks"][0][name] = value
        file = legal(base, [entry("mlp_up", 4, 6)])
        low = name.replace("_", "-")
        yield f"stack-wrong-{low}", "A dimension is a size, and has a known name.", file.bytes(), "schema", ""
