"""The record of an adapter's effect: what it says, when two are the same, and what is none."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import base_model, small_adapter
from ual_registry.air.adapter import Adapter
from ual_registry.air.canonical import parse_json
from ual_registry.air.effect import EFFECT_KEY, Effect, LogitChange, effect_of, with_effect
from ual_registry.air.read import read
from ual_registry.air.write import write
from ual_registry.errors import FormatError

CONFIG, WEIGHTS = "sha256:" + "1" * 64, "sha256:" + "2" * 64
EFFECT = Effect(
    config_digest=CONFIG,
    weights_digest=WEIGHTS,
    dtype="float32",
    token_ids=(3, 1, 4),
    changes=(LogitChange(token=4, base=1.0, change=-2.5), LogitChange(token=0, base=-3.0, change=0.5)),
)
DOCUMENT = {
    "config_digest": CONFIG,
    "weights_digest": WEIGHTS,
    "dtype": "float32",
    "token_ids": [3, 1, 4],
    "changes": [{"token": 4, "base": 1.0, "change": -2.5}, {"token": 0, "base": -3.0, "change": 0.5}],
}


def test_an_effect_is_stored_and_read_again(tmp_path: Path) -> None:
    made = small_adapter()
    assert effect_of(made.manifest) is None
    manifest = with_effect(replace(made.manifest, annotations={"org.example.note": 1}), EFFECT)
    write(Adapter(manifest, made.tensors), tmp_path / "own.air")
    with read(tmp_path / "own.air") as adapter:
        assert effect_of(adapter.manifest) == EFFECT
        assert EFFECT.document() == DOCUMENT
        bare = with_effect(adapter.manifest, None)
    assert (dict(bare.annotations), effect_of(bare)) == ({"org.example.note": 1}, None)


def test_the_example_of_the_specification_is_an_effect() -> None:
    page = (Path(__file__).resolve().parents[3] / "spec" / "effect.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text air-effect\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (document,) = parse_json(block.encode(), what="block").values()
    effect = effect_of(replace(small_adapter().manifest, annotations={EFFECT_KEY: document}))
    assert effect is not None
    assert effect.document() == document


@pytest.mark.parametrize(
    ("config", "weights", "expected"),
    [(CONFIG, WEIGHTS, True), (CONFIG, None, True), (CONFIG, CONFIG, False), (WEIGHTS, WEIGHTS, False)],
)
def test_an_effect_is_of_a_base_model_that_has_its_digests(config: str, weights: str | None, expected: bool) -> None:
    assert EFFECT.is_of(base_model(config_digest=config, weights_digest=weights)) is expected


@pytest.mark.parametrize(
    ("recorded", "now", "tolerance"),
    [
        ("float32", "float32", 0.0125 + 0.0035),
        ("float64", "float32", 0.0125 + 0.0035),
        ("float32", "float16", 0.125 + 0.07),
        ("bfloat16", "float32", 0.125 + 0.175),
        ("float32", "int8", 0.125 + 0.175),
    ],
)
def test_what_two_measurements_may_differ_by_follows_from_the_coarser_dtype(
    recorded: str, now: str, tolerance: float
) -> None:
    effect = replace(EFFECT, dtype=recorded)
    assert effect.tolerance(now) == pytest.approx(tolerance)
    assert effect.can_be_told(now) is True
    faint = replace(effect, changes=(LogitChange(token=4, base=50.0, change=0.05),))
    assert faint.can_be_told(now) is False


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in DOCUMENT.items() if key != name}


def _first(**changes: Any) -> dict[str, Any]:
    first, second = DOCUMENT["changes"]
    return {**DOCUMENT, "changes": [{**first, **changes}, second]}  # type: ignore[dict-item]


_PARTS = "expected config_digest, dtype, token_ids, changes and perhaps weights_digest"
_ORDER = "changes: expected each token once, the largest change first, and that not zero"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], _PARTS),
        (_without("dtype"), _PARTS),
        ({**DOCUMENT, "more": 1}, _PARTS),
        ({**DOCUMENT, "token_ids": []}, "token_ids: expected 1 to 16 token ids"),
        ({**DOCUMENT, "token_ids": [1] * 17}, "token_ids: expected 1 to 16 token ids"),
        ({**DOCUMENT, "token_ids": [1.5]}, "token_ids: expected 1 to 16 token ids"),
        ({**DOCUMENT, "token_ids": [True]}, "token_ids: expected 1 to 16 token ids"),
        ({**DOCUMENT, "dtype": "int8"}, "dtype: expected one of float64, float32, float16, bfloat16"),
        ({**DOCUMENT, "dtype": ["float32"]}, "dtype: expected one of float64, float32, float16, bfloat16"),
        ({**DOCUMENT, "config_digest": "md5"}, "expected digests of config and weights"),
        ({**DOCUMENT, "weights_digest": None}, "expected digests of config and weights"),
        ({**DOCUMENT, "changes": []}, "changes: expected 1 to 8 of them"),
        ({**DOCUMENT, "changes": [1]}, "changes: expected token, base and change"),
        (_first(token=-1), "changes: expected the id of a token and two numbers"),
        (_first(base="1"), "changes: expected the id of a token and two numbers"),
        (_first(token=0), _ORDER),
        (_first(change=0.1), _ORDER),
        ({**DOCUMENT, "changes": [{"token": 1, "base": 1.0, "change": 0}]}, _ORDER),
    ],
)
def test_what_is_no_effect_is_told(document: Any, problem: str) -> None:
    with pytest.raises(FormatError) as caught:
        effect_of(replace(small_adapter().manifest, annotations={EFFECT_KEY: document}))
    assert (caught.value.message, caught.value.problem_code) == (f"annotation {EFFECT_KEY}: {problem}", "effect")
