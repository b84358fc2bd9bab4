"""What a distillation did, as a record: for people, and inside the new artifact. Nothing here loads a framework."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import BaseModel, Statement
from ual_registry.air.rounding import rounded
from ual_registry.digest import Digest
from ual_registry.distillation.recipe import Recipe

__all__ = [
    "COLD",
    "METHOD",
    "WARM",
    "ArmReport",
    "DistillationReport",
    "Made",
    "Named",
    "distillation_statement",
]

METHOD = "sequence-likelihood"
"""The method's name in a provenance statement; its settings say which parts it has."""

COLD = "cold"
"""The start from fresh factors, which change nothing."""

WARM = "warm"
"""The start from an adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An adapter and the digest of its file."""

    adapter: Adapter
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmReport:
    """How one start went.

    Attributes:
        name: ``warm`` or ``cold``.
        start_loss: Held-out loss before the first step.
        held_out_loss: The lowest held-out loss.
        best_step: The step after which it was seen; its factors are the arm's result.
        steps: Steps done.
        seconds: Seconds spent.
        curve: Step and held-out loss of every look.
    """

    name: str
    start_loss: float
    held_out_loss: float
    best_step: int
    steps: int
    seconds: float
    curve: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationReport:
    """What a distillation did.

    Attributes:
        arms: Every start, the cold one first.
        chosen: The name of the one with the lowest held-out loss; the cold one where both have it.
        texts: Texts that were trained on or held out.
        held_out: How many of them were held out.
        no_warm_because: Why a warm start that was wanted could not be made; ``None`` where it was, or was not wanted.
    """

    arms: tuple[ArmReport, ...]
    chosen: str
    texts: int
    held_out: int
    no_warm_because: str | None = None

    def arm(self, name: str) -> ArmReport:
        """Return the report of one start."""
        return next(arm for arm in self.arms if arm.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a distillation was made of.

    Attributes:
        source: The source adapter.
        target: The target base model.
        texts: Digest of the generated texts.
        recipe: How it was trained.
        warm: The adapter that the warm start began from.
    """

    source: Named
    target: BaseModel
    texts: Digest
    recipe: Recipe
    warm: Named | None


def distillation_statement(made: Made, report: DistillationReport) -> Statement:
    """Return the provenance of a distillation; numbers are rounded to six digits."""
    chosen = report.arm(report.chosen)
    parameters: dict[str, Any] = {
        "method": METHOD,
        "texts": report.texts,
        "steps": chosen.best_step,
        "seed": made.recipe.seed,
        "settings": {
            **made.recipe.document(),
            "start": report.chosen,
            "held_out_texts": report.held_out,
            "starts": {arm.name: _arm_document(arm) for arm in report.arms},
            **({} if report.no_warm_because is None else {"no_warm_start": report.no_warm_because}),
        },
    }
    if report.chosen == WARM and made.warm is not None:
        parameters["warm_start"] = str(made.warm.digest)
    return Statement(
        type="distillation",
        builder={"name": "ual-registry", "version": version("ual-registry")},
        parameters=parameters,
        materials=tuple(_materials(made)),
        byproducts={
            "held_out_loss": rounded(chosen.held_out_loss),
            "cold_held_out_loss": rounded(report.arm(COLD).held_out_loss),
            "wall_time_s": round(sum(arm.seconds for arm in report.arms), 1),
        },
    )


def _materials(made: Made) -> Iterator[dict[str, str]]:
    yield {"name": "source adapter", "digest": str(made.source.digest)}
    yield {"name": "source base config", "digest": made.source.adapter.manifest.base_model.config_digest}
    yield {"name": "target base config", "digest": made.target.config_digest}
    if made.target.weights_digest is not None:
        yield {"name": "target base weights", "digest": made.target.weights_digest}
    yield {"name": "generated texts", "digest": str(made.texts)}
    if made.warm is not None:
        yield {"name": "adapter of the warm start", "digest": str(made.warm.digest)}


def _arm_document(arm: ArmReport) -> dict[str, Any]:
    return {
        "start_loss": rounded(arm.start_loss),
        "held_out_loss": rounded(arm.held_out_loss),
        "best_step": arm.best_step,
        "steps": arm.steps,
    }
