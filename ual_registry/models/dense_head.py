"""A head whose weight is not copied: of the last place of every row, torch would copy it once for each row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__all__ = ["dense_head"]


@contextlib.contextmanager
def dense_head(model: Any) -> Iterator[None]:
    """Give the output head of a model dense states for as long as the context lasts; what it says stays the same.

    Args:
        model: A model of transformers.
    """
    head = model.get_output_embeddings()
    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    try:
        yield
    finally:
        hook.remove()
