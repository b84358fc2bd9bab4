"""What methods are given besides the update: weights, statistics or maps of the modules it leaves and enters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import torch

from ual_registry.projection.aligned import Norm
from ual_registry.projection.effect_rows import EffectRows
from ual_registry.projection.joint_ridge import JointRows
from ual_registry.projection.maps import LinearMap
from ual_registry.projection.moments import PairMoments

__all__ = ["ActivationContext", "MapContext", "MapKind", "PredictionContext", "ResidualContext", "WeightContext"]


class MapKind(StrEnum):
    """Which map is fitted to activations."""

    RIDGE = "ridge"
    PROCRUSTES = "procrustes"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightContext:
    """The weights of both modules.

    Attributes:
        source_weight: What the update was trained on, shape (out_s, in_s), any floating dtype.
        target_weight: What it goes on, shape (out_t, in_t), any floating dtype.
        k: How many singular pairs to use, where singular pairs are used.
    """

    source_weight: torch.Tensor
    target_weight: torch.Tensor
    k: int | None = 320

    def reversed(self) -> WeightContext:
        """Return what the way back is given."""
        return replace(self, source_weight=self.target_weight, target_weight=self.source_weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapContext:
    """Maps that were made elsewhere.

    Attributes:
        read: From inputs of the target's module to those of the source's, matrix (in_s, in_t).
        write: From outputs of the source's module to those of the target's, matrix (out_t, out_s).
        back_read: ``read`` of the way back, matrix (in_t, in_s); the transpose of ``read`` where absent.
        back_write: ``write`` of the way back, matrix (out_s, out_t); the transpose of ``write`` where absent.
        norm: How long to make the result, ``keep`` or ``restore``.
    """

    read: LinearMap
    write: LinearMap
    back_read: LinearMap | None = None
    back_write: LinearMap | None = None
    norm: Norm = Norm.RESTORE

    def reversed(self) -> MapContext:
        """Return what the way back is given."""
        return replace(
            self,
            read=self.back_read or _transposed(self.read),
            write=self.back_write or _transposed(self.write),
            back_read=self.read,
            back_write=self.write,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationContext:
    """The same text through both modules.

    Attributes:
        inputs: Moments of pairs (input of the source's module, input of the target's).
        outputs: Moments of pairs (output of the source's module, output of the target's).
        kind: Which map is fitted.
        penalty: Of ridge, over the mean diagonal.
        whitening: Of Procrustes, from 0 to 0.5.
        centred: Whether means are taken out before the fit.
        per_feature: Of ridge, whether the penalty of a feature goes by its own second moment.
        norm: How long to make the result.
    """

    inputs: PairMoments
    outputs: PairMoments
    kind: MapKind = MapKind.RIDGE
    penalty: float = 0.01
    whitening: float = 0.0
    centred: bool = True
    per_feature: bool = False
    norm: Norm = Norm.RESTORE

    def reversed(self) -> ActivationContext:
        """Return what the way back is given."""
        return replace(self, inputs=self.inputs.swapped(), outputs=self.outputs.swapped())


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualContext:
    """What a target module reads, and the change that is wanted of the stream that it writes to.

    Attributes:
        fit: Rows to fit on.
        held_out: Rows to choose the penalty on.
        rank: The largest rank of the update.
        penalties: To choose from; see ``effect_rows.best_effect``.
    """

    fit: EffectRows
    held_out: EffectRows
    rank: int
    penalties: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionContext:
    """What several modules of the target read, and the change of its last state that their updates are to make.

    Attributes:
        fit: Rows to fit on.
        held_out: Rows to choose the penalty on.
        rank: The largest rank of each update.
        penalties: To choose from; see ``joint_ridge.joint_ridge``.
    """

    fit: JointRows
    held_out: JointRows
    rank: int
    penalties: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01)


def _transposed(fitted: LinearMap) -> LinearMap:
    return LinearMap(matrix=fitted.matrix.T, bias=fitted.matrix.new_zeros(fitted.matrix.shape[1]))
