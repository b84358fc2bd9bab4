"""Small real adapters: random transformers models from a config, wrapped by PEFT and saved as users save them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

_LLAMA = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 24,
    "vocab_size": 32,
    "pad_token_id": 0,
}
_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "vocab_size": 32,
    "max_position_embeddings": 32,
}
_T5 = {
    "d_model": 16,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "d_kv": 8,
    "d_ff": 24,
    "vocab_size": 32,
    "decoder_start_token_id": 0,
}


@dataclass(frozen=True)
class Architecture:
    """How to make a tiny model of one architecture."""

    module: str
    config: str
    settings: dict[str, Any]
    causal: str
    classifier: str
    embedding: str
    head: str
    attention: tuple[str, ...]
    task: str = "CAUSAL_LM"
    classifier_head: str = "score"


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(
        "llama",
        "LlamaConfig",
        _LLAMA,
        "LlamaForCausalLM",
        "LlamaForSequenceClassification",
        "embed_tokens",
        "lm_head",
        ("q_proj", "v_proj"),
    ),
    "gemma3_text": Architecture(
        "gemma3",
        "Gemma3TextConfig",
        _LLAMA,
        "Gemma3ForCausalLM",
        "Gemma3TextForSequenceClassification",
        "embed_tokens",
        "lm_head",
        ("q_proj", "v_proj"),
    ),
    "qwen2": Architecture(
        "qwen2",
        "Qwen2Config",
        {key: value for key, value in _LLAMA.items() if key != "head_dim"},
        "Qwen2ForCausalLM",
        "Qwen2ForSequenceClassification",
        "embed_tokens",
        "lm_head",
        ("q_proj", "v_proj"),
    ),
    "gpt2": Architecture(
        "gpt2",
        "GPT2Config",
        {
            "n_embd": 16,
            "n_layer": 2,
            "n_head": 4,
            "vocab_size": 32,
            "n_positions": 32,
            "bos_token_id": 1,
            "eos_token_id": 1,
            "pad_token_id": 0,
        },
        "GPT2LMHeadModel",
        "GPT2ForSequenceClassification",
        "wte",
        "lm_head",
        ("c_attn",),
    ),
    "gpt_neox": Architecture(
        "gpt_neox",
        "GPTNeoXConfig",
        {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 24,
            "vocab_size": 32,
            "pad_token_id": 0,
        },
        "GPTNeoXForCausalLM",
        "GPTNeoXForSequenceClassification",
        "embed_in",
        "lm_head",
        ("query_key_value",),
    ),
    "bert": Architecture(
        "bert",
        "BertConfig",
        _BERT,
        "BertForMaskedLM",
        "BertForSequenceClassification",
        "word_embeddings",
        "decoder",
        ("query", "value"),
        task="FEATURE_EXTRACTION",
        classifier_head="classifier",
    ),
    "roberta": Architecture(
        "roberta",
        "RobertaConfig",
        {**_BERT, "pad_token_id": 0},
        "RobertaForMaskedLM",
        "RobertaForSequenceClassification",
        "word_embeddings",
        "decoder",
        ("query", "value"),
        task="FEATURE_EXTRACTION",
        classifier_head="classifier",
    ),
    "t5": Architecture(
        "t5",
        "T5Config",
        _T5,
        "T5ForConditionalGeneration",
        "T5ForSequenceClassification",
        "shared",
        "lm_head",
        ("q", "v"),
        task="SEQ_2_SEQ_LM",
        classifier_head="classification_head",
    ),
    "t5_gated": Architecture(
        "t5",
        "T5Config",
        {**_T5, "feed_forward_proj": "gated-gelu"},
        "T5ForConditionalGeneration",
        "T5ForSequenceClassification",
        "shared",
        "lm_head",
        ("q", "v"),
        task="SEQ_2_SEQ_LM",
        classifier_head="classification_head",
    ),
}

OPTIONS = (
    "plain",
    "patterns",
    "dora",
    "lora_bias",
    "bias_all",
    "bias_lora_only",
    "modules_to_save",
    "embeddings",
    "trainable_tokens",
    "classifier",
)
PLAIN_OPTIONS = ("patterns", "dora", "lora_bias", "bias_lora_only")
"""Options whose whole effect a composed configuration can say."""


def model_module(architecture: str) -> Any:
    """Return the transformers module of an architecture."""
    name = ARCHITECTURES[architecture].module
    return importlib.import_module(f"transformers.models.{name}.modeling_{name}")


def tiny_config(architecture: str, **changes: Any) -> Any:
    """Return the config of a tiny model."""
    import transformers

    known = ARCHITECTURES[architecture]
    return getattr(transformers, known.config)(**{**known.settings, "num_labels": 3, **changes})


def tiny_model(architecture: str, class_name: str) -> Any:
    """Return a random model, the same one for the same arguments."""
    import torch

    torch.manual_seed(7)
    kind = getattr(model_module(architecture), class_name)
    model = kind(tiny_config(architecture)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases and norms start at constants, which would hide mistakes
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def outputs(model: Any, architecture: str) -> Any:
    """Return the logits of a fixed input."""
    import torch

    from tests.untraced import untraced

    tokens = torch.arange(2, 14).reshape(2, 6)
    more = {}
    if architecture.startswith("t5"):
        tokens = torch.cat([tokens, torch.ones(2, 1, dtype=torch.long)], dim=1)
        if "Classification" not in type(model.get_base_model()).__name__:
            more["decoder_input_ids"] = tokens
    with torch.no_grad(), untraced():
        return model(input_ids=tokens, **more).logits


@dataclass(frozen=True)
class PeftFolder:
    """A saved adapter, its base config, and how to get both models again."""

    architecture: str
    class_name: str
    path: Path
    base: Path

    def base_model(self) -> Any:
        """Return the base model, fresh."""
        return tiny_model(self.architecture, self.class_name)

    def load(self, path: Path | None = None) -> Any:
        """Return the base model with an adapter folder loaded by PEFT."""
        import peft

        return peft.PeftModel.from_pretrained(self.base_model(), str(path or self.path)).eval()

    @cached_property
    def logits(self) -> Any:
        """What the adapter as saved computes."""
        return outputs(self.load(), self.architecture)


class PeftFolders:
    """Makes each (architecture, option) once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[tuple[str, str], PeftFolder] = {}

    def get(self, architecture: str, option: str = "plain") -> PeftFolder:
        """Return a folder, made now or before."""
        key = (architecture, option)
        if key not in self._made:
            self._made[key] = self._make(architecture, option)
        return self._made[key]

    def _make(self, architecture: str, option: str) -> PeftFolder:
        import peft

        known = ARCHITECTURES[architecture]
        class_name = known.classifier if option == "classifier" else known.causal
        place = self._root / f"{architecture}-{option}"
        model = tiny_model(architecture, class_name)
        model.config.architectures = [class_name]
        model.config.save_pretrained(place / "base")
        wrapped = peft.get_peft_model(model, peft.LoraConfig(**_lora_settings(known, option)))
        _randomise(wrapped)
        wrapped.save_pretrained(place / "adapter")
        return PeftFolder(architecture, class_name, place / "adapter", place / "base")


def _lora_settings(known: Architecture, option: str) -> dict[str, Any]:
    common: dict[str, Any] = {
        "r": 4,
        "lora_alpha": 6,
        "target_modules": "all-linear",
        "task_type": known.task,
        "fan_in_fan_out": known.module == "gpt2",
    }
    first = known.attention[0]
    # All linear modules of BERT include those of its heads, which have no role; some options leave them out.
    is_bert = known.module in ("bert", "roberta")
    inside: dict[str, Any] = {"exclude_modules": r"(cls|lm_head)\..*"} if is_bert else {}
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "patterns": {
            "use_rslora": True,
            # Overlapping on purpose: the first match counts, in the order in which PEFT stores them.
            "rank_pattern": {r".*\.1\..*": 5, first: 3},
            "alpha_pattern": {known.attention[-1]: 11},
            **inside,
        },
        "dora": {"use_dora": True, "target_modules": list(known.attention)},
        "lora_bias": {"lora_bias": True, "target_modules": list(known.attention)},
        "bias_all": {"bias": "all"},
        "bias_lora_only": {"bias": "lora_only", **inside},
        "modules_to_save": {"target_modules": list(known.attention), "modules_to_save": [known.head]},
        "embeddings": {"target_modules": [*known.attention, known.embedding, known.head]},
        "trainable_tokens": {
            "target_modules": list(known.attention),
            "trainable_token_indices": {known.embedding: [1, 3]},
        },
        "classifier": {"task_type": "SEQ_CLS", "modules_to_save": [known.classifier_head]},
    }
    return common | changes[option]


def _randomise(model: Any) -> None:
    """Give every trained number a value of its own, so that nothing can be lost without a trace."""
    import torch

    torch.manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
