"""What a team asks of its adapters beyond being legal: things that must be there, licenses, base models, size.

A policy has no input or output; where it comes from is left to others. Every violation is a problem of the branch
``rule`` with a code of its own, so that a report tells it apart from a broken file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ual_registry.air.commit import is_commit
from ual_registry.air.model import Manifest
from ual_registry.air.problem import Problem
from ual_registry.air.router import RouterManifest

__all__ = ["REQUIREMENTS", "Policy", "is_license_allowed", "policy_problems"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is asked of every file; the empty policy asks for nothing.

    Attributes:
        require: Names of ``REQUIREMENTS``.
        strict: Whether a warning fails a file.
        allowed_licenses: SPDX identifiers; any license where it is ``None``.
        allowed_base_models: Ids with ``*`` and ``?`` as in file names, or config digests; any base model where it is
            ``None``.
        max_size_bytes: The largest file.
    """

    require: tuple[str, ...] = ()
    strict: bool = False
    allowed_licenses: tuple[str, ...] | None = None
    allowed_base_models: tuple[str, ...] | None = None
    max_size_bytes: int | None = None


def policy_problems(manifest: Manifest | RouterManifest, size_bytes: int, policy: Policy) -> Iterator[Problem]:
    """Yield every violation.

    Args:
        manifest: A legal manifest; what concerns the base model is not asked of a router.
        size_bytes: Size of its file.
        policy: What is asked.
    """
    for name, requirement in REQUIREMENTS.items():
        if name in policy.require:
            yield from requirement(manifest)
    if policy.allowed_licenses is not None:
        yield from _license_problems(manifest, policy.allowed_licenses)
    if policy.allowed_base_models is not None:
        yield from _base_problems(manifest, policy.allowed_base_models)
    if policy.max_size_bytes is not None and size_bytes > policy.max_size_bytes:
        yield Problem(
            code="policy-size",
            place="",
            message=f"file of {size_bytes} bytes is over the policy's limit of {policy.max_size_bytes}",
            branch="rule",
        )


def _needs_pinned_base(manifest: Manifest | RouterManifest) -> Iterator[Problem]:
    """Ask for a commit; a branch or a label may name other weights tomorrow."""
    if not isinstance(manifest, Manifest):
        return
    revision = manifest.base_model.revision
    if not is_commit(revision):
        found = "" if revision is None else f", got {revision!r} (expected 40 hexadecimal digits)"
        yield Problem(
            code="policy-pinned-base",
            place="manifest.base_model.revision",
            message=f"the policy requires a commit{found}",
            hint="convert again with --base-revision COMMIT",
            branch="rule",
        )


def _needs_license(manifest: Manifest | RouterManifest) -> Iterator[Problem]:
    if manifest.license is None:
        yield Problem(
            code="policy-license",
            place="manifest.license",
            message="the policy requires a license",
            hint="convert again with --license SPDX-EXPRESSION",
            branch="rule",
        )


def _needs_lineage(manifest: Manifest | RouterManifest) -> Iterator[Problem]:
    if manifest.lineage is None:
        yield Problem(
            code="policy-lineage",
            place="manifest.lineage",
            message="the policy requires the artifacts that this one was made from",
            branch="rule",
        )


def _needs_evaluation(manifest: Manifest | RouterManifest) -> Iterator[Problem]:
    if not any(statement.type == "evaluation" for statement in manifest.provenance):
        yield Problem(
            code="policy-evaluation",
            place="manifest.provenance",
            message="the policy requires a statement of type 'evaluation'",
            branch="rule",
        )


REQUIREMENTS: dict[str, Callable[[Manifest | RouterManifest], Iterator[Problem]]] = {
    "pinned-base": _needs_pinned_base,
    "license": _needs_license,
    "lineage": _needs_lineage,
    "evaluation": _needs_evaluation,
}
"""Everything that a policy can require, by name, in the order of its problems."""


def _license_problems(manifest: Manifest | RouterManifest, allowed: tuple[str, ...]) -> Iterator[Problem]:
    if not is_license_allowed(manifest.license or "", allowed):
        got = "none" if manifest.license is None else repr(manifest.license)
        yield Problem(
            code="policy-license-allowed",
            place="manifest.license",
            message=f"{got} is not allowed by the policy (allowed: {_listed(allowed)})",
            branch="rule",
        )


def _base_problems(manifest: Manifest | RouterManifest, allowed: tuple[str, ...]) -> Iterator[Problem]:
    base = manifest.base_model if isinstance(manifest, Manifest) else None
    if base and not any(pattern == base.config_digest or fnmatchcase(base.id, pattern) for pattern in allowed):
        yield Problem(
            code="policy-base-model",
            place="manifest.base_model.id",
            message=f"{base.id!r} is not allowed by the policy (allowed: {_listed(allowed)})",
            branch="rule",
        )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def is_license_allowed(expression: str, allowed: Collection[str]) -> bool:
    """Tell whether an SPDX expression gives a license that is allowed: one side of ``OR``, both sides of ``AND``.

    Identifiers are compared without regard to case, an exception (``WITH``) as a part of its license. What is no
    expression is not allowed.

    Source: SPDX specification 2.3, annex D.

    >>> is_license_allowed("MIT OR GPL-3.0-only", ["MIT"]), is_license_allowed("MIT AND GPL-3.0-only", ["MIT"])
    (True, False)
    """
    known = {" ".join(name.split()).lower() for name in allowed}
    words = re.findall(r"[()]|[^\s()]+", re.sub(r"\s+with\s+", "\0with\0", expression.strip().lower()))
    try:
        return _either([word.replace("\0", " ") for word in reversed(words)], known)
    except (IndexError, RecursionError):
        return False


def _either(stack: list[str], known: set[str], *, nested: bool = False) -> bool:
    """Read ``a OR b ...``; the words lie on a stack, the next on top."""
    found = _both(stack, known)
    while stack and stack[-1] == "or":
        stack.pop()
        found = _both(stack, known) or found
    if nested != bool(stack):
        raise IndexError
    return found


def _both(stack: list[str], known: set[str]) -> bool:
    found = _one(stack, known)
    while stack and stack[-1] == "and":
        stack.pop()
        found = _one(stack, known) and found
    return found


def _one(stack: list[str], known: set[str]) -> bool:
    word = stack.pop()
    if word != "(":
        if word in {")", "and", "or"}:
            raise IndexError
        return word in known
    found = _either(stack, known, nested=True)
    if stack.pop() != ")":
        raise IndexError
    return found
