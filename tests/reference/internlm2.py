"""InternLM2, whose code stands beside its weights and not in ``transformers``.

Only what a proof needs: the published names of classes, config fields and modules, and the published forward pass.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

from tests.reference.blocks import RMSNorm, attend, rotate_halves

__all__ = [
    "InternLM2Config",
    "InternLM2ForCausalLM",
    "InternLM2ForQuestionAnswering",
    "InternLM2ForSequenceClassification",
    "InternLM2ForTokenClassification",
    "InternLM2Model",
]


class InternLM2Config(PreTrainedConfig):
    """The config."""

    model_type = "internlm2"

    vocab_size: int = 103168
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    bias: bool = True
    tie_word_embeddings: bool = False


class InternLM2Attention(nn.Module):
    """Attention with one fused module: for each key-value head its queries, then its key, then its value."""

    def __init__(self, config: InternLM2Config) -> None:
        super().__init__()
        heads = config.num_attention_heads
        self.groups = config.num_key_value_heads or heads
        self.head_dim = config.hidden_size // heads
        self.rotary_base = config.rope_theta
        rows = (heads + 2 * self.groups) * self.head_dim
        self.wqkv = nn.Linear(config.hidden_size, rows, bias=config.bias)
        self.wo = nn.Linear(heads * self.head_dim, config.hidden_size, bias=config.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Attend; hidden is (batch, length, hidden_size)."""
        fused = self.wqkv(hidden).unflatten(-1, (self.groups, -1, self.head_dim))
        query, key, value = fused[..., :-2, :].flatten(2, 3), fused[..., -2, :], fused[..., -1, :]
        query, key = (rotate_halves(part, self.head_dim, self.rotary_base) for part in (query, key))
        return self.wo(attend(query, key, value))


class InternLM2MLP(nn.Module):
    """An MLP whose gate is ``w1`` and whose way down is ``w2``."""

    def __init__(self, config: InternLM2Config) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.w3 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.w2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply it; hidden is (batch, length, hidden_size)."""
        return self.w2(functional.silu(self.w1(hidden)) * self.w3(hidden))


class InternLM2DecoderLayer(nn.Module):
    """One block; norms stand before attention and MLP."""

    def __init__(self, config: InternLM2Config) -> None:
        super().__init__()
        self.attention = InternLM2Attention(config)
        self.feed_forward = InternLM2MLP(config)
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.ffn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply it; hidden is (batch, length, hidden_size)."""
        hidden = hidden + self.attention(self.attention_norm(hidden))
        return hidden + self.feed_forward(self.ffn_norm(hidden))


class InternLM2PreTrainedModel(PreTrainedModel):
    """What the model classes have in common."""

    config_class = InternLM2Config
    base_model_prefix = "model"


class InternLM2Model(InternLM2PreTrainedModel):
    """The backbone."""

    def __init__(self, config: InternLM2Config) -> None:
        super().__init__(config)
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(InternLM2DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, **_: object) -> BaseModelOutput:
        """Return the last hidden states; input_ids is (batch, length)."""
        hidden = self.tok_embeddings(input_ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return BaseModelOutput(last_hidden_state=self.norm(hidden))


class InternLM2ForCausalLM(InternLM2PreTrainedModel):
    """The model that predicts the next token."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {"output.weight": "model.tok_embeddings.weight"}

    def __init__(self, config: InternLM2Config) -> None:
        super().__init__(config)
        self.model = InternLM2Model(config)
        self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, **_: object) -> CausalLMOutput:
        """Return the logits; input_ids is (batch, length)."""
        return CausalLMOutput(logits=self.output(self.model(input_ids).last_hidden_state))


class InternLM2ForSequenceClassification(InternLM2PreTrainedModel):
    """The model that sorts texts, by their last token."""

    def __init__(self, config: InternLM2Config) -> None:
        super().__init__(config)
        self.model = InternLM2Model(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, **_: object) -> SequenceClassifierOutput:
        """Return the logits; input_ids is (batch, length)."""
        return SequenceClassifierOutput(logits=self.score(self.model(input_ids).last_hidden_state)[:, -1])


class InternLM2ForTokenClassification(InternLM2PreTrainedModel):
    """The model that sorts tokens."""

    def __init__(self, config: InternLM2Config) -> None:
        super().__init__(config)
        self.model = InternLM2Model(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, **_: object) -> TokenClassifierOutput:
        """Return the logits; input_ids is (batch, length)."""
        return TokenClassifierOutput(logits=self.score(self.model(input_ids).last_hidden_state))


class InternLM2ForQuestionAnswering(InternLM2PreTrainedModel):
    """The model that marks an answer's start and end."""

    base_model_prefix = "transformer"

    def __init__(self, config: InternLM2Config) -> None:
        super().__init__(config)
        self.transformer = InternLM2Model(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, **_: object) -> QuestionAnsweringModelOutput:
        """Return the logits; input_ids is (batch, length)."""
        start, end = self.qa_outputs(self.transformer(input_ids).last_hidden_state).unbind(-1)
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)
