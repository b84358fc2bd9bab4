"""Find the modules with a role outside the blocks: the token embedding and the head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch

from ual_registry.tracing.blocks import block_of
from ual_registry.tracing.flow import origins
from ual_registry.tracing.gather import Undecided
from ual_registry.tracing.survey import Matrix
from ual_registry.tracing.trace import Trace

__all__ = ["OuterPlace", "agreeing", "find_outer", "outer_sizes"]

_AFTER = frozenset({"product", "activation", "norm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterPlace:
    """A module with a role outside the blocks."""

    path: str
    role: str
    stack: str | None = None


def find_outer(trace: Trace, *, is_paired: bool) -> tuple[OuterPlace, ...]:
    """Return the token embeddings and the head, as far as the model has them.

    The token embedding is what the tokens look up; the head is the linear module that ends in one number per token of
    the vocabulary and in the model's result.

    Args:
        trace: A run of the model.
        is_paired: Whether there are an encoder and a decoder.
    """
    found: dict[tuple[str, str | None], str] = {}
    last = "decoder" if is_paired else None
    for name, stack in (("input_ids", "encoder" if is_paired else None), ("decoder_input_ids", last)):
        for item in trace.recording.operations:
            if name in trace.inputs and item.kind == "embedding" and _same(item.inputs[0], trace.inputs[name]):
                path = item.scope if stack == "decoder" and item.scope in trace.matrices else item.path
                if path in trace.matrices:
                    found.setdefault(("token_embedding", stack), path)
    head = _head(trace, {trace.matrices[path].shape[0] for path in found.values()} | _vocabularies(trace.config))
    if head is not None:
        found["lm_head", last] = head
    return tuple(OuterPlace(path=path, role=role, stack=stack) for (role, stack), path in found.items())


def _vocabularies(config: Any) -> set[int]:
    names = ("vocab_size", "src_vocab_size", "tgt_vocab_size")
    found = [getattr(holder, name, None) for holder in (config, config.get_text_config()) for name in names]
    return {size for size in found if isinstance(size, int)}


def _head(trace: Trace, vocabularies: Set[int]) -> str | None:
    for result in trace.recording.results:
        for item in origins(trace.recording, result, through=_AFTER):
            if item.kind == "linear" and item.features in vocabularies and block_of(item.path) is None:
                return item.path
    return None


def _same(read: torch.Tensor, tokens: torch.Tensor) -> bool:
    """Tell whether an embedding looked up the tokens, which a model may have padded."""
    return (
        read.dim() == 2 and torch.equal(read[:, : tokens.shape[1]], tokens)
        if read.dim() == 2
        else torch.equal(read.flatten(), tokens.flatten())
    )


def outer_sizes(places: Iterable[OuterPlace], matrices: Mapping[str, Matrix]) -> dict[str | None, dict[str, int]]:
    """Return the width of the embedding of each stack, and under ``""`` the size of the vocabulary."""
    found: dict[str | None, dict[str, int]] = {}
    for place in places:
        if place.path in matrices:
            vocabulary, width = _vocabulary_and_width(place, matrices)
            found.setdefault(place.stack, {}).setdefault("embedding_size", width)
            found.setdefault("", {})["vocab_size"] = vocabulary
    return found


def agreeing(
    places: Sequence[OuterPlace], matrices: Mapping[str, Matrix]
) -> tuple[tuple[OuterPlace, ...], list[Undecided]]:
    """Return the modules whose sizes a binder can say, and the others with the reason.

    There is one vocabulary, the head's, and one width for all embeddings of a stack.
    """
    kept, undecided = [], []
    sizes = outer_sizes(places, matrices)
    for place in places:
        vocabulary, width = _vocabulary_and_width(place, matrices)
        if vocabulary != sizes[""]["vocab_size"]:
            reason = f"it has {vocabulary} tokens, the head {sizes['']['vocab_size']}"
            undecided.append(Undecided(what=place.path, reason=reason))
        elif width != sizes[place.stack]["embedding_size"]:
            reason = f"its width {width} is not that of the token embedding"
            undecided.append(Undecided(what=place.path, reason=reason))
        else:
            kept.append(place)
    return tuple(kept), undecided


def _vocabulary_and_width(place: OuterPlace, matrices: Mapping[str, Matrix]) -> tuple[int, int]:
    first, second = matrices[place.path].in_out
    return (first, second) if place.role == "token_embedding" else (second, first)
