"""Which norm stands before a module, which behind it, and which before the output table.

Nothing is assumed of a class: norms are found by running the model, and what they do by giving them probes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ual_registry.models.loaded import LoadedBase
from ual_registry.transfers.final_state import NormShape, is_same_tensor, norm_shape, trace_norms

__all__ = ["NormPlaces", "find_norms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NormPlaces:
    """The norms around modules, by the module's path; a module that is not listed has none there.

    Attributes:
        before: Norms that give what a module reads.
        behind: Norms that read what a module gives.
        final: The norm that gives the last hidden state.
    """

    before: Mapping[str, NormShape]
    behind: Mapping[str, NormShape]
    final: NormShape | None

    @property
    def stream(self) -> NormShape | None:
        """One of those that read the residual stream, of which all take out its mean or none does."""
        return next(iter(self.before.values()), None)


def find_norms(base: LoadedBase, paths: Collection[str], ids: Sequence[int]) -> NormPlaces:
    """Find the norms around modules.

    Args:
        base: The model, of one stack.
        paths: The modules.
        ids: A few token ids to run it on.
    """
    trace = trace_norms(base, ids, paths)
    modules = [item for item in trace.seen if item[0] in paths]
    norms = [item for item in trace.seen if item[0] not in paths]

    def shape(path: str, width: int) -> NormShape:
        return norm_shape(base.module(path), width)

    return NormPlaces(
        before={
            path: shape(norm, read.shape[-1])
            for path, read, _ in modules
            for norm, _, given in norms
            if is_same_tensor(given, read) and given.shape == read.shape  # norms of single heads give other shapes
        },
        behind={
            path: shape(norm, given.shape[-1])
            for path, _, given in modules
            for norm, read, _ in norms
            if is_same_tensor(read, given) and read.shape == given.shape  # norms of single heads read other shapes
        },
        final=next(
            (shape(norm, given.shape[-1]) for norm, _, given in norms if is_same_tensor(given, trace.last)), None
        ),
    )
