"""One fault of a document, and the report that holds all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ual_registry.errors import (
    ContainerError,
    DigestMismatchError,
    FormatError,
    RuleError,
    SchemaError,
    UnsupportedVersionError,
)

__all__ = ["Problem", "ValidationReport"]

_CLASSES: dict[str, type[FormatError]] = {
    "container": ContainerError,
    "schema": SchemaError,
    "rule": RuleError,
    "version": UnsupportedVersionError,
    "digest": DigestMismatchError,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault.

    Attributes:
        code: Stable kebab-case code.
        place: Where: a JSON path or a tensor name.
        message: What is wrong, expected and got.
        hint: What to do next.
        branch: Which error class it is raised as: container, schema, rule, version or digest.
        is_warning: Whether the document is legal all the same.
    """

    ERROR: ClassVar[str] = "error"
    WARNING: ClassVar[str] = "warning"

    code: str
    place: str
    message: str
    hint: str | None = None
    branch: str = "schema"
    is_warning: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message

    @property
    def severity(self) -> str:
        """``error`` or ``warning``."""
        return self.WARNING if self.is_warning else self.ERROR

    def to_error(self) -> FormatError:
        """Return the exception that a strict reader raises for this fault."""
        kind = _CLASSES[self.branch]
        return kind(str(self), code=self.code, hint=self.hint, context={"place": self.place})

    @classmethod
    def of_error(cls, error: FormatError, branch: str) -> Problem:
        """Turn an exception of the strict reader into a fault of a report."""
        place = str(error.context.get("tensor", ""))
        message = error.message.removeprefix(f"{place}: ") if place else error.message
        return cls(code=error.problem_code, place=place, message=message, hint=error.hint, branch=branch)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """Everything that a validation found about one file.

    Attributes:
        path: The file as the caller named it.
        problems: Faults and warnings, in the order of discovery.
        facts: What the file is, where it could be read: version, digests, counts.
    """

    path: str
    problems: tuple[Problem, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The faults that make the file illegal."""
        return tuple(problem for problem in self.problems if not problem.is_warning)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The remarks on a legal file."""
        return tuple(problem for problem in self.problems if problem.is_warning)

    @property
    def ok(self) -> bool:
        """Whether the file is legal."""
        return not self.errors
