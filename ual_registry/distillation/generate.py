"""Text from a language model, seeded batch by batch, so that an interrupted run goes on to the same texts.

What is generated depends on the model, on the adapter that it carries, on the prompts and on the settings, and on
nothing else; a batch is generated whole or not at all.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ual_registry.distillation.draw import draw
from ual_registry.distillation.pieces import Cutter
from ual_registry.distillation.prompts import Prompts
from ual_registry.distillation.texts import Ended, Kept, Rules, Text, TextFile, keep_texts
from ual_registry.errors import TrainingError
from ual_registry.models.positions import position_limit

__all__ = ["Sampling", "generate_texts"]

_TAIL_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How texts are drawn.

    Attributes:
        temperature: From 0, which takes the likeliest token each time.
        top_p: Share of the probability that is drawn from, its largest parts first; above 0, at most 1.
        max_tokens: Tokens of one completion at most.
        batch_size: Texts generated together.
        seed: Seeds every batch, together with the batch's number.
        stop: Texts that end a completion and are left out of it.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    max_tokens: int = 128
    batch_size: int = 32
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            TrainingError: A number is out of its range.
        """
        wrong = {
            "temperature": not 0 <= self.temperature < math.inf,
            "top_p": not 0 < self.top_p <= 1,
            "max_tokens": self.max_tokens < 1,
            "batch_size": self.batch_size < 1,
            "stop": "" in self.stop,
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise TrainingError(
                    f"sampling.{name}: got {getattr(self, name)}, which is out of range",
                    code="sampling",
                    context={"setting": name},
                )


def generate_texts(
    model: Any,
    tokenizer: Any,
    prompts: Prompts,
    sampling: Sampling,
    file: Path,
    *,
    wanted: int,
    rules: Rules,
    material: Mapping[str, Any],
    max_generated: int | None = None,
    on_batch: Callable[[Kept], None] | None = None,
) -> Kept:
    """Generate until enough texts are kept, going on from the file where it has some.

    Args:
        model: The model, with or without an adapter attached.
        tokenizer: Its fast tokenizer.
        prompts: Where prompts come from.
        sampling: How texts are drawn.
        file: Where texts are kept, batch by batch.
        wanted: How many texts are to be kept.
        rules: Which texts are kept.
        material: What else the texts depend on, such as the digests of model and adapter.
        max_generated: How many texts to generate at most; four times ``wanted`` where absent.
        on_batch: Called after every batch with what is kept so far.

    Returns:
        At most ``wanted`` texts, fewer where the prompts or the limit run out, and the counts.

    Raises:
        FormatError: The file holds texts of other settings, or was changed.
        StorageError: The file system refuses.
        TrainingError: The tokenizer knows no offsets or cannot begin a text, or a prompt is longer than the model can
            read.
        NumericalError: A logit is not a number, or infinite.
    """
    settings = {"prompts": prompts.document(), "sampling": _document(sampling), "material": dict(material)}
    store = TextFile(file, settings)
    writer = _Writer(model, tokenizer, sampling)
    texts = _whole_batches(store.read(), prompts, sampling)
    store.rewrite(texts)
    limit = max_generated or 4 * wanted
    texts = _first_enough(texts, rules, wanted, limit)
    while (kept := keep_texts(texts, rules)).counts["kept"] < wanted and len(texts) < limit:
        number = texts[-1].batch + 1 if texts else 0
        batch = prompts.batch(number, sampling.batch_size, sampling.seed)
        if not batch:
            break
        made = writer.write(batch, number)
        store.append(made)
        texts.extend(made)
        if on_batch is not None:
            on_batch(keep_texts(texts, rules))
    return Kept(kept.texts[:wanted], {**kept.counts, "kept": min(wanted, kept.counts["kept"])})


def _document(sampling: Sampling) -> dict[str, Any]:
    return {**asdict(sampling), "stop": list(sampling.stop)}


def _whole_batches(texts: list[Text], prompts: Prompts, sampling: Sampling) -> list[Text]:
    """Leave out a last batch of which texts are missing."""
    if not texts:
        return texts
    last = texts[-1].batch
    held = sum(text.batch == last for text in texts)
    return texts if held == len(prompts.batch(last, sampling.batch_size, sampling.seed)) else texts[:-held]


def _first_enough(texts: list[Text], rules: Rules, wanted: int, limit: int) -> list[Text]:
    """Leave out batches that only an earlier run needed, which wanted more: the result is that of a new file."""
    ends = [
        index
        for index in range(1, len(texts) + 1)
        if index == len(texts) or texts[index].batch > texts[index - 1].batch
    ]

    def is_enough(end: int) -> bool:
        return end >= limit or keep_texts(texts[:end], rules).counts["kept"] >= wanted

    place = bisect.bisect_left(ends, True, key=is_enough)  # more batches never keep fewer texts
    return texts[: ends[place]] if place < len(ends) else texts


class _Writer:
    """Writes batches with one model and one way of drawing."""

    def __init__(self, model: Any, tokenizer: Any, sampling: Sampling) -> None:
        self._model, self._tokenizer, self._sampling = model, tokenizer, sampling
        self._cutter = Cutter(tokenizer)
        self._ends = _end_tokens(model, tokenizer)

    def write(self, prompts: Sequence[str], number: int) -> list[Text]:
        """Go on from every prompt of a batch; what is drawn follows from the seed and the batch's number."""
        sampling = self._sampling
        read = [self._cutter.prompt_ids(prompt) for prompt in prompts]
        with torch.random.fork_rng():
            torch.manual_seed(_batch_seed(sampling.seed, number))
            rows = draw(
                self._model,
                read,
                most=self._most(read),
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                is_over=self._is_over,
            )
        return [self._text(prompt, row, number) for prompt, row in zip(prompts, rows, strict=True)]

    def _most(self, prompts: Sequence[Sequence[int]]) -> int:
        """Return how many tokens can be added to every prompt of a batch."""
        most, longest, limit = self._sampling.max_tokens, max(map(len, prompts)), position_limit(self._model)
        if limit is not None and longest >= limit:
            raise TrainingError(
                f"a prompt has {longest} tokens, expected fewer than the {limit} that the source base can read",
                code="too-long",
                context={"tokens": longest, "limit": limit},
                hint="give shorter text, or shorter seed prompts",
            )
        return most if limit is None else min(most, limit - longest)

    def _is_over(self, row: Sequence[int]) -> bool:
        """Tell whether a row's newest token ends it, or one of the stop texts stands among its last tokens."""
        if row[-1] in self._ends:
            return True
        stop = self._sampling.stop
        tail = _decoded(self._tokenizer, list(row[-_TAIL_TOKENS:])) if stop else ""
        return any(text in tail for text in stop)

    def _text(self, prompt: str, row: list[int], number: int) -> Text:
        cut = next((index for index, token in enumerate(row) if token in self._ends), None)
        row = row[:cut]
        completion, ended = self._completion(prompt, row), Ended.LENGTH if cut is None else Ended.END
        stops = [found for stop in self._sampling.stop if (found := completion.find(stop)) >= 0]
        if stops:
            completion, ended = completion[: min(stops)], Ended.STOP
        return Text(batch=number, prompt=prompt, completion=completion, ended=ended, tokens=len(row))

    def _completion(self, prompt: str, row: list[int]) -> str:
        """Decode a completion as it stands after its prompt: alone, some tokenizers take white space off its start."""
        before = self._tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
        start, whole = _decoded(self._tokenizer, list(before)), _decoded(self._tokenizer, [*before, *row])
        return whole[len(start) :] if whole.startswith(start) else _decoded(self._tokenizer, row)


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return every token that ends a text, as model and tokenizer name them."""
    named = getattr(model.generation_config, "eos_token_id", None)
    several = named if isinstance(named, list) else [named]
    return sorted({int(token) for token in (*several, tokenizer.eos_token_id) if token is not None})


def _batch_seed(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}-{number}".encode()).digest()[:7], "big")


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
