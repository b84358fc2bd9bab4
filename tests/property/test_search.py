"""The search language against a slow and obvious one, on both engines, for random shelves and random queries."""

from __future__ import annotations

import dataclasses
import datetime
import random
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from tests.reference.search import find, format_query
from ual_registry.air.roles import ROLES
from ual_registry.registry.facets import renew_facets
from ual_registry.registry.fields import FIELDS, ORDERS, Kind
from ual_registry.registry.labels import renew_labels
from ual_registry.registry.query import parse_query
from ual_registry.registry.record_tables import EvaluationRow
from ual_registry.registry.registry import Registry
from ual_registry.registry.summaries import measurements_text, targets_text
from ual_registry.registry.tables import (
    AdapterRow,
    AliasRow,
    ArtifactRow,
    BaseModelRow,
    EntryRow,
    LineageRow,
    RevisionRow,
    RoleRow,
    TagRow,
)
from ual_registry.registry.texts import renew_texts
from ual_registry.registry.tree import All, Any_, Not, Order, Query, Term, Words
from ual_registry.registry.values import Pair, Span, Text
from ual_registry.registry.views import Measurement, RevisionRecord, RoleSummary

_START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_WORDS = (
    "Medical",
    "medical",
    "legal",
    "Über",
    "uber",
    "a_b",
    "50%",
    "x/y",
    "q'; --",
    'say "hi"',
    "\\",
    "médecine 2",
    "",
)
_NAMES = ("med", "Med2", "legal-qa", "m_d", "z.9")
_LABELS = ("org/Llama-1", "Llama-1", "other/llama-12", "a/b_c", "100%")
_FEW_ROLES = tuple(ROLES)[:4]


def role_row(target: RoleSummary) -> dict[str, Any]:
    spans = {"layer_min": target.first_layer, "layer_max": target.last_layer}
    return {"stack": "", "role": target.role, "rank": target.rank, "entry_count": target.entry_count, **spans}


def _digest(number: int) -> str:
    return f"sha256:{random.Random(number).getrandbits(256):064x}"


class Shelf:
    """Forty revisions, as plain records and as the rows of a registry."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.records: list[RevisionRecord] = []
        self.edges: list[tuple[str, str]] = []
        self.blocks: dict[str, str] = {}
        newest: dict[str, int] = defaultdict(int)
        for number in range(40):
            name = self.rng.choice(_NAMES)
            newest[name] += 1
            self.records.append(self._record(number, name, newest[name]))
        self.digests = {f"{name}@1": next(r.digest for r in self.records if r.name == name) for name in newest}
        self.digests |= {digest: digest for digest in (_digest(3), _digest(999))}

    def _maybe(self, *choices: Any) -> Any:
        return self.rng.choice((None, *choices))

    def _record(self, number: int, name: str, revision: int) -> RevisionRecord:
        rng = self.rng
        digest = _digest(number)
        is_router = rng.random() < 0.1
        ranks = () if is_router else tuple(sorted(rng.sample((2, 4, 8, 16), rng.choice((1, 1, 2)))))
        targets = tuple(
            RoleSummary(
                stack=None, role=role, rank=rank, entry_count=last - first + 1, first_layer=first, last_layer=last
            )
            for role in sorted(rng.sample(_FEW_ROLES, rng.choice((1, 2))))
            for rank in ranks
            for first, last in [sorted((rng.randrange(12), rng.randrange(12)))]
        )
        for parent in {
            self.rng.randrange(1000) if rng.random() < 0.2 else rng.randrange(number)
            for _ in "ab"[: number and rng.randrange(3)]
        }:
            self.edges.append((digest, _digest(parent)))
        measured = tuple(
            Measurement(
                metric=metric, value=rng.choice((0.25, 0.5, 0.75)), low=None, high=None, sample_count=None, arm=arm
            )
            for metric in ("accuracy", "exact match")
            for arm in rng.sample((None, "adapter", "base"), rng.randrange(3))
        )
        architecture = None if is_router else rng.choice(("llama", "Qwen2"))
        return RevisionRecord(
            name=name,
            number=revision,
            digest=digest,
            created_at=_START + datetime.timedelta(hours=6 * (number // 2)),
            owner={"med": "Team A", "Med2": "team-b"}.get(name),
            aliases=(f"a{number % 3}",) if revision == 1 else (),
            tags={key: rng.choice(_WORDS) for key in sorted(rng.sample(("team", "stage", "Team"), rng.randrange(3)))},
            kind="router" if is_router else "adapter",
            title=self._maybe(*_WORDS),
            base=None if is_router else rng.choice(_LABELS),
            architecture=architecture,
            method=rng.choice(("lora", "svd", "SVD")),
            domain=self._maybe(*_WORDS),
            license=self._maybe("mit", "MIT", "apache-2.0"),
            ranks=ranks,
            roles=tuple(sorted({target.role for target in targets})),
            targets=targets,
            parameter_count=rng.choice((999_999, 1_000_000, 2_500_000)),
            size_bytes=rng.choice((1023, 1024, 10**9)),
            recovered_gain=self._maybe(0.25, 0.5, 1.0),
            evaluations=measured,
            yank_reason=rng.choice((None, None, None, "bad")),
        )

    def parents(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for child, parent in self.edges:
            found[child].add(parent)
        return found

    def fill(self, registry: Registry) -> None:
        """Write the rows."""
        names = list(dict.fromkeys(record.name for record in self.records))
        bases = list(dict.fromkeys((r.base, r.architecture) for r in self.records if r.base is not None))
        with registry.database.session(writes=True) as session:
            for key, (label, architecture) in enumerate(bases, start=1):
                own = {"id": key, "label": label, "architecture": architecture, "model_type": architecture}
                same = {"revision": "", "config_digest": _digest(-1), "hidden_size": 4, "num_layers": 12}
                session.execute(insert(BaseModelRow), [own | same])
            for key, name in enumerate(names, start=1):
                owner = next(r.owner for r in self.records if r.name == name)
                row = {"id": key, "name": name, "owner": owner, "newest": 99, "created_at": _START}
                session.execute(insert(AdapterRow), [row])
            for number, record in enumerate(self.records, start=1):
                base = bases.index((record.base, record.architecture)) + 1 if record.base is not None else None
                self._write(session, number, record, names.index(record.name) + 1, base)
            for child, parent in sorted(set(self.edges)):
                row = {"child_digest": child, "parent_digest": parent, "relation": "merged_from"}
                session.execute(insert(LineageRow), [row])
            session.flush()
            renew_texts(session, RevisionRow.id > 0)
            renew_facets(session, RevisionRow.id > 0)
            renew_labels(session, RevisionRow.id > 0)

    @staticmethod
    def _write(session: Any, id: int, record: RevisionRecord, adapter_id: int, base_id: int | None) -> None:
        artifact = {
            "id": id,
            "digest": record.digest,
            "tensor_digest": record.digest,
            "kind": record.kind,
            "media_type": "x",
            "base_model_id": base_id,
            "title": record.title,
            "method": record.method,
            "domain": record.domain,
            "license": record.license,
            "parameter_count": record.parameter_count,
            "size_bytes": record.size_bytes,
            "entry_count": 0,
            "rank_min": min(record.ranks, default=None),
            "rank_max": max(record.ranks, default=None),
            "recovered_gain": record.recovered_gain,
            "added_at": record.created_at,
            "targets": targets_text(map(role_row, record.targets)),
            "measurements": measurements_text(map(dataclasses.asdict, record.evaluations)),
        }
        revision = {"id": id, "adapter_id": adapter_id, "adapter_name": record.name, "number": record.number}
        yanked_at = None if record.yank_reason is None else _START
        marks = {"created_at": record.created_at, "yanked_at": yanked_at, "yank_reason": record.yank_reason}
        session.execute(insert(ArtifactRow), [artifact])
        session.execute(insert(RevisionRow), [revision | marks | {"artifact_id": id}])
        key = {"artifact_id": id}
        position = 0
        for target in record.targets:
            session.execute(insert(RoleRow), [key | role_row(target)])
            for layer in range(target.first_layer, target.last_layer + 1):
                own = {"role": target.role, "rank": target.rank, "layer": layer, "position": position}
                shape = {"in_features": 4, "out_features": 4, "scaling": 1.0}
                session.execute(insert(EntryRow), [key | own | shape])
                position += 1
        for place, found in enumerate(record.evaluations):
            measured = {"metric": found.metric, "value": found.value, "arm": found.arm, "position": place}
            session.execute(insert(EvaluationRow), [key | measured])
        for tag, value in record.tags.items():
            own = {"revision_id": id, "adapter_name": record.name, "number": record.number}
            session.execute(insert(TagRow), [own | {"key": tag, "value": value}])
        for alias in record.aliases:
            own = {"adapter_id": adapter_id, "name": alias, "revision_id": id, "is_protected": False}
            session.execute(insert(AliasRow), [own | {"moved_at": _START}])


texts = st.builds(
    Text, st.sampled_from((*_WORDS, *_NAMES, *_LABELS, "mit", "lora", "Team", "team-b", "LLAMA", "me")), st.booleans()
)


def _spans(numbers: Any, *, is_time: bool = False) -> st.SearchStrategy[Span]:
    one_sided = st.one_of(
        st.builds(Span, low=numbers, includes_low=st.just(True) if is_time else st.booleans()),
        st.builds(Span, high=numbers, includes_high=st.just(False) if is_time else st.booleans()),
    )
    two_sided = st.tuples(numbers, numbers).map(sorted)
    second = datetime.timedelta(seconds=1)
    both = two_sided.map(
        lambda ends: (
            Span(low=ends[0], high=ends[1] + second, includes_high=False)
            if is_time
            else Span(low=ends[0], high=ends[1])
        )
    )
    return st.one_of(one_sided, both)


_NUMBERS: dict[str, Any] = {
    "rank": st.integers(0, 20),
    "layers": st.integers(0, 12),
    "params": st.sampled_from((0, 999_999, 1_000_000, 2_000_000)),
    "size": st.sampled_from((0, 1023, 1024, 10**9, 2**63 - 1)),
    "recovered": st.sampled_from((0.0, 0.25, 0.3, 1.0)),
    "created": st.integers(0, 6 * 20).map(lambda hours: _START + datetime.timedelta(hours=hours)),
}


def _sets(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Several values, or one; several spans have two ends, as they are written."""
    both = values.filter(lambda v: not isinstance(v, Span) or (v.low is not None and v.high is not None))
    return st.one_of(values.map(lambda value: (value,)), st.lists(both, min_size=2, max_size=3).map(tuple))


def _terms(field: str) -> st.SearchStrategy[Term]:
    kind = FIELDS[field].kind
    values: st.SearchStrategy[Any] = texts
    if field in _NUMBERS:
        values = _spans(_NUMBERS[field], is_time=kind is Kind.TIME)
    elif kind is Kind.CHOICE:
        known = [Text(choice) for choice in FIELDS[field].choices[:5]]
        values = st.sampled_from([*known, Text(known[0].text[:2], is_prefix=True)])
    elif kind is Kind.DIGEST:
        values = st.sampled_from(
            [Text(_digest(3)), Text(_digest(4)[:8], is_prefix=True), Text("sha256:f", is_prefix=True)]
        )
    elif kind is Kind.REFERENCE:
        return st.sampled_from(
            [Term(field, (Text(text),)) for text in ("med@1", "legal-qa@1", _digest(3), _digest(999))]
        )
    elif kind is Kind.TAG:
        keys = st.sampled_from(("team", "stage", "Team", "none"))
        values = st.builds(Pair, keys, st.one_of(st.none(), texts))
    elif kind is Kind.METRIC:
        names = st.sampled_from(("accuracy", "exact match", "none"))
        open_ended = _spans(st.sampled_from((0.25, 0.5, 0.6))).filter(
            lambda span: (span.low is None) != (span.high is None)
        )
        alone = st.builds(Pair, names, open_ended).map(lambda pair: (pair,))
        several = st.lists(names.map(Pair), min_size=1, max_size=2).map(tuple)
        return st.one_of(alone, several).map(lambda pairs: Term(field, pairs))
    return _sets(values).map(lambda found: Term(field, found))


_leaves = st.one_of(
    *(_terms(field) for field in FIELDS),
    st.builds(
        Words,
        st.lists(st.sampled_from(("medical", "uber", "2", "med", "qa", "hi", "team", "a")), min_size=1, max_size=2).map(
            tuple
        ),
        st.booleans(),
    ),
)
_trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: All(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Any_(tuple(parts))),
    ),
    max_leaves=6,
)
queries = st.builds(
    Query, st.one_of(st.just(All(())), _trees), st.builds(Order, st.sampled_from(ORDERS), st.booleans())
)


@given(query=queries)
@settings(max_examples=400, deadline=None)
def test_what_is_written_is_read_again(query: Query) -> None:
    assert parse_query(format_query(query)) == query


@pytest.fixture
def shelf(registry: Registry) -> Shelf:
    found = Shelf(seed=7)
    found.fill(registry)
    return found


@given(query=queries, limit=st.sampled_from((1, 3, 7, 100)))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_both_engines_find_what_the_obvious_way_finds(
    registry: Registry, shelf: Shelf, query: Query, limit: int
) -> None:
    text = format_query(query)
    found: list[RevisionRecord] = []
    after = None
    while True:
        page = registry.search(text, limit=limit, after=after)
        found += page.items
        if page.next is None:
            break
        assert len(page) == limit
        after = page.next
    assert found == find(query, shelf.records, shelf.digests, shelf.parents())
