"""Text from a language model, seeded batch by batch, so that an interrupted run goes on to the same texts.

What is generated depends on the model, on the adapter that it carries, on the prompts and on the settings, and on
nothing else; a batch is generated whole or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from ual_registry.distillation.pieces import Cutter
from ual_registry.distillation.prompts import Prompts
from ual_registry.distillation.texts import Ended, Kept, Rules, Text, TextFile, keep_texts

__all__ = ["Sampling", "generate_texts"]

_TAIL_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How texts are drawn.

    Attributes:
        temperature: 0 takes the likeliest token each time.
        top_p: Share of the probability that is drawn from, its largest parts first.
        max_tokens: Tokens of one completion at most.
        batch_size: Texts generated together.
        seed: Seeds every batch, together with the batch's number.
        stop: Texts that end a completion and are left out of it.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    max_tokens: int = 128
    batch_size: int = 8
    seed: int = 0
    stop: tuple[str, ...] = ()


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
        TrainingError: The tokenizer knows no offsets, or cannot begin an empty text.
    """
    settings = {"prompts": prompts.document(), "sampling": _document(sampling), "material": dict(material)}
    store = TextFile(file, settings)
    writer = _Writer(model, tokenizer, sampling)
    texts = _whole_batches(store.read(), prompts, sampling)
    store.rewrite(texts)
    limit = max_generated or 4 * wanted
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


class _Writer:
    """Writes batches with one model and one way of drawing."""

    def __init__(self, model: Any, tokenizer: Any, sampling: Sampling) -> None:
        self._model, self._tokenizer, self._sampling = model, tokenizer, sampling
        self._cutter = Cutter(tokenizer)
        self._ends = _end_tokens(model, tokenizer)

    def write(self, prompts: Sequence[str], number: int) -> list[Text]:
        """Go on from every prompt of a batch; what is drawn follows from the seed and the batch's number."""
        ids, mask = _padded([self._cutter.prompt_ids(prompt) for prompt in prompts], _pad_token(self._tokenizer))
        device = next(self._model.parameters()).device
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(_batch_seed(self._sampling.seed, number))
            made = self._model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=self._config(),
                stopping_criteria=StoppingCriteriaList([_Stops(self._tokenizer, self._sampling.stop, ids.shape[1])]),
            )
        rows = made[:, ids.shape[1] :].tolist()
        return [self._text(prompt, row, number) for prompt, row in zip(prompts, rows, strict=True)]

    def _config(self) -> GenerationConfig:
        """Return settings that leave nothing to the model's own, which may bring filters and penalties."""
        drawn = self._sampling.temperature > 0
        settings: dict[str, Any] = {
            "do_sample": drawn,
            "temperature": self._sampling.temperature if drawn else 1.0,
            "top_p": self._sampling.top_p if drawn else 1.0,
            "top_k": 0,
            "repetition_penalty": 1.0,
            "num_beams": 1,
            "max_new_tokens": self._sampling.max_tokens,
            "eos_token_id": self._ends or None,
            "pad_token_id": _pad_token(self._tokenizer),
            "use_cache": True,
        }
        return GenerationConfig(**settings)  # type: ignore[no-untyped-call]  # transformers gives it no types

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


def _padded(prompts: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Put prompts of several lengths into one batch, padded on the left: ids and mask, shape (batch, length)."""
    width = max(len(prompt) for prompt in prompts)
    ids = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)


def _pad_token(tokenizer: Any) -> int:
    known = (token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None)
    return int(next(known, 0))


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return every token that ends a text, as model and tokenizer name them."""
    named = getattr(model.generation_config, "eos_token_id", None)
    several = named if isinstance(named, list) else [named]
    return sorted({int(token) for token in (*several, tokenizer.eos_token_id) if token is not None})


def _batch_seed(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}-{number}".encode()).digest()[:7], "big")


class _Stops(StoppingCriteria):
    """Ends a row when one of the stop texts stands among its last tokens."""

    def __init__(self, tokenizer: Any, stop: tuple[str, ...], prompt_tokens: int) -> None:
        self._tokenizer, self._stop, self._prompt_tokens = tokenizer, stop, prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        tails = input_ids[:, max(self._prompt_tokens, input_ids.shape[1] - _TAIL_TOKENS) :].tolist()
        ended = [self._stop and any(stop in _decoded(self._tokenizer, tail) for stop in self._stop) for tail in tails]
        return torch.tensor([bool(found) for found in ended], device=input_ids.device)


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
