"""Ways are found by their numbers."""

from __future__ import annotations

from ual_registry.tracing.fields import candidates, evaluate, fields_of, flatten, replaced


def test_a_config_is_flattened_without_what_gives_no_size() -> None:
    document = {"a": 1, "text_config": {"b": [2], "pad_token_id": 0}, "_name": 1, "max_position_embeddings": 9, 3: {}}

    assert flatten(document) == {"a": 1, "text_config.b": [2]}


def test_every_simple_way_to_a_number_is_a_candidate() -> None:
    assert list(candidates(6, {"a": 6, "b": 12, "c": 2})) == [
        (0, "a"),
        (1, {"quotient": ["b", "c"]}),
        (2, {"quotient": ["b", 2]}),
        (2, {"product": ["c", 3]}),
    ]
    assert list(candidates(8, {"a": 2, "b": 4})) == [
        (2, {"product": ["a", "b"]}),
        (2, {"product": ["a", 4]}),
        (2, {"product": ["b", 2]}),
    ]


def test_a_way_is_evaluated_on_flattened_values() -> None:
    way = {"quotient": [{"sum": ["a", "b"]}, 2]}

    assert evaluate(way, {"a": 3, "b": 5}) == 4
    assert evaluate(way, {"a": 3}) is None
    assert list(fields_of(way)) == ["a", "b"]


def test_a_field_is_replaced_below_objects_without_changing_the_document() -> None:
    document = {"text_config": {"a": 1, "b": 2}}

    assert replaced(document, "text_config.a", 3) == {"text_config": {"a": 3, "b": 2}}
    assert document == {"text_config": {"a": 1, "b": 2}}
