"""Make inputs for a tiny model: random tokens, and what stands for sound where a model hears."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from ual_registry.tracing.refusal import refusal

__all__ = ["encoder_states", "make_inputs"]

_VOCABULARIES = ("vocab_size", "src_vocab_size", "tgt_vocab_size")
_BATCH = 2
_POSITIONS = 9
_ENCODER_POSITIONS = 7


def make_inputs(model: nn.Module, config: Any, text: Any) -> dict[str, Any]:
    """Return keyword arguments for one run of ``model``.

    Args:
        model: A tiny transformers model.
        config: Its config.
        text: The part of the config that describes the text model.

    Raises:
        UninferableArchitectureError: The model reads something else than text or sound.
    """
    known = inspect.signature(model.forward).parameters
    generator = torch.Generator().manual_seed(0)
    inputs: dict[str, Any] = {}
    main = getattr(model, "main_input_name", "input_ids")
    if config.is_encoder_decoder:
        inputs |= _encoder(main, config, text, generator)
        if "decoder_input_ids" in known:
            inputs["decoder_input_ids"] = _tokens(text, _POSITIONS, generator)
    elif "input_ids" in known:
        inputs["input_ids"] = _tokens(text, _POSITIONS, generator)
    else:
        name = type(model).__name__
        raise refusal(f"{name} reads {main!r}, which is neither text nor sound", model_class=name)
    if getattr(text, "add_cross_attention", False) and "encoder_hidden_states" in known:
        inputs["encoder_hidden_states"] = encoder_states(text)
    if "use_cache" in known:
        inputs["use_cache"] = False
    return inputs


def encoder_states(config: Any) -> Tensor:
    """Return what an encoder could have left for the cross-attention of a decoder."""
    width = getattr(config, "cross_attention_hidden_size", None) or config.hidden_size
    return torch.randn(_BATCH, _POSITIONS, width, generator=torch.Generator().manual_seed(1))


def _tokens(config: Any, positions: int, generator: torch.Generator) -> Tensor:
    holders = (config, config.get_text_config())
    sizes = [getattr(holder, name, None) for holder in holders for name in _VOCABULARIES]
    size = min(size for size in sizes if isinstance(size, int))
    special: set[Any] = set()
    for name in ("pad", "bos", "eos", "decoder_start"):
        found = getattr(config, f"{name}_token_id", None)
        special.update(found if isinstance(found, list) else [found])
    usable = torch.tensor([token for token in range(size) if token not in special])
    return usable[torch.randint(len(usable), (_BATCH, positions), generator=generator)]


def _encoder(main: str, config: Any, text: Any, generator: torch.Generator) -> dict[str, Any]:
    if main == "input_features" and hasattr(config, "num_mel_bins"):
        shape = (_BATCH, config.num_mel_bins, 2 * config.max_source_positions)
        return {main: torch.randn(shape, generator=generator)}
    if main == "input_features" and hasattr(config, "input_feat_per_channel"):
        shape = (_BATCH, 8 * _ENCODER_POSITIONS, config.input_feat_per_channel * config.input_channels)
        return {main: torch.randn(shape, generator=generator)}
    if main == "input_values":
        return {main: torch.randn((_BATCH, 4096), generator=generator)}
    if main == "input_ids":
        return {main: _tokens(text, _ENCODER_POSITIONS, generator)}
    raise refusal(f"the encoder reads {main!r}, which is neither text nor sound")
