"""Qwen of the first generation, whose code stands beside its weights and not in ``transformers``.

Only what a proof needs: the published names of classes, config fields and modules, and the published forward pass for
short texts, where neither the scaling of queries by length nor that of rotary frequencies sets in.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from tests.reference.blocks import RMSNorm, attend, rotate_halves

__all__ = [
    "QWenConfig",
    "QWenLMHeadModel",
    "QWenModel",
]


class QWenConfig(PreTrainedConfig):
    """The config; ``intermediate_size`` is the width of gate and up together."""

    model_type = "qwen"

    vocab_size: int = 151936
    hidden_size: int = 4096
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    kv_channels: int = 128
    intermediate_size: int = 22016
    rotary_pct: float = 1.0
    rotary_emb_base: float = 10000.0
    layer_norm_epsilon: float = 1e-6
    no_bias: bool = True
    tie_word_embeddings: bool = False


class QWenAttention(nn.Module):
    """Attention with query, key and value in one module, one after the other."""

    def __init__(self, config: QWenConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.rotated = int(config.hidden_size // self.heads * config.rotary_pct)
        self.rotary_base = config.rotary_emb_base
        width = config.kv_channels * self.heads
        self.c_attn = nn.Linear(config.hidden_size, 3 * width)
        self.c_proj = nn.Linear(width, config.hidden_size, bias=not config.no_bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Attend; hidden is (batch, length, hidden_size)."""
        query, key, value = (part.unflatten(-1, (self.heads, -1)) for part in self.c_attn(hidden).chunk(3, dim=-1))
        query, key = (rotate_halves(part, self.rotated, self.rotary_base) for part in (query, key))
        return self.c_proj(attend(query, key, value))


class QWenMLP(nn.Module):
    """An MLP whose gate is ``w2``."""

    def __init__(self, config: QWenConfig) -> None:
        super().__init__()
        width = config.intermediate_size // 2
        self.w1 = nn.Linear(config.hidden_size, width, bias=not config.no_bias)
        self.w2 = nn.Linear(config.hidden_size, width, bias=not config.no_bias)
        self.c_proj = nn.Linear(width, config.hidden_size, bias=not config.no_bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply it; hidden is (batch, length, hidden_size)."""
        return self.c_proj(self.w1(hidden) * functional.silu(self.w2(hidden)))


class QWenBlock(nn.Module):
    """One block; norms stand before attention and MLP."""

    def __init__(self, config: QWenConfig) -> None:
        super().__init__()
        self.ln_1 = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.attn = QWenAttention(config)
        self.ln_2 = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mlp = QWenMLP(config)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply it; hidden is (batch, length, hidden_size)."""
        hidden = hidden + self.attn(self.ln_1(hidden))
        return hidden + self.mlp(self.ln_2(hidden))


class QWenPreTrainedModel(PreTrainedModel):
    """What the model classes have in common."""

    config_class = QWenConfig
    base_model_prefix = "transformer"


class QWenModel(QWenPreTrainedModel):
    """The backbone."""

    def __init__(self, config: QWenConfig) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.h = nn.ModuleList(QWenBlock(config) for _ in range(config.num_hidden_layers))
        self.ln_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, **_: object) -> BaseModelOutput:
        """Return the last hidden states; input_ids is (batch, length)."""
        hidden = self.wte(input_ids)
        for block in self.h:
            hidden = block(hidden)
        return BaseModelOutput(last_hidden_state=self.ln_f(hidden))


class QWenLMHeadModel(QWenPreTrainedModel):
    """The model that predicts the next token."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "transformer.wte.weight"}

    def __init__(self, config: QWenConfig) -> None:
        super().__init__(config)
        self.transformer = QWenModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, **_: object) -> CausalLMOutput:
        """Return the logits; input_ids is (batch, length)."""
        return CausalLMOutput(logits=self.lm_head(self.transformer(input_ids).last_hidden_state))
