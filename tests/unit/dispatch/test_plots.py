"""What the pictures of routers hold: every number is that of what was measured, and none is missing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.axes import Axes  # once it is known to be there

from ual_registry.dispatch.measure import RouterEvaluation
from ual_registry.dispatch.overlap import Overlap, OverlapPair
from ual_registry.dispatch.plots import (
    draw_evaluation,
    draw_overlap,
    evaluation_figure,
    overlap_figure,
)
from ual_registry.errors import StorageError

NAMES = ("banking", "cooking", "travel")
SHARES = ((0.0, 0.25, 0.004), (0.02, 0.0, 0.0), (0.06, 0.0, 0.0))
CONFUSION = ((18, 1, 1), (0, 4, 0), (3, 0, 7))
CURVE = ((0.05, 0.0), (0.5, 0.02), (1.0, 0.15))


def overlap(names: tuple[str, ...] = NAMES, shares: Any = SHARES, *, share: float = 0.135) -> Overlap:
    pair = OverlapPair(first=names[0], second=names[1], share=share, examples=()) if len(names) > 1 else None
    return Overlap(names=names, shares=tuple(map(tuple, shares)), pairs=() if pair is None else (pair,))


def evaluation(names: tuple[str, ...] = NAMES, confusion: Any = CONFUSION, **changes: Any) -> RouterEvaluation:
    given: dict[str, Any] = {
        "queries": 34,
        "accuracy": 29 / 34,
        "macro_f1": 0.8,
        "calibration_error": 0.02,
        "kept": 0.94,
        "kept_precision": 0.99,
        "out_of_scope": 0,
        "refused": None,
        "auroc": None,
        "refused_at_95_kept": None,
        "risk_coverage": CURVE,
        "confusion": tuple(map(tuple, confusion)),
        "names": names,
        "misses": (),
    }
    return RouterEvaluation(**given | changes)


def labels(axes: Axes) -> tuple[list[str], list[str]]:
    """Return the names of rows and of columns."""
    return [own.get_text() for own in axes.get_yticklabels()], [own.get_text() for own in axes.get_xticklabels()]


def cells(axes: Axes) -> dict[tuple[int, int], str]:
    """Return what is written in the cells, by row and column."""
    return {(int(own.get_position()[1]), int(own.get_position()[0])): own.get_text() for own in axes.texts}


def colours(axes: Axes) -> tuple[list[list[float | None]], tuple[float, float]]:
    """Return the shares that cells are coloured by, ``None`` for grey ones, and what the palest and darkest mean."""
    (image,) = axes.images
    found = image.get_array()
    assert found is not None
    return found.tolist(), image.get_clim()


def test_an_overlap_is_a_cell_for_each_two_domains() -> None:
    made = overlap_figure(overlap())
    axes, bar = made.axes
    assert made.get_suptitle() == "most alike: banking and cooking, 13.5%"
    assert labels(axes) == (list(NAMES), list(NAMES))
    assert colours(axes) == ([[None, 0.25, 0.004], [0.02, None, 0.0], [0.06, 0.0, None]], (0.0, 0.25))
    assert cells(axes) == {(0, 1): "25%", (1, 0): "2%", (2, 0): "6%"}  # below half a per cent there is no number
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("taken for", "domain")
    assert bar.get_ylabel() == "mean probability given to the other domain"
    assert [own.get_color() for own in axes.texts] == ["white", "black", "black"]


def test_an_evaluation_is_a_curve_and_a_cell_for_each_two_domains() -> None:
    made = evaluation_figure(evaluation())
    curve, confusion, bar = made.axes
    assert made.get_suptitle() == "34 queries: 85.3% in the right domain"
    line, routed = curve.lines
    assert [tuple(own) for own in np.asarray(line.get_xydata()).tolist()] == list(CURVE)
    assert np.asarray(routed.get_xdata()).tolist() == [0.94, 0.94]
    assert curve.get_ylim() == pytest.approx((0.0, 1.1 * 0.15))
    assert (curve.get_xlabel(), curve.get_ylabel()) == (
        "share of queries answered, likeliest first",
        "wrong among them",
    )
    legend = curve.get_legend()
    assert legend is not None
    assert [own.get_text() for own in legend.get_texts()] == ["routed: 94.0%"]
    assert labels(confusion) == (list(NAMES), list(NAMES))
    # The diagonal is grey and has its number: it would outshine every mistake.
    assert colours(confusion) == ([[None, 0.05, 0.05], [0.0, None, 0.0], [0.3, 0.0, None]], (0.0, 0.3))
    assert cells(confusion) == {
        (0, 0): "90%", (0, 1): "5%", (0, 2): "5%", (1, 1): "100%", (2, 0): "30%", (2, 2): "70%",
    }  # fmt: skip
    assert (confusion.get_xlabel(), confusion.get_ylabel()) == ("said", "true")
    assert bar.get_ylabel() == "share of queries that another domain got"


def test_a_domain_without_queries_is_a_grey_row() -> None:
    axes = evaluation_figure(evaluation(confusion=((9, 1, 0), (0, 0, 0), (0, 0, 5)))).axes[1]
    assert colours(axes)[0] == [[None, 0.1, 0.0], [None, None, None], [0.0, 0.0, None]]
    assert cells(axes) == {(0, 0): "90%", (0, 1): "10%", (2, 2): "100%"}


def test_without_a_mistake_nothing_looks_like_one() -> None:
    made = evaluation_figure(evaluation(confusion=np.diag([5, 5, 5]).tolist(), risk_coverage=((0.5, 0.0), (1.0, 0.0))))
    assert made.axes[0].get_ylim() == (0.0, 0.01)
    assert colours(made.axes[1]) == ([[None, 0.0, 0.0], [0.0, None, 0.0], [0.0, 0.0, None]], (0.0, 0.1))
    alone = overlap_figure(overlap(("alone",), ((0.0,),)))
    assert alone.get_suptitle() == "no two domains overlap"
    assert colours(alone.axes[0]) == ([[None]], (0.0, 0.1))


def many(count: int = 150) -> tuple[tuple[str, ...], np.ndarray]:
    """Return names, and shares of which the pairs (d000, d149), (d001, d148), ... are alike, the first ones most."""
    shares = np.zeros((count, count))
    for place in range(count // 2):
        shares[place, count - 1 - place] = 0.5 - place / 1000
    return tuple(f"d{place:03}" for place in range(count)), shares


def test_of_many_domains_those_are_shown_that_are_hardest_to_tell_apart() -> None:
    names, shares = many()
    made = overlap_figure(overlap(names, shares.tolist(), share=0.25))
    expected = [*names[:15], *names[-15:]]
    assert labels(made.axes[0]) == (expected, expected)
    assert cells(made.axes[0]) == {(place, 29 - place): f"{shares[place, 149 - place]:.0%}" for place in range(15)}
    assert [len(row) for row in colours(made.axes[0])[0]] == [30] * 30
    said = "30 of 150 domains are shown, those that are hardest to tell apart"
    assert made.get_suptitle() == f"most alike: d000 and d001, 25.0%\n{said}"
    counts = (shares * 1000).astype(int) + np.diag([1000] * 150)
    made = evaluation_figure(evaluation(names, counts.tolist()))
    assert labels(made.axes[1]) == (expected, expected)
    assert cells(made.axes[1])[29, 29] == "100%"
    assert cells(made.axes[1])[0, 29] == "33%"  # of all queries of the domain, also where not all columns are shown
    assert made.get_suptitle() == f"34 queries: 85.3% in the right domain\n{said}"


def test_up_to_thirty_domains_all_are_shown() -> None:
    names, shares = many(30)
    made = overlap_figure(overlap(names, shares.tolist()))
    assert labels(made.axes[0]) == (list(names), list(names))
    assert "\n" not in made.get_suptitle()


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_any_name_can_be_drawn(tmp_path: Path, ending: str) -> None:
    names = ("a $x^2 domain$ of_", "请给我转账", "what somebody wrote in a whole sentence\nor two")
    shown = [r"a \$x^2 domain\$ of_", "请给我转账", "what somebody wrote in a wh…"]
    assert labels(overlap_figure(overlap(names)).axes[0]) == (shown, shown)
    path = tmp_path / f"seen.{ending}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_overlap(overlap(names), path)
        draw_evaluation(evaluation(names), tmp_path / f"also.{ending}")
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG") if ending == "png" else "a $x^2 domain$ of_" in data.decode()


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        draw_overlap(overlap(), tmp_path / "none" / "seen.png")
    assert caught.value.message == f"cannot write {tmp_path / 'none' / 'seen.png'}: No such file or directory"
