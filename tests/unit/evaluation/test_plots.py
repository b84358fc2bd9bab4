"""The picture of an evaluation: which panels it has, what they show, and that one evaluation gives one file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from ual_registry.errors import StorageError
from ual_registry.evaluation.carried import CarriedEnergy

pytest.importorskip("matplotlib")

from ual_registry.evaluation.bootstrap import Interval
from ual_registry.evaluation.plots import draw, figure
from ual_registry.evaluation.recovery import ArmGain, Label, MetricReport
from ual_registry.evaluation.report import Dose, DosePoint, Evaluation

_ARMS = {"base": 4.0, "adapter": 2.0, "adapter x 0.5": 2.5, "native": 1.0, "random-1": 4.1}
_DOSE = Dose(
    items=8,
    data_digest="sha256:00",
    metric="gold_nll",
    points=tuple(DosePoint(gamma=gamma, values={"gold_nll": 4.0 - gamma}) for gamma in (-1.0, 0.0, 0.5, 1.0)),
    chosen=0.5,
)
_CARRIED = CarriedEnergy(
    method="activations",
    layers=("0", "1", "2"),
    roles=("attention_value", "mlp_down"),
    shares=((0.5, math.nan, 1.0), (math.nan, math.nan, 0.0)),
)


def metric(name: str) -> MetricReport:
    """Return a metric on which every arm has an interval of 0.2 around its value."""
    arms = (
        ArmGain(arm=arm, value=spread(value), gain=spread(4.0 - value), recovered=None) for arm, value in _ARMS.items()
    )
    return MetricReport(metric=name, arms=tuple(arms), headroom_error=0.1, no_recovery_because=None)


def spread(value: float) -> Interval:
    return Interval(value=value, low=value - 0.1, high=value + 0.1)


@pytest.fixture
def found() -> Evaluation:
    return Evaluation(
        task="labels",
        items=20,
        data_digest="sha256:00",
        is_plain=False,
        seed=0,
        resamples=10,
        metrics=(metric("gold_nll"), metric("accuracy")),
        source=(),
        labels={"gold_nll": Label.PARTIAL},
        label=Label.PARTIAL,
        dosed_labels={},
        notes=(),
        dose=_DOSE,
        side_effects=None,
        identity_error=0.0,
    )


def test_there_is_a_panel_for_each_metric_one_for_the_doses_and_one_for_the_layers(found: Evaluation) -> None:
    drawn = figure(found, _CARRIED)
    assert [axes.get_xlabel() for axes in drawn.axes] == [
        "gold_nll, 95 % interval",
        "accuracy, 95 % interval",
        "dose (dev, 8 items; chosen 0.5)",
        "layer; share of what the source reads that its map explains (activations; grey: nothing)",
        "",  # the bar that says what the colours mean
    ]


def test_a_panel_shows_every_arm_once_the_base_first(found: Evaluation) -> None:
    axes = figure(found).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][::-1] == list(_ARMS)
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"][::-1] == list(_ARMS.values())


def test_the_heat_map_shows_every_share_and_leaves_out_what_got_nothing(found: Evaluation) -> None:
    axes = figure(found, _CARRIED).axes[3]
    (image,) = axes.images
    assert image.get_array().tolist() == [[0.5, None, 1.0], [None, None, 0.0]]
    assert image.get_clim() == (0.0, 1.0)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["attention_value", "mlp_down"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("method", "share"),
    [
        ("svd", "share of the update that can be carried back"),
        ("predictions", "share of the adapter's effect that was reached"),
    ],
)
def test_the_heat_map_says_what_its_method_measures(found: Evaluation, method: str, share: str) -> None:
    axes = figure(found, replace(_CARRIED, method=method)).axes[3]
    assert axes.get_xlabel() == f"layer; {share} ({method}; grey: nothing)"


def test_of_many_layers_only_some_are_named(found: Evaluation) -> None:
    many = replace(_CARRIED, layers=tuple(map(str, range(96))), roles=("mlp_down",), shares=((0.5,) * 96,))
    axes = figure(found, many).axes[3]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(map(str, range(0, 96, 3)))


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_same_evaluation_gives_the_same_file(found: Evaluation, tmp_path: Path, ending: str) -> None:
    paths = [tmp_path / f"{name}.{ending}" for name in ("one", "two")]
    for path in paths:
        draw(found, path, _CARRIED)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes()[:5] == {"svg": b"<?xml", "png": b"\x89PNG\r"}[ending]


def test_a_picture_that_cannot_be_written_is_refused_by_its_name(found: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        draw(found, tmp_path / "none" / "arms.svg")
    assert str(caught.value).splitlines()[0].startswith(f"cannot write {tmp_path / 'none' / 'arms.svg'}")
