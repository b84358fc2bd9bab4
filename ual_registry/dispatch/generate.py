"""Generation in batches of which every row may have another adapter, and settings of its own; texts come as they grow.

What a row gets depends on its prompt, its adapter and its settings, not on the rows beside it but for rounding: it
draws from random numbers of its own seed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch

from ual_registry.dispatch.mixing import MixingModel, Updates
from ual_registry.dispatch.reading import Reading
from ual_registry.dispatch.row_text import RowText
from ual_registry.errors import NumericalError, RouteError
from ual_registry.models.characters import characters
from ual_registry.models.loaded import LoadedBase
from ual_registry.models.positions import position_limit

__all__ = ["Finish", "Generated", "Generator", "Piece", "Prompt", "ReadPrompt", "Row", "Settings"]

_MOST_TEMPERATURE = 100.0
_REFUSALS = (ValueError, TypeError, KeyError, AttributeError, RuntimeError)
"""What chat templates raise."""


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """A prompt that was made token ids before, at least one of them."""

    ids: tuple[int, ...]


Prompt = str | Sequence[Mapping[str, str]] | ReadPrompt
"""A text, the messages of a chat, or what was read of either."""


class Finish(StrEnum):
    """Why a row ended."""

    END = "end"
    """The model ended it."""
    STOP = "stop"
    """A stop text came."""
    LENGTH = "length"
    """It has as many tokens as were asked for, or as the model can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a text is generated.

    Attributes:
        max_tokens: Tokens at most.
        temperature: 0 takes the likeliest token each time.
        top_p: Share of the probability that is drawn from, its largest parts first.
        seed: Seeds what is drawn.
        stop: Texts that end it and are left out of it.

    Raises:
        RouteError: A number is out of its range, or a stop text is empty.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        _check("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1")
        _check("temperature", self.temperature, 0 <= self.temperature <= _MOST_TEMPERATURE, "0 to 100")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1")
        _check("seed", self.seed, 0 <= self.seed < 1 << 63, "0 to 2**63 - 1")
        _check("stop", list(self.stop), all(self.stop), "texts that are not empty")


@dataclass(frozen=True, slots=True)
class Row:
    """What one row of a batch is generated from.

    Attributes:
        prompt: Token ids, at least one.
        updates: What its adapter adds; ``None`` for the base model.
        settings: How.
    """

    prompt: tuple[int, ...]
    updates: Updates | None = None
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a row's text, or its end.

    Attributes:
        row: The row's place in the batch.
        text: What comes next; it may be empty at the end.
        tokens: Tokens generated so far.
        finish: Why the row ended; ``None`` where it goes on.
    """

    row: int
    text: str
    tokens: int
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """A whole row.

    Attributes:
        text: The text.
        tokens: Tokens generated, the one that ended it not counted.
        finish: Why it ended.
    """

    text: str
    tokens: int
    finish: Finish


class Generator:
    """Generates with one base model; threads may share it.

    Args:
        base: A causal model with its tokenizer.

    Raises:
        RouteError: The model does not generate text.
        TransferError: It has no tokenizer.
    """

    def __init__(self, base: LoadedBase) -> None:
        if not base.model.can_generate() or base.model.config.is_encoder_decoder:
            raise RouteError(
                f"base model {base.base.id}: {type(base.model).__name__} does not go on with a text",
                code="not-causal",
                hint="give a causal language model",
            )
        self.model = MixingModel(base.model)
        self._tokenizer = base.text_tokenizer
        self._turn = threading.Lock()
        self._label = base.base.id
        self._ends = _end_tokens(base.model, self._tokenizer)
        self._limit = position_limit(base.model)

    def prompt_ids(self, prompt: Prompt, *, is_plain: bool = False) -> tuple[int, ...]:
        """Return the token ids that the model is to go on from.

        Args:
            prompt: A text, which becomes the message of a user where the model has a chat template; or messages.
            is_plain: Whether a text is given as it is all the same.

        Raises:
            RouteError: The prompt is empty or too long, or the messages do not suit the template.
        """
        if isinstance(prompt, ReadPrompt):
            return prompt.ids
        # A tokenizer is no object for two threads: it changes itself on the way.
        with self._turn:
            if isinstance(prompt, str) and (is_plain or self._tokenizer.chat_template is None):
                ids = self._tokenizer(characters(prompt))["input_ids"]
            else:
                ids = self._chat([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)
        if not ids:
            raise RouteError("the prompt is empty", code="generation")
        if self._limit is not None and len(ids) >= self._limit:
            raise RouteError(
                f"the prompt has {len(ids)} tokens, expected fewer than the {self._limit} that {self._label} can read",
                code="too-long",
                context={"tokens": len(ids), "limit": self._limit},
            )
        return tuple(ids)

    def generate(self, rows: Sequence[Row]) -> list[Generated]:
        """Generate a batch; the texts are those of ``stream``.

        Raises:
            UALError: As ``stream``.
        """
        texts: list[list[str]] = [[] for _ in rows]
        ends: dict[int, Piece] = {}
        for piece in self.stream(rows):
            texts[piece.row].append(piece.text)
            if piece.finish is not None:
                ends[piece.row] = piece
        return [
            Generated("".join(text), ends[row].tokens, ends[row].finish or Finish.LENGTH)
            for row, text in enumerate(texts)
        ]

    def stream(self, rows: Sequence[Row]) -> Iterator[Piece]:
        """Generate a batch, and yield the texts of its rows as they grow; whoever stops asking stops it.

        Raises:
            NumericalError: What the model says of a row is not a number.
            TransferError: The model does not keep the rows of a batch apart.
        """
        if not rows:
            return
        writers = [_Writer(place, row, self._tokenizer, self._ends, self._limit) for place, row in enumerate(rows)]
        reading = Reading.begin(self.model, [row.prompt for row in rows], [row.updates for row in rows])
        while True:
            chosen = _choose(reading.logits, writers)
            for writer, token in zip(writers, chosen, strict=True):
                yield from writer.take(token)
            left = [place for place, writer in enumerate(writers) if writer.finish is None]
            if not left:
                return
            if len(left) < len(writers):
                writers, chosen = [writers[place] for place in left], [chosen[place] for place in left]
                reading = reading.of_rows(left)
            reading = reading.after(chosen)

    def _chat(self, messages: Any) -> list[int]:
        if self._tokenizer.chat_template is None:
            raise RouteError(
                f"base model {self._label}: has no chat template, expected a text instead of messages",
                code="no-chat-template",
            )
        try:
            text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        except Exception as error:
            if not isinstance(error, _REFUSALS) and "jinja" not in type(error).__module__:
                raise
            raise RouteError(f"messages do not suit the chat template: {error}", code="generation") from error
        found: list[int] = self._tokenizer(characters(text), add_special_tokens=False)["input_ids"]
        return found


class _Writer:
    """Takes in the tokens of one row."""

    def __init__(self, place: int, row: Row, tokenizer: Any, ends: frozenset[int], limit: int | None) -> None:
        self._place, self._ends = place, ends
        self.settings = row.settings
        room = self.settings.max_tokens if limit is None else limit - len(row.prompt)
        self._most = min(self.settings.max_tokens, room)
        self._text = RowText(tokenizer, row.prompt, self.settings.stop)
        self._tokens = 0
        self._random: torch.Generator | None = None
        self.finish: Finish | None = None

    def take(self, token: int) -> Iterator[Piece]:
        """Take in a token, and yield what is certain of the text by now."""
        if token in self._ends:
            self.finish = Finish.END
            yield Piece(self._place, self._text.end(), self._tokens, self.finish)
            return
        self._tokens += 1
        text = self._text.add(token)
        if self._text.is_stopped:
            self.finish = Finish.STOP
        elif self._tokens >= self._most:
            text += self._text.end()
            self.finish = Finish.STOP if self._text.is_stopped else Finish.LENGTH
        if text or self.finish is not None:
            yield Piece(self._place, text, self._tokens, self.finish)

    def draw(self, logits: torch.Tensor) -> int:
        """Draw a token; ``logits`` has the shape (vocabulary,)."""
        if self._random is None:
            self._random = torch.Generator(device=logits.device)
            self._random.manual_seed(self.settings.seed)
        chances = torch.softmax(logits.double() / self.settings.temperature, dim=0)
        best, tokens = chances.sort(descending=True, stable=True)
        before = best.cumsum(dim=0) - best
        before[0] = 0.0
        place = torch.multinomial(best.masked_fill(before >= self.settings.top_p, 0.0), 1, generator=self._random)
        return int(tokens[place])


@torch.inference_mode()
def _choose(logits: torch.Tensor, writers: Sequence[_Writer]) -> list[int]:
    """Return the next token of every row; ``logits`` has the shape (rows, vocabulary)."""
    likeliest: list[int] = logits.argmax(dim=1).tolist()  # of a row with NaN it is the place of one
    for place, token in enumerate(likeliest):
        if bool(logits[place, token].isnan()):
            raise NumericalError("the model's scores of the next token hold a NaN", hint="compute in a wider dtype")
    return [
        token if writer.settings.temperature == 0 else writer.draw(logits[place])
        for place, (token, writer) in enumerate(zip(likeliest, writers, strict=True))
    ]


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return every token that ends a text, as model and tokenizer name them."""
    named = getattr(model.generation_config, "eos_token_id", None)
    several = named if isinstance(named, list) else [named]
    return frozenset(int(token) for token in (*several, tokenizer.eos_token_id) if token is not None)


def _check(name: str, value: object, is_fit: bool, expected: str) -> None:
    if not is_fit:
        raise RouteError(f"{name}: expected {expected}, got {value}", code="generation", context={"setting": name})
