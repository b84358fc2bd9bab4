"""A tiny model for every ``model_type`` that a binder knows, by family."""

from __future__ import annotations

from tests.model_types import dense, encoders, fused, mixtures, multimodal, seq2seq
from tests.model_types.kind import TinyType

__all__ = ["MODEL_TYPES"]

MODEL_TYPES: dict[str, TinyType] = {
    **dense.TYPES,
    **encoders.TYPES,
    **fused.TYPES,
    **mixtures.TYPES,
    **multimodal.TYPES,
    **seq2seq.TYPES,
}
