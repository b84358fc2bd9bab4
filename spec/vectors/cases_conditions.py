"""Conditions on the config and on the index of a block: where a module exists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spec.vectors.craft import Case
from spec.vectors.craft_binders import CONFIG, Json, own, own_of_type, own_with, resolve, slot

__all__ = ["condition_cases"]


def condition_cases() -> Iterator[Case]:
    """Yield every case of conditions."""
    for name, description, properties, change, exists in (*_whens(), *_unlesses(), *_EQUAL):
        binder = own_with({"path": "up", "roles": ["mlp_up"], **properties})
        slots = {"b.0.up": [slot("mlp_up", 0, 4, 6)] if exists else None}
        yield resolve(f"condition-{name}", description, binder, {**CONFIG, **change}, slots)
    yield from _outer()
    yield from _known()
    for name, description, properties, change, layers in (*_LISTS, *_ITEMS, *_BOUNDS, *_PERIODS, *_SEVERAL):
        yield _on_blocks(f"block-{name}", description, properties, change, layers)
    for name, description, condition, change in _BAD:
        for key in ("layers", "unless_layers"):
            binder = own_with({"path": "up", "roles": ["mlp_up"], key: [condition]})
            yield resolve(
                f"block-refused-{name}-{key.replace('_', '-')}",
                description,
                binder,
                {**CONFIG, **change},
                "binder-data",
            )
    yield from _unseen()


def _is(field: str, *values: Any) -> Json:
    return {"field": field, "values": list(values)}


Row = tuple[str, str, Json, Json, bool]


def _whens() -> list[Row]:
    one = [_is("act", "gelu")]
    two = [_is("gated", True), _is("act", "gelu", "silu")]
    return [
        ("when-holds", "A module exists where its condition holds.", {"when": two[1:]}, {"act": "silu"}, True),
        ("when-fails", "A module does not exist where its condition fails.", {"when": one}, {"act": "silu"}, False),
        ("when-absent", "A field that is absent is none of the values.", {"when": one}, {}, False),
        ("when-null", "A field that is absent counts as null.", {"when": [_is("act", None)]}, {}, True),
        ("when-is-null", "A field that is null.", {"when": [_is("act", None)]}, {"act": None}, True),
        ("when-dotted", "A field inside an object.", {"when": [_is("text.act", "a")]}, {"text": {"act": "a"}}, True),
        ("when-dotted-broken", "No object on the way counts as null.", {"when": [_is("a.b", None)]}, {"a": 3}, True),
        ("when-all", "Every condition holds.", {"when": two}, {"gated": True, "act": "gelu"}, True),
        ("when-one-of-two", "One of the conditions fails.", {"when": two}, {"gated": False, "act": "gelu"}, False),
        ("when-none-of-two", "Both conditions fail.", {"when": two}, {}, False),
        ("when-model-type", "The model type is a field, too.", {"when": [_is("model_type", "own")]}, {}, True),
    ]


def _unlesses() -> list[Row]:
    one = [_is("act", "silu")]
    two = [_is("gated", True), _is("act", "silu")]
    both = {"when": [_is("gated", True)], "unless": one}
    return [
        ("unless-holds", "A module does not exist where its exception holds.", {"unless": one}, {"act": "silu"}, False),
        ("unless-fails", "A module exists where its exception fails.", {"unless": one}, {"act": "gelu"}, True),
        ("unless-absent", "An exception on an absent field does not hold.", {"unless": one}, {}, True),
        ("unless-all", "All of an exception holds.", {"unless": two}, {"gated": True, "act": "silu"}, False),
        ("unless-one-of-two", "A part of an exception is none.", {"unless": two}, {"gated": True}, True),
        ("unless-null", "An exception on null.", {"unless": [_is("act", None)]}, {}, False),
        ("both", "when holds, and unless does not.", both, {"gated": True, "act": "gelu"}, True),
        ("both-excepted", "The exception wins.", both, {"gated": True, "act": "silu"}, False),
        ("both-fail", "Neither when nor unless holds.", both, {"gated": False, "act": "gelu"}, False),
    ]


_EQUAL: list[Row] = [
    ("when-number", "Numbers are equal by value.", {"when": [_is("act", 2)]}, {"act": 2.0}, True),
    ("when-text-of-number", "A text is not a number.", {"when": [_is("act", 2)]}, {"act": "2"}, False),
    ("when-case", "Texts are compared exactly.", {"when": [_is("act", "gelu")]}, {"act": "GELU"}, False),
    ("when-true-is-not-one", "true is not 1.", {"when": [_is("act", 1)]}, {"act": True}, False),
    ("when-one-is-not-true", "1 is not true.", {"when": [_is("act", True)]}, {"act": 1}, False),
    ("when-false-is-not-zero", "false is not 0.", {"when": [_is("act", 0)]}, {"act": False}, False),
    ("when-zero-is-not-null", "0 is not null.", {"when": [_is("act", None)]}, {"act": 0}, False),
    ("when-empty-is-not-null", "An empty text is not null.", {"when": [_is("act", None)]}, {"act": ""}, False),
    ("when-list", "Lists are equal item by item.", {"when": [_is("act", [1, "a"])]}, {"act": [1.0, "a"]}, True),
    ("when-list-order", "The order of items matters.", {"when": [_is("act", [1, 2])]}, {"act": [2, 1]}, False),
    ("when-list-of-one", "A list is not its item.", {"when": [_is("act", "a")]}, {"act": ["a"]}, False),
    (
        "when-object",
        "The order of names does not matter.",
        {"when": [_is("act", {"a": 1, "b": [True]})]},
        {"act": {"b": [True], "a": 1}},
        True,
    ),
    (
        "when-object-more",
        "An object with one more name.",
        {"when": [_is("act", {"a": 1})]},
        {"act": {"a": 1, "b": 2}},
        False,
    ),
    (
        "when-object-deep",
        "true is not 1 inside, either.",
        {"when": [_is("act", {"a": 1})]},
        {"act": {"a": True}},
        False,
    ),
]


def _outer() -> Iterator[Case]:
    binder = own()
    head = {"path": "head", "role": "lm_head", "within": "model"}
    binder["outer"] = [{**head, "when": [_is("lm", True)], "unless": [_is("tied", True), _is("act", "a")]}]
    rows: list[tuple[str, str, Json, bool]] = [
        ("holds", "An outer module whose conditions hold.", {"lm": True, "tied": True}, True),
        ("fails", "An outer module whose condition fails.", {}, False),
        ("excepted", "An outer module whose exception holds.", {"lm": True, "tied": True, "act": "a"}, False),
    ]
    for name, description, change, exists in rows:
        slots = {"head": [slot("lm_head", None, 4, 5)] if exists else None}
        yield resolve(f"condition-outer-{name}", description, binder, {**CONFIG, **change}, slots)


def _known() -> Iterator[Case]:
    rows: list[tuple[str, str, Json, Json, Json, bool]] = [
        ("holds", "A value that is known.", {"form": ["a", "b"]}, {}, {"form": "b"}, True),
        ("other", "A value that is not known.", {"form": ["a", "b"]}, {}, {"form": "c"}, False),
        ("absent", "An absent field counts as null.", {"form": ["a"]}, {}, {}, False),
        ("absent-null", "null that is known.", {"form": ["a", None]}, {}, {}, True),
        ("default", "A default is a value.", {"form": ["a"]}, {"form": "a"}, {}, True),
        ("default-null", "null has no default.", {"form": ["a"]}, {"form": "a"}, {"form": None}, False),
        ("number", "Numbers are equal by value.", {"form": [1]}, {}, {"form": 1.0}, True),
        ("true", "true is not 1.", {"form": [1]}, {}, {"form": True}, False),
        ("dotted", "A field inside an object.", {"a.b": [1]}, {}, {"a": {"b": 1}}, True),
        (
            "one-of-two",
            "Every field has a known value.",
            {"form": ["a"], "kind": [1]},
            {},
            {"form": "a", "kind": 2},
            False,
        ),
    ]
    for name, description, known, defaults, change, is_known in rows:
        binder = own_of_type({**own(), "known_values": known}, **({"defaults": defaults} if defaults else {}))
        expected: Any = {"b.0.up": [slot("mlp_up", 0, 4, 6)]} if is_known else "binder-data"
        yield resolve(f"known-{name}", description, binder, {**CONFIG, **change}, expected)


def _on_blocks(name: str, description: str, properties: Json, change: Json, layers: set[int]) -> Case:
    """Return a case on a module of a model of four blocks, which exists in ``layers``."""
    binder = own_with({"path": "up", "roles": ["mlp_up"], **properties})
    slots = {f"b.{layer}.up": [slot("mlp_up", layer, 4, 6)] if layer in layers else None for layer in range(5)}
    return resolve(name, description, binder, {**CONFIG, "depth": 4, **change}, slots)


BlockRow = tuple[str, str, Json, Json, set[int]]


def _in(field: str = "list") -> Json:
    return {"layers": [{"in": field}]}


def _not_in(field: str = "list") -> Json:
    return {"layers": [{"not_in": field}]}


_ALL = {0, 1, 2, 3}

_LISTS: list[BlockRow] = [
    ("in", "Blocks that a list holds.", _in(), {"list": [1, 3]}, {1, 3}),
    ("in-whole-fraction", "1.0 is an index, too.", _in(), {"list": [1.0]}, {1}),
    ("in-absent", "A list that is absent is empty.", _in(), {}, set()),
    ("in-null", "null is an empty list.", _in(), {"list": None}, set()),
    ("in-empty", "An empty list.", _in(), {"list": []}, set()),
    ("in-odd-indices", "Indices beyond the blocks, unsorted and twice.", _in(), {"list": [9, 2, -1, 0, 2]}, {0, 2}),
    ("in-dotted", "A list inside an object.", _in("a.list"), {"a": {"list": [1]}}, {1}),
    ("not-in", "Blocks that a list does not hold.", _not_in(), {"list": [1, 3]}, {0, 2}),
    ("not-in-absent", "No list holds no block.", _not_in(), {}, _ALL),
    ("not-in-null", "null holds no block.", _not_in(), {"list": None}, _ALL),
    (
        "unless-in",
        "An exception in blocks that a list holds.",
        {"unless_layers": [{"in": "list"}]},
        {"list": [1]},
        {0, 2, 3},
    ),
    ("unless-not-in", "An exception in all other blocks.", {"unless_layers": [{"not_in": "list"}]}, {"list": [1]}, {1}),
]


def _item_of(*values: Any, key: str = "layers") -> Json:
    return {key: [{"item_of": "kinds", "values": list(values)}]}


_ITEMS: list[BlockRow] = [
    ("item", "The kind of each block.", _item_of("s"), {"kinds": ["s", "d", "s", "d"]}, {0, 2}),
    ("item-two-values", "One of two kinds.", _item_of("s", "t"), {"kinds": ["s", "d", "t", "d"]}, {0, 2}),
    ("item-short", "A list that is too short goes on with null.", _item_of("s"), {"kinds": ["d", "s"]}, {1}),
    ("item-short-null", "null is the kind beyond the end.", _item_of(None), {"kinds": ["d", "s"]}, {2, 3}),
    ("item-long", "A list that is too long.", _item_of("s"), {"kinds": ["d", "d", "d", "s", "s"]}, {3}),
    ("item-absent", "No list.", _item_of("s"), {}, set()),
    ("item-absent-null", "Without a list, every kind is null.", _item_of(None), {}, _ALL),
    ("item-of-null", "null is no list.", _item_of(None), {"kinds": None}, _ALL),
    ("item-of-text", "A text is no list.", _item_of("s"), {"kinds": "ssss"}, set()),
    ("item-of-number", "A number is no list.", _item_of(None), {"kinds": 4}, _ALL),
    ("item-of-object", "An object is no list.", _item_of("s"), {"kinds": {"0": "s"}}, set()),
    ("item-number", "Numbers are equal by value.", _item_of(1), {"kinds": [1.0, True, "1", 1]}, {0, 3}),
    ("item-boolean", "true alone equals true.", _item_of(True), {"kinds": [1, True, "true", None]}, {1}),
    ("unless-item", "An exception by kind.", _item_of("s", key="unless_layers"), {"kinds": ["s", "d"]}, {1, 2, 3}),
]


def _bounds(**bounds: Any) -> Json:
    return {"layers": [bounds]}


def _from(way: Any, **bounds: Any) -> Json:
    return _bounds(**{"from": way}, **bounds)


_SQUARE = {"product": ["a", "a"]}

_BOUNDS: list[BlockRow] = [
    ("from", "From a block on.", _from("first"), {"first": 2}, {2, 3}),
    ("from-number", "From a number on.", _from(1), {}, {1, 2, 3}),
    ("from-zero", "From 0 on.", _from("first"), {"first": 0}, _ALL),
    ("from-negative", "From below 0 on.", _from("first"), {"first": -2}, _ALL),
    ("from-fraction", "From between two blocks on.", _from("first"), {"first": 1.5}, {2, 3}),
    ("from-last", "From beyond the last block.", _from("first"), {"first": 4}, set()),
    ("from-absent", "From nothing.", _from("first"), {}, _ALL),
    ("from-null", "From null.", _from("first"), {"first": None}, _ALL),
    ("from-text", "From a text, which is no number.", _from("first"), {"first": "2"}, _ALL),
    ("from-boolean", "From true, which is no number.", _from("first"), {"first": True}, _ALL),
    ("from-computed", "From a sum on.", _from({"sum": ["first", -1]}), {"first": 3}, {2, 3}),
    ("from-when", "From a way whose condition fails.", _from({"when": [_is("act", "a"), 2]}), {}, _ALL),
    ("from-no-number", "From what is no number.", _from({"quotient": [_SQUARE, _SQUARE]}), {"a": 1e200}, _ALL),
    ("before", "Before a block.", _bounds(before="end"), {"end": 2}, {0, 1}),
    ("before-zero", "Before 0.", _bounds(before="end"), {"end": 0}, set()),
    ("before-negative", "Before what is below 0.", _bounds(before="end"), {"end": -1}, set()),
    ("before-fraction", "Before what is between two blocks.", _bounds(before="end"), {"end": 1.5}, {0, 1}),
    ("before-beyond", "Before what is beyond the last block.", _bounds(before="end"), {"end": 9}, _ALL),
    ("before-absent", "Before nothing.", _bounds(before="end"), {}, _ALL),
    ("before-null", "Before null.", _bounds(before="end"), {"end": None}, _ALL),
    ("from-before", "Between two blocks.", _from("first", before="end"), {"first": 1, "end": 3}, {1, 2}),
    ("from-before-same", "From where it ends.", _from("first", before="end"), {"first": 2, "end": 2}, set()),
    ("from-before-reversed", "From after where it ends.", _from("first", before="end"), {"first": 3, "end": 1}, set()),
    ("from-before-half", "One bound that is absent.", _from("first", before="end"), {"end": 1}, {0}),
    ("unless-from", "An exception from a block on.", {"unless_layers": [{"from": "first"}]}, {"first": 1}, {0}),
    ("unless-from-zero", "An exception in every block.", {"unless_layers": [{"from": "first"}]}, {"first": 0}, set()),
    ("unless-from-absent", "An exception without a bound.", {"unless_layers": [{"from": "first"}]}, {}, set()),
]


def _every(way: Any, **shift: int) -> Json:
    return {"layers": [{"every": way, **shift}]}


_PERIODS: list[BlockRow] = [
    ("every", "Every second block.", _every("step"), {"step": 2}, {0, 2}),
    ("every-one", "Every block.", _every("step"), {"step": 1}, _ALL),
    ("every-number", "Every third block, by a number.", _every(3), {}, {0, 3}),
    ("every-shifted", "The last of each two.", _every("step", shift=1), {"step": 2}, {1, 3}),
    ("every-shifted-far", "A shift beyond the period.", _every("step", shift=7), {"step": 3}, {2}),
    ("every-shift-zero", "A shift of 0.", _every("step", shift=0), {"step": 2}, {0, 2}),
    ("every-long", "A period longer than the model.", _every("step"), {"step": 9}, {0}),
    ("every-whole-fraction", "2.0 is a whole number.", _every("step"), {"step": 2.0}, {0, 2}),
    ("every-computed", "A period that is computed.", _every({"quotient": ["step", 2]}), {"step": 4}, {0, 2}),
    ("unless-every", "An exception in every second block.", {"unless_layers": [{"every": 2, "shift": 1}]}, {}, {0, 2}),
]

_SEVERAL: list[BlockRow] = [
    ("two", "Every condition holds.", {"layers": [{"not_in": "list"}, {"every": 2}]}, {"list": [2]}, {0}),
    (
        "unless-two",
        "All of an exception holds.",
        {"unless_layers": [{"not_in": "list"}, {"every": 2}]},
        {"list": [2]},
        {1, 2, 3},
    ),
    (
        "both",
        "Conditions and exceptions.",
        {"layers": [{"from": 1}], "unless_layers": [{"in": "list"}]},
        {"list": [0, 2]},
        {1, 3},
    ),
    (
        "with-when",
        "A block of a module that exists.",
        {"when": [_is("act", "a")], "layers": [{"from": 2}]},
        {"act": "a"},
        {2, 3},
    ),
    (
        "with-when-fails",
        "No block of a module that does not.",
        {"when": [_is("act", "a")], "layers": [{"from": 2}]},
        {},
        set(),
    ),
]

_BAD: list[tuple[str, str, Json, Json]] = [
    ("in-text", "A text is no list of integers.", {"in": "list"}, {"list": "01"}),
    ("in-number", "A number is no list of integers.", {"in": "list"}, {"list": 1}),
    ("in-boolean", "true is no list of integers.", {"in": "list"}, {"list": True}),
    ("in-object", "An object is no list of integers.", {"in": "list"}, {"list": {"0": 1}}),
    ("in-list-of-text", "A list of texts is no list of integers.", {"in": "list"}, {"list": [0, "1"]}),
    ("in-list-of-boolean", "true is no integer.", {"in": "list"}, {"list": [True]}),
    ("in-list-of-null", "null is no integer.", {"in": "list"}, {"list": [None]}),
    ("in-list-of-fraction", "A fraction is no integer.", {"in": "list"}, {"list": [1.5]}),
    ("in-list-of-list", "A list is no integer.", {"in": "list"}, {"list": [[0]]}),
    ("not-in-text", "A text is no list of integers.", {"not_in": "list"}, {"list": "01"}),
    ("not-in-list-of-boolean", "false is no integer.", {"not_in": "list"}, {"list": [False]}),
    ("every-absent", "A period that is not there.", {"every": "step"}, {}),
    ("every-null", "A period that is null.", {"every": "step"}, {"step": None}),
    ("every-zero", "A period of 0.", {"every": "step"}, {"step": 0}),
    ("every-negative", "A period below 0.", {"every": "step"}, {"step": -2}),
    ("every-fraction", "A period that is not whole.", {"every": "step"}, {"step": 1.5}),
    ("every-text", "A period that is text.", {"every": "step"}, {"step": "2"}),
]


def _unseen() -> Iterator[Case]:
    """Conditions on a block are looked at for every module that exists, and for no other."""
    up, odd = {"path": "up", "roles": ["mlp_up"]}, {"path": "gate", "roles": ["mlp_gate"], "layers": [{"in": "list"}]}
    config = {**CONFIG, "list": "01"}
    description = "A condition is looked at whatever module is asked for."
    yield resolve("block-refused-other-module", description, own_with(up, odd), config, "binder-data")
    two = {**odd, "layers": [{"from": 1}, {"in": "list"}]}
    description = "A condition is looked at where another one fails."
    yield resolve("block-refused-after-failing", description, own_with(up, two), config, "binder-data")
    slots = {"b.0.up": [slot("mlp_up", 0, 4, 6)], "b.0.gate": None}
    description = "A condition is not looked at where the module does not exist."
    absent = {**odd, "when": [_is("gated", True)]}
    yield resolve("block-unseen-when", description, own_with(up, absent), config, slots)
    excepted = {**odd, "unless": [_is("gated", None)]}
    yield resolve("block-unseen-unless", description, own_with(up, excepted), config, slots)
