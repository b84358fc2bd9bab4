"""A tokenizer whose tokens tile the text, and the special tokens that it would put around every text.

The offsets that a tokenizer hands out are made for people: its post-processor may trim white space off them. Here it is
left out; whoever needs what it would have put around a text puts it there by hand.
"""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer

from ual_registry.digest import Digest
from ual_registry.errors import TrainingError

__all__ = ["frame", "plain_tokenizer", "tokenizer_digest"]

_PROBE = "a"


def plain_tokenizer(tokenizer: Any) -> Tokenizer:
    """Return what a tokenizer is backed by, without post-processor, padding and truncation; a copy.

    Args:
        tokenizer: A fast tokenizer of transformers.

    Raises:
        TrainingError: The tokenizer is not backed by ``tokenizers``, so that it knows no offsets.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise TrainingError(
            f"{type(tokenizer).__name__}: knows no character offsets",
            code="slow-tokenizer",
            hint="give the base model's tokenizer.json",
        )
    plain = Tokenizer.from_str(backend.to_str())
    plain.post_processor = None
    plain.no_padding()
    plain.no_truncation()
    return plain


def tokenizer_digest(tokenizer: Any) -> Digest:
    """Return a digest of all that a fast tokenizer of transformers does with a text."""
    return Digest.of_bytes(tokenizer.backend_tokenizer.to_str().encode())


def frame(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that a tokenizer puts before and after every text."""
    whole = list(tokenizer(_PROBE)["input_ids"])
    bare = list(tokenizer(_PROBE, add_special_tokens=False)["input_ids"])
    for count in range(len(whole) - len(bare) + 1):
        if whole[count : count + len(bare)] == bare:
            return tuple(whole[:count]), tuple(whole[count + len(bare) :])
    return (), ()
