"""Which adapters are plain LoRA: two factors and one number for each module, and nothing beside them.

Only that can be said in every engine. What an adapter holds beyond it is named here, all of it at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from ual_registry.air.model import Extra, Manifest
from ual_registry.errors import ForeignFormatError

__all__ = ["base_copies", "require_plain"]

_PREFIX = "base_model.model."
_COPY = ".base_layer.weight"
_TOKENS = ".trainable_tokens_delta"
_SHOWN = 4


def require_plain(manifest: Manifest, *, target: str) -> None:
    """Make sure that an adapter is plain LoRA.

    Args:
        manifest: What the adapter says about itself.
        target: What it is wanted for, as a noun phrase.

    Raises:
        ForeignFormatError: It holds more; every offending field is named, in the words of PEFT's configuration.
    """
    found = list(_offences(manifest))
    if found:
        raise ForeignFormatError(
            f"{target} has plain LoRA only, and the adapter has more: {'; '.join(found)}",
            code="not-plain-lora",
            context={"fields": [text.partition(" ")[0] for text in found]},
            hint="merge it into its base model: 'ual convert REF DIR --to merged --base BASE'",
        )


def base_copies(manifest: Manifest) -> tuple[str, ...]:
    """Return the tensors without a role that PEFT stores as copies of the base model's own embeddings."""
    return tuple(extra.name for extra in manifest.extra if _is_copy(extra))


def _offences(manifest: Manifest) -> Iterator[str]:
    entries = manifest.entries
    held = (
        ("use_dora", [entry.label for entry in entries if entry.magnitude]),
        ("lora_bias", [entry.label for entry in entries if entry.bias]),
        ("bias", [extra.name for extra in manifest.extra if extra.name.endswith(".bias")]),
        ("trainable_token_indices", [extra.name for extra in manifest.extra if extra.name.endswith(_TOKENS)]),
        ("modules_to_save", [extra.name for extra in manifest.extra if _is_saved(extra)]),
        ("vocabulary", [entry.label for entry in entries if _is_resized(entry.role, entry, manifest)]),
    )
    for field, names in held:
        if names:
            yield f"{field} ({_listed([name.removeprefix(_PREFIX) for name in names])})"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _is_copy(extra: Extra) -> bool:
    return extra.name.endswith(_COPY)


def _is_saved(extra: Extra) -> bool:
    return not _is_copy(extra) and not extra.name.endswith((".bias", _TOKENS))


def _is_resized(role: str, entry: object, manifest: Manifest) -> bool:
    rows = {"token_embedding": "in_features", "lm_head": "out_features"}.get(role)
    return rows is not None and getattr(entry, rows) != manifest.base_model.vocab_size
