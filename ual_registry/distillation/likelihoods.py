"""Log-probabilities of given tokens, with the output head run only where they are needed.

A head may have hundreds of thousands of rows. It is run on a few positions at a time, and its logits are forgotten, so
that they never fill the memory. Where the head is frozen and plain, what a gradient needs of them is computed at once:
a row of the hidden size for each position; otherwise they are computed again when a gradient comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from ual_registry.distillation.soft_targets import SoftRows, SoftTargets, soft_likelihood, soft_rows
from ual_registry.models.token_groups import TokenGroups

__all__ = ["Scorer"]

_LOGITS_AT_ONCE, _LOGITS_ELSEWHERE = 1 << 24, 1 << 26
"""How many logits one step of the head makes at most: 64 MiB in float32; more on a device that is slow to start one."""

_LOGITS_IN_CACHE, _FEW_POSITIONS = 1 << 18, 64
"""On a CPU what is made of logits is faster where it stays in its cache: 1 MiB. Fewer positions would not pay."""

_TOLERANCE = 1e-4
"""How far logits made in two ways may differ, as a ratio of the largest; float32 holds 7 digits."""


class Scorer:
    """Scores tokens under a causal language model, which may carry an adapter.

    Args:
        model: A model of transformers with an output head; wrapped by nothing, its modules may be.
        groups: The group of every token, where soft targets are scored.

    Attributes:
        is_in_pieces: Whether the head is run a few positions at a time; a model that does more to its logits than is
            known here is asked for all of them.
    """

    def __init__(self, model: Any, groups: TokenGroups | None = None) -> None:
        self._model, self._groups = model, groups
        self.is_in_pieces = self._is_head_known()

    def __call__(
        self,
        ids: Sequence[Sequence[int]],
        wanted: Sequence[Sequence[int]],
        soft: Sequence[SoftTargets | None] = (),
    ) -> tuple[torch.Tensor, ...]:
        """Score tokens of a batch of texts.

        Args:
            ids: Token ids of each text.
            wanted: For each text the positions of the tokens to score, none of them 0.
            soft: The soft targets of each text, where there are any.

        Returns:
            For each text the log-probabilities of its wanted tokens given all before them, shape (wanted,), float32,
            in nats; where a token has a soft target, the agreement with that.
        """
        counts = [len(positions) for positions in wanted]
        states, targets = self._states(ids, wanted)
        rows = soft_rows(soft, counts, self._groups, states.device) if self._groups is not None else None
        found = self._scored(states, targets, rows) if self.is_in_pieces else _chosen(states, targets, rows)
        return torch.split(found, counts)

    def likeliest(
        self, ids: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]], count: int
    ) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], ...]:
        """Score tokens as a call does, and name the likeliest ones in their places; without gradients.

        Args:
            ids: Token ids of each text.
            wanted: For each text the positions of the tokens to score, none of them 0.
            count: How many to name, at most as many as there are.

        Returns:
            For each text what a call returns, then ids of tokens, shape (wanted, count), and their log-probabilities.
        """
        counts = [len(positions) for positions in wanted]
        with torch.no_grad():
            states, targets = self._states(ids, wanted)
            size = self._size() if self.is_in_pieces else max(1, len(states))
            parts = []
            for part, own in zip(torch.split(states, size), torch.split(targets, size), strict=True):
                logits = self._finished_head(part) if self.is_in_pieces else part
                logs = torch.log_softmax(logits.float(), dim=1)
                best = logs.topk(min(count, logs.shape[1]), dim=1)
                parts.append((logs.gather(1, own[:, None])[:, 0], best.indices, best.values))
        found = [torch.split(torch.cat(own), counts) for own in zip(*parts, strict=True)]
        return tuple(zip(*found, strict=True))

    def _states(
        self, ids: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what stands before the wanted tokens, and the tokens: hidden states, or logits where need be."""
        device = next(self._model.parameters()).device
        rows = [row for row, positions in enumerate(wanted) for _ in positions]
        columns = [position for positions in wanted for position in positions]
        # Padding stands on the right and no token looks to its right, so no mask is needed.
        padded = pad_sequence([torch.tensor(list(text)) for text in ids], batch_first=True).to(device)
        targets = padded[rows, columns]
        before = [column - 1 for column in columns]
        if not self.is_in_pieces:
            return self._model(input_ids=padded, use_cache=False).logits[rows, before], targets
        return self._model.base_model(input_ids=padded, use_cache=False).last_hidden_state[rows, before], targets

    def _size(self) -> int:
        """Return how many positions the head is run on at once."""
        weight = self._model.get_output_embeddings().weight
        in_cache = _LOGITS_IN_CACHE // int(weight.shape[0])
        is_cpu = weight.device.type == "cpu"
        most = max(1, (_LOGITS_AT_ONCE if is_cpu else _LOGITS_ELSEWHERE) // int(weight.shape[0]))
        return min(most, in_cache) if is_cpu and in_cache >= _FEW_POSITIONS else most

    def _scored(self, hidden: torch.Tensor, targets: torch.Tensor, soft: SoftRows | None) -> torch.Tensor:
        """Score positions a few at a time; ``hidden`` has the shape (n, hidden_size), ``targets`` (n,)."""
        head, size = self._model.get_output_embeddings(), self._size()
        is_plain = type(head) is torch.nn.Linear and not any(own.requires_grad for own in head.parameters())
        chosen: Any = _Chosen.apply
        parts = []
        for start in range(0, len(hidden), size):
            part, own = hidden[start : start + size], targets[start : start + size]
            some = None if soft is None else soft.between(start, start + size)
            if is_plain:
                parts.append(chosen(part, own, some, head.weight, head.bias, self._cap()))
            else:
                parts.append(checkpoint(self._score, part, own, some, use_reentrant=False))
        return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)

    def _score(self, hidden: torch.Tensor, targets: torch.Tensor, soft: SoftRows | None) -> torch.Tensor:
        return _chosen(self._finished_head(hidden), targets, soft)

    def _finished_head(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model.get_output_embeddings()(hidden)
        cap = self._cap()
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _cap(self) -> float | None:
        """Return what the model bounds its logits by, where it does."""
        cap: float | None = getattr(self._model.config.get_text_config(), "final_logit_softcapping", None)
        return cap

    def _is_head_known(self) -> bool:
        """Tell whether the head makes the model's own logits; some models scale them in ways of their own."""
        with torch.no_grad():
            ids = torch.tensor([[1, 0, 1]], device=next(self._model.parameters()).device)
            own = self._model(input_ids=ids, use_cache=False).logits
            made = self._finished_head(self._model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
            return own.shape == made.shape and bool((own - made).abs().max() <= _TOLERANCE * own.abs().max())


def _chosen(logits: torch.Tensor, targets: torch.Tensor, soft: SoftRows | None) -> torch.Tensor:
    found = -torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    if soft is None or not len(soft.rows):
        return found
    chances = torch.softmax(logits[soft.rows].float(), dim=1)
    agreement, _ = soft_likelihood(chances, targets[soft.rows], soft)
    return found.index_copy(0, soft.rows, agreement)


class _Chosen(torch.autograd.Function):
    """Log-probabilities of chosen tokens under a frozen head, with their gradient to the hidden states beside them.

    With log-probabilities ``l = log_softmax(W h + b)`` the gradient of ``l[t]`` is ``W[t] - sum_v exp(l[v]) W[v]``;
    where logits are bounded by ``c tanh(z / c)``, each term has the factor ``1 - (logit / c)^2``. One more product with
    the head gives it for all positions, and no logit is kept. Soft targets are agreed with as ``soft_likelihood`` says.
    """

    @staticmethod
    def forward(  # noqa: PLR0917  # torch calls it so
        ctx: Any,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        soft: SoftRows | None,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        cap: float | None,
    ) -> torch.Tensor:
        """Return log-probabilities, shape (n,), float32; ``hidden`` has the shape (n, hidden_size)."""
        logits = torch.nn.functional.linear(hidden, weight, bias)
        logits = (logits if cap is None else cap * torch.tanh(logits / cap)).float()
        total = torch.logsumexp(logits, dim=1, keepdim=True)
        chosen = logits.gather(1, targets[:, None]) - total
        slopes = (logits - total).exp_()
        followed = None
        if soft is not None and len(soft.rows):
            chosen[soft.rows, 0], followed = soft_likelihood(slopes[soft.rows], targets[soft.rows], soft)
        if ctx.needs_input_grad[0]:
            slopes.neg_().scatter_add_(1, targets[:, None], torch.ones_like(total))
            if followed is not None and soft is not None:
                slopes[soft.rows] = followed
            if cap is not None:
                slopes *= 1 - (logits / cap) ** 2
            ctx.save_for_backward(slopes.to(weight.dtype) @ weight)
        return chosen[:, 0]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradient to ``hidden``; nothing else has one."""
        (slopes,) = ctx.saved_tensors
        return gradients[0][:, None].to(slopes.dtype) * slopes, None, None, None, None, None
