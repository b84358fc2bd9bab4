"""How a target is trained: what is trained, on how much of the text, by which loss, and for how long.

Nothing here loads a framework.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ual_registry.air.roles import ROLES
from ual_registry.errors import TrainingError

__all__ = ["DEFAULT_ROLES", "Recipe"]

DEFAULT_ROLES = (
    "attention_query",
    "attention_key",
    "attention_value",
    "attention_output",
    "mlp_up",
    "mlp_down",
    "mlp_gate",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a target is trained; a warm and a cold start follow the same recipe.

    Attributes:
        roles: Which target modules carry factors.
        rank: Rank of every pair of factors; a module that starts from factors of a higher rank keeps theirs.
        alpha: The scaling is ``alpha / rank`` in every module.
        learning_rate: AdamW's at the start; it falls linearly to a tenth over the budget.
        batch_size: Texts of one step.
        max_gradient: The norm that gradients are clipped to.
        steps: Steps at most.
        seconds: Seconds at most, an interrupted run's earlier part included; evaluation counts.
        evaluate_every: Steps from one look at the held-out texts to the next; a run can go on from each.
        patience: Looks without a better held-out loss after which training stops.
        held_out_share: Share of the texts that is held out.
        sample_share: Share of the texts that is used, those of the highest mean excess.
        token_share: Share of the tokens of a text that the likelihood is trained on, those of the highest excess; on
            a toy language 0.7 lost a fifth of the gain.
        alm_weight: Weight of the chunk loss beside the likelihood of tokens; 0 leaves it out. Its gradient is as large
            as the likelihood's where the weight is the temperature; from there on a target is kept from being surer
            than the teacher. On a toy language 0 to 100 gave the same gain, and more a little less.
        alm_temperature: Its temperature.
        is_soft: Whether the target is to follow all that the teacher could have said where both have read equally far,
            not only the token that it wrote; the chunk loss, which says less, is left out then.
        is_contrastive: Whether chunks are to follow what the source adapter changed, not what it says.
        max_length: Tokens of a text at most; what follows is cut off.
        seed: Seeds fresh factors and the order of the texts.
    """

    roles: tuple[str, ...] = DEFAULT_ROLES
    rank: int = 8
    alpha: float = 16.0
    learning_rate: float = 1e-3
    batch_size: int = 4
    max_gradient: float = 1.0
    steps: int | None = 100
    seconds: float | None = None
    evaluate_every: int = 10
    patience: int = 5
    held_out_share: float = 0.1
    sample_share: float = 1.0
    token_share: float = 1.0
    alm_weight: float = 100.0
    alm_temperature: float = 100.0
    is_soft: bool = False
    is_contrastive: bool = False
    max_length: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a recipe that nothing can be trained by."""
        unknown = [role for role in self.roles if role not in ROLES]
        if unknown or not self.roles:
            raise _refusal("roles", f"expected role names, got {unknown[0] if unknown else 'none'}")
        if self.steps is None and self.seconds is None:
            raise _refusal("steps", "expected a budget in steps or in seconds, got neither")
        for name in ("rank", "batch_size", "steps", "evaluate_every", "patience", "max_length"):
            self._check(name, at_least=1)
        for name in ("alpha", "learning_rate", "max_gradient", "seconds", "alm_temperature"):
            self._check(name, above=0.0)
        for name in ("held_out_share", "sample_share", "token_share"):
            self._check(name, above=0.0, at_most=1.0)
        self._check("alm_weight", at_least=0)

    def _check(
        self, name: str, *, at_least: float = -math.inf, above: float = -math.inf, at_most: float = math.inf
    ) -> None:
        value = getattr(self, name)
        if value is not None and not (at_least <= value <= at_most and value > above):
            lowest = f"above {above:g}" if above > -math.inf else f"{at_least:g} or more"
            highest = "" if at_most == math.inf else f", at most {at_most:g}"
            raise _refusal(name, f"expected {lowest}{highest}, got {value:g}")

    @property
    def scaling(self) -> float:
        """The number that multiplies the product of every pair of factors."""
        return self.alpha / self.rank

    @property
    def needs_plain(self) -> bool:
        """Whether it needs what the source says without its adapter."""
        return self.sample_share < 1 or self.token_share < 1 or (self.is_contrastive and self.alm_weight > 0)

    def document(self) -> dict[str, Any]:
        """Return the recipe as JSON."""
        return {**asdict(self), "roles": list(self.roles)}


def _refusal(name: str, problem: str) -> TrainingError:
    return TrainingError(f"recipe.{name}: {problem}", code="recipe", context={"setting": name})
