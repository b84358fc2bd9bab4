from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.unit.dispatch.clouds import AXES, cloud, fitted
from ual_registry.dispatch.change import remove_domain
from ual_registry.dispatch.log import DecisionLog, LoggedDecision, measure_drift, read_log, replay
from ual_registry.errors import RouteError


def test_a_log_is_replayed_against_another_router(tmp_path: Path) -> None:
    router = fitted().router
    queries = cloud(AXES["banking"] + AXES["travel"], 20, 4)
    log = DecisionLog(tmp_path / "log.jsonl")
    for place, decision in enumerate(router.route(queries)):
        log.write(f"q{place}", decision, at="2026-01-01T00:00:00Z")
    logged = read_log(tmp_path / "log.jsonl")
    assert [row.query for row in logged] == [f"q{place}" for place in range(20)]
    assert replay(logged, router.route(queries)) == []
    changed = replay(logged, remove_domain(router, "travel").route(queries))
    assert {change.before.domain for change in changed} == {"travel"}
    assert {change.after.domain for change in changed} <= {"banking", "work"}


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    router = fitted().router
    (decision,) = router.route(cloud(AXES["work"], 1, 4))
    log = DecisionLog(tmp_path / "log.jsonl")
    threads = [
        threading.Thread(target=lambda own=own: [log.write(f"{own}-{place}", decision) for place in range(50)])
        for own in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sorted(row.query for row in read_log(tmp_path / "log.jsonl"))
    assert found == sorted(f"{own}-{place}" for own in range(8) for place in range(50))


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"query": "a", "domain": null, "adapter": "x", "reason": "forced"}\n{"query": "b", "dom')
    assert read_log(path) == [
        LoggedDecision(query="a", domain=None, adapter="x", reason="forced", probability=None, distance=None)
    ]


def test_a_line_that_is_no_decision_is_refused_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"query": "a", "domain": null, "adapter": "x", "reason": "forced"}\n[1]\n')
    with pytest.raises(RouteError) as caught:
        read_log(path)
    assert caught.value.message == f"{path}: line 2: is no decision"


def rows(count: int, distance: float, domain: str, adapter: str | None) -> list[LoggedDecision]:
    return [
        LoggedDecision(
            query=str(place),
            domain=domain,
            adapter=adapter,
            reason="ok" if adapter else "out_of_scope",
            probability=0.9,
            distance=distance + place / 1000,
        )
        for place in range(count)
    ]


def test_drift_of_traffic_is_measured() -> None:
    before = rows(30, 0.2, "a", "x") + rows(10, 0.2, "b", None)
    same = measure_drift(before, before)
    assert (same.distance_p, same.has_drifted) == (1.0, False)
    moved = measure_drift(before, rows(40, 0.6, "b", None))
    assert moved.has_drifted
    assert (moved.before, moved.after) == (40, 40)
    assert moved.domains == {"a": (0.75, 0.0), "b": (0.25, 1.0)}
    assert moved.abstained == (0.25, 1.0)


def test_little_traffic_says_nothing_about_drift() -> None:
    with pytest.raises(RouteError, match="40 older and 3 newer decisions, expected at least 20 of each"):
        measure_drift(rows(40, 0.2, "a", "x"), rows(3, 0.2, "a", "x"))
