"""What a server counts, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ual_registry.dispatch.decision import Decision
from ual_registry.web.engine import CacheFacts
from ual_registry.web.gate import Gate

__all__ = ["Metrics"]

_NONE = "none"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """The numbers of one server.

    Args:
        gate: Its door.
        cache: Says what the cache of adapters did; ``None`` where there is none.
    """

    def __init__(self, gate: Gate, cache: Callable[[], CacheFacts] | None = None) -> None:
        self._registry = own = CollectorRegistry()
        self._queries = Counter("ual_queries", "Queries by domain and reason.", ["domain", "reason"], registry=own)
        self._fallbacks = Counter("ual_fallbacks", "Queries that the fallback answered.", registry=own)
        self._requests = Counter(
            "ual_requests", "Answers by endpoint and status.", ["endpoint", "status"], registry=own
        )
        self._tokens = Counter("ual_tokens", "Tokens read and generated.", ["kind"], registry=own)
        self._seconds = Histogram(
            "ual_request_seconds", "Time to the end of an answer.", ["endpoint"], buckets=_SECONDS, registry=own
        )
        self._first = Histogram(
            "ual_first_part_seconds",
            "Time to the first part, waiting included.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=own,
        )
        own.register(_Present(gate, cache))

    def decided(self, decision: Decision) -> None:
        """Count a query that was decided about, whatever comes of it."""
        self._queries.labels(decision.domain or _NONE, str(decision.reason)).inc()

    def began(self, endpoint: str, *, is_fallback: bool, seconds: float) -> None:
        """Count an answer whose first part is there."""
        if is_fallback:
            self._fallbacks.inc()
        self._first.labels(endpoint).observe(seconds)

    def ended(self, endpoint: str, status: int, seconds: float, *, read: int = 0, written: int = 0) -> None:
        """Count an answer.

        Args:
            endpoint: What was asked.
            status: How it was answered; 499 where the client went away.
            seconds: How long it took.
            read: Tokens of the prompt.
            written: Tokens generated.
        """
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)
        self._tokens.labels("prompt").inc(read)
        self._tokens.labels("completion").inc(written)

    def text(self) -> bytes:
        """Return all numbers."""
        return generate_latest(self._registry)


class _Present(Collector):
    """What is read when it is asked for."""

    def __init__(self, gate: Gate, cache: Callable[[], CacheFacts] | None) -> None:
        self._gate, self._cache = gate, cache

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("ual_running", "Requests that run now.", self._gate.running)
        yield GaugeMetricFamily("ual_waiting", "Requests that wait now.", self._gate.waiting)
        if self._cache is None:
            return
        found = self._cache()
        yield CounterMetricFamily("ual_cache_hits", "Times that an adapter was in memory.", found.hits)
        yield CounterMetricFamily("ual_cache_misses", "Times that an adapter was not in memory.", found.misses)
        rate = found.hits / max(found.hits + found.misses, 1)
        yield GaugeMetricFamily("ual_cache_hit_ratio", "Share of hits since the start.", rate)
        yield GaugeMetricFamily("ual_cache_adapters", "Adapters in memory.", found.adapters)
        yield GaugeMetricFamily("ual_cache_bytes", "Memory of their factors.", found.size_bytes)
