"""The rule of ``auto``: which methods can be tried with what is at hand, in which order, and why not the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ual_registry.errors import TransferError
from ual_registry.transfers.choose import Choice, Material, Standing, Step, choose, needed_s
from ual_registry.transfers.rungs import RUNGS, Needs, rung_of

NOTHING = {
    Needs.WEIGHTS: "no weights",
    Needs.TOKENIZERS: "no tokenizer",
    Needs.TEXT: "no text",
    Needs.TIME: "no peft",
}


def without(*needs: Needs, **changes: object) -> Material:
    return replace(Material(lacking={need: NOTHING[need] for need in needs}), **changes)  # type: ignore[arg-type]


def test_with_two_configs_alone_a_control_is_left_and_every_step_says_why() -> None:
    choice = choose(without(*Needs))
    assert choice.method == "svd"
    assert choice.document() == [
        {"method": "distill", "standing": "lacking", "reason": "no weights"},
        {"method": "copy", "standing": "lacking", "reason": "no weights"},
        {"method": "predictions", "standing": "lacking", "reason": "no weights"},
        {"method": "residual", "standing": "lacking", "reason": "no weights"},
        {"method": "activations", "standing": "lacking", "reason": "no weights"},
        {"method": "vocab", "standing": "lacking", "reason": "no weights"},
        {
            "method": "svd",
            "standing": "possible",
            "reason": "two configs are enough for it; carries nothing between unrelated bases",
        },
    ]
    assert RUNGS[choice.method].label == "control-grade"


@pytest.mark.parametrize(
    ("material", "candidates", "distils"),
    [
        (without(Needs.TEXT), ("vocab", "svd"), False),
        (without(Needs.TEXT, is_same_shape=True), ("copy", "vocab", "svd"), False),
        (without(Needs.TEXT, Needs.TOKENIZERS, is_same_shape=True), ("copy", "svd"), False),
        (without(), ("predictions", "residual", "activations", "vocab", "svd"), False),
        (without(budget_s=600.0), ("predictions", "residual", "activations", "vocab", "svd"), True),
        (without(Needs.TEXT, budget_s=600.0), ("vocab", "svd"), True),
        (without(Needs.TIME, budget_s=600.0), ("predictions", "residual", "activations", "vocab", "svd"), False),
        (
            without(budget_s=600.0, weights_bytes=8 << 30),
            ("predictions", "residual", "activations", "vocab", "svd"),
            False,
        ),
    ],
)
def test_what_is_at_hand_decides_what_is_tried(material: Material, candidates: tuple[str, ...], distils: bool) -> None:
    choice = choose(material)
    assert (choice.candidates, choice.distils) == (candidates, distils)
    assert choice.method == ("distill" if distils else candidates[0])


@pytest.mark.parametrize(
    ("material", "reason"),
    [
        (Material(), "no budget: give --budget, for these base models 27 s or more"),
        (Material(budget_s=5.0), "a budget of 5 s is less than 27 s"),
        (Material(budget_s=60.0), "a budget of 60 s is enough (27 s or more); carries most of all"),
    ],
)
def test_a_budget_decides_whether_the_target_is_trained(material: Material, reason: str) -> None:
    assert choose(material).reason("distill") == reason


def test_larger_base_models_need_more_time() -> None:
    assert [needed_s(0), needed_s(1 << 30)] == [20.0, 420.0]


def test_what_became_of_a_method_takes_the_place_of_what_was_expected() -> None:
    choice = choose(Material(is_same_shape=True))
    noted = choice.noted("copy", Standing.REFUSED, "not of one lineage").noted("vocab", Standing.TAKEN, "it did")
    assert noted.candidates == ("predictions", "residual", "activations", "svd")
    assert noted.method == "vocab"
    assert noted.steps[1] == Step(method="copy", standing=Standing.REFUSED, reason="not of one lineage")
    assert [step.method for step in noted.steps] == [step.method for step in choice.steps]
    assert isinstance(noted, Choice)


def test_a_method_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(TransferError) as caught:
        rung_of("magic")
    known = "svd, truncate, interpolate, copy, subspace, vocab, activations, residual, predictions, distill, auto"
    assert (caught.value.message, caught.value.problem_code) == (
        f"method 'magic': expected one of {known}",
        "unknown-method",
    )


def test_every_rung_has_its_runner_and_every_method_its_rung() -> None:
    from ual_registry.projection.methods import METHODS
    from ual_registry.workflows.transfer_rungs import RUNNERS

    assert list(RUNNERS) == list(RUNGS)
    assert set(RUNGS) == {*METHODS, "distill"}
    assert {name for name, rung in RUNGS.items() if rung.is_control} == {"svd", "truncate", "interpolate"}
