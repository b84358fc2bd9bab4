"""A base model with the head that is trained through: which class of transformers has it, and PEFT's word for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto as auto

from ual_registry.binders.base import BaseConfig, load_base
from ual_registry.errors import TrainingError
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.models.positions import position_limit
from ual_registry.training.encoding import Encoder

__all__ = ["TASK_TYPES", "context_of", "load_for_training", "model_class_of"]


@dataclass(frozen=True, slots=True)
class _Head:
    """A kind of head.

    Attributes:
        classes: The class that has it, by model type; several where transformers has several.
        what: What it is called in messages.
    """

    classes: Mapping[str, Any]
    what: str


_HEADS = {
    "causal": _Head(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "that finds the next token"),
    "masked": _Head(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "that finds masked tokens"),
    "seq2seq": _Head(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, "that answers a text with a text"),
    "classification": _Head(auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, "that tells labels apart"),
}

TASK_TYPES = {"causal": "CAUSAL_LM", "masked": None, "seq2seq": "SEQ_2_SEQ_LM", "classification": "SEQ_CLS"}
"""PEFT's word for each head; it has none for masked ones."""


def load_for_training(
    folder: Path | str,
    head: str,
    *,
    id: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    labels: Sequence[str] = (),
    seed: int = 0,
) -> LoadedBase:
    """Load a base model with a head.

    Args:
        folder: Its folder.
        head: One of ``config.HEADS``.
        id: Its label; the name of the folder where absent.
        dtype: What its weights are kept in.
        device: Where it is kept.
        labels: What a head for labels tells apart.
        seed: Seeds a fresh head for labels.

    Raises:
        TrainingError: The base model has no such head.
        StorageError: There is no such folder.
        BinderError: The architecture is unknown.
        TransferError: The folder holds something else than a complete base model.
    """
    name = model_class_of(load_base(Path(folder)), head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded = load_base_model(folder, id=id, dtype=dtype, device=device, model_class=name, labels=labels)
    text = loaded.model.config.get_text_config()
    if head == "classification" and text.pad_token_id is None:
        text.pad_token_id = Encoder(loaded.text_tokenizer).pad  # some heads look for the last token of each row by it
    return loaded


def context_of(base: LoadedBase) -> int | None:
    """Return how many tokens a base model reads at once at most; ``None`` where its config sets no limit."""
    found = position_limit(base.model)
    for path, module in base.model.named_modules():
        if path.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1  # RoBERTa begins behind its padding
            found = min(found or module.num_embeddings, module.num_embeddings - skipped)
    return found


def model_class_of(config: BaseConfig, head: str) -> str:
    """Return the class of transformers that a base model is trained through.

    Args:
        config: Its config.
        head: One of ``config.HEADS``.

    Raises:
        TrainingError: transformers has none for this model type.
    """
    classes = _HEADS[head].classes
    known = {name for names in classes.values() for name in _names(names)}
    named = next((name for name in config.model_classes if name in known), None)
    usual = next(iter(_names(classes.get(config.model_type, ()))), None)
    found = named or usual
    if found is None or (head == "causal" and named is None and _is_encoder(config)):
        raise _no_head(config, head)
    if not hasattr(transformers, found):
        raise _no_head(config, head)
    return found


def _names(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _is_encoder(config: BaseConfig) -> bool:
    """Tell whether a model sees what follows, so that to find the next token teaches it nothing."""
    return config.model_type in _HEADS["masked"].classes and not config.document.get("is_decoder")


def _no_head(config: BaseConfig, head: str) -> TrainingError:
    others = [
        name
        for name, own in _HEADS.items()
        if name != head and config.model_type in own.classes and not (name == "causal" and _is_encoder(config))
    ]
    hint = f"heads of this model type: {', '.join(others)}" if others else "give another base model"
    return TrainingError(
        f"base model {config.label}: model_type {config.model_type!r} has no head {_HEADS[head].what}",
        code="no-head",
        context={"head": head, "model_type": config.model_type},
        hint=hint,
    )
