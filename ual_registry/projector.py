"""Factors in other dimensions, by a call that loads a framework when it is made and not before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ual_registry.workflows.extras import need_torch

__all__ = ["DimensionProjector"]

Shape = int | tuple[int, int]


class DimensionProjector:
    """Fits factors to other dimensions by the classic methods, which need nothing but shapes.

    Between unrelated base models they carry nothing that was learned; ``UniversalAdapter.transfer_to_model`` has
    methods that do, and finds out which dimensions a target has.
    """

    def project(self, lora_weights: Any, target_dim: Shape, method: str = "svd") -> Any:
        """Fit one update, or several, to other dimensions.

        Args:
            lora_weights: A pair ``lora_A``, ``lora_B`` of tensors, shapes (rank, in_features) and (out_features, rank);
                or tensors by name as PEFT and AIR have them, in pairs whose names differ in ``lora_A`` and ``lora_B``.
            target_dim: ``(in_features, out_features)`` of the result; one number where both are the same, which then
                must hold of what is projected, too.
            method: ``svd``, ``truncate`` or ``interpolate``.

        Returns:
            What was given, with other dimensions: the rank, the dtype and the names stay.

        Raises:
            MissingExtraError: torch is not installed.
            TransferError: There is no such method.
            ShapeError: There are no such pairs, or the shapes do not fit one another.
        """
        need_torch("a projection")
        from ual_registry.projection.loose import project_pair, project_pairs  # noqa: PLC0415  # loads torch

        if isinstance(lora_weights, Mapping):
            return project_pairs(lora_weights, target_dim, method)
        return project_pair(lora_weights, target_dim, method)
