"""A Llama whose values are its keys: an architecture that no binder can describe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock


@contextlib.contextmanager
def swapped() -> Iterator[None]:
    """Let every Llama attention take its values from the module that makes its keys."""
    from transformers.models.llama import modeling_llama

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.v_proj = self.k_proj

    original = modeling_llama.LlamaAttention.__init__
    with mock.patch.object(modeling_llama.LlamaAttention, "__init__", init):
        yield
