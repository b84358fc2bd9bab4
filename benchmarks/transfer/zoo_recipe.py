"""With how much text, and for how long, a distillation of the zoo trains: the settings that a pilot chooses between.

What was made with other settings than the first ones has them in its name, so results of several lie side by side in
one cache; the settings that a pilot chose are kept there too. Nothing here loads a framework.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

__all__ = ["GRID", "Settings", "chosen_settings", "keep_settings"]

_FILE = "recipe.json"
_MOST_DRAWN = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a distillation trains; the defaults are what the first results were made with, on one slow core.

    Attributes:
        texts: Texts to train on and to look at.
        steps: Optimiser steps.
        batch_size: Texts of one step.
        learning_rate: AdamW's at the start.
        temperature: How generated texts are drawn.
        top_p: Share of the probability that is drawn from.
        rank: Rank of every factor pair, unless the warm start has a higher one.
        passages: Passages of unlabelled text of the domain that source and adapter score too; 0 leaves them out.
            They make half of the texts, each as often as that takes.
    """

    texts: int = 600
    steps: int = 120
    batch_size: int = 8
    learning_rate: float = 2e-2
    temperature: float = 0.8
    top_p: float = 0.8
    rank: int = 8
    passages: int = 0

    @property
    def text_name(self) -> str:
        """What names the texts; empty for the first ones."""
        if (self.texts, self.temperature, self.top_p, self.passages) == (600, 0.8, 0.8, 0):
            return ""
        more = f"-h{self.passages}" if self.passages else ""
        return f"n{self.texts}-t{self.temperature:g}-p{self.top_p:g}{more}"

    @property
    def name(self) -> str:
        """What names results; empty for the first settings."""
        if self == Settings():
            return ""
        own = f"s{self.steps}-b{self.batch_size}-l{self.learning_rate:g}-r{self.rank}"
        return f"{self.text_name or 'n600-t0.8-p0.8'}-{own}"

    @property
    def generated(self) -> int:
        """How many of the texts are generated."""
        return max(2, self.texts // 2) if self.passages else self.texts

    @property
    def drawn(self) -> int:
        """How many texts are drawn together."""
        return max(1, min(_MOST_DRAWN, self.generated // 2))

    def with_passages(self, count: int) -> Settings:
        """Return the same settings with passages."""
        return replace(self, passages=count)


_MORE = Settings(texts=1600, steps=600, batch_size=32)

GRID: tuple[Settings, ...] = (
    replace(_MORE, texts=600),
    _MORE,
    replace(_MORE, temperature=0.9, top_p=0.95),
    replace(_MORE, temperature=1.0, top_p=1.0),
    replace(_MORE, temperature=1.0, top_p=1.0, learning_rate=1e-2),
    replace(_MORE, temperature=1.0, top_p=1.0, steps=1200),
    replace(_MORE, steps=1200, learning_rate=1e-2),
    _MORE.with_passages(150),
)
"""What a pilot measures; those with passages say what text is worth, and are not chosen: `distill` gets none."""


def chosen_settings(cache: Path) -> Settings:
    """Return the settings that a pilot chose; the first ones where there was none."""
    file = cache / _FILE
    return Settings(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else Settings()


def keep_settings(cache: Path, settings: Settings) -> None:
    """Keep what a pilot chose."""
    (cache / _FILE).write_text(json.dumps(asdict(settings)), encoding="utf-8")
