"""Conditions on the index of a block are told from which blocks hold a module."""

from __future__ import annotations

from typing import Any

import pytest

from ual_registry.tracing.layering import Pattern, layer_conditions


@pytest.mark.parametrize(
    ("layers", "values", "entries"),
    [
        ({0, 1, 2, 3, 4, 5}, {}, [{}]),
        ({1, 4}, {"kinds": ["a", "b", "a", "a", "b", "a"]}, [{"layers": [{"item_of": "kinds", "values": ["b"]}]}]),
        ({0, 3}, {"dense": [0, 3]}, [{"layers": [{"in": "dense"}]}]),
        ({1, 2, 4, 5}, {"dense": [0, 3]}, [{"layers": [{"not_in": "dense"}]}]),
        ({2, 3, 4, 5}, {"first": 2}, [{"layers": [{"from": "first"}]}]),
        ({0, 1}, {"first": 2}, [{"layers": [{"before": "first"}]}]),
        ({1, 3, 5}, {"step": 2}, [{"layers": [{"every": "step", "shift": 1}]}]),
        ({1, 5}, {"step": 2, "dense": [3]}, [{"layers": [{"not_in": "dense"}, {"every": "step", "shift": 1}]}]),
        ({0, 2}, {}, [{"layers": [{"before": 1}]}, {"layers": [{"from": 2, "before": 3}]}]),
    ],
)
def test_a_field_or_bounds_say_which_blocks_hold_a_module(
    layers: set[int], values: dict[str, Any], entries: list[dict[str, Any]]
) -> None:
    found = layer_conditions([Pattern(layers=frozenset(layers), count=6, values=values)])

    assert found == entries


def test_the_rest_is_said_where_only_it_can_be_said() -> None:
    pattern = Pattern(layers=frozenset({0, 2, 4, 5}), count=6, values={"step": 2, "last": 4})

    assert layer_conditions([pattern]) == [{"unless_layers": [{"before": "last"}, {"every": "step", "shift": 1}]}]


def test_a_condition_holds_in_every_model_that_was_seen() -> None:
    small = Pattern(layers=frozenset({1}), count=2, values={"first": 1, "other": 1})
    large = Pattern(layers=frozenset({3, 4}), count=5, values={"first": 3, "other": 2})

    assert layer_conditions([small, large]) == [{"layers": [{"from": "first"}]}]
