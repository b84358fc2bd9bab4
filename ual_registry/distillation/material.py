"""What kept work depends on, so that nothing is gone on with that another model would have made."""

from __future__ import annotations

from ual_registry.models.loaded import LoadedBase
from ual_registry.models.plain_tokens import tokenizer_digest

__all__ = ["model_settings"]


def model_settings(base: LoadedBase) -> list[str | None]:
    """Return what a model does with text depends on: digests of config, weights and tokenizer, and the dtype."""
    own, tokenizer = base.base, tokenizer_digest(base.text_tokenizer)
    return [own.config_digest, own.weights_digest, str(tokenizer), str(base.model.dtype)]
