"""Word the results of the zoo: tables in Markdown, made from kept numbers, without a model.

This module decides the form of the tables; the numbers come from `ual_registry.evaluation`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.transfer.arms import FLIPPED, RANDOM, Arm, control_starts, dosed, is_known
from benchmarks.transfer.numbers import Measured
from benchmarks.transfer.results import PERFECT_COPY, worded
from benchmarks.transfer.zoo_recipe import Settings
from benchmarks.transfer.zoo_store import (
    BASES,
    COLD,
    DIRECTIONS,
    DISTILLED,
    DOMAIN,
    FREE,
    RUNGS,
    WARM,
    Zoo,
    default_cache,
)
from ual_registry.evaluation.bootstrap import RESAMPLES, Interval
from ual_registry.evaluation.recovery import Label, MetricReport, label_of, measure_metric

__all__ = ["Direction", "collect", "tables"]

_METRIC = "bits_per_byte"
_SOURCE = ("source base", "source adapter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """What was measured of one direction.

    Attributes:
        source: The base that the adapter was trained on.
        target: The base it was moved to.
        report: Every arm on the target.
        doses: For each rung the dose that dev chose.
        source_gain: Bits per byte that the adapter gains on its own base.
        ceiling: R of a target that says what source and adapter say: the bound of imitation.
        costs: For each rung what it took: `cpu_s`, `wall_s` and `peak_bytes`.
        refused: The rungs that refused.
        warmth: Bits per byte by which a warm start is better than a cold one, both at dose 1; `None` where one of
            them was not measured.
    """

    source: str
    target: str
    report: MetricReport
    doses: Mapping[str, float]
    source_gain: float
    ceiling: float
    costs: Mapping[str, Mapping[str, float]]
    refused: frozenset[str]
    warmth: Interval | None = None

    def recovered(self, arm: str) -> Interval | None:
        """Return R of an arm; `None` where it was not measured."""
        found = self.report.arm(arm)
        return None if found is None else found.recovered

    def best(self, rung: str) -> Interval | None:
        """Return R of a rung at the dose that dev chose: 0 where no dose was better than none."""
        dose = self.doses.get(rung)
        if dose is None:
            return None
        return Interval(value=0.0, low=0.0, high=0.0) if dose == 0 else self.recovered(dosed(rung, dose))

    def label(self, rung: str) -> Label | None:
        """Return the verdict on a rung at the dose that dev chose."""
        dose = self.doses.get(rung)
        if dose is None:
            return None
        if dose == 0:
            return Label.NONE
        controls = [own.arm for own in self.report.arms if own.arm.startswith(control_starts(rung))]
        return label_of(self.report, dosed(rung, dose), controls)


def tables(cache: Path | None = None, settings: Settings | None = None) -> str:
    """Return every table of the zoo under its heading, as Markdown; empty where nothing was measured.

    Args:
        cache: Where the zoo is kept; the usual place where absent.
        settings: How distillations trained; as a pilot chose where absent.
    """
    zoo = Zoo.open(cache or default_cache())
    zoo.settings = settings or zoo.settings
    found = [own for names in DIRECTIONS if (own := collect(zoo, *names)) is not None]
    if not found:
        return ""
    parts = [_bases(zoo), "### Zoo: every rung", _summary(found), _KEY]
    parts += ["### Zoo: every direction", _directions(found)]
    starts = _starts(found)
    parts += ["### Zoo: a warm start beside a cold one", starts] if starts else []
    identities = _identities(zoo)
    parts += ["### Zoo: to the source itself", identities] if identities else []
    parts += ["### Zoo: what it took", _costs(found), *_first(zoo)]
    return "\n\n".join(parts) + "\n"


def _first(zoo: Zoo) -> list[str]:
    """Return what distillations of the first settings gave, where the tables are of others."""
    if zoo.settings == Settings():
        return []
    first = replace(zoo, settings=Settings())
    found = [own for names in DIRECTIONS if (own := collect(first, *names)) is not None]
    if not any(rung in own.doses for own in found for rung in DISTILLED):
        return []
    used = first.settings
    title = f"### Zoo: distillation with {used.texts} texts, in {used.steps} steps of {used.batch_size}"
    return [title, _summary(found, DISTILLED)]


def collect(zoo: Zoo, source: str, target: str) -> Direction | None:
    """Return what is kept of a direction; `None` where no rung was measured, or not what all are compared with."""
    if not all(zoo.adapter(base, DOMAIN).is_file() for base in (source, target)):
        return None
    arms = _kept(zoo, zoo.reference_arms(source, target), "test")
    if len(arms) < 4:
        return None
    before, after = (_value(arms.pop(name)) for name in _SOURCE)
    made = {rung: own for rung in RUNGS if (own := _rung(zoo, rung, source, target)) is not None}
    if not made:
        return None
    files = {rung: zoo.moved(rung, source, target, DOMAIN) for rung in RUNGS}
    return Direction(
        source=source,
        target=target,
        report=_report(arms | {name: own for found in made.values() for name, own in found.items()}),
        doses={rung: zoo.doses(rung, source, target)[0] for rung in made},
        source_gain=before - after,
        ceiling=(_value(arms["base"]) - after) / (_value(arms["base"]) - _value(arms["native"])),
        costs={rung: json.loads(files[rung].with_suffix(".cost.json").read_text(encoding="utf-8")) for rung in made},
        refused=frozenset(rung for rung, file in files.items() if file.with_suffix(".refused").is_file()),
        warmth=_warmth(made),
    )


def _warmth(made: Mapping[str, Mapping[str, Measured]]) -> Interval | None:
    """Return by how much the warm start is better than the cold one, on the same draws of the documents."""
    if not {COLD, WARM} <= made.keys():
        return None
    series = {rung: made[rung][rung][_METRIC] for rung in (COLD, WARM)}
    found = measure_metric(series, base=COLD, native="native", seed=0, resamples=RESAMPLES).arm(WARM)
    assert found is not None  # it is one of the two
    return found.gain


def _rung(zoo: Zoo, rung: str, source: str, target: str) -> dict[str, Measured] | None:
    """Return the arms of a rung in one direction; `None` where a dose or the rung itself was not measured."""
    if not is_known(zoo.moved(rung, source, target, DOMAIN)):
        return None
    if len(_kept(zoo, zoo.dose_arms(rung, source, target), "dev")) < zoo.dose_count:
        return None
    found = _kept(zoo, zoo.rung_arms(rung, source, target), "test")
    dose = zoo.doses(rung, source, target)[0]
    return found if {rung, dosed(rung, dose or 1.0)} <= found.keys() else None


def _kept(zoo: Zoo, arms: Iterable[Arm], split: str) -> dict[str, Measured]:
    present = [arm for arm in arms if arm.file is None or is_known(arm.file)]
    found = {arm.name: zoo.numbers.of(arm.key(DOMAIN, split)) for arm in present}
    return {name: measured for name, measured in found.items() if measured is not None}


def _report(arms: Mapping[str, Measured]) -> MetricReport:
    series = {arm: measured[_METRIC] for arm, measured in arms.items()}
    return measure_metric(series, base="base", native="native", seed=0, resamples=RESAMPLES)


def _value(measured: Measured) -> float:
    return measured[_METRIC].value


# Tables


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _bases(zoo: Zoo) -> str:
    rows = []
    for base in BASES:
        arms = _kept(zoo, (arm for arm in zoo.reference_arms(base, base) if arm.name in ("base", "native")), "test")
        trained = zoo.folder(base) / "training.json"
        if len(arms) == 2 and trained.is_file():
            record = json.loads(trained.read_text(encoding="utf-8"))
            config = json.loads((zoo.folder(base) / "config.json").read_text(encoding="utf-8"))
            values = [worded(own.value, 2) for own in _report(arms).arms]
            rows.append([base, *_shape(config), f"{record['cpu_s']:.0f}", *values])
    headers = ["base", "width", "layers", "tokens known", "training, CPU s", "bits per byte", "with native adapter"]
    return _table(rows, headers)


def _shape(config: Mapping[str, Any]) -> list[str]:
    width, layers = (
        next(str(config[name]) for name in names if name in config)
        for names in (("n_embd", "hidden_size"), ("n_layer", "num_hidden_layers"))
    )
    return [width, layers, str(config["vocab_size"])]


def _summary(found: Sequence[Direction], rungs: Sequence[str] = RUNGS) -> str:
    rows = []
    for rung in rungs:
        own = [direction for direction in found if rung in direction.doses]
        if not own:
            continue
        controls = [_spread(_worst(one, rung, name) for one in own) for name in _CONTROLS]
        rows.append(
            [
                rung,
                str(len(own)),
                _spread(one.recovered(rung) for one in own),
                _spread(one.best(rung) for one in own),
                _labels(own, rung),
                *controls,
            ]
        )
    return _table(rows, ["rung", "directions", "R at dose 1", "R at the dose of dev", "verdicts", *_CONTROLS])


_CONTROLS = (RANDOM, FLIPPED, "wrong task")

_KEY = (
    "R is the median over the directions, with the lowest and the highest in brackets.\n"
    "Controls have the dose of the rung; of three random ones the best counts.\n"
    "`text alone` is no transfer: it has no source."
)


def _worst(direction: Direction, rung: str, control: str) -> Interval | None:
    """Return R of the control that did best; `None` where none was measured."""
    found = [
        own.recovered
        for own in direction.report.arms
        if own.arm.startswith(f"{rung}: {control}") and own.recovered is not None
    ]
    return max(found, key=lambda own: own.value, default=None)


def _spread(found: Iterable[Interval | None]) -> str:
    values = sorted(own.value for own in found if own is not None)
    if not values:
        return ""
    return f"{statistics.median(values):.2f} [{values[0]:.2f}, {values[-1]:.2f}]".replace("-0.00", "0.00")


def _labels(found: Sequence[Direction], rung: str) -> str:
    labels = [direction.label(rung) for direction in found]
    counted = {label: labels.count(label) for label in Label}
    return ", ".join(f"{count} {label}" for label, count in counted.items() if count)


def _directions(found: Sequence[Direction]) -> str:
    """Return R of every rung in every direction, at the dose of dev, with the 95 % interval over documents."""
    shown = [rung for rung in RUNGS if any(rung in direction.doses for direction in found)]
    rows = [
        [
            f"{own.source} to {own.target}",
            f"{own.source_gain:.2f}",
            f"{own.ceiling:.2f}",
            *(_cell(own, rung) for rung in shown),
        ]
        for own in found
    ]
    return _table(rows, ["direction", "gain at the source", PERFECT_COPY, *shown])


def _starts(found: Sequence[Direction]) -> str:
    """Return both starts of every direction, and what the warm one gains beside the cold one; empty where none."""
    rows = [
        [f"{own.source} to {own.target}", _cell(own, COLD), _cell(own, WARM), worded(own.warmth, 4)]
        for own in found
        if own.warmth is not None
    ]
    return _table(rows, ["direction", COLD, WARM, "better by, bits per byte"]) if rows else ""


def _cell(direction: Direction, rung: str) -> str:
    if rung in direction.refused:
        return "refused"
    found = direction.best(rung)
    return "" if found is None else worded(found, 2)


def _identities(zoo: Zoo) -> str:
    """Return R of adapters that every rung moved to their own base; empty where none were."""
    rows = []
    for rung in FREE:
        cells = [_identity(zoo, rung, base) for base in BASES]
        if any(cells):
            rows.append([rung, *cells])
    return _table(rows, ["rung", *BASES]) if rows else ""


def _identity(zoo: Zoo, rung: str, base: str) -> str:
    arms = _kept(zoo, zoo.identity_arms(rung, base), "test") if zoo.adapter(base, DOMAIN).is_file() else {}
    found = _report(arms).arm(rung) if len(arms) == 3 else None
    return "" if found is None or found.recovered is None else worded(found.recovered, 2)


def _costs(found: Sequence[Direction]) -> str:
    rows = []
    for rung in RUNGS:
        own = [direction.costs[rung] for direction in found if rung in direction.costs]
        if own:
            times = [f"{statistics.median(cost[name] for cost in own):.1f}" for name in ("cpu_s", "wall_s")]
            rows.append([rung, *times, f"{statistics.median(cost['peak_bytes'] for cost in own) / 2**20:.0f}"])
    headers = ["rung", "processor time, s", "wall time, s", "peak memory beside the two bases, MiB"]
    return _table(rows, headers) + "\n\nMedians over the directions, one thread; text of a distillation is not counted."
