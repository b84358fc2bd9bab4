"""What the commands about routers say to people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.cli.output import table

if TYPE_CHECKING:
    from ual_registry.dispatch.decision import Decision
    from ual_registry.dispatch.log import Drift, LoggedDecision
    from ual_registry.dispatch.measure import RouterEvaluation
    from ual_registry.dispatch.overlap import Overlap
    from ual_registry.dispatch.router import Router
    from ual_registry.workflows.route import Replay
    from ual_registry.workflows.router import TrainedRouter

__all__ = ["changed", "decisions", "drift", "evaluation", "overlap", "replayed", "trained"]

_SHOWN = 5
_WIDTH = 70
_NO_ADAPTER = "(base model)"


def trained(found: TrainedRouter, path: Path | None) -> str:
    """Return what is said of a trained router.

    Args:
        found: It.
        path: Where it was written.
    """
    report, limits = found.report, found.router.manifest.thresholds
    lines = [
        _domains(found.router),
        "",
        (
            f"on {report.held_out} held-out examples: {report.accuracy:.1%} in the right domain, "
            f"{report.kept:.1%} routed, {report.precision:.1%} of those right"
        ),
        (
            f"abstains beyond distance {limits.max_distance:.3f}, below probability {limits.min_probability:.3f} "
            f"or a lead of {limits.min_margin:.3f}"
        ),
    ]
    shown = list(report.duplicates.items())[:_SHOWN]
    lines += [f"in several domains ({', '.join(names)}): {_short(text)}" for text, names in shown]
    if len(report.duplicates) > _SHOWN:
        lines.append(f"... and {len(report.duplicates) - _SHOWN} more such texts (--json lists all)")
    lines += [
        f"left out {count} examples of {name}, which the settings do not name" for name, count in found.unused.items()
    ]
    lines += [] if path is None else [f"wrote {path}"]
    lines += [] if found.revision is None else [f"registered {found.revision}"]
    return "\n".join([*lines, *([] if found.digest is None else [str(found.digest)])])


def changed(router: Router, what: str, path: Path | None) -> str:
    """Return what is said of a changed router.

    Args:
        router: It.
        what: What was done to it.
        path: Where it was written.
    """
    return "\n".join([_domains(router), "", what, *([] if path is None else [f"wrote {path}"])])


def _domains(router: Router) -> str:
    rows = [[own.name, str(own.examples), own.adapter or _NO_ADAPTER] for own in router.manifest.domains]
    return table(rows, ["domain", "examples", "adapter"])


def evaluation(found: RouterEvaluation, *, is_verbose: bool) -> str:
    """Return what is said of an evaluation; ``is_verbose`` shows every query that went wrong."""
    rows = [
        ["queries", str(found.queries)],
        ["accuracy", f"{found.accuracy:.1%}"],
        ["macro F1", f"{found.macro_f1:.3f}"],
        ["calibration error", f"{found.calibration_error:.3f}"],
        ["routed", f"{found.kept:.1%}"],
        ["right among the routed", f"{found.kept_precision:.1%}"],
    ]
    if found.refused is not None:
        rows += [
            ["out-of-scope queries", str(found.out_of_scope)],
            ["refused", f"{found.refused:.1%}"],
            ["AUROC", f"{found.auroc:.3f}"],
            ["refused at 95 % kept", f"{found.refused_at_95_kept:.1%}"],
        ]
    misses = found.misses if is_verbose else found.misses[:_SHOWN]
    wrong = [
        [miss.expected or "(none)", str(miss.decision.domain), str(miss.decision.reason), _short(miss.text)]
        for miss in misses
    ]
    lines = [table(rows, ()), *(["", table(wrong, ["expected", "said", "reason", "query"])] if wrong else [])]
    return "\n".join([*lines, *_more(len(found.misses) - len(misses))])


def overlap(found: Overlap, *, is_verbose: bool) -> str:
    """Return what is said of an overlap; ``is_verbose`` shows every pair of domains."""
    if not found.pairs:
        return "no two domains overlap"
    pairs = found.pairs if is_verbose else found.pairs[:_SHOWN]
    lines = []
    for pair in pairs:
        lines.append(f"{pair.first} and {pair.second}: {pair.share:.1%}")
        lines += [
            f"  {probability:.2f} {pair.second if domain == pair.first else pair.first}  {domain}: {_short(text)}"
            for domain, text, probability in pair.examples
        ]
    return "\n".join([*lines, *_more(len(found.pairs) - len(pairs))])


def decisions(queries: Sequence[str], found: Sequence[Decision], *, is_explained: bool) -> str:
    """Return what is said of decisions.

    Args:
        queries: The queries.
        found: What became of each.
        is_explained: Whether to say what each was made from.
    """
    parts = []
    for query, decision in zip(queries, found, strict=True):
        who = decision.adapter or "fallback"
        head = f"{decision.domain}: {decision.reason} ({decision.probability:.3f}) -> {who}"
        parts.append(f"{_short(query)}\n  {head}" if len(queries) > 1 else head)
        if is_explained:
            parts.append(_explained(decision))
    return "\n".join(parts)


def _explained(decision: Decision) -> str:
    scores, limits = decision.scores, decision.thresholds
    assert scores is not None  # a router's decision always has both
    assert limits is not None
    nearest, probability, lead = scores.nearest, decision.probability or 0.0, decision.margin or 0.0
    rows = [
        _row("distance", nearest.distance, "at most", limits.max_distance),
        _row("probability", probability, "at least", limits.min_probability),
        _row("lead", lead, "at least", limits.min_margin),
    ]
    ranked = sorted(scores.probabilities.items(), key=lambda item: -item[1])[:_SHOWN]
    example = f": {_short(nearest.example)}" if nearest.example else ""
    return "\n".join(
        [
            table(rows, ["", "measured", "limit", ""]),
            "domains: " + ", ".join(f"{name} {value:.3f}" for name, value in ranked),
            f"nearest: {nearest.domain}{example}",
        ]
    )


def _row(name: str, value: float, word: str, limit: float) -> list[str]:
    is_kept = value <= limit if word == "at most" else value >= limit
    return [name, f"{value:.3f}", f"{word} {limit:.3f}", "ok" if is_kept else "fails"]


def replayed(found: Replay, *, is_verbose: bool) -> str:
    """Return what is said of a replay; ``is_verbose`` shows every query that is decided otherwise."""
    lines = [f"{len(found.changes)} of {found.decisions} decisions would change"]
    if found.forced:
        lines.append(f"left out {found.forced} where the caller had named the adapter")
    ways = Counter((_was(change.before), _is(change.after)) for change in found.changes)
    if ways:
        rows = [[str(count), before, after] for (before, after), count in sorted(ways.items(), key=_by_count)]
        lines += ["", table(rows, ["decisions", "before", "after"])]
    changes = found.changes if is_verbose else found.changes[:_SHOWN]
    if changes:
        rows = [[_was(own.before), _is(own.after), _short(own.before.query)] for own in changes]
        lines += ["", table(rows, ["before", "after", "query"])]
    return "\n".join([*lines, *_more(len(found.changes) - len(changes))])


def _by_count(item: tuple[tuple[str, str], int]) -> tuple[int, tuple[str, str]]:
    return -item[1], item[0]


def _was(row: LoggedDecision) -> str:
    return f"{row.domain}: {row.reason}"


def _is(decision: Decision) -> str:
    return f"{decision.domain}: {decision.reason}"


def drift(found: Drift) -> str:
    """Return what is said of drift."""
    rows = [[name, f"{old:.1%}", f"{new:.1%}"] for name, (old, new) in found.domains.items()]
    rows.append(["not routed", f"{found.abstained[0]:.1%}", f"{found.abstained[1]:.1%}"])
    said = "the traffic has drifted" if found.has_drifted else "no drift is seen"
    tests = (
        f"distances (Kolmogorov-Smirnov) p = {found.distance_p:.3g}, domains (chi-squared) p = {found.domains_p:.3g}"
    )
    lines = [
        table(rows, ["", f"older {found.before}", f"newer {found.after}"]),
        "",
        f"{said}: {tests}",
    ]
    return "\n".join(lines)


def _more(count: int) -> list[str]:
    return [f"... and {count} more (-v shows all)"] if count else []


def _short(text: str) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text[: _WIDTH * 4].split())
    return line if len(line) <= _WIDTH and len(text) <= _WIDTH * 4 else f"{line[: _WIDTH - 3]}..."
