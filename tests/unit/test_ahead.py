"""Work done ahead comes in the order of the jobs, and as early as it can."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ual_registry.ahead import done_ahead


def test_results_come_in_the_order_of_the_jobs_whatever_is_done_first() -> None:
    late = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert late.wait(10)
        if number == 2:
            late.set()
        return number * number

    assert list(done_ahead(work, range(5), threads=3, ahead=4)) == [(0, 0), (1, 1), (2, 4), (3, 9), (4, 16)]


def test_a_result_that_is_there_is_yielded_before_another_job_is_asked_for() -> None:
    taken, started = [], threading.Event()

    def jobs() -> Iterator[str]:
        for job in "abcd":
            if job == "c":
                assert started.wait(10)  # so "a" is done, whose thread does "b" now
            taken.append(job)
            yield job

    def work(job: str) -> str:
        if job == "b":
            started.set()
        return job.upper()

    results = done_ahead(work, jobs(), threads=1, ahead=8)

    assert next(results) == ("a", "A")
    assert "d" not in taken
    assert list(results) == [("b", "B"), ("c", "C"), ("d", "D")]


def test_no_more_jobs_are_taken_than_may_wait() -> None:
    taken, go_on = [], threading.Event()

    def jobs() -> Iterator[int]:
        for number in range(9):
            taken.append(number)
            if number == 3:
                go_on.set()
            yield number

    def work(number: int) -> int:
        assert go_on.wait(10)
        return number

    results = done_ahead(work, jobs(), threads=1, ahead=3)

    assert next(results) == (0, 0)
    assert taken == [0, 1, 2, 3]
    assert [number for number, _ in results] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_what_the_work_raises_comes_where_its_result_would() -> None:
    def work(number: int) -> float:
        return 1 / number

    results = done_ahead(work, [1, 0, 2], threads=2, ahead=2)

    assert next(results) == (1, 1.0)
    with pytest.raises(ZeroDivisionError):
        next(results)
