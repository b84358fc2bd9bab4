"""How inputs of an adapter are written and answered: by whom, how finely they are asked for, with how many answers.

Nothing here loads a framework.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ual_registry.errors import TrainingError

__all__ = ["SOURCE", "TARGET", "Manner"]

SOURCE = "source"
TARGET = "target"

_MOST_ANSWERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the texts of a distillation with seeds come about.

    Attributes:
        writers: Which base models write inputs, in equal parts: ``source``, ``target``, or both. Two models have
            other things to say than one, and a target may write better; its inputs serve no other target.
        answers: Answers of source and adapter to each input. The first one is the likeliest; others are drawn, so that
            the target also learns what follows the beginning of an answer that is less likely.
        is_fine: Whether inputs are asked for by as many words of an answer as tell answers apart, not by the first.
        opened: Share of the inputs, from 0 to 1, that go on from a word which the adapter has a sure answer to, drawn
            from the source's vocabulary; for adapters whose answers are labels. See ``words``.
    """

    writers: tuple[str, ...] = (SOURCE,)
    answers: int = 1
    is_fine: bool = False
    opened: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises:
            TrainingError: A writer is unknown, or there is none, or the number of answers or the share is out of range.
        """
        known = (SOURCE, TARGET)
        if not self.writers or len(set(self.writers)) < len(self.writers) or set(self.writers) - set(known):
            raise _refusal("writers", f"expected source, target or both, each once, got {list(self.writers)}")
        if not 1 <= self.answers <= _MOST_ANSWERS:
            raise _refusal("answers", f"expected 1 to {_MOST_ANSWERS}, got {self.answers}")
        if not 0 <= self.opened <= 1:
            raise _refusal("opened", f"expected a share from 0 to 1, got {self.opened}")

    def document(self) -> dict[str, Any]:
        """Return the manner as JSON."""
        return {**asdict(self), "writers": list(self.writers)}


def _refusal(name: str, problem: str) -> TrainingError:
    return TrainingError(f"manner.{name}: {problem}", code="manner", context={"setting": name})
