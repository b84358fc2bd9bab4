from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.dispatch.clouds import ADAPTERS, AXES, DIMENSION, ENCODER, cloud, domains, fitted, unit
from ual_registry.air.rounding import rounded
from ual_registry.air.validate import validate_file
from ual_registry.dispatch.calibration import Target
from ual_registry.dispatch.change import add_domain, remove_domain
from ual_registry.dispatch.decision import Reason
from ual_registry.dispatch.fit import DomainExamples, fit_router
from ual_registry.dispatch.measure import (
    evaluate_router,
    expected_calibration_error,
    most_confused,
    risk_coverage,
)
from ual_registry.dispatch.overlap import analyze_overlap
from ual_registry.dispatch.router import EXAMPLES_KEY, Router
from ual_registry.errors import FormatError, RouteError


def test_a_router_tells_clouds_apart_and_refuses_what_is_elsewhere() -> None:
    router = fitted().router
    for seed, name in enumerate(AXES, start=50):
        found = router.route(cloud(AXES[name], 20, seed))
        assert {decision.domain for decision in found} == {name}
        wanted = Reason.OK if name in ADAPTERS else Reason.NO_ADAPTER
        assert sum(decision.reason is wanted for decision in found) >= 17
    foreign = router.route(cloud((7, 9, 11), 30, 99))
    assert {decision.reason for decision in foreign} == {Reason.OUT_OF_SCOPE}
    assert {decision.adapter for decision in foreign} == {None}


def test_the_manifest_says_what_the_router_is() -> None:
    found = fitted(name="desk", keeps_examples=True)
    manifest = found.router.manifest
    assert (manifest.kind, manifest.name, manifest.encoder) == ("router", "desk", ENCODER)
    assert [(own.name, own.adapter, own.examples, own.min_probability) for own in manifest.domains] == [
        ("banking", ADAPTERS["banking"], 40, None),
        ("travel", ADAPTERS["travel"], 40, None),
        ("work", None, 40, None),
    ]
    (statement,) = manifest.provenance
    assert statement.parameters == {
        "steps": 0,
        "seed": 0,
        "settings": {
            "target": {"kept": 0.95},
            "held_out_examples": 120,
            "held_out_accuracy": 1.0,
            "held_out_kept": rounded(found.report.kept),
            "held_out_precision": 1.0,
        },
    }
    assert found.report.kept == pytest.approx(0.95, abs=0.01)
    assert (found.report.examples, found.report.held_out, found.report.folds) == (120, 120, 5)
    assert len(manifest.annotations[EXAMPLES_KEY]) == len(found.router.prototypes.domain)


def test_decisions_show_the_nearest_example_of_the_domain() -> None:
    router = fitted(keeps_examples=True).router
    (decision,) = router.route(cloud(AXES["travel"], 1, 5))
    assert decision.scores is not None
    assert decision.scores.nearest.domain == "travel"
    assert str(decision.scores.nearest.example).startswith("travel ")


def test_a_router_comes_back_from_its_file(tmp_path: Path) -> None:
    router = fitted().router
    digest = router.save(tmp_path / "router.air")
    again = Router.load(tmp_path / "router.air")
    report = validate_file(tmp_path / "router.air")
    assert report.problems == ()
    queries = np.concatenate([cloud(axes, 10, 7) for axes in AXES.values()])
    before = [decision.document() for decision in again.route(queries)]
    assert again.save(tmp_path / "again.air") == digest
    assert [decision.document() for decision in Router.load(tmp_path / "again.air").route(queries)] == before
    np.testing.assert_allclose(again.probabilities(queries), router.probabilities(queries), atol=1e-5)


def test_the_same_examples_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (fitted(seed=3).router.save(tmp_path / f"{place}.air") for place in range(2))
    assert first == second


@pytest.mark.parametrize("count", [3, 5, 12, 130])
def test_few_and_many_examples_do(count: int) -> None:
    found = fitted(count)
    assert found.report.folds == (1 if count >= 100 else min(5, count))
    decisions = found.router.route(cloud(AXES["work"], 10, 3))
    assert sum(decision.domain == "work" for decision in decisions) >= 9


def test_five_examples_of_one_domain_do_beside_ten_thousand_of_another() -> None:
    counts = {"banking": 10_000, "travel": 5, "work": 5}
    own = [
        DomainExamples(name=name, texts=tuple(f"{name} {place}" for place in range(n))) for name, n in counts.items()
    ]
    found = fit_router(own, np.concatenate([cloud(AXES[name], n, 1) for name, n in counts.items()]), ENCODER)
    assert [domain.examples for domain in found.router.manifest.domains] == [10_000, 5, 5]
    assert (found.report.examples, found.report.folds, found.report.held_out) == (10_010, 1, 2002)
    assert np.bincount(found.router.prototypes.domain).tolist() == [32, 5, 5]
    for name, axes in AXES.items():
        decisions = found.router.route(cloud(axes, 40, 9))
        # By their number alone the five would be named too rarely for this.
        assert sum(decision.domain == name for decision in decisions) >= 30


def test_the_name_of_a_domain_is_one_more_example_where_names_mean_something() -> None:
    own, embeddings = domains(3)
    # Of work, banking and travel, in the order of the domains: near their examples, with a direction of their own.
    names = unit(np.eye(DIMENSION)[[4, 0, 2]] + 2 * np.eye(DIMENSION)[[8, 9, 10]])
    queries = np.eye(DIMENSION)[[8, 9, 10]]
    named, plain, misnamed = (
        fit_router(own, embeddings, ENCODER, names=rows).router for rows in (names, None, names[[1, 2, 0]])
    )
    order = [named.names.index(domain.name) for domain in own]
    assert named.probabilities(queries).argmax(axis=1).tolist() == order
    assert named.probabilities(queries).max(axis=1).min() > plain.probabilities(queries).max(axis=1).max()
    np.testing.assert_array_equal(misnamed.classifier.weight, plain.classifier.weight)


@pytest.mark.parametrize(
    ("name", "label"),
    [("card_arrival", "card arrival"), ("what is-up/now", "what is up now"), ("Käse", "Käse"), ("--", "--")],
)
def test_the_label_of_a_domain_is_its_name_as_words(name: str, label: str) -> None:
    assert DomainExamples(name=name, texts=()).label == label


def test_one_of_two_regressions_sees_the_sentence_embedding_alone_where_no_domain_is_cut() -> None:
    own, embeddings = domains(5)
    rng = np.random.default_rng(0)
    wide = np.concatenate([embeddings, rng.standard_normal((15, 4))], axis=1)  # what stands beside says nothing
    encoder = replace(ENCODER, dimension=DIMENSION + 4)
    weights = [
        np.abs(fit_router(own, wide, encoder, sentence_width=width).router.classifier.weight[:, DIMENSION:]).mean()
        for width in (DIMENSION, None)
    ]
    assert weights[0] < weights[1]


def test_probabilities_add_up_to_one() -> None:
    found = fitted().router.probabilities(cloud((0, 6), 40, 4))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)


def test_a_precision_can_be_asked_for() -> None:
    own, embeddings = domains(60)
    embeddings[:10] = cloud(AXES["banking"], 10, 77)  # examples of work that are none
    report = fit_router(own, embeddings, ENCODER, target=Target(kept=None, precision=0.99)).report
    assert report.precision >= 0.99
    assert report.kept < 0.96


def test_a_domain_can_have_a_threshold_of_its_own() -> None:
    own, embeddings = domains(80)
    router = fit_router(own, embeddings, ENCODER, has_own_thresholds=True).router
    assert all(domain.min_probability is not None for domain in router.manifest.domains)
    chosen = [DomainExamples(name=d.name, texts=d.texts, min_probability=0.25) for d in own]
    router = fit_router(chosen, embeddings, ENCODER, has_own_thresholds=True).router
    assert [domain.min_probability for domain in router.manifest.domains] == [0.25] * 3


def test_texts_in_two_domains_are_reported() -> None:
    own, embeddings = domains(10)
    own[0] = DomainExamples(name="work", texts=("same  text", *own[0].texts[1:]))
    own[1] = DomainExamples(name="banking", texts=("same text", *own[1].texts[1:]))
    assert fit_router(own, embeddings, ENCODER).report.duplicates == {"same text": ("work", "banking")}


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ([], "no domain is given"),
        ([DomainExamples(name="", texts=("a", "b"))], "domain '' has no name"),
        (
            [DomainExamples(name="x", texts=("a", "b")), DomainExamples(name="x", texts=("c", "d"))],
            "domain 'x' is given twice",
        ),
        ([DomainExamples(name="x", texts=("a",))], "domain 'x': 1 examples, expected at least 2"),
        ([DomainExamples(name="x", texts=())], "domain 'x': 0 examples, expected at least 2"),
    ],
)
def test_domains_that_cannot_be_fitted_are_refused(own: list[DomainExamples], message: str) -> None:
    with pytest.raises(RouteError) as caught:
        fit_router(own, np.zeros((4, DIMENSION)), ENCODER)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kept": 0.0}, "target kept: expected above 0, at most 1, got 0"),
        ({"kept": None}, "target: expected either kept or precision"),
        ({"precision": 0.9}, "target: expected either kept or precision"),
    ],
)
def test_a_target_that_cannot_be_kept_is_refused(options: dict[str, float | None], message: str) -> None:
    with pytest.raises(RouteError, match=message):
        Target(**options)


def test_embeddings_of_another_encoder_are_refused() -> None:
    router = fitted().router
    with pytest.raises(RouteError) as caught:
        router.route(np.zeros((2, 5)))
    assert caught.value.message == "embeddings of shape (2, 5) do not match dimension 12 (expected (n, 12))"
    with pytest.raises(RouteError, match="an embedding holds a NaN"):
        router.route(np.full((1, DIMENSION), np.nan))


def test_a_damaged_router_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "router.air"
    fitted().router.save(path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError):
        Router.load(path)


@pytest.mark.parametrize("name", ["classifier.domain", "prototypes.domain"])
def test_an_index_outside_the_domains_is_refused(tmp_path: Path, name: str) -> None:
    router = fitted().router
    part = router.classifier if name.startswith("classifier") else router.prototypes
    part.domain[0] = 9
    router.save(tmp_path / "router.air")
    with pytest.raises(RouteError) as caught:
        Router.load(tmp_path / "router.air")
    assert caught.value.message == f"{tmp_path / 'router.air'}: {name}: index 9, expected 0 to 2"


def test_a_domain_without_a_cluster_is_refused(tmp_path: Path) -> None:
    router = fitted().router
    router.classifier.domain[router.classifier.domain == 1] = 0
    router.save(tmp_path / "router.air")
    with pytest.raises(RouteError, match="no cluster belongs to domain 'travel'"):
        Router.load(tmp_path / "router.air")


def test_a_domain_is_removed_and_the_others_share_its_probability() -> None:
    router = fitted().router
    changed = remove_domain(router, "travel")
    queries = cloud(AXES["work"] + AXES["banking"], 20, 8)
    before = router.probabilities(queries)[:, [0, 2]]
    assert changed.names == ("banking", "work")
    np.testing.assert_allclose(changed.probabilities(queries), before / before.sum(axis=1, keepdims=True), atol=1e-12)


def test_a_domain_is_added_without_the_examples_of_the_others(tmp_path: Path) -> None:
    router = fitted(keeps_examples=True).router
    new = DomainExamples(name="cooking", texts=tuple(map(str, range(30))), adapter="sha256:" + "c" * 64)
    changed = add_domain(router, new, cloud((6, 7), 30, 21))
    assert changed.names == ("banking", "cooking", "travel", "work")
    changed.save(tmp_path / "router.air")
    again = Router.load(tmp_path / "router.air")
    for name, axes in {**AXES, "cooking": (6, 7)}.items():
        found = again.route(cloud(axes, 20, 31))
        assert sum(decision.domain == name for decision in found) >= 17
    near = again.route(cloud((6, 7), 20, 33))
    assert sum(decision.reason is not Reason.OUT_OF_SCOPE for decision in near) >= 15
    assert EXAMPLES_KEY not in changed.manifest.annotations


def test_domains_that_cannot_be_changed_are_refused() -> None:
    router = fitted().router
    with pytest.raises(RouteError, match="no domain 'x' \\(it has banking, travel, work\\)"):
        remove_domain(router, "x")
    with pytest.raises(RouteError, match="'work' is the router's only domain"):
        remove_domain(remove_domain(remove_domain(router, "banking"), "travel"), "work")
    with pytest.raises(RouteError, match="has a domain 'work' already"):
        add_domain(router, DomainExamples(name="work", texts=("a", "b")), cloud((6,), 2, 1))
    with pytest.raises(RouteError, match="1 examples, expected at least 2"):
        add_domain(router, DomainExamples(name="x", texts=("a",)), cloud((6,), 1, 1))


def test_an_evaluation_counts_by_hand() -> None:
    router = fitted().router
    queries = np.concatenate([cloud(AXES["banking"], 10, 60), cloud(AXES["travel"], 10, 61)])
    labels = ["banking"] * 9 + ["work"] + ["travel"] * 10  # one label is wrong on purpose
    found = evaluate_router(
        router,
        [f"q{place}" for place in range(20)],
        labels,
        queries,
        foreign_texts=["f0", "f1"],
        foreign_embeddings=np.concatenate([cloud((9,), 1, 1), cloud(AXES["travel"], 1, 62, spread=0.01)]),
    )
    assert (found.queries, found.out_of_scope, found.names) == (20, 2, ("banking", "travel", "work"))
    assert found.accuracy == pytest.approx(0.95)
    assert found.confusion == ((9, 0, 0), (0, 10, 0), (1, 0, 0))
    assert found.refused == pytest.approx(0.5)
    assert 0 < (found.auroc or 0) < 1
    assert most_confused(found) == [("work", "banking", 1)]
    wrong = {miss.text: miss.expected for miss in found.misses}
    assert wrong["q9"] == "work"
    assert wrong["f1"] is None
    assert "f0" not in wrong


def test_calibration_error_and_risk_are_as_by_hand() -> None:
    probability = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    is_right = np.array([True, True, True, False, True, False])
    assert expected_calibration_error(probability, is_right) == pytest.approx(4 / 6 * 0.2 + 2 / 6 * 0.05)
    assert risk_coverage(probability, is_right, points=3) == ((1 / 6, 0.0), (4 / 6, 0.25), (1.0, 2 / 6))


def test_overlapping_domains_are_named_with_their_examples() -> None:
    own, embeddings = domains(40)
    router = fit_router(own, embeddings, ENCODER).router
    middle = cloud((0, 2), 4, 5)
    middle = (middle[::2] + middle[1::2]) / np.linalg.norm(middle[::2] + middle[1::2], axis=1, keepdims=True)
    queries = np.concatenate([cloud(AXES["banking"], 4, 1), middle, cloud(AXES["travel"], 4, 2)])
    labels = ["banking"] * 5 + ["travel"] * 5
    found = analyze_overlap(router, [f"q{place}" for place in range(10)], labels, queries)
    assert found.names == ("banking", "travel", "work")
    first = found.pairs[0]
    assert (first.first, first.second) == ("banking", "travel")
    assert {text for _, text, _ in first.examples[:2]} == {"q4", "q5"}
    assert [row[place] for place, row in enumerate(found.shares)] == [0.0, 0.0, 0.0]
