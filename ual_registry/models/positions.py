"""How many tokens a base model can read: models with learned positions have none for what follows."""

from __future__ import annotations

from typing import Any

__all__ = ["position_limit"]


def position_limit(model: Any) -> int | None:
    """Return how many tokens a model of transformers can read; ``None`` where its config does not say."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None
