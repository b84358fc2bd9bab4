"""Asking ours and MLflow the same questions in turns, and what a row of the table says of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from benchmarks.latency import Clock, Latencies, Sample, count_statements
from benchmarks.mlflow_peer import MlflowPeer
from benchmarks.registry_questions import Ask, Question, Subject
from ual_registry.registry.registry import Registry

__all__ = ["HEAD", "Effort", "Measured", "Turns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured.

    Attributes:
        count: Revisions.
        with_entries: Whether the filled database holds the entries of each artifact, which no question reads.
        samples: Calls of each question.
        has_questions: Whether questions are asked at all; otherwise only adding is measured.
        own_s: Seconds that ours may take for one question, after its first five calls.
        peer_s: Seconds that MLflow may take for one question, after its first ``peer_least`` calls.
        peer_least: How often it is asked whatever it takes.
        singles: Adapters added one by one.
        bulk: Small files added at once.
        large: Files of 10 MB.
        width: Width of the base model of those, which makes their size.
        rounds: How often a batch of files is added.
    """

    count: int
    with_entries: bool = True
    samples: int = 300
    has_questions: bool = True
    own_s: float = 60
    peer_s: float = 8
    peer_least: int = 20
    singles: int = 100
    bulk: int = 500
    large: int = 20
    width: int = 1792
    rounds: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The answers to one question."""

    question: Question
    ours: Latencies
    theirs: Latencies
    statements: tuple[int, ...]
    differing: int

    def ratio(self, share: float, *, cpu: bool = False) -> float | None:
        """Return how many times longer MLflow took, by a quantile of the wall or the processor time."""
        if not self.theirs.samples:
            return None
        return self.theirs.quantile(share, cpu=cpu) / self.ours.quantile(share, cpu=cpu)

    def row(self) -> tuple[str, ...]:
        """Return the cells of the table."""
        statements = "-".join(map(str, dict.fromkeys((self.statements[0], self.statements[-1]))))
        own = (self.question.title, *_cells(self.ours), statements)
        if not self.theirs.samples:
            return (*own, *["-"] * 5)
        same = "yes" if self.differing == 0 else f"{self.differing} of {len(self.theirs.samples)} differ"
        return (*own, *_cells(self.theirs), f"{self.ratio(0.5):.1f}x / {self.ratio(0.95):.1f}x", same)


HEAD = (
    *("question", "ours p50, ms", "ours p95, ms", "ours cpu p50 / p95", "SQL statements"),
    *("MLflow p50, ms", "MLflow p95, ms", "MLflow cpu p50 / p95", "MLflow : ours, p50 / p95", "same answers"),
)


def _cells(times: Latencies) -> tuple[str, ...]:
    return times.text(0.5), times.text(0.95), times.cpu_text()


@dataclass(slots=True)
class Turns:
    """Asks one question of both in turns, the first of them by turns too."""

    registry: Registry
    peer: MlflowPeer | None
    question: Question
    effort: Effort
    clock: Clock
    ours: list[Sample] = field(default_factory=list)
    theirs: list[Sample] = field(default_factory=list)
    differing: int = 0

    def run(self, draw: Iterator[Subject]) -> Measured:
        """Warm both, ask them, compare their answers, and count our statements."""
        # They come from our database: all are drawn before any is asked for, so that none is fresh in its caches.
        warm, asked, counted = (list(islice(draw, count)) for count in (3, self.effort.samples, 5))
        for subject in warm:
            self._both(subject, 0)
        self.ours.clear()
        self.theirs.clear()
        for turn, subject in enumerate(asked):
            self._both(subject, turn)
            if turn >= 4 and sum(sample.wall_s for sample in self.ours) > self.effort.own_s:
                break
        calls = [lambda subject=subject: self._ask_us(subject) for subject in counted]
        return Measured(
            question=self.question,
            ours=Latencies(tuple(self.ours)),
            theirs=Latencies(tuple(self.theirs)),
            statements=count_statements(self.registry.database.engine, calls),
            differing=self.differing,
        )

    def _ask_us(self, subject: Subject) -> Any:
        return self.question.ours(self.registry, subject)

    def _both(self, subject: Subject, turn: int) -> None:
        ask = self.question.theirs(subject) if self.question.theirs is not None else None
        late = self._peer(ask) if turn % 2 else None
        own = self.clock.time(lambda: self._ask_us(subject))
        self.ours.append(replace(own, found=None))  # pages that are kept would be looked through with all garbage
        found = self._peer(ask) if not turn % 2 else late
        if found is not None:
            self.differing += found.found != self.question.shown(own.found)

    def _peer(self, ask: Ask | None) -> Sample | None:
        is_late = sum(sample.wall_s for sample in self.theirs) > self.effort.peer_s
        if self.peer is None or ask is None or (is_late and len(self.theirs) >= self.effort.peer_least):
            return None
        sample = self.peer.ask(ask.method, **ask.arguments)
        self.theirs.append(replace(sample, found=None))
        return sample
