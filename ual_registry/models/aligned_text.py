"""Positions of two tokenizers that have read the same text: tokens that end on the same character.

A model that has read up to a character can be compared there with another one that has read just as far, however each
cuts the text. Special tokens and the first tokens are left out: there attention sinks make activations hundreds of
times larger than elsewhere, and mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ual_registry.digest import Digest
from ual_registry.errors import TransferError
from ual_registry.models.characters import characters

__all__ = ["SKIPPED_TOKENS", "AlignedText", "aligned_positions", "passages", "text_digest"]

SKIPPED_TOKENS = 4
"""Tokens at the start of a text, beside the special ones, that are never aligned."""


@dataclass(frozen=True, slots=True)
class AlignedText:
    """A text as two models read it, and where they have read equally far.

    Attributes:
        source_ids: Token ids of the source, with its special tokens.
        target_ids: Token ids of the target, with its special tokens.
        source_positions: Ascending positions in ``source_ids``.
        target_positions: As many positions in ``target_ids``, pair by pair at the same character.
    """

    source_ids: list[int]
    target_ids: list[int]
    source_positions: list[int]
    target_positions: list[int]


def aligned_positions(
    text: str,
    source: Any,
    target: Any,
    *,
    skip: int = SKIPPED_TOKENS,
    limits: tuple[int | None, int | None] = (None, None),
) -> AlignedText:
    """Find the positions of a text where the tokens of two tokenizers end on the same character.

    Where several tokens end on one character, as the bytes of one character do, the last of them counts.

    Args:
        text: The text.
        source: A fast tokenizer.
        target: A fast tokenizer.
        skip: How many tokens at the start, beside the special ones, to leave out in either.
        limits: How many tokens each model can read; the rest of the text is left out.
    """
    source_ids, source_ends = _ends(text, source, skip, limits[0])
    target_ids, target_ends = _ends(text, target, skip, limits[1])
    both = sorted(source_ends.keys() & target_ends.keys())
    return AlignedText(
        source_ids=source_ids,
        target_ids=target_ids,
        source_positions=[source_ends[end] for end in both],
        target_positions=[target_ends[end] for end in both],
    )


def _ends(text: str, tokenizer: Any, skip: int, limit: int | None) -> tuple[list[int], dict[int, int]]:
    """Return token ids, and the last position that ends on each character."""
    read = tokenizer(
        text, return_offsets_mapping=True, return_special_tokens_mask=True, return_attention_mask=False, verbose=False
    )
    ids = read["input_ids"][:limit]
    spans = zip(read["offset_mapping"][: len(ids)], read["special_tokens_mask"], strict=False)
    plain = [(position, end) for position, ((start, end), special) in enumerate(spans) if not special and end > start]
    return ids, {end: position for position, end in plain[skip:]}


def passages(texts: Iterable[str], *, limit_chars: int = 2000) -> list[str]:
    """Cut texts into passages at white space, and leave out empty and repeated ones.

    Args:
        texts: Texts of any length.
        limit_chars: The longest passage, in characters.

    Raises:
        TransferError: No text has anything but white space.
    """
    legal = map(characters, texts)
    found = list(dict.fromkeys(piece for text in legal for piece in _pieces(text.strip(), limit_chars) if piece))
    if not found:
        raise TransferError(
            "the calibration text is empty",
            code="empty-text",
            hint="give text of the kind that the adapter is for; no labels are needed",
        )
    return found


def _pieces(text: str, limit: int) -> Iterable[str]:
    while len(text) > limit:
        cut = max(text.rfind(space, 0, limit + 1) for space in " \n\t")
        cut = cut if cut > 0 else limit
        yield text[:cut].strip()
        text = text[cut:].strip()
    yield text


def text_digest(pieces: Iterable[str]) -> Digest:
    """Return the digest of passages in their order; none can pass for two."""
    return Digest.of_bytes(b"".join(f"{len(data)}:".encode() + data for data in map(str.encode, pieces)))
