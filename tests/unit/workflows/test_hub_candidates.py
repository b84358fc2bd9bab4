"""Which lists the Hub is asked for, and in which order what they hold is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ual_registry.hub.model import ListedModel
from ual_registry.registry.query import parse_query
from ual_registry.workflows.hub_candidates import MOST_LISTED, Candidates, find_candidates


@dataclass
class Listing:
    """A Hub that lists repositories by their tags and names, and notes what it was asked."""

    models: dict[str, tuple[str, ...]]
    asked: list[tuple[tuple[str, ...], str | None, str | None]] = field(default_factory=list)

    def list_models(
        self, *, filters: Sequence[str], author: str | None, search: str | None, limit: int
    ) -> Iterator[ListedModel]:
        self.asked.append((tuple(filters), author, search))
        found = [name for name, tags in self.models.items() if set(filters) <= set(tags) and (search or "") in name]
        return (ListedModel(repository=name, tags=self.models[name]) for name in found[:limit])


MODELS = {
    "a/x": ("peft",),
    "b/medical-llama": ("peft", "base_model:adapter:meta/llama"),
    "c/own": ("air", "peft", "air:rank:8", "air:base:llama"),
    "d/own": ("air", "air:rank:16", "air:rank:32", "air:base:llama"),
    "e/old": ("air", "air:base:llama"),
}


def candidates(query: str, **options: Any) -> tuple[list[tuple[tuple[str, ...], str | None, str | None]], list[str]]:
    hub = Listing(MODELS)
    found = find_candidates(hub, parse_query(query), **options)  # type: ignore[arg-type]  # what it needs of a Hub
    assert found.is_complete
    return hub.asked, [item.repository for item in found.repositories]


@pytest.mark.parametrize(
    ("query", "asked", "found"),
    [
        ("", [(("air",), None), (("peft",), None)], ["c/own", "d/own", "e/old", "a/x", "b/medical-llama"]),
        ("rank>=16", [(("air",), None), (("peft",), None)], ["d/own", "e/old", "a/x", "b/medical-llama"]),
        ("rank:9..31", [(("air",), None), (("peft",), None)], ["d/own", "e/old", "a/x", "b/medical-llama"]),
        ("NOT rank>=16 role:mlp_up,mlp_gate", [(("air",), None), (("peft",), None)], [
            "c/own", "d/own", "e/old", "a/x", "b/medical-llama",
        ]),
        (
            "base:llama",
            [(("air", "air:base:llama"), None), (("peft",), "llama"), (("peft",), None)],
            ["c/own", "d/own", "e/old", "b/medical-llama", "a/x"],
        ),
        (
            "base:meta/llama",
            [
                (("air", "base_model:adapter:meta/llama"), None),
                (("peft", "base_model:adapter:meta/llama"), None),
            ],
            ["b/medical-llama"],
        ),
        ("domain:medical", [(("air", "air:domain:medical"), None)], []),
        ("medical rank:8", [(("air", "air:rank:8"), None), (("peft",), "medical")], ["c/own", "b/medical-llama"]),
        ("medical OR x", [(("air",), None), (("peft",), None)], ["c/own", "d/own", "e/old", "a/x", "b/medical-llama"]),
    ],
)  # fmt: skip
def test_tags_and_names_narrow_and_the_likely_come_first(
    query: str, asked: list[tuple[tuple[str, ...], str | None]], found: list[str]
) -> None:
    assert candidates(query, author="org") == ([(tags, "org", search) for tags, search in asked], found)


@pytest.mark.parametrize(("limit", "count"), [(1, MOST_LISTED), (MOST_LISTED + 5, MOST_LISTED + 5)])
def test_a_long_list_is_not_read_to_its_end(limit: int, count: int) -> None:
    hub = Listing({f"a/{number}": ("air",) for number in range(MOST_LISTED + 10)})
    found: Candidates = find_candidates(hub, parse_query(""), limit=limit)  # type: ignore[arg-type]  # as above
    assert (len(found.repositories), found.is_complete) == (count, False)
