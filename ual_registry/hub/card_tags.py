"""Tags that make an adapter findable on the Hub, and the way from a search to the filters of the Hub's listing.

Ours are ``lora``, ``peft``, ``air``, and ``air:FIELD:VALUE`` in lower case with the signs ``a-z 0-9 . _ -`` in the
value. The Hub takes tags with colons: it derives such itself, and PEFT writes ``base_model:adapter:ID`` into cards.

    air:base:VALUE           label of the base model, what follows a '/' there, its architecture, its model type
    air:architecture:VALUE   binder of the base model
    air:role:VALUE           some entry plays this role
    air:method:VALUE         lora, dora, and the projection that made the adapter
    air:rank:NUMBER          some entry has this rank
    air:domain:VALUE         the field that the adapter serves
    air:tag:VALUE            a free label of the manifest

The Hub's filters are joined by "and" and compare whole tags, so ``rank>=16`` is decided on the tags of its answer.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ual_registry.air.model import Manifest
from ual_registry.air.roles import ROLES
from ual_registry.hub.card_values import hub_base, hub_license

__all__ = ["TagFilters", "TagTerm", "card_tags", "is_own_tag", "tag_filters", "tag_value"]

_PLAIN = ("lora", "peft", "air")
_PREFIX = "air:"
_MAX_VALUE = 64
_MAX_FREE = 32
"""Free labels and ranks that become tags; a manifest can hold thousands."""

_NOT_IN_A_VALUE = re.compile(r"[^a-z0-9._]+")
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    ":": operator.eq,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def tag_value(text: str) -> str:
    """Return a text as the value of a tag; empty where nothing of it can stand in one.

    >>> tag_value("Medical Triage (DE)"), tag_value("mlp_gate"), tag_value("医")
    ('medical-triage-de', 'mlp_gate', '')
    """
    return _NOT_IN_A_VALUE.sub("-", text.lower())[:_MAX_VALUE].strip("-._")


def is_own_tag(tag: str) -> bool:
    """Tell whether a tag is one that a card of ours has, so that an update may take it away."""
    return tag in _PLAIN or tag.startswith(_PREFIX)


def card_tags(manifest: Manifest, *, has_peft: bool = True) -> tuple[str, ...]:
    """Return the tags of an adapter, each once.

    Args:
        manifest: What the adapter says about itself.
        has_peft: Whether the repository holds it in the format of PEFT, too.
    """
    plain = [tag for tag in _PLAIN if has_peft or tag != "peft"]
    found = (f"{_PREFIX}{field}:{value}" for field, value in _values(manifest) if value)
    return tuple(dict.fromkeys([*plain, *found]))


def _values(manifest: Manifest) -> Iterator[tuple[str, str]]:
    base = manifest.base_model
    for text in (base.id, base.id.rpartition("/")[2], base.architecture, base.model_type):
        yield "base", tag_value(text)
    yield "architecture", tag_value(base.architecture)
    held = {entry.role for entry in manifest.entries}
    yield from (("role", role) for role in ROLES if role in held)
    yield from (("method", tag_value(method)) for method in _methods(manifest))
    ranks = sorted({entry.rank for entry in manifest.entries})[-_MAX_FREE:]
    yield from (("rank", str(rank)) for rank in ranks)
    yield "domain", tag_value(manifest.domain or "")
    yield from (("tag", tag_value(tag)) for tag in manifest.tags[:_MAX_FREE])


def _methods(manifest: Manifest) -> Iterator[str]:
    yield manifest.method.type
    if manifest.method.dora:
        yield "dora"
    projections = [item for item in manifest.provenance if item.type == "projection"]
    yield from (str(item.parameters.get("method", "")) for item in projections[:_MAX_FREE])


@dataclass(frozen=True, slots=True, kw_only=True)
class TagTerm:
    """One term of a search, such as ``rank>=16``.

    Attributes:
        field: ``base``, ``architecture``, ``role``, ``method``, ``rank``, ``domain``, ``license``, or another.
        comparison: ``:``, ``>=``, ``<=``, ``>`` or ``<``.
        value: What it is compared with.
    """

    field: str
    comparison: str = ":"
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagFilters:
    """What the Hub can be asked for, and what is left to decide.

    Attributes:
        filters: Tags that every answer shall have, for ``list_models(filter=...)``.
        ranks: Terms about the rank, which ``accepts`` decides.
        undecided: Terms that only the adapter's header answers; the tags of an answer may say too little.
    """

    filters: tuple[str, ...]
    ranks: tuple[TagTerm, ...] = ()
    undecided: tuple[TagTerm, ...] = ()

    def accepts(self, tags: Iterable[str]) -> bool:
        """Tell whether a repository with these tags can be meant; its header has the last word."""
        found = {tag.lower() for tag in tags}
        ranks = [int(tag[9:]) for tag in found if re.fullmatch(r"air:rank:[0-9]{1,10}", tag)]
        return all(tag.lower() in found for tag in self.filters) and all(
            any(_COMPARISONS[term.comparison](rank, int(term.value)) for rank in ranks) for term in self.ranks
        )


def tag_filters(terms: Iterable[TagTerm]) -> TagFilters:
    """Turn the terms of a search, all of which must hold, into what the Hub can be asked for.

    >>> tag_filters([TagTerm(field="base", value="llama"), TagTerm(field="rank", comparison=">=", value="16")]).filters
    ('air', 'air:base:llama')
    """
    filters, ranks, undecided = ["air"], [], []
    for term in terms:
        tag = _filter(term)
        if tag:
            filters.append(tag)
        if term.field == "rank" and term.comparison in _COMPARISONS and re.fullmatch("[0-9]{1,10}", term.value):
            ranks.append(term)
        elif tag is None or tag == "license:other":
            undecided.append(term)
    return TagFilters(filters=tuple(dict.fromkeys(filters)), ranks=tuple(ranks), undecided=tuple(undecided))


def _filter(term: TagTerm) -> str | None:
    """Return the tag that a term asks for; ``None`` where there is none, or it would be a part of one."""
    if term.comparison != ":" or "*" in term.value:
        return None
    if term.field == "base" and "/" in term.value:
        return f"base_model:adapter:{term.value}" if hub_base(term.value) else None
    if term.field == "license":
        return f"license:{hub_license(term.value)}"
    if term.field in ("base", "architecture", "role", "method", "rank", "domain") and tag_value(term.value):
        return f"{_PREFIX}{term.field}:{tag_value(term.value)}"
    return None
