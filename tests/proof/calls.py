"""How a tiny model is called: one sequence of ``LENGTH`` tokens, or what stands for tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.model_types import MODEL_TYPES
from tests.proof.cases import Case

__all__ = ["CALLS", "LENGTH", "call"]

LENGTH = 6
"""Positions of the decoder, or of the only stack."""

_ENCODER_LENGTH = 7


def _tokens() -> dict[str, Any]:
    import torch

    return {"input_ids": torch.arange(3, 3 + LENGTH)[None]}


def _seq2seq() -> dict[str, Any]:
    import torch

    encoder = torch.arange(2, 2 + _ENCODER_LENGTH)[None]
    return {"input_ids": encoder, "decoder_input_ids": torch.arange(3, 3 + LENGTH)[None]}


def _decoder_tokens() -> dict[str, Any]:
    import torch

    return {"decoder_input_ids": torch.arange(3, 3 + LENGTH)[None]}


def _encoded() -> dict[str, Any]:
    import torch

    torch.manual_seed(6)
    return {**_tokens(), "encoder_hidden_states": torch.randn(1, _ENCODER_LENGTH, 32)}


def _encoded_alike() -> dict[str, Any]:
    """Tokens beside as many states of an encoder, for models whose cross-attention takes no other number."""
    import torch

    torch.manual_seed(6)
    return {**_tokens(), "encoder_hidden_states": torch.randn(1, LENGTH, 32)}


def _boxes() -> dict[str, Any]:
    """Tokens of a page that all stand in one place: what attention adds for their distance then chooses nothing."""
    import torch

    return {**_tokens(), "bbox": torch.zeros(1, LENGTH, 8)}


def _speech_frames() -> dict[str, Any]:
    import torch

    torch.manual_seed(6)
    return {"input_features": 0.1 * torch.randn(1, 28, 10), **_decoder_tokens()}


def _log_mel() -> dict[str, Any]:
    import torch

    torch.manual_seed(6)
    return {"input_features": 0.1 * torch.randn(1, 10, 32), **_decoder_tokens()}


def _samples() -> dict[str, Any]:
    import torch

    torch.manual_seed(6)
    return {"input_values": 0.01 * torch.randn(1, 4096), **_decoder_tokens()}


def _cross_states() -> dict[str, Any]:
    """Tokens beside the states of an image, as mllama's text model takes them."""
    import torch

    torch.manual_seed(6)
    return {**_tokens(), "cross_attention_states": torch.randn(1, _ENCODER_LENGTH, 32)}


CALLS: dict[str, Callable[[], dict[str, Any]]] = {
    "tokens": _tokens,
    "seq2seq": _seq2seq,
    "cross_states": _cross_states,
    "encoded": _encoded,
    "encoded_alike": _encoded_alike,
    "boxes": _boxes,
    "speech_frames": _speech_frames,
    "log_mel": _log_mel,
    "samples": _samples,
}


def call(model: Any, case: Case) -> Any:
    """Return the first output of a model: logits or hidden states."""
    import torch

    inputs = CALLS[MODEL_TYPES[case.model_type].inputs]()
    if not getattr(model.config, "add_cross_attention", True):  # GPT-2 refuses what it has no use for
        inputs.pop("encoder_hidden_states", None)
    with torch.no_grad():
        return model(**inputs, return_dict=True)[0]
