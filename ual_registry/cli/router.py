"""The commands about routers: router train, evaluate, add, remove; and route."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ual_registry.cli.output import Output, common_options, table
from ual_registry.workflows import router as workflows

if TYPE_CHECKING:
    from ual_registry.dispatch.decision import Decision
    from ual_registry.dispatch.measure import RouterEvaluation
    from ual_registry.dispatch.router import Router
    from ual_registry.workflows.router import TrainedRouter

__all__ = ["route_command", "router_command"]

_FILE = click.Path(path_type=Path)
_SHOWN = 5


@click.group("router")
def router_command() -> None:
    """Train, measure and change routers."""


@router_command.command("train")
@click.option("--config", required=True, type=_FILE, metavar="FILE", help="Settings: domains and their adapters, YAML.")
@click.option(
    "--data", multiple=True, type=_FILE, metavar="FILE", help="Examples, JSONL with text and domain; repeatable."
)
@click.option("--encoder", metavar="ENCODER", help="Folder of a sentence encoder, or OWNER/NAME on the Hub.")
@click.option("-o", "--output", "path", type=_FILE, metavar="PATH", help="Router file to write.")
@click.option("--name", help="Register the router under this name.")
@click.option("--keep-examples", is_flag=True, help="Keep texts of examples in the file, for decisions to show.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds clusters and held-out parts.")
@click.option("--force", is_flag=True, help="Replace what stands at PATH.")
@common_options
def train_command(output: Output, **options: Any) -> None:
    """Train a router: which adapter answers which query, and when none does.

    Thresholds are fitted on examples that are held out, to keep 95 % of in-scope queries unless the settings say
    otherwise. Examples stand in the settings or come by --data.
    """
    if options["path"] is None and options["name"] is None:
        raise click.UsageError("give -o PATH, or --name to register the router, or both")
    order = workflows.RouterOrder(
        config=options["config"],
        data=options["data"],
        encoder=options["encoder"],
        output=options["path"],
        name=options["name"],
        keeps_examples=options["keep_examples"],
        seed=options["seed"],
        force=options["force"],
    )
    trained = workflows.train_router(order, say=output.note)
    output.result(_trained_document(trained), lambda: _trained_text(trained, options["path"]))


@router_command.command("evaluate")
@click.argument("ref", metavar="ROUTER")
@click.option("--data", required=True, multiple=True, type=_FILE, metavar="FILE", help="Queries, JSONL; repeatable.")
@click.option("--encoder", metavar="ENCODER", help="Folder of the router's encoder.")
@click.option("--plot", type=_FILE, metavar="FILE", help="Picture of coverage and confusion to write, .png or .svg.")
@click.option("--force", is_flag=True, help="Replace what stands at the picture's FILE.")
@common_options
def evaluate_command(ref: str, output: Output, **options: Any) -> None:
    """Measure a router on queries that it was not trained on.

    Queries without a domain are what no domain should answer; without any, nothing is said about them.
    """
    found = workflows.evaluate_router(
        ref, options["data"], encoder=options["encoder"], plot=options["plot"], force=options["force"]
    )
    output.result(_evaluation_document(found), lambda: _evaluation_text(found, is_verbose=output.is_verbose))


@router_command.command("add")
@click.argument("ref", metavar="ROUTER")
@click.argument("domain")
@click.option("--data", required=True, multiple=True, type=_FILE, metavar="FILE", help="Examples, JSONL; repeatable.")
@click.option("--adapter", metavar="REF", help="The adapter that answers the domain.")
@click.option("--encoder", metavar="ENCODER", help="Folder of the router's encoder.")
@click.option("-o", "--output", "path", type=_FILE, metavar="PATH", help="Router file to write.")
@click.option("--name", help="Register the router under this name.")
@click.option("--force", is_flag=True, help="Replace what stands at PATH.")
@common_options
def add_command(ref: str, domain: str, output: Output, **options: Any) -> None:
    """Add a domain without the examples of the others.

    Thresholds stay as they are; train the router anew when the examples of all domains are at hand.
    """
    _need_place(options)
    changed = workflows.add_router_domain(
        ref,
        domain,
        options["data"],
        adapter=options["adapter"],
        encoder=options["encoder"],
        output=options["path"],
        register_as=options["name"],
        force=options["force"],
    )
    output.result(_changed_document(changed), lambda: f"added {domain}; domains: {', '.join(changed.names)}")


@router_command.command("remove")
@click.argument("ref", metavar="ROUTER")
@click.argument("domain")
@click.option("-o", "--output", "path", type=_FILE, metavar="PATH", help="Router file to write.")
@click.option("--name", help="Register the router under this name.")
@click.option("--force", is_flag=True, help="Replace what stands at PATH.")
@common_options
def remove_command(ref: str, domain: str, output: Output, **options: Any) -> None:
    """Remove a domain; nothing else changes."""
    _need_place(options)
    changed = workflows.remove_router_domain(
        ref, domain, output=options["path"], register_as=options["name"], force=options["force"]
    )
    output.result(_changed_document(changed), lambda: f"removed {domain}; domains: {', '.join(changed.names)}")


@click.command("route")
@click.argument("ref", metavar="ROUTER")
@click.argument("queries", nargs=-1, required=True, metavar="QUERY...")
@click.option("--encoder", metavar="ENCODER", help="Folder of the router's encoder.")
@click.option("--explain", is_flag=True, help="Show what the decision was made from.")
@common_options
def route_command(ref: str, queries: tuple[str, ...], output: Output, **options: Any) -> None:
    """Say which domain and adapter answers a query, or why none does."""
    decisions = workflows.route(ref, queries, encoder=options["encoder"])
    document = [{"query": query, **decision.document()} for query, decision in zip(queries, decisions, strict=True)]
    output.result(document, lambda: _decisions_text(queries, decisions, is_explained=options["explain"]))


def _need_place(options: dict[str, Any]) -> None:
    if options["path"] is None and options["name"] is None:
        raise click.UsageError("give -o PATH, or --name to register the router, or both")


def _trained_document(trained: TrainedRouter) -> dict[str, Any]:
    report = trained.report
    return {
        **_changed_document(trained.router),
        "digest": None if trained.digest is None else str(trained.digest),
        "revision": trained.revision,
        "examples": report.examples,
        "held_out": report.held_out,
        "accuracy": report.accuracy,
        "kept": report.kept,
        "precision": report.precision,
        "duplicates": {text: list(names) for text, names in report.duplicates.items()},
        "unused": dict(trained.unused),
    }


def _changed_document(router: Router) -> dict[str, Any]:
    thresholds = router.manifest.thresholds
    return {
        "domains": [
            {"name": own.name, "adapter": own.adapter, "examples": own.examples, "min_probability": own.min_probability}
            for own in router.manifest.domains
        ],
        "encoder": router.manifest.encoder.id,
        "temperature": router.manifest.temperature,
        "thresholds": {
            "max_distance": thresholds.max_distance,
            "min_probability": thresholds.min_probability,
            "min_margin": thresholds.min_margin,
        },
    }


def _trained_text(trained: TrainedRouter, path: Path | None) -> str:
    report, thresholds = trained.report, trained.router.manifest.thresholds
    rows = [[own.name, str(own.examples), own.adapter or "(base model)"] for own in trained.router.manifest.domains]
    lines = [
        table(rows, ["domain", "examples", "adapter"]),
        "",
        (
            f"on {report.held_out} held-out examples: {report.accuracy:.1%} in the right domain, "
            f"{report.kept:.1%} routed, {report.precision:.1%} of those right"
        ),
        (
            f"abstains beyond distance {thresholds.max_distance:.3f}, below probability {thresholds.min_probability:.3f} "
            f"or a lead of {thresholds.min_margin:.3f}"
        ),
    ]
    shown = list(report.duplicates.items())[:_SHOWN]
    lines += [f"in several domains ({', '.join(names)}): {text}" for text, names in shown]
    if len(report.duplicates) > _SHOWN:
        lines.append(f"... and {len(report.duplicates) - _SHOWN} more such texts (--json lists all)")
    lines += [
        f"left out {count} examples of {name}, which the settings do not name" for name, count in trained.unused.items()
    ]
    lines += [] if path is None else [f"wrote {path}"]
    lines += [] if trained.revision is None else [f"registered {trained.revision}"]
    return "\n".join([*lines, *([] if trained.digest is None else [str(trained.digest)])])


def _evaluation_document(found: RouterEvaluation) -> dict[str, Any]:
    return {
        "queries": found.queries,
        "accuracy": found.accuracy,
        "macro_f1": found.macro_f1,
        "calibration_error": found.calibration_error,
        "kept": found.kept,
        "kept_precision": found.kept_precision,
        "out_of_scope": found.out_of_scope,
        "refused": found.refused,
        "auroc": found.auroc,
        "refused_at_95_kept": found.refused_at_95_kept,
        "risk_coverage": [list(point) for point in found.risk_coverage],
        "domains": list(found.names),
        "confusion": [list(row) for row in found.confusion],
        "misses": [
            {"query": miss.text, "expected": miss.expected, **miss.decision.document()} for miss in found.misses
        ],
    }


def _evaluation_text(found: RouterEvaluation, *, is_verbose: bool) -> str:
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
    lines = [table(rows, ["", ""])]
    misses = found.misses if is_verbose else found.misses[:_SHOWN]
    if misses:
        wrong = [
            [miss.expected or "(none)", str(miss.decision.domain), str(miss.decision.reason), miss.text[:70]]
            for miss in misses
        ]
        lines += ["", table(wrong, ["expected", "said", "reason", "query"])]
    if len(found.misses) > len(misses):
        lines.append(f"... and {len(found.misses) - len(misses)} more (-v shows all)")
    return "\n".join(lines)


def _decisions_text(queries: tuple[str, ...], decisions: list[Decision], *, is_explained: bool) -> str:
    parts = []
    for query, decision in zip(queries, decisions, strict=True):
        who = decision.adapter or "fallback"
        head = f"{decision.domain}: {decision.reason} ({decision.probability:.3f}) -> {who}"
        parts.append(f"{query[:70]}\n  {head}" if len(queries) > 1 else head)
        if is_explained:
            parts.append(_explained(decision))
    return "\n".join(parts)


def _explained(decision: Decision) -> str:
    scores, limits = decision.scores, decision.thresholds
    assert scores is not None  # a router's decision always has both
    assert limits is not None
    nearest = scores.nearest
    rows = [
        [
            "distance",
            f"{nearest.distance:.3f}",
            f"at most {limits.max_distance:.3f}",
            _mark(nearest.distance <= limits.max_distance),
        ],
        [
            "probability",
            f"{decision.probability:.3f}",
            f"at least {limits.min_probability:.3f}",
            _mark((decision.probability or 0) >= limits.min_probability),
        ],
        [
            "lead",
            f"{decision.margin:.3f}",
            f"at least {limits.min_margin:.3f}",
            _mark((decision.margin or 0) >= limits.min_margin),
        ],
    ]
    ranked = sorted(scores.probabilities.items(), key=lambda item: -item[1])[:_SHOWN]
    example = f": {nearest.example}" if nearest.example else ""
    return "\n".join(
        [
            table(rows, ["", "measured", "limit", ""]),
            "domains: " + ", ".join(f"{name} {value:.3f}" for name, value in ranked),
            f"nearest: {nearest.domain}{example}",
        ]
    )


def _mark(is_kept: bool) -> str:
    return "ok" if is_kept else "fails"
