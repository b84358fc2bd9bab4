"""The rule of auto carried out: what is tried, what is compared, what is kept, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from ual_registry.errors import NumericalError, TrainingError, TransferError
from ual_registry.transfers.choose import Material, choose
from ual_registry.transfers.rungs import Needs
from ual_registry.workflows import transfer_auto
from ual_registry.workflows.transfer_auto import run_auto


@dataclass
class Clock:
    """A job whose time passes when a method runs.

    Attributes:
        material: What is at hand.
        costs: Seconds of each method.
        tried: The methods that were run, in order.
        starts: What each training started from, and its budget.
    """

    material: Material
    costs: Mapping[str, float] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    starts: list[tuple[Any, float]] = field(default_factory=list)
    spent_s: float = 0.0

    def __post_init__(self) -> None:
        self.choice = choose(self.material)
        text = None if Needs.TEXT in self.material.lacking else "text.txt"
        self.order = SimpleNamespace(budget_s=self.material.budget_s, calibration=text)

    def say(self, _: str) -> None:
        """Say nothing."""


@dataclass
class Judge:
    """Knows the loss of what each method makes."""

    losses: Mapping[str, float]
    can_compare: bool = True
    too_few: str = "7 items are too few"

    @property
    def halves(self) -> tuple[Any, Any]:
        return SimpleNamespace(items=range(10)), None

    @property
    def task(self) -> Any:
        return SimpleNamespace(loss="gold_nll")

    def loss(self, adapter: str) -> float:
        return self.losses[adapter]


Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(job: Clock, judge: Judge | None = None, *, refusals: Mapping[str, Exception] | None = None) -> Any:
        wrong = refusals or {}

        def make(_: Any, method: str) -> Any:
            job.tried.append(method)
            job.spent_s += job.costs.get(method, 1.0)
            if method in wrong:
                raise wrong[method]
            return SimpleNamespace(adapter=method)

        def train(_: Any, *, warm: Any, budget_s: float) -> Any:
            job.starts.append((warm, budget_s))
            return make(_, "distill")

        monkeypatch.setattr(transfer_auto, "run_rung", make)
        monkeypatch.setattr(transfer_auto, "run_distillation", train)
        return run_auto(job, judge)  # type: ignore[arg-type]

    return call


def standings(found: Any) -> dict[str, str]:
    return {step.method: str(step.standing) for step in found.choice.steps}


def test_what_reads_no_text_does_not_stand_in_for_what_broke(run: Run) -> None:
    broken = {name: NumericalError(f"{name} is not finite") for name in ("predictions", "residual", "activations")}
    job = Clock(Material())
    with pytest.raises(NumericalError, match="predictions is not finite"):
        run(job, refusals=broken)
    assert job.tried == ["predictions", "residual", "activations"]


def test_a_tokenizer_that_cannot_read_the_text_is_told_in_place_of_a_control(run: Run) -> None:
    mute = {
        name: TransferError("tells no places", code="no-tokenizer")
        for name in ("predictions", "residual", "activations")
    }
    with pytest.raises(TransferError, match="tells no places"):
        run(Clock(Material()), refusals=mute)


def test_what_broke_does_not_stand_in_the_way_of_what_was_made(run: Run) -> None:
    job = Clock(Material())
    judge = Judge({"residual": 1.0, "activations": 2.0, "vocab": 3.0})
    found = run(job, judge, refusals={"predictions": NumericalError("predictions is not finite")})
    assert (job.tried[-1], found.choice.method) == ("vocab", "residual")


def test_an_adapter_that_is_right_as_it_is_is_not_trained_unseen(run: Run) -> None:
    job = Clock(Material(budget_s=100.0, is_same_shape=True))
    found = run(job)
    assert (job.tried, found.choice.method, standings(found)["distill"]) == (["copy"], "copy", "untried")
    assert found.choice.reason("distill") == "copy keeps the adapter as it is, and there are no items to compare by"


@pytest.mark.parametrize(("is_own", "taken"), [(False, "distill"), (True, "copy")])
def test_within_one_lineage_training_is_compared_and_on_the_own_base_left_out(
    run: Run, is_own: bool, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_auto, "is_own_base", lambda _: is_own)
    losses = {"copy": 1.0, "predictions": 2.0, "residual": 2.0, "activations": 2.0, "vocab": 3.0, "distill": 0.5}
    found = run(Clock(Material(budget_s=1000.0, is_same_shape=True)), Judge(losses))
    assert found.choice.method == taken


def test_without_items_the_first_method_that_does_is_taken(run: Run) -> None:
    job = Clock(Material())
    found = run(job, refusals={"predictions": TransferError("no shared tokens")})
    assert (job.tried, found.choice.method, found.is_measured) == (["predictions", "residual"], "residual", False)
    assert standings(found) == {
        "distill": "lacking",
        "copy": "lacking",
        "predictions": "refused",
        "residual": "taken",
        "activations": "untried",
        "vocab": "untried",
        "svd": "untried",
    }
    assert found.choice.reason("predictions") == "no shared tokens"


def test_with_items_all_are_tried_and_the_best_is_taken(run: Run) -> None:
    job = Clock(Material())
    losses = {"predictions": 1.5, "residual": 1.25, "activations": 2.0, "vocab": 3.0}
    found = run(job, Judge(losses))
    assert job.tried == ["predictions", "residual", "activations", "vocab"]
    assert (found.choice.method, found.made.adapter, found.is_measured) == ("residual", "residual", True)
    assert found.choice.reason("residual").endswith("; gold_nll 1.25 on the 10 items that choose")
    assert standings(found)["predictions"] == "beaten"
    assert found.choice.reason("svd") == "predictions does better than a control"


def test_a_single_method_that_does_is_not_compared_so_that_all_items_are_left(run: Run) -> None:
    job = Clock(Material(lacking={Needs.TEXT: "no text"}))
    found = run(job, Judge({}))
    assert (job.tried, found.choice.method, found.is_measured) == (["vocab"], "vocab", False)


def test_too_few_items_do_not_compare(run: Run) -> None:
    job = Clock(Material())
    found = run(job, Judge({}, can_compare=False))
    assert (found.choice.method, job.tried, found.is_measured) == ("predictions", ["predictions"], False)
    assert found.choice.reason("residual") == "predictions comes first, and 7 items are too few"


def test_a_budget_ends_the_trying_of_methods(run: Run) -> None:
    job = Clock(Material(budget_s=20.0), costs={"predictions": 8.0, "residual": 9.0})
    found = run(job, Judge({"predictions": 1.0, "residual": 2.0}))
    assert job.tried == ["predictions", "residual"]
    assert found.choice.reason("activations") == "its share of the budget is spent (17 s so far)"


def test_training_starts_from_what_was_made_of_text_with_a_fixed_share_of_the_budget(run: Run) -> None:
    job = Clock(Material(budget_s=100.0))
    found = run(job)
    assert (job.tried, job.starts) == (["predictions", "distill"], [("predictions", 75.0)])
    assert (found.choice.method, standings(found)["predictions"]) == ("distill", "beaten")
    assert found.choice.reason("predictions").endswith("; distill started from it")


def test_training_without_text_begins_with_its_own_start(run: Run) -> None:
    job = Clock(Material(budget_s=100.0, lacking={Needs.TEXT: "no text"}))
    found = run(job)
    assert (job.starts, found.choice.method) == ([(None, 75.0)], "distill")


@pytest.mark.parametrize(("loss", "taken"), [(0.5, "distill"), (1.5, "predictions")])
def test_with_items_training_must_be_better_too(run: Run, loss: float, taken: str) -> None:
    job = Clock(Material(budget_s=1000.0))
    losses = {"predictions": 1.0, "residual": 1.25, "activations": 2.0, "vocab": 3.0, "distill": loss}
    found = run(job, Judge(losses))
    assert (found.choice.method, job.starts) == (taken, [("predictions", 750.0)])


def test_training_that_fails_leaves_what_was_made(run: Run) -> None:
    job = Clock(Material(budget_s=100.0))
    found = run(job, refusals={"distill": TrainingError("too few texts")})
    assert (found.choice.method, standings(found)["distill"]) == ("predictions", "refused")


def test_training_is_left_out_where_too_little_of_the_budget_is_left(run: Run) -> None:
    job = Clock(Material(budget_s=100.0), costs={"predictions": 90.0})
    found = run(job)
    assert (found.choice.method, job.starts) == ("predictions", [])
    assert found.choice.reason("distill") == "10 s of the budget are left, less than 20 s"


def test_where_every_method_refuses_the_first_refusal_is_told(run: Run) -> None:
    job = Clock(Material(lacking={Needs.TEXT: "no text"}))
    refusals = {"vocab": TransferError("no anchors"), "svd": TransferError("nothing fits")}
    with pytest.raises(TransferError, match="no anchors"):
        run(job, refusals=refusals)


def test_what_no_method_can_make_good_ends_the_trying(run: Run) -> None:
    job = Clock(Material())
    with pytest.raises(TransferError, match="idle"):
        run(job, refusals={"predictions": TransferError("idle", code="no-effect")})
    assert job.tried == ["predictions"]


class Strict(Judge):
    """Cannot run what some methods make."""

    def loss(self, adapter: str) -> float:
        if adapter not in self.losses:
            raise NumericalError(f"gold_nll of {adapter}: not finite for the item 3")
        return self.losses[adapter]


def test_what_cannot_be_measured_gives_way_to_the_others(run: Run) -> None:
    found = run(Clock(Material()), Strict({"residual": 2.0, "vocab": 3.0}))
    assert (found.choice.method, found.is_measured) == ("residual", True)
    assert standings(found) == {
        "distill": "lacking",
        "copy": "lacking",
        "predictions": "refused",
        "residual": "taken",
        "activations": "refused",
        "vocab": "beaten",
        "svd": "untried",
    }
    assert found.choice.reason("predictions") == "gold_nll of predictions: not finite for the item 3"


def test_where_nothing_can_be_measured_the_last_refusal_is_told(run: Run) -> None:
    with pytest.raises(NumericalError) as caught:
        run(Clock(Material()), Strict({}))
    assert caught.value.message == "gold_nll of vocab: not finite for the item 3"


def test_a_method_that_cannot_generate_text_gives_way_to_the_next(run: Run) -> None:
    job = Clock(Material())
    found = run(job, refusals={"predictions": TrainingError("knows no character offsets", code="slow-tokenizer")})
    assert (job.tried, found.choice.method) == (["predictions", "residual"], "residual")


@pytest.mark.parametrize("code", ["bad-option", "unloadable", "too-little-text"])
def test_what_the_user_must_mend_ends_the_trying(run: Run, code: str) -> None:
    job = Clock(Material())
    with pytest.raises(TransferError, match="not so"):
        run(job, refusals={"predictions": TransferError("not so", code=code)})
    assert job.tried == ["predictions"]


def test_a_control_stands_in_where_the_two_models_do_not_fit(run: Run) -> None:
    job = Clock(Material(lacking={Needs.TEXT: "no text"}))
    found = run(job, refusals={"vocab": TransferError("no token in common", code="no-shared-tokens")})
    assert (found.choice.method, standings(found)["vocab"]) == ("svd", "refused")


def test_a_control_does_not_stand_in_for_what_broke(run: Run) -> None:
    job = Clock(Material(lacking={Needs.TEXT: "no text"}))
    with pytest.raises(NumericalError, match="weights hold NaN"):
        run(job, refusals={"vocab": NumericalError("weights hold NaN")})
    assert job.tried == ["vocab"]
