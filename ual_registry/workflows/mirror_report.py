"""What a mirror did, and what of an error is kept so that it can be told again without asking the Hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version

from ual_registry.errors import BinderError, FormatError, UALError
from ual_registry.workflows.mirror_journal import Mirrored, Refusal, Settled

__all__ = ["NO_ADAPTER", "MirrorReport", "is_ending", "is_lasting", "refusal", "tool_mark"]

NO_ADAPTER = "hub-no-adapter"

_LASTING = {NO_ADAPTER, "hub-card", "hub-several", "hub-unpinned", "hub-yanked"}
_ENDING = {"hub-rate-limit", "hub-offline", "hub-token", "unavailable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorReport:
    """What a mirror did.

    Attributes:
        direction: ``pull`` or ``push``.
        endpoint: Address of the Hub.
        source: What was mirrored, as it was given.
        target: Where to: a registry, or ``hf:ORG``.
        settled: What became of each repository or revision that was looked at, by name.
        left: How many were not looked at, because the mirror ended early.
        is_interrupted: Whether whoever ran it interrupted it.
        notes: What whoever mirrors should know.
    """

    direction: str
    endpoint: str
    source: str
    target: str
    settled: tuple[Settled, ...]
    left: int = 0
    is_interrupted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether everything is at both ends."""
        return not self.left and not any(item.refusals for item in self.settled)

    def mirrored(self, *, is_new: bool) -> list[tuple[Settled, Mirrored]]:
        """Return each revision that was brought now, or that was there before."""
        return [(item, found) for item in self.settled for found in item.mirrored if found.is_new == is_new]

    def refused(self) -> list[tuple[Settled, Refusal]]:
        """Return each refusal with what it is about."""
        return [(item, reason) for item in self.settled for reason in item.refusals]

    def without_adapter(self) -> list[str]:
        """Return the repositories in which there is nothing to mirror."""
        return [item.repository for item in self.settled if item.outcome == "no-adapter"]


def refusal(error: UALError, *, path: str | None = None) -> Refusal:
    """Return what is kept of an error."""
    return Refusal(code=error.problem_code, message=error.message, hint=error.hint, path=path)


def is_lasting(error: UALError) -> bool:
    """Tell whether the same commit would be refused again: what it holds is the reason, not the way to it."""
    return isinstance(error, (FormatError, BinderError)) or error.problem_code in _LASTING


def is_ending(reason: Refusal) -> bool:
    """Tell whether whatever comes next would be refused in the same way."""
    return reason.code in _ENDING


def tool_mark() -> str:
    """Return what decides which adapters can be read: the version of this program, and the binders added to its own."""
    own = os.environ.get("UAL_BINDERS", "")
    return f"{version('ual-registry')} {own}".rstrip()
