"""The two base models of a transfer: what must hold of them, and how its record names them."""

from __future__ import annotations

from collections.abc import Mapping

from ual_registry.air.adapter import Adapter
from ual_registry.digest import Digest
from ual_registry.models.loaded import LoadedBase
from ual_registry.transfers.plan import TransferPlan
from ual_registry.transfers.requirements import require_base, require_effect
from ual_registry.transfers.result import energy_of
from ual_registry.transfers.tasks import with_weights

__all__ = ["base_materials", "check_bases"]


def check_bases(
    adapter: Adapter, plan: TransferPlan, source: LoadedBase, target: LoadedBase, *, any_base: bool
) -> tuple[TransferPlan, dict[str, float]]:
    """Refuse what cannot be carried; return the plan with the target's weights, and the energy of every entry.

    Args:
        adapter: The source.
        plan: Made from its manifest.
        source: The base model of the adapter.
        target: The base model to go to.
        any_base: Whether base models of other digests than the adapter's and the plan's will do.

    Raises:
        TransferError: The adapter has no effect.
        BaseMismatchError: A base model is not the one of the adapter or of the plan.
        NumericalError: A factor is not finite.
    """
    if not any_base:
        require_base(source, adapter.manifest.base_model, whose="the adapter")
        require_base(target, plan.target, whose="the plan")
    energies = {entry.label: energy_of(adapter, entry) for entry in adapter.entries}
    require_effect(adapter, energies)
    return with_weights(plan, target), energies


def base_materials(source: LoadedBase, target: LoadedBase, text: Digest | None = None) -> tuple[Mapping[str, str], ...]:
    """Return what went into a transfer beside the adapter and the configs, as its record names it.

    Args:
        source: The base model of the adapter.
        target: The base model to go to.
        text: Digest of the calibration text, where there was some.
    """
    named = (
        ("source base weights", source.base.weights_digest),
        ("target base weights", target.base.weights_digest),
        ("calibration text", None if text is None else str(text)),
    )
    return tuple({"name": name, "digest": digest} for name, digest in named if digest is not None)
