"""Report cards in words, those of other programs among them, whose settings may be anything."""

from __future__ import annotations

from typing import Any

import pytest

from ual_registry.air.model import Statement
from ual_registry.cli.report_card import card_lines

RESULT = {"arm": "base", "metric": "accuracy", "value": 0.5, "n": 12, "data_digest": "sha256:ab"}
TABLE = ["  on 12 items of sha256:ab", "    arm    accuracy", "    base   0.5"]


def card(settings: Any) -> list[str]:
    return list(
        card_lines(
            Statement(
                type="evaluation",
                builder={"name": "other", "version": "1"},
                parameters={} if settings is None else {"settings": settings},
                materials=(),
                byproducts={"results": (RESULT,)},
            )
        )
    )


@pytest.mark.parametrize(
    "settings",
    [
        None,
        "fast",
        ("a", "b"),
        {},
        {"labels": 3, "notes": "one", "dose": 2},
        {"dose": {"points": ()}, "notes": {}},
        {"dose": {"points": (1, 2)}},
    ],
    ids=str,
)
def test_settings_of_another_form_are_passed_over(settings: Any) -> None:
    assert card(settings) == TABLE


def test_what_was_asked_stands_first_and_dose_and_notes_behind() -> None:
    points = ({"gamma": 0, "gold_nll": 2.5}, {"gamma": "all", "gold_nll": 1.25})
    found = card(
        {
            "task": "labels",
            "prompts": "plain",
            "labels": {"accuracy": "none"},
            "notes": ("few items",),
            "dose": {"points": points, "metric": "gold_nll", "chosen": 1},
        }
    )
    assert found == [
        "  task labels, plain prompts, accuracy none",
        *TABLE,
        "    dose    gold_nll",
        "    0       2.5",
        "            1.25",
        "    chosen on dev by gold_nll: 1",
        "  note: few items",
    ]
