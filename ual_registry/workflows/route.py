"""Ask a router, measure it, and look at what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.errors import RouteError
from ual_registry.workflows.encoders import cached_or_same, matching_encoder
from ual_registry.workflows.extras import need_dispatch
from ual_registry.workflows.pictures import check_picture
from ual_registry.workflows.router import open_router

if TYPE_CHECKING:
    from ual_registry.dispatch.decision import Decision
    from ual_registry.dispatch.encode import TextEncoder
    from ual_registry.dispatch.log import Change, DecisionLog, Drift
    from ual_registry.dispatch.measure import RouterEvaluation
    from ual_registry.dispatch.overlap import Overlap
    from ual_registry.dispatch.queries import Query
    from ual_registry.dispatch.router import Router

__all__ = ["Replay", "evaluate_router", "measure_drift", "overlap", "replay_log", "route"]

_FORCED = "forced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A log decided once more.

    Attributes:
        decisions: Decisions that were made once more.
        forced: Lines that were left out, since the caller had named the adapter.
        changes: Those that come out otherwise, in the order of the log.
    """

    decisions: int
    forced: int
    changes: tuple[Change, ...]


def route(
    router: Router | str | Path,
    texts: Sequence[str],
    *,
    encoder: TextEncoder | str | Path | None = None,
    log: Path | None = None,
) -> list[Decision]:
    """Decide which domain and adapter answers each query.

    Args:
        router: A router, its path or its reference.
        texts: The queries; all are encoded in one go.
        encoder: The encoder or its folder; that of the router by its id where absent.
        log: File that the decisions are appended to.

    Raises:
        RouteError: The encoder is not the router's, a query is empty, or the log's file holds something else.
        StorageError: The log cannot be written.
        UALError: As ``open_router`` and ``find_encoder``.
    """
    for place, text in enumerate(texts, start=1):
        if not text.strip():
            raise RouteError(f"query {place} is empty", code="queries")
    own = _opened(router)
    written = None if log is None else _opened_log(log)
    decisions = own.route(matching_encoder(own, encoder).encode(list(texts)))
    if written is not None:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        for text, decision in zip(texts, decisions, strict=True):
            written.write(text, decision, at=now)
    return decisions


def _opened_log(path: Path) -> DecisionLog:
    """Open a log before any work is done for it."""
    from ual_registry.dispatch.log import DecisionLog  # noqa: PLC0415  # loads scipy

    return DecisionLog(path)


def _opened(router: Router | str | Path) -> Router:
    return open_router(router) if isinstance(router, (str, Path)) else router


def evaluate_router(
    router: Router | str | Path,
    data: Sequence[Path],
    *,
    encoder: TextEncoder | str | Path | None = None,
    plot: Path | None = None,
    force: bool = False,
) -> RouterEvaluation:
    """Measure a router on queries with known domains; queries without one are what no domain should answer.

    Args:
        router: A router, its path or its reference.
        data: Files of queries, JSONL with ``text`` and ``domain``.
        encoder: The encoder or its folder; that of the router by its id where absent.
        plot: Picture of coverage and confusion to write.
        force: Whether to replace what stands there.

    Raises:
        RouteError: A domain is unknown to the router, or no query has one.
        UALError: As ``route``.
    """
    own, inside, outside = _measurable(router, data, plot, force=force)
    from ual_registry.dispatch.measure import evaluate_router as measure  # noqa: PLC0415  # loads scikit-learn

    by_text = cached_or_same(matching_encoder(own, encoder))
    found = measure(
        own,
        [query.text for query in inside],
        [str(query.domain) for query in inside],
        by_text.encode([query.text for query in inside]),
        foreign_texts=outside,
        foreign_embeddings=by_text.encode(outside),
    )
    if plot is not None:
        from ual_registry.dispatch.plots import draw_evaluation  # noqa: PLC0415  # loads matplotlib

        draw_evaluation(found, plot)
    return found


def overlap(
    router: Router | str | Path,
    data: Sequence[Path],
    *,
    encoder: TextEncoder | str | Path | None = None,
    plot: Path | None = None,
    force: bool = False,
) -> Overlap:
    """Say which domains overlap and which examples make them so; queries without a domain are left out.

    Args and raises as ``evaluate_router``; the picture is a heat map.
    """
    own, inside, _ = _measurable(router, data, plot, force=force)
    from ual_registry.dispatch.overlap import analyze_overlap  # noqa: PLC0415  # loads scikit-learn

    texts = [query.text for query in inside]
    embeddings = cached_or_same(matching_encoder(own, encoder)).encode(texts)
    found = analyze_overlap(own, texts, [str(query.domain) for query in inside], embeddings)
    if plot is not None:
        from ual_registry.dispatch.plots import draw_overlap  # noqa: PLC0415  # loads matplotlib

        draw_overlap(found, plot)
    return found


def _measurable(
    router: Router | str | Path, data: Sequence[Path], plot: Path | None, *, force: bool
) -> tuple[Router, list[Query], list[str]]:
    """Return the router, the queries with a domain and the texts of those without, once nothing is wrong with them."""
    from ual_registry.dispatch.queries import read_queries  # noqa: PLC0415

    if plot is not None:
        check_picture(plot, force=force)
    own = _opened(router)
    queries = [(path, query) for path in data for query in read_queries(path)]
    for path, query in queries:
        if query.domain is not None and query.domain not in own.domains:
            raise RouteError(
                f"{path}: line {query.line}: the router has no domain {query.domain!r} (it has {', '.join(own.names)})",
                code="domains",
            )
    inside = [query for _, query in queries if query.domain is not None]
    if not inside:
        raise RouteError("no query has a domain; there is nothing to measure", code="queries")
    return own, inside, [query.text for _, query in queries if query.domain is None]


def replay_log(router: Router | str | Path, log: Path, *, encoder: TextEncoder | str | Path | None = None) -> Replay:
    """Decide the queries of a log once more, and say what comes out otherwise.

    Args:
        router: A router, its path or its reference.
        log: Decisions of another router, or of this one before it was changed.
        encoder: The encoder or its folder; that of the router by its id where absent.

    Raises:
        RouteError: The log holds no decision, or a line is none.
        UALError: As ``route``.
    """
    own = _opened(router)
    from ual_registry.dispatch.log import read_log, replay  # noqa: PLC0415  # loads scipy

    logged = read_log(log)
    decided = [row for row in logged if row.reason != _FORCED]
    if not decided:
        raise RouteError(f"{log}: holds no decision to make once more", code="log", context={"path": str(log)})
    texts = list(dict.fromkeys(row.query for row in decided))
    again = dict(zip(texts, own.route(cached_or_same(matching_encoder(own, encoder)).encode(texts)), strict=True))
    changes = replay(decided, [again[row.query] for row in decided])
    return Replay(decisions=len(decided), forced=len(logged) - len(decided), changes=tuple(changes))


def measure_drift(log: Path, *, newest: int | None = None, share: float = 0.5) -> Drift:
    """Compare the newer part of a log with the older.

    Args:
        log: Decisions in the order in which they were made.
        newest: How many of the last ones are the newer part.
        share: Share (0..1) of the log that is the older part; counts where ``newest`` is absent.

    Raises:
        MissingExtraError: What routers need is not installed.
        RouteError: Either part is too short to compare, or a line is no decision.
        StorageError: The log cannot be read.
    """
    need_dispatch("a drift report")
    from ual_registry.dispatch.log import measure_drift as measure  # noqa: PLC0415  # loads scipy
    from ual_registry.dispatch.log import read_log  # noqa: PLC0415

    logged = read_log(log)
    cut = max(len(logged) - newest, 0) if newest is not None else round(len(logged) * share)
    return measure(logged[:cut], logged[cut:])
