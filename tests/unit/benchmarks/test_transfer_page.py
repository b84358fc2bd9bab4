from pathlib import Path

import pytest

from benchmarks.transfer import gathered
from benchmarks.transfer.document import document
from benchmarks.transfer.fields import filled
from benchmarks.transfer.results import PERFECT_COPY, Result, result_of
from ual_registry.evaluation.bootstrap import Interval
from ual_registry.evaluation.recovery import ArmGain, MetricReport

REPOSITORY = Path(__file__).resolve().parents[3]
NUMBERS = REPOSITORY / "benchmarks" / "transfer" / "numbers.json.gz"


def test_the_page_is_what_the_committed_numbers_texts_and_tables_make():
    made = document([result_of(own) for own in gathered.load(NUMBERS)])
    assert made == (REPOSITORY / "docs" / "transfer-results.md").read_text(encoding="utf-8")


def _arm(name, value, spread=0.01):
    found = Interval(value=value, low=value - spread, high=value + spread)
    return ArmGain(arm=name, value=found, gain=found, recovered=found)


def _result(seed, *arms, metric="gold_nll", curve=(1.0, 0.5)):
    report = MetricReport(metric=metric, arms=arms, headroom_error=0.1, no_recovery_because=None)
    curves = {"distill": {0.0: 2.0, 1.0: curve[0], 2.0: curve[1]}}
    return Result(task="topics", title="t", seed=seed, source=(), reports=(report,), made=(), curves=curves)


RESULTS = [
    _result(0, _arm(PERFECT_COPY, 1.0), _arm("distill", 0.1), _arm("distill x2", 0.7984)),
    _result(2, _arm(PERFECT_COPY, 0.95), _arm("distill", 0.8), curve=(0.5, 1.0)),
    _result(1, _arm(PERFECT_COPY, 0.9)),
]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("R distill topics gold_nll", ".798, .800 (seed 0 and 2)"),
        ("copy distill topics gold_nll", "1.000, .950"),
        ("state distill topics gold_nll 0.8", "in part"),
        ("state distill topics gold_nll 0.5", "reached"),
        ("state distill topics gold_nll 0.95", "missed"),
        ("state distill banking gold_nll 0.95", "not measured"),
        ("R distill topics accuracy", "not measured"),
    ],
)
def test_a_field_is_filled_with_what_was_measured_at_the_dose_of_dev(field, expected):
    assert filled(f"a {{{field}}} b {{other}}", RESULTS) == f"a {expected} b {{other}}"


def test_a_field_counts_rungs_whose_flipped_copy_does_as_much_harm_as_they_do_good():
    turned = [
        _result(0, _arm("distill x2", value), _arm("distill: flipped", flipped))
        for value, flipped in ((0.5, -0.5), (0.5, -0.4), (0.005, -0.9))
    ]
    assert filled("{turned loss} and {turned accuracy}", turned) == "1 of 2 and 0 of 0"


def test_a_field_counts_where_intervals_of_controls_lie():
    controls = [_arm(f"distill: random {seed}", value) for seed, value in enumerate((-0.5, 0.005, 0.3))]
    found = _result(0, *controls, _arm("distill: wrong task", -0.2), _arm("distill", 0.9))
    assert filled("{controls random loss}", [found]) == "1 of 3 cover zero, 1 lie below it, 1 above"
    assert filled("{controls wrong-task loss}", [found]) == "0 of 1 cover zero, 1 lie below it, 0 above"
    assert filled("{controls random accuracy}", [found]) == "0 of 0 cover zero, 0 lie below it, 0 above"
