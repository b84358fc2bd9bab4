from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ual_registry.air.router import Domain, Thresholds
from ual_registry.dispatch.decision import Decision, DomainScores, Nearest, Reason, decide

DOMAINS = {
    "a": Domain(name="a", adapter="sha256:" + "a" * 64, examples=5),
    "b": Domain(name="b", adapter=None, examples=5),
    "c": Domain(name="c", adapter="sha256:" + "c" * 64, examples=5, min_probability=0.9),
}
LIMITS = Thresholds(max_distance=0.5, min_probability=0.6, min_margin=0.2)


def scores(distance: float = 0.1, **probabilities: float) -> DomainScores:
    return DomainScores(probabilities=probabilities, nearest=Nearest(domain="a", distance=distance, example="hi"))


@pytest.mark.parametrize(
    ("given_scores", "reason", "domain"),
    [
        (scores(a=0.8, b=0.1, c=0.1), Reason.OK, "a"),
        (scores(0.6, a=0.8, b=0.1, c=0.1), Reason.OUT_OF_SCOPE, "a"),
        (scores(a=0.5, b=0.3, c=0.2), Reason.AMBIGUOUS, "a"),
        (scores(a=0.1, b=0.8, c=0.1), Reason.NO_ADAPTER, "b"),
        (scores(a=0.1, b=0.1, c=0.8), Reason.AMBIGUOUS, "c"),
        (scores(a=0.02, b=0.02, c=0.96), Reason.OK, "c"),
        (scores(0.6, a=0.5, b=0.5, c=0.0), Reason.OUT_OF_SCOPE, "a"),
    ],
)
def test_a_query_is_decided_by_distance_then_probability_then_lead(
    given_scores: DomainScores, reason: Reason, domain: str
) -> None:
    found = decide(given_scores, DOMAINS, LIMITS)
    adapter = DOMAINS[domain].adapter if reason is Reason.OK else None
    assert (found.reason, found.domain, found.adapter, found.is_routed) == (reason, domain, adapter, bool(adapter))


def test_two_domains_too_close_are_ambiguous() -> None:
    limits = Thresholds(max_distance=0.5, min_probability=0.0, min_margin=0.2)
    assert decide(scores(a=0.55, b=0.4, c=0.05), DOMAINS, limits).reason is Reason.AMBIGUOUS
    assert decide(scores(a=0.65, b=0.3, c=0.05), DOMAINS, limits).reason is Reason.OK


def test_a_decision_is_a_document() -> None:
    found = decide(scores(a=0.8, b=0.125, c=0.075), DOMAINS, LIMITS).document()
    assert found == {
        "reason": "ok",
        "domain": "a",
        "adapter": "sha256:" + "a" * 64,
        "probability": 0.8,
        "margin": 0.675,
        "nearest": {"domain": "a", "distance": 0.1, "example": "hi"},
        "probabilities": {"a": 0.8, "b": 0.125, "c": 0.075},
        "thresholds": {"max_distance": 0.5, "min_probability": 0.6, "min_margin": 0.2},
    }


def test_a_forced_decision_says_only_what_is_known() -> None:
    found = Decision(reason=Reason.FORCED, domain=None, adapter="tone@3", detail="named by the caller")
    assert found.document() == {
        "reason": "forced",
        "domain": None,
        "adapter": "tone@3",
        "detail": "named by the caller",
    }


share = st.floats(0, 1, allow_nan=False)


@given(
    st.lists(st.floats(0.001, 1), min_size=3, max_size=3),
    st.floats(0, 2),
    st.tuples(st.floats(0, 2), share, share),
    st.tuples(share, share, share),
)
def test_stricter_thresholds_never_route_more(
    raw: list[float], distance: float, limits: tuple[float, float, float], stricter: tuple[float, float, float]
) -> None:
    total = sum(raw)
    given_scores = scores(distance, **dict(zip("abc", (value / total for value in raw), strict=True)))
    loose = Thresholds(max_distance=limits[0], min_probability=limits[1], min_margin=limits[2])
    strict = Thresholds(
        max_distance=limits[0] * stricter[0],
        min_probability=min(1.0, limits[1] + stricter[1]),
        min_margin=min(1.0, limits[2] + stricter[2]),
    )
    if not decide(given_scores, DOMAINS, loose).is_routed:
        assert not decide(given_scores, DOMAINS, strict).is_routed
