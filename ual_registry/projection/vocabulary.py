"""Two models aligned by their weights alone: residual streams by shared tokens, neurons by what they read and write.

Rows of both embedding tables that stand for one text are pairs of places in the two residual streams. Rows of the
output tables are directions in which the streams are read, so they go the other way. With the maps between the streams
the weights of both models can be given in one basis, and neurons compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment

from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.joint import best_joint
from ual_registry.projection.maps import Direction, LinearMap, best_ridge
from ual_registry.projection.moments import PairMoments

__all__ = ["HELD_OUT_EVERY", "Anchors", "NeuronPairs", "StreamMaps", "match_neurons", "neuron_map", "stream_maps"]

HELD_OUT_EVERY = 5
"""One of so many anchors is held out."""

_BATCH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """Second moments of paired rows of two tables.

    Attributes:
        fit: To fit on.
        held_out: To choose penalties on.
    """

    fit: PairMoments
    held_out: PairMoments

    @classmethod
    def of(cls, source: torch.Tensor, target: torch.Tensor) -> Anchors:
        """Take the moments of rows of shapes (n, d_s) and (n, d_t), any floating dtype; see ``gathered``."""
        return cls.gathered(len(source), lambda index: (source[index], target[index]))

    @classmethod
    def gathered(cls, count: int, rows: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> Anchors:
        """Take the moments of rows that are made a few thousand at a time: tables can be larger than what is left.

        Args:
            count: How many anchors there are.
            rows: Given indices of anchors, shape (k,), returns their rows, shapes (k, d_s) and (k, d_t).

        Raises:
            ShapeError: The shapes do not fit one another.
            NumericalError: There are fewer than two anchors, or a number is not finite.
        """
        if count < 2:
            raise NumericalError(f"{count} shared tokens: expected at least two, one of them held out")
        every = min(HELD_OUT_EVERY, count)
        held_out = torch.arange(count) % every == every - 1
        made = tuple(_moments(chosen.nonzero().flatten(), rows) for chosen in (~held_out, held_out))
        rejected = sum(moments.rejected for moments in made)
        if rejected:
            raise NumericalError(
                f"rows of {rejected} shared tokens are not finite",
                hint="the weights are damaged; get the base model again",
            )
        return cls(fit=made[0], held_out=made[1])

    def swapped(self) -> Anchors:
        """Return the anchors with the sides exchanged."""
        return Anchors(fit=self.fit.swapped(), held_out=self.held_out.swapped())


def _moments(anchors: torch.Tensor, rows: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> PairMoments:
    batches = (rows(anchors[start : start + _BATCH]) for start in range(0, len(anchors), _BATCH))
    first = next(batches)
    found = PairMoments(first[0].shape[1], first[1].shape[1], device=first[1].device)
    for x, y in itertools.chain([first], batches):
        found.update(x, y)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMaps:
    """The maps between two residual streams.

    Attributes:
        to_target: Places in the source's stream to places in the target's, shape (d_t, d_s), float64.
        to_source: The other way, shape (d_s, d_t), float64.
        r2: Share of the variance of held-out rows that both maps predict, to the target and to the source.
        penalties: Of both maps.
    """

    to_target: torch.Tensor
    to_source: torch.Tensor
    r2: tuple[float, float]
    penalties: tuple[float, float]


def stream_maps(embedding: Anchors | None, unembedding: Anchors | None, *, penalties: Sequence[float]) -> StreamMaps:
    """Fit the maps between two residual streams to rows of shared tokens.

    Source: LoRASuite (arXiv 2505.13515), the hidden map, with one map each way instead of one and its transpose, and
    with the output tables.

    Args:
        embedding: Of pairs of embeddings; ``None`` leaves them out.
        unembedding: Of pairs of rows of output tables; ``None`` leaves them out.
        penalties: To choose from, by held-out rows; at least one.

    Raises:
        NumericalError: Both are absent, or as the maps say.
        ShapeError: The widths differ.
    """
    there, r2 = _one_way(embedding, unembedding, penalties)
    back, back_r2 = _one_way(
        embedding.swapped() if embedding else None, unembedding.swapped() if unembedding else None, penalties
    )
    chosen = tuple(found.report.penalty if found.report else 0.0 for found in (there, back))
    return StreamMaps(to_target=there.matrix, to_source=back.matrix, r2=(r2, back_r2), penalties=(chosen[0], chosen[1]))


def _one_way(
    embedding: Anchors | None, unembedding: Anchors | None, penalties: Sequence[float]
) -> tuple[LinearMap, float]:
    if embedding is not None and unembedding is not None:
        return best_joint(
            (embedding.fit, embedding.held_out), (unembedding.fit, unembedding.held_out), penalties=penalties
        )
    if embedding is not None:
        return best_ridge(embedding.fit, embedding.held_out, penalties=penalties, direction=Direction.X_TO_Y)
    if unembedding is None:
        raise NumericalError("anchors: expected rows of embeddings, of output tables, or of both")
    found, r2 = best_ridge(
        unembedding.fit, unembedding.held_out, penalties=penalties, direction=Direction.Y_TO_X, centred=False
    )
    turned = LinearMap(matrix=found.matrix.T, bias=found.matrix.new_zeros(found.matrix.shape[1]), report=found.report)
    return turned, r2


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronPairs:
    """Which neuron of the source goes to which of the target.

    Attributes:
        source: Indices, shape (n,), each at most once.
        target: Indices, shape (n,), each at most once.
        cosines: How alike the neurons of every pair are, shape (n,), from -1 to 1.
    """

    source: torch.Tensor
    target: torch.Tensor
    cosines: torch.Tensor

    def swapped(self) -> NeuronPairs:
        """Return the pairs of the way back."""
        return NeuronPairs(source=self.target, target=self.source, cosines=self.cosines)


def match_neurons(
    source: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor], *, gate: float = 0.0
) -> NeuronPairs:
    """Match the neurons of two MLPs one to one so that the sum of their likeness is greatest.

    The likeness is the mean cosine of what the neurons read and write. In a gated MLP a neuron whose up and down parts
    both change their sign does the same, so the sum of these two cosines counts without its sign.

    Args:
        source: By name ``up``, ``down`` and perhaps ``gate``: what the neurons read or write, in a basis that both
            models share, shape (m_s, d).
        target: The same of the target, shape (m_t, d); names that one side lacks do not count.
        gate: Pairs that are not more alike than that are left out.

    Raises:
        ShapeError: The bases differ, or the parts have no common name.
    """
    names = [name for name in ("gate", "up", "down") if name in source and name in target]
    if not names or any(source[name].shape[1] != target[name].shape[1] for name in names):
        raise ShapeError("neurons: expected parts of common names and widths")
    cosines = {name: _unit(source[name]) @ _unit(target[name]).T for name in names}
    signed = sum((cosines[name] for name in names if name != "gate"), torch.zeros(()))
    likeness = (cosines["gate"] + signed.abs() if "gate" in cosines else signed) / len(names)
    chosen = linear_sum_assignment(likeness.cpu().numpy(), maximize=True)
    rows, columns = (torch.from_numpy(item).to(likeness.device) for item in chosen)
    found = likeness[rows, columns]
    kept = found > gate
    return NeuronPairs(source=rows[kept], target=columns[kept], cosines=found[kept])


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def neuron_map(pairs: NeuronPairs, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the map from the source's neurons to the target's that a part of both asks for, shape (m_t, m_s).

    A neuron goes to its counterpart with the number by which its part comes nearest to the counterpart's; so neurons
    that are hardly alike carry little.

    Args:
        pairs: The pairs.
        source: The part, in a basis that both models share, shape (m_s, d).
        target: The same of the target, shape (m_t, d).
    """
    own, other = source[pairs.source], target[pairs.target]
    energies = own.square().sum(1)
    numbers = torch.where(energies > 0, (own * other).sum(1) / energies.clamp(min=torch.finfo(own.dtype).tiny), 0.0)
    made = own.new_zeros(len(target), len(source))
    made[pairs.target, pairs.source] = numbers
    return made
