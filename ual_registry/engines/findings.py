"""What an engine would make of an adapter, said one by one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Diagnosis", "Finding", "Verdict"]


class Verdict(StrEnum):
    """What becomes of a part of an adapter."""

    REJECTED = "rejected"
    IGNORED = "ignored"
    OTHER_EFFECT = "other_effect"
    NO_EFFECT = "no_effect"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that an engine would do otherwise than the adapter says.

    Attributes:
        verdict: The engine rejects the adapter, loads it without this part, the adapter does otherwise than it is
            recorded to do, or the part does nothing anywhere; a note says what to mind.
        where: The field of the configuration, the module, or the tensor.
        says: What happens.
        source: The file that says so; absent where the numbers do.
    """

    verdict: Verdict
    where: str
    says: str
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What an engine would make of an adapter.

    Attributes:
        engine: The engine; ``None`` where none was named.
        version: The version whose rules were applied.
        path: What was examined.
        modules: Target modules.
        findings: What was found, the worst first.
    """

    engine: str | None
    version: str | None
    path: str
    modules: int
    findings: tuple[Finding, ...]

    @property
    def is_clean(self) -> bool:
        """Whether the engine would do what the adapter says; notes aside."""
        return all(finding.verdict is Verdict.NOTE for finding in self.findings)
