"""How fast a model's rotary position embedding turns each pair of features, as the loaded model has it."""

from __future__ import annotations

from typing import Any

import torch

from ual_registry.models.loaded import LoadedBase

__all__ = ["rotary_speeds"]

_NAME = "inv_freq"


def rotary_speeds(base: LoadedBase, layer: int, pairs: int) -> tuple[float, ...]:
    """Return the angle per position of each pair in a layer, in radians; empty where the model does not tell.

    Two models of one style and width may turn at other speeds: by another base frequency, or stretched for longer text.

    Args:
        base: The model.
        layer: Which block; some models turn at one speed in some blocks and at another in the others.
        pairs: How many pairs of a head are turned.
    """
    found = {
        name.rpartition(".")[2]: buffer.detach().to("cpu", torch.float64).flatten()
        for name, buffer in base.model.named_buffers()
        if name.endswith(_NAME) and buffer.numel() == pairs and "original" not in name
    }
    own = found.get(f"{_layer_kind(base.model.config, layer)}_{_NAME}", found.get(_NAME))
    if own is None or not bool((own > 0).all()):
        return ()
    return tuple(own.tolist())


def _layer_kind(config: Any, layer: int) -> str | None:
    kinds = getattr(config, "layer_types", None)
    return str(kinds[layer]) if isinstance(kinds, (list, tuple)) and layer < len(kinds) else None
