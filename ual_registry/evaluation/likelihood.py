"""Log-likelihoods of a causal model at the positions that are needed, and at no other.

A head may have hundreds of thousands of rows: the logits of one text would outweigh the model. So a context is run
once and answers follow it through the key-value cache, and a long text is run in segments through the same cache.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from ual_registry.errors import NumericalError, TransferError
from ual_registry.evaluation.prompts import Question
from ual_registry.models.dense_head import dense_head
from ual_registry.models.finite import finite_hint
from ual_registry.models.positions import position_limit

__all__ = ["answer_scores", "context_limit", "greedy", "segments", "token_scores"]

_LOGIT_BYTES, _LOGIT_BYTES_ON_GPU = 128 << 20, 512 << 20
"""What the logits of one forward pass may take; few of them leave a GPU waiting for the next pass."""

_MOST_ROWS = 128
_LONGEST_WINDOW = 4096


def context_limit(model: Any) -> int:
    """Return how many tokens are run at most together."""
    return min(position_limit(model) or _LONGEST_WINDOW, _LONGEST_WINDOW)


def _positions_at_once(model: Any) -> int:
    """Return for how many positions logits are made at once; float32, and their log-softmax beside them."""
    held = _LOGIT_BYTES if model.device.type == "cpu" else _LOGIT_BYTES_ON_GPU
    return max(8, held // (8 * int(model.config.get_text_config().vocab_size)))


def _forward(model: Any, ids: torch.Tensor, cache: Any, keep: int, *, use_cache: bool = True) -> tuple[Any, Any]:
    """Return log-probabilities of the last ``keep`` positions, at least float32, and the cache."""
    more = {"logits_to_keep": keep} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    with dense_head(model):
        found = model(input_ids=ids, past_key_values=cache, use_cache=use_cache, **more)
    logits = found.logits[:, -keep:]
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if not bool(torch.isfinite(wide[..., :1]).all()):
        raise NumericalError(
            f"{type(model).__name__}: its logits are not finite",
            hint=finite_hint(logits.dtype),
        )
    return torch.log_softmax(wide, dim=-1), getattr(found, "past_key_values", None)


@torch.no_grad()
def answer_scores(model: Any, questions: Sequence[Question]) -> list[list[float]]:
    """Return the log-likelihood of every answer after its context, in nats, summed over its tokens.

    Questions whose contexts have one length run together, so nothing is padded on the left.

    Args:
        model: A causal model in evaluation mode.
        questions: The questions.
    """
    scores: list[list[float]] = [[] for _ in questions]
    for chunk in _same_length([question.context for question in questions], _batch_size(model, questions)):
        for index, found in zip(chunk, _batch_scores(model, [questions[index] for index in chunk]), strict=True):
            scores[index] = found
    return scores


def _batch_size(model: Any, questions: Sequence[Question]) -> int:
    most = max((len(question.answers) for question in questions), default=1)
    return max(1, min(_MOST_ROWS // max(most, 1), _positions_at_once(model), 16))


def _same_length(contexts: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """Yield the indices of contexts of one length, ``most`` at once."""
    by_length: dict[int, list[int]] = {}
    for index, context in enumerate(contexts):
        by_length.setdefault(len(context), []).append(index)
    for group in by_length.values():
        yield from (group[start : start + most] for start in range(0, len(group), most))


def _batch_scores(model: Any, batch: Sequence[Question]) -> list[list[float]]:
    ids = torch.tensor([question.context for question in batch], device=model.device)
    last, cache = _forward(model, ids, None, 1)
    scores = _first_scores(last[:, 0], batch)
    longer = [
        (row, column, answer)
        for row, own in enumerate(batch)
        for column, answer in enumerate(own.answers)
        if len(answer) > 1
    ]
    longer.sort(key=lambda item: len(item[2]))  # answers of similar length share a pass, so little is padded
    for chunk in _chunks(model, longer):
        for (row, column, _), rest in zip(chunk, _rest_scores(model, ids, cache, chunk), strict=True):
            scores[row][column] += rest
    return scores


def _first_scores(last: torch.Tensor, batch: Sequence[Question]) -> list[list[float]]:
    """Return the log-likelihood of the first token of each answer, taken at once: every look at a GPU waits for it."""
    rows = [row for row, own in enumerate(batch) for _ in own.answers]
    found = iter(last[rows, [answer[0] for own in batch for answer in own.answers]].tolist())
    return [[next(found) for _ in own.answers] for own in batch]


_Answer = tuple[int, int, tuple[int, ...]]
"""Row of the context, column of the answer, and the answer's tokens."""


def _chunks(model: Any, longer: Sequence[_Answer]) -> Iterator[list[_Answer]]:
    chunk: list[_Answer] = []
    for item in longer:
        if chunk and (len(chunk) + 1) * (len(item[2]) - 1) > max(_positions_at_once(model), len(item[2])):
            yield chunk
            chunk = []
        chunk.append(item)
        if len(chunk) == _MOST_ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _rest_scores(model: Any, ids: torch.Tensor, cache: Any, chunk: Sequence[_Answer]) -> list[float]:
    """Return the log-likelihood of all but the first token of each answer."""
    rows = torch.tensor([row for row, _, _ in chunk], device=ids.device)
    inputs = _padded([answer[:-1] for _, _, answer in chunk], 0).to(ids.device)
    targets = _padded([answer[1:] for _, _, answer in chunk], -1).to(ids.device)
    own = _selected(cache, rows)
    # Padding stands on the right and no token looks to its right, so no mask is needed.
    if own is None:
        found, _ = _forward(model, torch.cat([ids[rows], inputs], dim=1), None, inputs.shape[1], use_cache=False)
    else:
        found, _ = _forward(model, inputs, own, inputs.shape[1])
    picked = found.gather(2, targets.clamp(min=0)[..., None])[..., 0].double()
    totals: list[float] = torch.where(targets >= 0, picked, 0.0).sum(dim=1).tolist()
    return totals


def _padded(parts: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    return pad_sequence([torch.tensor(part) for part in parts], batch_first=True, padding_value=value)


def _selected(cache: Any, rows: torch.Tensor) -> Any:
    """Return a cache of its own for some rows of a batch; ``None`` where the model's cache cannot be picked from."""
    layers = getattr(cache, "layers", None)
    if not layers or not all(hasattr(layer, "batch_select_indices") for layer in layers):
        return None
    own = copy.deepcopy(cache)
    own.batch_select_indices(rows)
    return own


@torch.no_grad()
def token_scores(model: Any, ids: Sequence[int]) -> list[float]:
    """Return the log-likelihood of every token after the first, in nats.

    Args:
        model: A causal model in evaluation mode.
        ids: Token ids, at most ``context_limit`` of them.
    """
    targets = torch.tensor(ids[1:], device=model.device)
    scores: list[float] = []
    for start, found in segments(model, ids[:-1]):
        own = targets[start : start + found.shape[0]]
        scores.extend(found.gather(1, own[:, None])[:, 0].double().tolist())
    return scores


def segments(model: Any, ids: Sequence[int]) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield first position and log-probabilities, shape (positions, vocabulary), of one segment after the other."""
    step, cache = _positions_at_once(model), None
    whole = torch.tensor([list(ids)], device=model.device)
    for start in range(0, len(ids), step):
        part = whole[:, start : start + step]
        found, cache = _forward(model, part, cache, part.shape[1], use_cache=len(ids) > step)
        if len(ids) > step and cache is None:
            raise TransferError(
                f"{type(model).__name__}: has no key-value cache, so {len(ids)} tokens cannot be run in segments",
                code="no-cache",
                hint="give shorter documents",
            )
        yield start, found[0]


@torch.no_grad()
def greedy(model: Any, contexts: Sequence[Sequence[int]], *, most: int, ends: frozenset[int]) -> list[list[int]]:
    """Continue every context with the likeliest token, again and again.

    Args:
        model: A causal model in evaluation mode.
        contexts: Token ids, at least one each.
        most: Tokens to add at most; a model that can read no further ends an answer before.
        ends: Tokens that end an answer; they are left out.
    """
    answers: list[list[int]] = [[] for _ in contexts]
    for chunk in _same_length(contexts, 16):
        ids = torch.tensor([list(contexts[index]) for index in chunk], device=model.device)
        for index, answer in zip(chunk, _continue(model, ids, most, ends), strict=True):
            answers[index] = answer
    return answers


def _continue(model: Any, ids: torch.Tensor, most: int, ends: frozenset[int]) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in ids]
    is_done = [False] * len(answers)
    cache, part = None, ids
    for _ in range(min(most, context_limit(model) - ids.shape[1] + 1)):  # the last token is not read any more
        found, cache = _forward(model, part, cache, 1)
        chosen = found[:, -1].argmax(dim=-1)
        for row, token in enumerate(chosen.tolist()):
            is_done[row] = is_done[row] or token in ends
            if not is_done[row]:
                answers[row].append(token)
        if all(is_done):
            break
        ids = torch.cat([ids, chosen[:, None]], dim=1)
        part = ids if cache is None else chosen[:, None]
    return answers
