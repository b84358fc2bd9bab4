"""Which folder a model in memory was loaded from, and whether it still is what that folder holds.

Everything that is written about a base model, such as its digests, is read from its folder. So a model that has none,
or that was changed since, has no name that an adapter could be recorded under.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError, safe_open

from ual_registry.errors import TransferError
from ual_registry.models.loaded import load_tokenizer

__all__ = ["check_tokenizer", "folder_of"]

_COMPARED = 12
"""How many tensors are compared, spread over the model."""


def folder_of(model: Any) -> Path:
    """Return the folder that a model was loaded from; of one from the Hub, that in its cache.

    Args:
        model: A model of transformers.

    Raises:
        TransferError: It is no such model, carries an adapter, has no folder, or is not what its folder holds.
    """
    if not isinstance(model, transformers.PreTrainedModel):
        raise TransferError(
            f"expected a base model: a folder, or a model of transformers; got {_kind(model)}",
            code="no-base-model",
            hint="take adapters off first (PeftModel.unload), and give the model itself"
            if _is_wrapped(model)
            else None,
        )
    name = type(model).__name__
    if _carries_factors(model):
        raise TransferError(
            f"{name} in memory: carries an adapter already",
            code="already-adapted",
            hint="give the base model itself",
        )
    folder = _named_folder(model)
    if folder is None:
        raise TransferError(
            f"{name} in memory: there is no folder that it was loaded from, so nothing can be recorded of it",
            code="no-base-folder",
            context={"name": str(model.name_or_path)},
            hint="save model and tokenizer with save_pretrained, and load them from there",
        )
    changed = _changed(model, folder)
    if changed is not None:
        raise TransferError(
            f"{name} in memory: {changed} is not what {folder} holds",
            code="other-weights",
            context={"path": str(folder), "tensor": changed},
            hint="load the model anew, or save it as a base model of its own",
        )
    return folder


def _kind(value: Any) -> str:
    return "none" if value is None else f"a {type(value).__name__}"


def _is_wrapped(model: Any) -> bool:
    return callable(getattr(model, "get_base_model", None))


def _carries_factors(model: Any) -> bool:
    return any(".lora_" in name for name, _ in model.named_parameters())


def _named_folder(model: Any) -> Path | None:
    named = str(model.name_or_path or "")
    if named and Path(named).is_dir():
        return Path(named)
    try:
        found = try_to_load_from_cache(named, "config.json", revision=getattr(model.config, "_commit_hash", None))
    except (HFValidationError, OSError):
        return None
    return Path(found).parent if isinstance(found, str) else None


def _changed(model: Any, folder: Path) -> str | None:
    """Return the name of a tensor that differs from that in the folder; a few of them are compared."""
    held = model.state_dict()
    places = {name: file for file in sorted(folder.glob("*.safetensors")) for name in _names(file) if name in held}
    names = sorted(places)
    for name in names[:: max(len(names) // _COMPARED, 1)]:
        with safe_open(places[name], framework="pt") as stream:
            stored, own = stream.get_tensor(name), held[name].cpu()
        if stored.shape != own.shape or not torch.equal(stored.to(own.dtype), own):
            return name
    return None


def _names(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="pt") as stream:
            return list(stream.keys())
    except (SafetensorError, OSError):
        return []


def check_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Make sure that a tokenizer in memory is that of a folder, as far as its tokens go.

    Raises:
        TransferError: It has other tokens, is none, or the folder has none.
    """
    held = load_tokenizer(folder)
    if held is None:
        raise TransferError(
            f"{folder}: it has no tokenizer",
            code="no-tokenizer",
            context={"path": str(folder)},
            hint=f"save it there: tokenizer.save_pretrained({str(folder)!r})",
        )
    vocabulary = getattr(tokenizer, "get_vocab", None)
    if vocabulary is None:
        raise TransferError(f"expected a tokenizer of transformers, got {_kind(tokenizer)}", code="no-tokenizer")
    if vocabulary() != held.get_vocab():
        raise TransferError(
            f"the tokenizer in memory has other tokens than that of {folder}",
            code="other-tokenizer",
            context={"path": str(folder)},
            hint="give the base model's own tokenizer, or none",
        )
