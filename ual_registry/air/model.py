"""The manifest as frozen dataclasses: what an AIR file says about itself, decoded once.

Field names are the stored names. Optional fields are ``None`` or empty when absent, and absent when ``None`` or
empty, so that one manifest has one stored form (spec: manifest).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BaseModel",
    "Entry",
    "Extra",
    "Lineage",
    "Manifest",
    "Method",
    "Origin",
    "Parent",
    "RowSlice",
    "Stack",
    "Statement",
]

Json = Any
"""A JSON value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The dimensions of one stack of blocks; those that no role of the architecture needs are absent.

    Attributes:
        name: ``encoder`` or ``decoder`` where there are two stacks; absent where there is one.
        hidden_size: Width of the residual stream, in features.
        num_layers: Blocks.
        num_attention_heads: Query heads.
        num_key_value_heads: Key and value heads.
        head_dim: Width of one query or key head, in features.
        intermediate_size: Width of the MLP, or of the inner stream of a state-space block, in features.
        value_head_dim: Width of one value head where it is not ``head_dim``, in features.
        rotary_head_dim: Width of the rotated part of a head in latent attention, in features.
        embedding_size: Width of the token embedding where it is not ``hidden_size``, in features.
        num_experts: Experts of one block.
        expert_intermediate_size: Width of one expert where it is not ``intermediate_size``, in features.
        shared_intermediate_size: Width of the MLP that every token goes through beside the experts, in features.
        query_latent_size: Width of the compressed query, in features.
        key_value_latent_size: Width of the compressed key and value, in features.
        state_size: Width of the state of a state-space block, in features.
        time_step_rank: Width of the projection of the time step, in features.
        layer_repeats: How often each block is applied.
    """

    name: str | None = None
    hidden_size: int
    num_layers: int
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    intermediate_size: int | None = None
    value_head_dim: int | None = None
    rotary_head_dim: int | None = None
    embedding_size: int | None = None
    num_experts: int | None = None
    expert_intermediate_size: int | None = None
    shared_intermediate_size: int | None = None
    query_latent_size: int | None = None
    key_value_latent_size: int | None = None
    state_size: int | None = None
    time_step_rank: int | None = None
    layer_repeats: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The frozen model that an adapter belongs to.

    Attributes:
        id: A label: Hub id or folder name. It identifies nothing; ``config_digest`` does.
        revision: Commit of the Hub repository; absent when unpinned.
        architecture: The binder that describes the module layout.
        model_type: ``model_type`` of the model's config.
        model_class: The class that the module paths were taken from.
        config_digest: Digest of the bytes of ``config.json``.
        weights_digest: Digest of the weights, where known.
        vocab_size: Rows of the token embedding.
        stacks: One stack, or encoder and decoder.
    """

    id: str
    revision: str | None = None
    architecture: str
    model_type: str
    model_class: str | None = None
    config_digest: str
    weights_digest: str | None = None
    vocab_size: int
    stacks: tuple[Stack, ...]

    def stack(self, name: str | None) -> Stack | None:
        """Return the stack with this name; ``None`` where the model has none."""
        for stack in self.stacks:
            if stack.name == name:
                return stack
        return None

    @property
    def encoder(self) -> Stack:
        """The stack that cross attention reads: the encoder, or the only stack."""
        return self.stack("encoder") or self.stacks[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How the adapter was parametrised when it was trained; a record, the numbers to use stand in the entries.

    Attributes:
        type: ``lora``.
        task_type: PEFT's task type, such as ``CAUSAL_LM``.
        rank: The default rank.
        alpha: The default alpha.
        scaling_rule: ``alpha/rank`` or ``alpha/sqrt(rank)`` (rsLoRA, arXiv 2312.03732).
        dropout: Dropout probability in training.
        bias: Which biases of the base model were trained: ``none``, ``all`` or ``lora_only``.
        dora: Whether magnitudes are trained (DoRA, arXiv 2402.09353).
    """

    type: str
    task_type: str | None = None
    rank: int
    alpha: float
    scaling_rule: str
    dropout: float
    bias: str
    dora: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSlice:
    """Which rows of a fused module belong to one role: ``count`` blocks of ``block`` rows, ``stride`` apart.

    Contiguous layouts have one block; per-head interleaved ones have a block per head.

    >>> list(RowSlice(offset=2, block=2, stride=6, count=2).runs())
    [(2, 2), (8, 2)]
    """

    offset: int
    block: int
    stride: int
    count: int

    @classmethod
    def whole(cls, rows: int) -> RowSlice:
        """Return the slice of a module that is not fused: all of its rows, in one block."""
        return cls(offset=0, block=rows, stride=rows, count=1)

    @property
    def rows(self) -> int:
        """How many rows the slice holds."""
        return self.block * self.count

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield (first row, rows) of every block, in order."""
        for index in range(self.count):
            yield self.offset + index * self.stride, self.block


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One (stack, layer, role, expert) with its factors: the update is ``scaling * lora_B @ lora_A``.

    Attributes:
        stack: ``encoder``, ``decoder``, or absent.
        layer: Index of the block, from 0; absent for roles outside the blocks.
        role: A name of the role table.
        expert: Index of the expert, from 0; absent where the module is not one of a mixture.
        in_features: Columns of ``lora_A``.
        out_features: Rows of ``lora_B``.
        rank: Rows of ``lora_A`` and columns of ``lora_B``.
        scaling: The resolved number that multiplies the product.
        lora_A: Tensor name; entries of one fused module may share it.
        lora_B: Tensor name.
        magnitude: Tensor name of the DoRA magnitude, shape (out_features,).
        bias: Tensor name of the bias of ``lora_B``, shape (out_features,).
        source: Path of the target module in the base model.
        slice: The rows of a fused module that this entry holds.
    """

    stack: str | None = None
    layer: int | None = None
    role: str
    expert: int | None = None
    in_features: int
    out_features: int
    rank: int
    scaling: float
    lora_A: str
    lora_B: str
    magnitude: str | None = None
    bias: str | None = None
    source: str | None = None
    slice: RowSlice | None = None

    @property
    def key(self) -> tuple[str, int, str, int]:
        """What makes an entry unique in its manifest: stack, layer (-1 outside the blocks), role, expert (-1: none)."""
        layer = -1 if self.layer is None else self.layer
        return (self.stack or "", layer, self.role, -1 if self.expert is None else self.expert)

    @property
    def label(self) -> str:
        """The entry's place in words, as in its tensor names."""
        return self.lora_B.rpartition(".")[0]

    def tensor_names(self) -> dict[str, str]:
        """Return the tensor names by factor, the absent ones left out."""
        found = {"lora_A": self.lora_A, "lora_B": self.lora_B}
        if self.magnitude is not None:
            found["magnitude"] = self.magnitude
        if self.bias is not None:
            found["bias"] = self.bias
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """A tensor without a role, kept bit for bit.

    Attributes:
        tensor: Its name in this file.
        name: The name it came under.
    """

    tensor: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The file that this one was converted from, so that the way back is exact.

    Attributes:
        format: ``peft``.
        config: The original configuration, verbatim.
        metadata: The original tensor file's ``__metadata__``, empty where it had none.
    """

    format: str
    config: Mapping[str, Json]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """One edge of the lineage: this artifact was made from ``digest`` by ``relation``."""

    digest: str
    relation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Which artifacts this one was made from."""

    parents: tuple[Parent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """How the artifact was made, in the shape of SLSA provenance 1.0.

    Attributes:
        type: ``projection``, ``training``, ``evaluation``, ``conversion``, ``merge`` or ``distillation``.
        builder: Name and version of the tool.
        parameters: What was asked for.
        materials: What went in, each with a name and a digest.
        byproducts: What was measured on the way.
        created_at: When, where that is recorded.
        annotations: Remarks by reverse-DNS keys.
    """

    type: str
    builder: Mapping[str, Json]
    parameters: Mapping[str, Json] = field(default_factory=dict)
    materials: tuple[Mapping[str, Json], ...] = ()
    byproducts: Mapping[str, Json] = field(default_factory=dict)
    created_at: str | None = None
    annotations: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that an AIR file says about itself; see ``schemas/1.0/manifest.json`` for each field.

    ``tensor_digest`` and ``manifest_digest`` are empty in a manifest that was never written; the writer fills them.
    """

    air_version: str
    kind: str
    base_model: BaseModel
    method: Method
    entries: tuple[Entry, ...]
    tensor_digest: str = ""
    manifest_digest: str = ""
    name: str | None = None
    description: str | None = None
    domain: str | None = None
    license: str | None = None
    languages: tuple[str, ...] = ()
    created_at: str | None = None
    tags: tuple[str, ...] = ()
    extra: tuple[Extra, ...] = ()
    lineage: Lineage | None = None
    provenance: tuple[Statement, ...] = ()
    origin: Origin | None = None
    features: tuple[str, ...] = ()
    annotations: Mapping[str, Json] = field(default_factory=dict)

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The edges of the lineage, none where nothing is recorded."""
        return self.lineage.parents if self.lineage else ()
