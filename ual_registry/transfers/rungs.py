"""The ladder of methods in one table: what each needs besides the adapter and two configs, and what it is worth.

Nothing here loads a framework. How a rung is run is left to ``workflows.transfer_rungs``, which has a runner for each
name of this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ual_registry.errors import TransferError

__all__ = ["AUTO", "CONTROL_GRADE", "RUNGS", "UNMEASURED", "Needs", "Rung", "rung_of"]

AUTO = "auto"
"""Not a rung: the rule of ``choose`` takes one."""

CONTROL_GRADE = "control-grade"
"""Label of a result that was not measured, of a method that carries nothing between unrelated base models."""

UNMEASURED = "unmeasured"
"""Label of any other result that was not measured."""


class Needs(StrEnum):
    """What must be at hand, in the order in which it is looked for."""

    WEIGHTS = "weights"
    """The weights of both base models."""
    TOKENIZERS = "tokenizers"
    """The tokenizers of both base models."""
    TEXT = "text"
    """Unlabelled text."""
    TIME = "time"
    """Time to generate and to train in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One method of transfer.

    Attributes:
        name: What users type.
        needs: What must be at hand.
        is_control: Whether it carries nothing between unrelated base models.
        roles: Roles of the target that get an update where the adapter is carried as a whole; empty where it is carried
            entry by entry.
        last_share: Which last share (0..1) of the layers gets one.
        takes_text: Whether text can be given.
        summary: One line for people.
    """

    name: str
    needs: tuple[Needs, ...] = ()
    is_control: bool = False
    roles: tuple[str, ...] = ()
    last_share: float = 1.0
    takes_text: bool = False
    summary: str

    @property
    def is_whole(self) -> bool:
        """Whether the adapter is carried as a whole, so that nothing of it needs a counterpart."""
        return bool(self.roles)

    @property
    def label(self) -> str:
        """The label of its results as long as they are not measured."""
        return CONTROL_GRADE if self.is_control else UNMEASURED


_BOTH = (Needs.WEIGHTS, Needs.TOKENIZERS)
_LINEAR = (
    "attention_query",
    "attention_key",
    "attention_value",
    "attention_output",
    "mlp_up",
    "mlp_down",
    "mlp_gate",
)

RUNGS: dict[str, Rung] = {
    rung.name: rung
    for rung in (
        Rung(name="svd", is_control=True, summary="cut or pad singular vectors"),
        Rung(name="truncate", is_control=True, summary="cut or pad features"),
        Rung(name="interpolate", is_control=True, summary="resample features"),
        Rung(name="copy", needs=(Needs.WEIGHTS,), summary="leave it as it is, where both bases are of one lineage"),
        Rung(name="subspace", needs=(Needs.WEIGHTS,), summary="pair singular vectors of the base weights"),
        Rung(name="vocab", needs=_BOTH, summary="align both bases on the tokens that they share"),
        Rung(
            name="activations",
            needs=(*_BOTH, Needs.TEXT),
            takes_text=True,
            summary="align every module's inputs and outputs on the same text",
        ),
        Rung(
            name="residual",
            needs=(*_BOTH, Needs.TEXT),
            roles=("mlp_down",),
            takes_text=True,
            summary="fit what the adapter does to the residual stream",
        ),
        Rung(
            name="predictions",
            needs=(*_BOTH, Needs.TEXT),
            roles=("mlp_down",),
            last_share=1 / 3,
            takes_text=True,
            summary="fit what the adapter does to the next token",
        ),
        Rung(
            name="distill",
            needs=(*_BOTH, Needs.TIME),
            roles=_LINEAR,
            summary="train the target on what source and adapter say",
        ),
    )
}
"""Every method by name, cheapest first."""


def rung_of(name: str) -> Rung:
    """Return a method by its name.

    Raises:
        TransferError: There is no such method.
    """
    if name not in RUNGS:
        known = ", ".join((*RUNGS, AUTO))
        raise TransferError(f"method {name!r}: expected one of {known}", code="unknown-method")
    return RUNGS[name]
