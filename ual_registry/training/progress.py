"""How far a run came: the numbers that grow while it goes. No framework is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Progress"]


@dataclass(slots=True, kw_only=True)
class Progress:
    """The numbers of a run so far; the only mutable record of this room.

    Attributes:
        settings: All that the run depends on, each by a name that a refusal can say.
        step: Steps done.
        elapsed_s: Seconds spent, earlier parts of an interrupted run included.
        tokens: Tokens that went through the model, padding left out.
        trained_tokens: Tokens, or labels of texts, whose loss was trained on.
        start_loss: Held-out loss before the first step; ``None`` where nothing is held out.
        best_loss: The lowest held-out loss after a step.
        best_step: The step after which it was seen.
        looks_since_best: Looks at the held-out examples since then.
        is_over: Whether the run ended.
        held_out: Step and held-out loss of every look, that before the first step among them.
        losses: Step and training loss of every step.
    """

    settings: dict[str, Any]
    step: int = 0
    elapsed_s: float = 0.0
    tokens: int = 0
    trained_tokens: int = 0
    start_loss: float | None = None
    best_loss: float | None = None
    best_step: int = 0
    looks_since_best: int = 0
    is_over: bool = False
    held_out: list[tuple[int, float]] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
