"""Log-probabilities of given tokens, with the output head run only where they are needed.

A head may have hundreds of thousands of rows. It is run on a few positions at a time, and its logits are forgotten
and computed again when a gradient comes back, so that they never fill the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

__all__ = ["Scorer"]

_LOGITS_AT_ONCE = 1 << 24
"""How many logits one step of the head makes: 64 MiB in float32."""

_TOLERANCE = 1e-4
"""How far logits made in two ways may differ, as a ratio of the largest; float32 holds 7 digits."""


class Scorer:
    """Scores tokens under a causal language model, which may carry an adapter.

    Args:
        model: A model of transformers with an output head; wrapped by nothing, its modules may be.

    Attributes:
        is_in_pieces: Whether the head is run a few positions at a time; a model that does more to its logits than is
            known here is asked for all of them.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.is_in_pieces = self._is_head_known()

    def __call__(self, ids: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> tuple[torch.Tensor, ...]:
        """Score tokens of a batch of texts.

        Args:
            ids: Token ids of each text.
            wanted: For each text the positions of the tokens to score, none of them 0.

        Returns:
            For each text the log-probabilities of its wanted tokens given all before them, shape (wanted,), float32,
            in nats.
        """
        device = next(self._model.parameters()).device
        rows = [row for row, positions in enumerate(wanted) for _ in positions]
        columns = [position for positions in wanted for position in positions]
        # Padding stands on the right and no token looks to its right, so no mask is needed.
        padded = pad_sequence([torch.tensor(list(text)) for text in ids], batch_first=True).to(device)
        targets = padded[rows, columns]
        before = [column - 1 for column in columns]
        if not self.is_in_pieces:
            logits = self._model(input_ids=padded, use_cache=False).logits[rows, before]
            found = _chosen(logits, targets)
        else:
            hidden = self._model.base_model(input_ids=padded, use_cache=False).last_hidden_state
            found = self._scored(hidden[rows, before], targets)
        return torch.split(found, [len(positions) for positions in wanted])

    def _scored(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Score positions a few at a time; ``hidden`` has the shape (n, hidden_size), ``targets`` (n,)."""
        size = max(1, _LOGITS_AT_ONCE // self._model.get_output_embeddings().weight.shape[0])
        parts = [
            checkpoint(self._score, part, own, use_reentrant=False)
            for part, own in zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
        ]
        return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)

    def _score(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return _chosen(self._finished_head(hidden), targets)

    def _finished_head(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model.get_output_embeddings()(hidden)
        cap = getattr(self._model.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _is_head_known(self) -> bool:
        """Tell whether the head makes the model's own logits; some models scale them in ways of their own."""
        with torch.no_grad():
            ids = torch.tensor([[1, 0, 1]], device=next(self._model.parameters()).device)
            own = self._model(input_ids=ids, use_cache=False).logits
            made = self._finished_head(self._model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
            return own.shape == made.shape and bool((own - made).abs().max() <= _TOLERANCE * own.abs().max())


def _chosen(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
