"""Tell whether token embedding and head share one parameter, and whether a field of the config says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ual_registry.tracing.build import Builder
from ual_registry.tracing.outer import OuterPlace

__all__ = ["find_ties"]

_FIELD = "tie_word_embeddings"


def find_ties(builder: Builder, document: Mapping[str, Any], places: Sequence[OuterPlace]) -> list[dict[str, Any]]:
    """Return the ``tied`` part of a binder document.

    Args:
        builder: Builds the models.
        document: The config document of a tiny model.
        places: The modules with a role outside the blocks.
    """
    if {place.role for place in places} != {"token_embedding", "lm_head"}:
        return []
    shares = {value: _shares(builder, {**document, _FIELD: value}, places) for value in (True, False)}
    roles = ["token_embedding", "lm_head"]
    if shares[True] and shares[False]:
        return [{"roles": roles}]
    return [{"roles": roles, "when": [{"field": _FIELD, "values": [True]}]}] if shares[True] else []


def _last(places: Sequence[OuterPlace]) -> dict[str, str]:
    """Return the last path of each role: those of the decoder."""
    return {place.role: place.path for place in places}


def _shares(builder: Builder, document: Mapping[str, Any], places: Sequence[OuterPlace]) -> bool:
    try:
        model, _ = builder.tiny(document)
        owners = [model.get_submodule(path).weight for path in _last(places).values()]
    except Exception:  # noqa: BLE001  # a class may refuse the setting
        return False
    return len({id(owner) for owner in owners}) == 1
