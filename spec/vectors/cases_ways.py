"""How a field is looked up and how a number is found: every case asks for the width of an MLP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spec.vectors.craft import Case
from spec.vectors.craft_binders import CONFIG, Json, own, own_of_type, own_with, resolve, slot

__all__ = ["way_cases"]

Row = tuple[str, str, list[Any], Json, int]


def way_cases() -> Iterator[Case]:
    """Yield every case of fields and numbers."""
    for name, description, ways, change, width in (*_PLAIN, *_COMPUTED, *_NESTED, *_CONDITIONAL):
        slots = {"b.0.up": [slot("mlp_up", 0, 4, width)]}
        yield resolve(f"way-{name}", description, own(intermediate_size=ways), {**CONFIG, **change}, slots)
    for name, description, dimensions, change in _REFUSED:
        yield resolve(f"way-refused-{name}", description, own(**dimensions), {**CONFIG, **change}, "binder-data")
    yield from _defaults()
    yield from _objects()
    yield from _dimensions()


_PLAIN: list[Row] = [
    ("field", "A field.", ["mlp"], {}, 6),
    ("number", "A number.", [7], {}, 7),
    ("second", "The second way, where the first is absent.", ["ffn", "mlp"], {}, 6),
    ("first-of-two", "The first way, where both are there.", ["ffn", "mlp"], {"ffn": 9}, 9),
    ("null", "A field that is null has no number.", ["ffn", "mlp"], {"ffn": None}, 6),
    ("text", "A field that is text has no number.", ["ffn", "mlp"], {"ffn": "9"}, 6),
    ("boolean", "A field that is true has no number.", ["ffn", "mlp"], {"ffn": True}, 6),
    ("list", "A field that is a list has no number.", ["ffn", "mlp"], {"ffn": [9]}, 6),
    ("zero", "A field that is 0 is passed over.", ["ffn", "mlp"], {"ffn": 0}, 6),
    ("negative", "A field below 0 is passed over.", ["ffn", "mlp"], {"ffn": -1}, 6),
    ("dotted", "A field inside an object.", ["text.mlp.width"], {"text": {"mlp": {"width": 11}}}, 11),
    ("dotted-broken", "What is no object on the way makes a field absent.", ["text.mlp", "mlp"], {"text": 3}, 6),
    ("dotted-list", "A list is no object on the way.", ["text.0", "mlp"], {"text": [3]}, 6),
    ("dotted-name", "A name that holds a dot cannot be reached.", ["text.mlp", "mlp"], {"text.mlp": 3}, 6),
    ("whole-fraction", "6.0 is a whole number.", ["mlp"], {"mlp": 6.0}, 6),
    ("largest", "The largest size.", ["mlp"], {"mlp": 2147483647}, 2147483647),
]

_COMPUTED: list[Row] = [
    ("quotient", "One field by another.", [{"quotient": ["mlp", "heads"]}], {}, 3),
    ("quotient-by-number", "A field by a number.", [{"quotient": ["mlp", 3]}], {}, 2),
    ("quotient-of-number", "A number by a field.", [{"quotient": [12, "mlp"]}], {}, 2),
    ("quotient-by-zero", "A quotient by 0 yields nothing.", [{"quotient": ["mlp", "none"]}, 5], {"none": 0}, 5),
    ("quotient-by-number-zero", "A quotient by the number 0 yields nothing.", [{"quotient": ["mlp", 0]}, 5], {}, 5),
    ("quotient-absent", "A quotient of an absent field yields nothing.", [{"quotient": ["ffn", 2]}, "mlp"], {}, 6),
    ("quotient-by-negative", "A quotient below 0 is passed over.", [{"quotient": ["mlp", -2]}, 5], {}, 5),
    ("quotient-of-negatives", "A quotient of two numbers below 0.", [{"quotient": ["debt", -2]}], {"debt": -6}, 3),
    ("product", "A field times a number.", [{"product": ["width", 4]}], {}, 16),
    ("product-of-fields", "A field times a field.", [{"product": ["width", "mlp"]}], {}, 24),
    ("product-absent", "A product with an absent field yields nothing.", [{"product": ["ffn", 4]}, "mlp"], {}, 6),
    ("product-of-boolean", "true is no operand.", [{"product": ["flag", 4]}, "mlp"], {"flag": True}, 6),
    ("product-by-zero", "A product that is 0 is passed over.", [{"product": ["mlp", 0]}, 5], {}, 5),
    (
        "product-of-fraction",
        "A product may be whole where a factor is not.",
        [{"product": ["ratio", 4]}],
        {"ratio": 2.5},
        10,
    ),
    ("sum", "A field and a number.", [{"sum": ["mlp", 3]}], {}, 9),
    ("sum-of-fields", "A field and a field.", [{"sum": ["mlp", "width"]}], {}, 10),
    ("sum-with-negative", "A field and a number below 0.", [{"sum": ["mlp", -2]}], {}, 4),
    ("sum-zero", "A sum that is 0 is passed over.", [{"sum": ["mlp", -6]}, 5], {}, 5),
    ("sum-below-zero", "A sum below 0 is passed over.", [{"sum": ["mlp", -7]}, 5], {}, 5),
    ("sum-absent", "A sum with an absent field yields nothing.", [{"sum": ["ffn", 4]}, "mlp"], {}, 6),
    (
        "sum-of-fractions",
        "A sum may be whole where its parts are not.",
        [{"sum": ["ratio", "ratio"]}],
        {"ratio": 2.5},
        5,
    ),
    ("item", "An item of a list.", [{"item": ["sizes", 1]}], {"sizes": [4, 9]}, 9),
    ("item-first", "Items are counted from 0.", [{"item": ["sizes", 0]}], {"sizes": [4, 9]}, 4),
    ("item-dotted", "A list inside an object.", [{"item": ["text.sizes", 0]}], {"text": {"sizes": [4]}}, 4),
    ("item-whole-fraction", "1.0 is an index, too.", [{"item": ["sizes", 1.0]}], {"sizes": [4, 9]}, 9),
    ("item-short", "A list that is too short yields nothing.", [{"item": ["sizes", 2]}, "mlp"], {"sizes": [4, 9]}, 6),
    ("item-absent", "A list that is absent yields nothing.", [{"item": ["sizes", 0]}, "mlp"], {}, 6),
    ("item-of-null", "null yields no item.", [{"item": ["sizes", 0]}, "mlp"], {"sizes": None}, 6),
    ("item-of-text", "A text is no list.", [{"item": ["sizes", 0]}, "mlp"], {"sizes": "9"}, 6),
    ("item-of-object", "An object is no list.", [{"item": ["sizes", 0]}, "mlp"], {"sizes": {"0": 9}}, 6),
    ("item-text", "An item that is text is no number.", [{"item": ["sizes", 0]}, "mlp"], {"sizes": ["9"]}, 6),
    ("item-null", "An item that is null is no number.", [{"item": ["sizes", 0]}, "mlp"], {"sizes": [None]}, 6),
    ("item-boolean", "An item that is true is no number.", [{"item": ["sizes", 0]}, "mlp"], {"sizes": [True]}, 6),
    ("item-zero", "An item that is 0 is passed over.", [{"item": ["sizes", 0]}, "mlp"], {"sizes": [0]}, 6),
]

_NESTED: list[Row] = [
    (
        "nested",
        "Ways inside ways.",
        [{"quotient": [{"product": ["width", 6]}, {"sum": ["heads", 1]}]}],
        {},
        8,
    ),
    ("nested-item", "An item as an operand.", [{"product": [{"item": ["sizes", 1]}, 2]}], {"sizes": [4, 9]}, 18),
    ("nested-field-zero", "An operand that is 0 is taken as it is.", [{"sum": ["none", 7]}], {"none": 0}, 7),
    ("nested-zero", "A way inside a way may yield 0.", [{"sum": [{"product": ["mlp", 0]}, 7]}], {}, 7),
    ("nested-negative", "A way inside a way may yield less.", [{"sum": [{"sum": ["heads", -5]}, 10]}], {}, 7),
    ("nested-fraction", "A way inside a way need not be whole.", [{"product": [{"quotient": ["mlp", 4]}, 2]}], {}, 3),
    ("nested-absent", "Nothing inside yields nothing.", [{"sum": [{"product": ["ffn", 2]}, 7]}, "mlp"], {}, 6),
    (
        "nested-by-zero",
        "A quotient by a way that yields 0 yields nothing.",
        [{"quotient": ["mlp", {"sum": ["heads", -2]}]}, 5],
        {},
        5,
    ),
    (
        "nested-short",
        "A short list inside yields nothing.",
        [{"sum": [{"item": ["sizes", 0]}, 7]}, 5],
        {"sizes": []},
        5,
    ),
    (
        "sum-beyond-double",
        "Sums of integers are exact: 2^53 + 1 - (2^53 - 1) is 2.",
        [{"sum": [{"sum": ["large", 2]}, -9007199254740991]}],
        {"large": 9007199254740991},
        2,
    ),
    (
        "product-beyond-double",
        "Products of integers are exact: 3 * 3002399751580331 is 2^53 + 1.",
        [{"sum": [{"product": ["third", 3]}, -9007199254740991]}],
        {"third": 3002399751580331},
        2,
    ),
]


def _power(way: Any, count: int) -> Any:
    """Return a way that yields far more than a double can hold."""
    return {"product": [_power(way, count - 1), 9007199254740991]} if count else way


def _when(values: list[Any], way: Any, field: str = "act") -> Json:
    return {"when": [{"field": field, "values": values}, way]}


_CONDITIONAL: list[Row] = [
    ("when-holds", "A way whose condition holds.", [_when(["gelu"], "ffn"), "mlp"], {"act": "gelu", "ffn": 9}, 9),
    ("when-fails", "A way whose condition fails.", [_when(["gelu"], "ffn"), "mlp"], {"act": "silu", "ffn": 9}, 6),
    ("when-absent", "A condition on an absent field takes it as null.", [_when([None], 8), "mlp"], {}, 8),
    ("when-yields-nothing", "A condition that holds for nothing.", [_when(["a"], "ffn"), "mlp"], {"act": "a"}, 6),
    ("when-number", "A number under a condition.", [_when([True], 1), "mlp"], {"act": True}, 1),
    ("when-zero", "0 under a condition is passed over.", [_when([True], 0), "mlp"], {"act": True}, 6),
    ("when-one-is-not-true", "1 does not equal true.", [_when([True], 8), "mlp"], {"act": 1}, 6),
    (
        "when-nested",
        "A condition inside a sum, and a way inside the condition.",
        [{"sum": ["mlp", _when([True], {"product": ["heads", 2]})]}],
        {"act": True},
        10,
    ),
    ("when-nested-fails", "A condition that fails inside a sum.", [{"sum": ["mlp", _when([True], 2)]}, 5], {}, 5),
    ("when-twice", "A condition inside a condition.", [_when(["a"], _when([2], 8, "b"))], {"act": "a", "b": 2.0}, 8),
    ("when-twice-fails", "An inner condition that fails.", [_when(["a"], _when([2], 8, "b")), 5], {"act": "a"}, 5),
]

_REFUSED: list[tuple[str, str, Json, Json]] = [
    ("none", "No way yields a number.", {"intermediate_size": ["ffn", "dim"]}, {}),
    ("none-positive", "No way yields a number above 0.", {}, {"mlp": 0}),
    ("fraction", "A size that is not whole.", {}, {"mlp": 6.5}),
    ("fraction-first", "What is not whole is not passed over.", {"intermediate_size": ["ffn", "mlp"]}, {"ffn": 6.5}),
    ("quotient-fraction", "A quotient not whole.", {"head_dim": [{"quotient": ["width", "heads"]}]}, {"heads": 3}),
    (
        "quotient-rounded",
        "A quotient is rounded to a double: 1 / 49 * 49 is not whole.",
        {"intermediate_size": [{"product": [{"quotient": ["one", 49]}, 49]}, "mlp"]},
        {"one": 1},
    ),
    (
        "product-rounded",
        "A product of a fraction is rounded to a double: 0.1 * 3 * 10 is not whole.",
        {"intermediate_size": [{"product": [{"product": ["tenth", 3]}, 10]}, "mlp"]},
        {"tenth": 0.1},
    ),
    ("too-large", "A size over the limit.", {}, {"mlp": 2147483648}),
    (
        "too-large-first",
        "What is too large is not passed over.",
        {"intermediate_size": ["ffn", 6]},
        {"ffn": 2147483648},
    ),
    ("beyond-double", "A product beyond a double.", {"intermediate_size": [{"product": ["a", "a"]}, 6]}, {"a": 1e200}),
    (
        "quotient-beyond-double",
        "A quotient of what is beyond a double.",
        {"intermediate_size": [{"quotient": [_power("mlp", 24), 1]}, 6]},
        {},
    ),
    (
        "sum-beyond-double",
        "What is beyond a double, and a fraction.",
        {"intermediate_size": [{"sum": [_power("mlp", 24), "half"]}, 6]},
        {"half": 0.5},
    ),
    ("too-many-layers", "More than 10000 layers.", {}, {"depth": 10001}),
    ("too-many-experts", "More than 10000 experts.", {"num_experts": ["n"]}, {"n": 10001}),
    ("half-a-layer", "A number of layers that is not whole.", {}, {"depth": 1.5}),
    ("large-vocabulary", "A vocabulary over the limit.", {}, {"vocab": 2147483648}),
    ("no-vocabulary", "A vocabulary that cannot be found.", {}, {"vocab": None}),
    ("unused-dimension", "A dimension that no module needs must be there all the same.", {}, {"heads": None}),
    ("no-hidden-size", "A hidden size that cannot be found.", {"hidden_size": ["dim"]}, {}),
    ("no-num-layers", "A number of layers that cannot be found.", {"num_layers": ["layers"]}, {}),
    ("no-num-attention-heads", "Heads that cannot be found.", {"num_attention_heads": ["h"]}, {}),
    ("no-num-key-value-heads", "Key and value heads that cannot be found.", {"num_key_value_heads": ["h"]}, {}),
    ("no-head-dim", "The width of a head that cannot be found.", {"head_dim": ["d"]}, {}),
    ("optional-fraction", "An optional dimension that is not whole.", {"value_head_dim": ["d"]}, {"d": 1.5}),
    ("optional-too-large", "An optional dimension over the limit.", {"layer_repeats": ["n"]}, {"n": 2147483648}),
]


def _defaults() -> Iterator[Case]:
    rows: list[tuple[str, str, Json, list[Any], Json, int]] = [
        ("absent", "A field that is absent has its default.", {"ffn": 9}, ["ffn", "mlp"], {}, 9),
        ("present", "A field that is there has no default.", {"ffn": 9}, ["ffn", "mlp"], {"ffn": 7}, 7),
        ("null", "A field that is null is not absent.", {"ffn": 9}, ["ffn", "mlp"], {"ffn": None}, 6),
        ("text", "A field without a number is not absent.", {"ffn": 9}, ["ffn", "mlp"], {"ffn": "x"}, 6),
        ("is-null", "A default may be null.", {"ffn": None}, ["ffn", "mlp"], {}, 6),
        ("is-text", "A default that is text has no number.", {"ffn": "auto"}, ["ffn", "mlp"], {}, 6),
        ("is-zero", "A default of 0 is passed over.", {"ffn": 0}, ["ffn", "mlp"], {}, 6),
        ("dotted", "A default has the name of its field.", {"text.ffn": 9}, ["text.ffn"], {"text": {}}, 9),
        ("dotted-present", "A field in an object is there.", {"text.ffn": 9}, ["text.ffn"], {"text": {"ffn": 7}}, 7),
        ("dotted-broken", "No object on the way: the default.", {"text.ffn": 9}, ["text.ffn"], {"text": 3}, 9),
        ("dotted-null", "null on the way: the default.", {"text.ffn": 9}, ["text.ffn"], {"text": None}, 9),
        ("object", "A default is not looked into.", {"text": {"ffn": 9}}, ["text.ffn", "mlp"], {}, 6),
        ("list", "A default that is a list.", {"sizes": [4, 9]}, [{"item": ["sizes", 1]}], {}, 9),
        ("operand", "A default as an operand.", {"expand": 2}, [{"product": ["expand", "width"]}], {}, 8),
        ("condition", "A default in a condition.", {"act": "a"}, [_when(["a"], 8), "mlp"], {}, 8),
        ("condition-null", "null in a condition has no default.", {"act": "a"}, [_when(["a"], 8), 5], {"act": None}, 5),
    ]
    for name, description, defaults, ways, change, width in rows:
        binder = own_of_type(own(intermediate_size=ways), defaults=defaults)
        slots = {"b.0.up": [slot("mlp_up", 0, 4, width)]}
        yield resolve(f"default-{name}", description, binder, {**CONFIG, **change}, slots)
    binder = own_of_type(own(intermediate_size=["ffn"]), defaults={"ffn": 9})
    config = {**CONFIG, "model_type": "own2"}
    yield resolve("default-of-other-type", "A default is of one model type.", binder, config, "binder-data")


def _objects() -> Iterator[Case]:
    inner = {name: value for name, value in CONFIG.items() if name != "model_type"}
    defaults = {**inner, "mlp": 8}
    rows: list[tuple[str, str, str, Json, Json, int]] = [
        ("named", "Every field is looked up in the object.", "text", {}, {"text": inner, "mlp": 99}, 6),
        ("dotted", "An object inside an object.", "model.text", {}, {"model": {"text": inner}}, 6),
        ("default", "A default for a field of the object.", "text", {"mlp": 8}, {"text": {**inner, "mlp": 7}}, 7),
        ("absent", "Without the object every field is absent.", "text", defaults, {**inner}, 8),
        ("null", "null is no object.", "text", defaults, {"text": None}, 8),
        ("text", "A text is no object.", "text", defaults, {"text": "mlp"}, 8),
        ("list", "A list is no object.", "text", defaults, {"text": [inner]}, 8),
        ("empty", "An object without fields.", "text", defaults, {"text": {}}, 8),
    ]
    for name, description, place, values, change, width in rows:
        binder = own_of_type(own(), config=place, **({"defaults": values} if values else {}))
        slots = {"b.0.up": [slot("mlp_up", 0, 4, width)]}
        yield resolve(f"object-{name}", description, binder, {"model_type": "own", **change}, slots)
    binder = own_of_type(own(), config="text")
    yield resolve("object-refused", "Without the object no field is found.", binder, CONFIG, "binder-data")
    nested: Json = {"model_type": "own", "text": {**inner, "model_type": "inner", "act": "a"}, "act": "b"}
    typed = [{"field": "model_type", "values": ["own"]}, {"field": "act", "values": ["a"]}]
    binder = own_of_type(own_with({"path": "up", "roles": ["mlp_up"], "when": typed}), config="text")
    slots = {"b.0.up": [slot("mlp_up", 0, 4, 6)]}
    yield resolve("object-model-type", "model_type alone is that of the whole config.", binder, nested, slots)
    binder = own_of_type(own(), config="text", classes={"": ["OwnModel"], "m.": ["Other"]})
    classed = {**nested, "architectures": ["Other"], "text": {**nested["text"], "architectures": ["OwnModel"]}}
    slots = {"m.b.0.up": [slot("mlp_up", 0, 4, 6)], "b.0.up": None}
    yield resolve("object-classes", "architectures are those of the whole config.", binder, classed, slots)


def _dimensions() -> Iterator[Case]:
    """Dimensions that may be absent, that a stack does not name, or that take the place of another."""
    value, output = {"path": "v", "roles": ["attention_value"]}, {"path": "o", "roles": ["attention_output"]}
    for name, description, change, width in (
        ("there", "Value heads of a width of their own.", {"d": 3}, 3),
        ("absent", "An optional dimension that is absent.", {}, 2),
        ("zero", "An optional dimension that is 0 is absent.", {"d": 0}, 2),
        ("null", "An optional dimension that is null is absent.", {"d": None}, 2),
    ):
        slots = {
            "b.0.v": [slot("attention_value", 0, 4, 2 * width)],
            "b.0.o": [slot("attention_output", 0, 2 * width, 4)],
        }
        binder = own_with(value, output, value_head_dim=["d"])
        yield resolve(f"dimension-{name}", description, binder, {**CONFIG, **change}, slots)
    bare: Json = own_with({"path": "gate", "roles": ["shared_mlp_router"]})
    bare["stacks"][0]["dimensions"] = {"hidden_size": ["width"], "num_layers": ["depth"]}
    slots = {"b.0.gate": [slot("shared_mlp_router", 0, 4, 1)]}
    yield resolve("dimension-few", "A stack names the dimensions that its roles need.", bare, CONFIG, slots)
    state = {"path": "s", "roles": ["state_space_input"]}
    yield resolve("dimension-missing", "A role whose dimension no stack names.", own_with(state), CONFIG, "binder-data")
    found = own_with(state, {"path": "up", "roles": ["mlp_up"]}, state_size=["n"])
    yield resolve("dimension-not-found", "A role whose dimension is not found.", found, CONFIG, "binder-data")
    up = {"path": "up", "roles": ["mlp_up"]}
    slots = {"b.0.up": [slot("mlp_up", 0, 4, 6)], "b.0.s": None}
    for name, lack in (
        ("when", {"when": [{"field": "ssm", "values": [True]}]}),
        ("layers", {"layers": [{"in": "ssm"}]}),
    ):
        description = "A dimension is not needed where no module with the role exists."
        yield resolve(f"dimension-unneeded-{name}", description, own_with(up, {**state, **lack}), CONFIG, slots)
    latent = {"path": "k", "roles": ["latent_key_up"]}
    for name, width in (("all", 2), ("more", 3)):
        binder = own_with(latent, key_value_latent_size=[3], rotary_head_dim=[width])
        description = "A head of which nothing is left that is not rotated."
        yield resolve(f"dimension-rotated-{name}", description, binder, CONFIG, "binder-data")
    outer = own()
    outer["outer"] = [
        {"path": "emb", "role": "token_embedding", "within": "model"},
        {"path": "head", "role": "lm_head", "within": "model"},
    ]
    outer["stacks"][0]["dimensions"]["embedding_size"] = ["narrow"]
    for name, description, change, width in (
        ("there", "An embedding narrower than the stream.", {"narrow": 3}, 3),
        ("absent", "An embedding as wide as the stream.", {}, 4),
    ):
        slots = {"emb": [slot("token_embedding", None, 5, width)], "head": [slot("lm_head", None, width, 5)]}
        yield resolve(f"dimension-embedding-{name}", description, outer, {**CONFIG, **change}, slots)
    slots = {"b.9999.up": [slot("mlp_up", 9999, 4, 6)], "b.10000.up": None}
    yield resolve("way-most-layers", "As many layers as there may be.", own(), {**CONFIG, "depth": 10000}, slots)
    rotary = {**own(), "rotary": {"style": "half", "fraction": ["share"]}}
    slots = {"b.0.up": [slot("mlp_up", 0, 4, 6)]}
    yield resolve("rotary-unasked", "The rotated fraction is not found without need.", rotary, CONFIG, slots)
    rotary["rotary"]["when"] = [{"field": "alibi", "values": [False, None]}]
    yield resolve(
        "rotary-when", "Conditions of the rotary style change no slot.", rotary, {**CONFIG, "alibi": 1}, slots
    )
