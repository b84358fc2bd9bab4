"""What was measured is listed in the order of a page: what is written there, found there, and compared."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select, update

from benchmarks.registry_data import fill
from tests.unit.registry.conftest import Files
from ual_registry.registry import pages as module
from ual_registry.registry.facets import renew_facets
from ual_registry.registry.forms import form_of
from ual_registry.registry.measured import differing_measured
from ual_registry.registry.plan import Start, choose_start
from ual_registry.registry.query import parse_query
from ual_registry.registry.record_tables import EvaluationRow, MeasuredRow
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import RevisionRow
from ual_registry.registry.tree import Order

RESULTS = [("accuracy", 0.4, "adapter"), ("accuracy", 0.9, None), ("accuracy", 0.99, "base"), ("loss", 1.5, None)]


def listed(registry: Registry) -> list[tuple[Any, ...]]:
    columns = (MeasuredRow.adapter_name, MeasuredRow.number, MeasuredRow.metric)
    with registry.database.reading() as connection:
        rows = connection.execute(select(*columns, MeasuredRow.lowest, MeasuredRow.highest).order_by(*columns))
        return [tuple(row) for row in rows]


@pytest.fixture
def measured(registry: Registry, files: Files) -> Registry:
    """One revision with results, some of another model, and one without any."""
    registry.add(files.make(), name="one")
    registry.add(files.make(description="another"), name="two")
    with registry.database.session(writes=True) as session:
        own = session.scalars(select(RevisionRow.artifact_id).where(RevisionRow.adapter_name == "one")).one()
        for position, (metric, value, arm) in enumerate(RESULTS):
            row = {"artifact_id": own, "position": position, "metric": metric, "value": value, "arm": arm}
            session.execute(insert(EvaluationRow), [row])
        renew_facets(session, RevisionRow.adapter_name == "one")
    return registry


def test_a_metric_is_listed_once_with_its_extremes_and_none_of_another_model(measured: Registry) -> None:
    assert listed(measured) == [("one", 1, "accuracy", 0.4, 0.9), ("one", 1, "loss", 1.5, 1.5)]


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("metric:accuracy", True),
        ("metric:f1", False),
        ("metric:accuracy>=0.9", True),
        ("metric:accuracy>0.9", False),
        ("metric:accuracy<=0.4", True),
        ("metric:accuracy<0.4", False),
        ("metric:accuracy:0.5..0.8", False),  # between the extremes, where nothing lies
        ("metric:accuracy>=0.95", False),  # the base model's
    ],
)
@pytest.mark.parametrize("way", [Start(), Start(term=0), Start(term=0, is_listed=True)])
def test_a_revision_is_found_once_by_any_of_its_own_results(
    measured: Registry, monkeypatch: pytest.MonkeyPatch, query: str, is_found: bool, way: Start
) -> None:
    monkeypatch.setattr(module, "choose_start", lambda *_, **__: way)
    assert [(hit.name, hit.number) for hit in measured.search(query)] == [("one", 1)] * is_found


@pytest.mark.parametrize("query", ["metric:accuracy>=0.7", "metric:accuracy", "metric:loss<0.8"])
def test_pages_along_the_list_are_those_of_a_walk(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    fill(registry.database, 300, with_entries=False)
    pages = []
    for way in (Start(), Start(term=0, is_listed=True)):
        monkeypatch.setattr(module, "choose_start", lambda *_, way=way, **__: way)
        first = registry.search(query, limit=10)
        pages.append((*first, *registry.search(query, limit=400, after=first.next)))
    assert len(pages[0]) > 10
    assert pages == [pages[0]] * 2


def test_only_many_results_in_the_order_of_names_are_read_along_the_list(registry: Registry) -> None:
    fill(registry.database, 2500, with_entries=False)
    expected = {
        "metric:accuracy": Start(term=0, is_listed=True),
        "metric:accuracy>=0.2": Start(term=0, is_listed=True),
        "metric:accuracy>=0.95": Start(term=0),
    }
    others = {"metric:accuracy:0.2..0.9", "metric:accuracy>=0.2 order:created", "metric:accuracy>=0.2 rank>=4"}
    with registry.database.reading() as connection:
        found = {}
        for query in (*expected, *others):
            parsed = parse_query(query)
            form = form_of(parsed.where, {})
            found[query] = choose_start(connection, form.where, form.values, limit=20, walked=parsed.order)
            assert parsed.order == Order() or "order:" in query
    assert {query: found[query] for query in expected} == expected
    assert [query for query in others if found[query].is_listed] == []


def test_filled_results_are_listed_as_the_registry_itself_would(registry: Registry) -> None:
    fill(registry.database, 300, with_entries=False)
    before = listed(registry)
    with registry.database.session(writes=True) as session:
        assert session.scalars(select(RevisionRow.id).where(differing_measured())).all() == []
        renew_facets(session, RevisionRow.id > 0)
    assert (listed(registry), len(before) > 100) == (before, True)


@pytest.mark.parametrize(
    "change", [{"lowest": 0.3}, {"highest": 0.8}, {"highest": 2.0}, {"number": 7}, {"metric": "f1"}]
)
def test_a_list_that_differs_from_the_results_is_told(measured: Registry, change: dict[str, Any]) -> None:
    assert measured.fsck(quick=True).faults == ()
    with measured.database.session(writes=True) as session:
        session.execute(update(MeasuredRow).where(MeasuredRow.metric == "accuracy").values(change))
    (fault,) = measured.fsck(quick=True).faults
    told = "revision one@1 is listed with other results than those of its artifact"
    assert (fault.kind, fault.message) == ("stale", told)
