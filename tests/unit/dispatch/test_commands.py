"""The commands about routers: what they print, what they keep, and what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands import Result, Ual
from tests.unit.dispatch.conftest import ENCODER, write_rows
from ual_registry.air.codec import encode
from ual_registry.air.rounding import rounded
from ual_registry.air.schema import schema_problems
from ual_registry.digest import Digest
from ual_registry.dispatch.router import EXAMPLES_KEY, Router

TEST = ("--data", "tiny/test.jsonl")


def digest_of(name: str) -> str:
    return str(Digest.of_file(Path(name)))


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def checked(result: Result, schema: str) -> Any:
    """Return the document of a command that ended well, once it follows its schema."""
    assert (result.code, result.err) == (0, "")
    assert list(schema_problems(f"1.0/cli/{schema}.json", result.document, root="document")) == []
    return result.document


def limits(router: Router) -> dict[str, float]:
    own = router.manifest.thresholds
    return {
        "max_distance": rounded(own.max_distance),
        "min_probability": rounded(own.min_probability),
        "min_margin": rounded(own.min_margin),
    }


def domain(name: str, adapter: str | None, examples: int = 60) -> dict[str, Any]:
    digest = None if adapter is None else digest_of(adapter)
    return {"name": name, "adapter": digest, "examples": examples, "min_probability": None}


DOMAINS = (("banking", "money.air"), ("cooking", None), ("travel", "trips.air"))


def test_a_training_says_what_it_made(desk: Path) -> None:
    router = Router.load("desk.air")
    (statement,) = router.manifest.provenance
    held_out = statement.parameters["settings"]
    document = json.loads(Path("trained.json").read_text())
    assert list(schema_problems("1.0/cli/router.json", document, root="document")) == []
    assert document == {
        "domains": [domain(*pair) for pair in DOMAINS],
        "encoder": "encoder",
        "temperature": rounded(router.manifest.temperature),
        "thresholds": limits(router),
        "digest": digest_of("desk.air"),
        "revision": "desk@1",
        "examples": 180,
        "held_out": 180,
        "accuracy": held_out["held_out_accuracy"],
        "kept": 0.95,
        "precision": held_out["held_out_precision"],
        "duplicates": {},
        "unused": {},
    }
    assert document["accuracy"] > 0.9


SETTINGS = """domains:
  pets: {examples: [river sheep, fox stone, rain fox, sheep moss, tree fox]}
  money:
    adapter: money
    examples: [account loan, cash card, transfer balance, fee]
"""


def test_a_training_says_to_people_what_was_odd(ual: Ual) -> None:
    Path("small.yaml").write_text(SETTINGS)
    own = [{"text": "fee", "domain": "pets"}, {"text": "a flight", "domain": "air"}, {"text": "hm"}]
    write_rows(Path("more.jsonl"), own)
    found = ual("router", "train", "--config", "small.yaml", "--data", "more.jsonl", *ENCODER, "-o", "small.air")
    router = Router.load("small.air")
    (statement,) = router.manifest.provenance
    held_out, own_limits = statement.parameters["settings"], router.manifest.thresholds
    assert found == Result(
        0,
        "domain    examples    adapter\n"
        f"money     4           {digest_of('money.air')}\n"
        "pets      6           (base model)\n"
        "\n"
        f"on 10 held-out examples: {held_out['held_out_accuracy']:.1%} in the right domain, "
        f"{held_out['held_out_kept']:.1%} routed, {held_out['held_out_precision']:.1%} of those right\n"
        f"abstains beyond distance {own_limits.max_distance:.3f}, below probability {own_limits.min_probability:.3f} "
        f"or a lead of {own_limits.min_margin:.3f}\n"
        "in several domains (pets, money): fee\n"
        "left out 1 examples of (no domain), which the settings do not name\n"
        "left out 1 examples of air, which the settings do not name\n"
        "wrote small.air\n"
        f"{digest_of('small.air')}\n",
        "encoding 10 examples with encoder\nfitting\n",
    )


def test_a_registered_router_is_found_and_shown(ual: Ual) -> None:
    router = Router.load("desk.air")
    found = ual("search", "kind:router", "--json").document["hits"]
    assert [(item["name"], item["number"], item["kind"], item["digest"]) for item in found] == [
        ("desk", 1, "router", digest_of("desk.air"))
    ]
    shown = checked(ual("show", "desk.air", "--json"), "show-router")
    assert shown == {
        "path": "desk.air",
        "digest": digest_of("desk.air"),
        "size_bytes": Path("desk.air").stat().st_size,
        "clusters": len(router.classifier.bias),
        "prototypes": 96,
        "manifest": encode(router.manifest),
    }
    settings = router.manifest.provenance[0].parameters["settings"]
    examples = router.manifest.provenance[0].materials[0]["digest"]
    own = router.manifest.thresholds
    kilobytes = f"{Path('desk.air').stat().st_size / 1000:.3g} kB"
    assert ual("show", "desk") == Result(
        0,
        f"desk  AIR 1.0 router, {kilobytes}\n"
        f"digest     {digest_of('desk.air')}\n"
        "name       desk\n"
        "encoder    encoder (embeddings of 128), unpinned\n"
        f"abstains   beyond distance {own.max_distance:.3f}, below probability {own.min_probability:.3f} "
        f"or a lead of {own.min_margin:.3f}\n"
        f"classifier {len(router.classifier.bias)} clusters, temperature {router.manifest.temperature:.3f}\n"
        "prototypes 96\n"
        "\n"
        "domain    examples    adapter\n"
        f"banking   60          {digest_of('money.air')}\n"
        "cooking   60          (base model)\n"
        f"travel    60          {digest_of('trips.air')}\n"
        "\n"
        "training by ual-registry 0.1.0: seed 0, steps 0\n"
        f"  from examples {examples}\n"
        f"  held_out_accuracy {settings['held_out_accuracy']}\n"
        "  held_out_examples 180\n"
        "  held_out_kept 0.95\n"
        f"  held_out_precision {settings['held_out_precision']}\n"
        "  target kept 0.95\n",
        "",
    )


def test_a_picture_of_a_router_is_refused(ual: Ual) -> None:
    found = ual("show", "desk", "--plot", "loss.svg")
    assert (found.code, found.out) == (2, "")
    assert "--plot draws the training of an adapter, and this is a router" in found.err


def test_an_explained_decision_shows_every_number(ual: Ual) -> None:
    query = "where is my card money"
    (document,) = checked(ual("route", "desk", query, *ENCODER, "--json"), "route")
    router = Router.load("desk.air")
    assert document == {
        "query": query,
        "reason": "ok",
        "domain": "banking",
        "adapter": digest_of("money.air"),
        "probability": document["probabilities"]["banking"],
        "margin": document["margin"],
        "nearest": {"domain": "banking", "distance": document["nearest"]["distance"]},
        "probabilities": document["probabilities"],
        "thresholds": limits(router),
    }
    assert sum(document["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    ranked = sorted(document["probabilities"].items(), key=lambda item: -item[1])
    own = router.manifest.thresholds
    said = ual("route", "desk", query, *ENCODER, "--explain").out.splitlines()
    assert said == [
        f"banking: ok ({document['probability']:.3f}) -> {digest_of('money.air')}",
        "             measured    limit",
        f"distance     {document['nearest']['distance']:.3f}       at most {own.max_distance:.3f}   ok",
        f"probability  {document['probability']:.3f}       at least {own.min_probability:.3f}  ok",
        f"lead         {document['margin']:.3f}       at least {own.min_margin:.3f}  ok",
        "domains: " + ", ".join(f"{name} {value:.3f}" for name, value in ranked),
        "nearest: banking",
    ]


def test_decisions_show_an_example_where_the_router_keeps_them(ual: Ual) -> None:
    command = ("router", "train", "--config", "tiny/router.yaml", "--data", "tiny/examples.jsonl", "--keep-examples")
    assert ual(*command, "-o", "kept.air", "-q").code == 0
    (document,) = checked(ual("route", "./kept.air", "the card and the loan", *ENCODER, "--json"), "route")
    texts = {row["text"] for row in rows("tiny/examples.jsonl") if row["domain"] == document["nearest"]["domain"]}
    assert document["nearest"]["example"] in texts
    said = ual("route", "./kept.air", "the card and the loan", *ENCODER, "--explain").out
    assert said.endswith(f"nearest: banking: {document['nearest']['example']}\n")
    assert EXAMPLES_KEY in ual("show", "./kept.air").out


def test_an_evaluation_is_what_the_decisions_say(ual: Ual) -> None:
    queries = rows("tiny/test.jsonl")
    decisions = checked(ual("route", "desk", *TEST, *ENCODER, "--json"), "route")
    pairs = list(zip(queries, decisions, strict=True))
    inside = [(row, own) for row, own in pairs if row["domain"]]
    outside = [own for row, own in pairs if not row["domain"]]
    kept = {"ok", "no_adapter"}
    found = checked(ual("router", "evaluate", "desk", *TEST, *ENCODER, "--json"), "router")
    names = ["banking", "cooking", "travel"]
    confusion = [[sum((row["domain"], own["domain"]) == (a, b) for row, own in inside) for b in names] for a in names]
    routed = [(row, own) for row, own in inside if own["reason"] in kept]
    for name in ("macro_f1", "calibration_error", "auroc", "refused_at_95_kept", "risk_coverage"):
        found.pop(name)  # by hand in test_router.py
    misses = [(own["query"], own["expected"], own["domain"], own["reason"]) for own in found.pop("misses")]
    missed = [(row, own) for row, own in inside if row["domain"] != own["domain"] or own["reason"] not in kept]
    assert found == {
        "queries": 60,
        "accuracy": rounded(sum(row["domain"] == own["domain"] for row, own in inside) / 60),
        "kept": rounded(len(routed) / 60),
        "kept_precision": rounded(sum(row["domain"] == own["domain"] for row, own in routed) / len(routed)),
        "out_of_scope": 20,
        "refused": rounded(sum(own["reason"] not in kept for own in outside) / 20),
        "domains": names,
        "confusion": confusion,
    }
    assert misses == [
        *((own["query"], row["domain"], own["domain"], own["reason"]) for row, own in missed),
        *((own["query"], None, own["domain"], own["reason"]) for own in outside if own["reason"] in kept),
    ]
    assert found["accuracy"] > 0.9


def test_an_evaluation_is_told_and_drawn(ual: Ual) -> None:
    pytest.importorskip("matplotlib")
    found = ual("router", "evaluate", "desk", *TEST, *ENCODER, "--plot", "seen.svg")
    assert found.code == 0
    document = ual("router", "evaluate", "desk", *TEST, *ENCODER, "--json").document
    assert found.out.splitlines()[:10] == [
        "queries                 60",
        f"accuracy                {document['accuracy']:.1%}",
        f"macro F1                {document['macro_f1']:.3f}",
        f"calibration error       {document['calibration_error']:.3f}",
        f"routed                  {document['kept']:.1%}",
        f"right among the routed  {document['kept_precision']:.1%}",
        "out-of-scope queries    20",
        f"refused                 {document['refused']:.1%}",
        f"AUROC                   {document['auroc']:.3f}",
        f"refused at 95 % kept    {document['refused_at_95_kept']:.1%}",
    ]
    drawn = Path("seen.svg").read_text()
    assert f"60 queries: {document['accuracy']:.1%} in the right domain" in drawn
    assert ual("router", "evaluate", "desk", *TEST, *ENCODER, "--plot", "again.svg").code == 0
    assert Path("again.svg").read_text() == drawn


def test_an_overlap_is_the_mean_of_what_queries_give_to_other_domains(ual: Ual) -> None:
    inside = [row for row in rows("tiny/test.jsonl") if row["domain"]]
    write_rows(Path("inside.jsonl"), inside)
    decisions = ual("route", "desk", "--data", "inside.jsonl", *ENCODER, "--json").document
    names = ["banking", "cooking", "travel"]
    shares = np.zeros((3, 3))
    for row, own in zip(inside, decisions, strict=True):
        shares[names.index(row["domain"])] += [own["probabilities"][name] / 20 for name in names]
    np.fill_diagonal(shares, 0)
    found = checked(ual("router", "overlap", "desk", *TEST, *ENCODER, "--json"), "router")
    np.testing.assert_allclose(found["shares"], shares, atol=1e-5)
    assert found["domains"] == names
    for pair in found["pairs"]:
        first, second = names.index(pair["first"]), names.index(pair["second"])
        assert pair["share"] == pytest.approx((shares[first, second] + shares[second, first]) / 2, abs=1e-5)


def test_overlapping_domains_are_told_and_drawn(ual: Ual) -> None:
    pytest.importorskip("matplotlib")
    mixed = [
        {"text": f"{word} {more}", "domain": name}
        for word, more in (("card", "hotel"), ("loan", "map"))
        for name in ("banking", "travel")
    ]
    write_rows(Path("mixed.jsonl"), mixed)
    found = ual("router", "overlap", "desk", "--data", "mixed.jsonl", *ENCODER, "--plot", "seen.png")
    assert found.code == 0
    document = ual("router", "overlap", "desk", "--data", "mixed.jsonl", *ENCODER, "--json").document
    worst = document["pairs"][0]
    assert (worst["first"], worst["second"]) == ("banking", "travel")
    other = {"banking": "travel", "travel": "banking"}
    lines = [
        f"  {own['probability']:.2f} {other[own['domain']]}  {own['domain']}: {own['text']}"
        for own in worst["examples"]
    ]
    assert found.out.splitlines()[: 1 + len(lines)] == [f"banking and travel: {worst['share']:.1%}", *lines]
    assert Path("seen.png").read_bytes().startswith(b"\x89PNG")


def test_a_domain_is_removed_and_added_again(ual: Ual) -> None:
    router = Router.load("desk.air")
    same = {"encoder": "encoder", "temperature": rounded(router.manifest.temperature), "thresholds": limits(router)}
    two = checked(ual("router", "remove", "desk", "cooking", "-o", "two.air", "--json"), "router")
    assert two == {"domains": [domain("banking", "money.air"), domain("travel", "trips.air")], **same}
    command = ("router", "add", "two.air", "cooking", "--data", "tiny/examples.jsonl", "--adapter", "trips", *ENCODER)
    three = checked(ual(*command, "--name", "desk", "--json"), "router")
    assert three == {
        "domains": [domain("banking", "money.air"), domain("cooking", "trips.air"), domain("travel", "trips.air")],
        **same,
    }
    assert [own["number"] for own in ual("search", "kind:router", "--json").document["hits"]] == [2, 1]
    said = ual("router", "remove", "desk", "cooking", "-o", "two.air", "--force")
    assert said == Result(
        0,
        "domain    examples    adapter\n"
        f"banking   60          {digest_of('money.air')}\n"
        f"travel    60          {digest_of('trips.air')}\n"
        "\n"
        "removed cooking\n"
        "wrote two.air\n",
        "",
    )
    (cooked,) = ual("route", "desk", "the butter and the flour", *ENCODER, "--json").document
    assert (cooked["domain"], cooked["adapter"]) == ("cooking", digest_of("trips.air"))


def test_a_log_is_replayed_against_a_changed_router(ual: Ual) -> None:
    before = checked(ual("route", "desk", *TEST, *ENCODER, "--log", "log.jsonl", "--json"), "route")
    logged = rows("log.jsonl")
    assert [{key: value for key, value in row.items() if key != "at"} for row in logged] == before
    assert {len(row["at"]) for row in logged} == {len("2026-01-01T00:00:00Z")}
    same = checked(ual("router", "replay", "desk", "--log", "log.jsonl", *ENCODER, "--json"), "router")
    assert same == {"decisions": 80, "forced": 0, "changes": []}
    with Path("log.jsonl").open("a") as stream:
        stream.write('{"query": "x", "domain": null, "adapter": "tone@3", "reason": "forced"}\n')
    ual("router", "remove", "desk", "cooking", "-o", "two.air")
    after = ual("route", "two.air", *TEST, *ENCODER, "--json").document
    keys = ("reason", "domain", "adapter")
    expected = [
        (old["query"], tuple(old[key] for key in keys), tuple(new[key] for key in keys))
        for old, new in zip(before, after, strict=True)
        if [old[key] for key in keys] != [new[key] for key in keys]
    ]
    found = checked(ual("router", "replay", "two.air", "--log", "log.jsonl", *ENCODER, "--json"), "router")
    assert (found["decisions"], found["forced"]) == (80, 1)
    assert [
        (own["query"], tuple(own["before"][key] for key in keys), tuple(own["after"][key] for key in keys))
        for own in found["changes"]
    ] == expected
    assert {len(own["after"]) for own in found["changes"]} == {8}  # whole decisions
    lines = ual("router", "replay", "two.air", "--log", "log.jsonl", *ENCODER).out.splitlines()
    assert lines[:2] == [
        f"{len(expected)} of 80 decisions would change",
        "left out 1 where the caller had named the adapter",
    ]
    assert lines[-1] == f"... and {len(expected) - 5} more (-v shows all)"


def logged_row(name: str, distance: float, adapter: str | None = "x") -> dict[str, Any]:
    reason = "ok" if adapter else "out_of_scope"
    return {"query": "q", "domain": name, "adapter": adapter, "reason": reason, "nearest": {"distance": distance}}


def test_drift_is_told(ual: Ual) -> None:
    older = [logged_row("banking", 0.1 + place / 1000) for place in range(30)]
    older += [logged_row("travel", 0.1 + place / 1000) for place in range(10)]
    newer = [logged_row("travel", 0.5 + place / 1000, None) for place in range(20)]
    write_rows(Path("log.jsonl"), [*older, *newer])
    found = checked(ual("router", "drift", "--log", "log.jsonl", "--since", 20, "--json"), "router")
    assert found.pop("distance_p") < 1e-9
    assert found.pop("domains_p") < 1e-6
    assert found == {
        "before": 40,
        "after": 20,
        "domains": {"banking": [0.75, 0.0], "travel": [0.25, 1.0]},
        "abstained": [0.0, 1.0],
        "has_drifted": True,
    }
    lines = ual("router", "drift", "--log", "log.jsonl", "--since", 20).out.splitlines()
    assert lines[:5] == [
        "            older 40    newer 20",
        "banking     75.0%       0.0%",
        "travel      25.0%       100.0%",
        "not routed  0.0%        100.0%",
        "",
    ]
    number = r"[0-9.]+e-[0-9]+"
    said = rf"distances \(Kolmogorov-Smirnov\) p = {number}, domains \(chi-squared\) p = {number}"
    assert re.fullmatch(f"the traffic has drifted: {said}", lines[5])
    assert ual("router", "drift", "--log", "log.jsonl", "--json").document["before"] == 30
    assert ual("router", "drift", "--log", "log.jsonl", "--split", 0.5, "--json").document["before"] == 30
