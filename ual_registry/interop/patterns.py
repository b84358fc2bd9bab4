"""The regular expressions of PEFT's ``rank_pattern`` and ``alpha_pattern``, read as PEFT reads them.

They come from files of strangers, and Python's matcher takes exponential time on some; those are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from ual_registry.errors import ForeignFormatError

__all__ = ["match_pattern", "refuse_costly_patterns"]

_MAX_LENGTH = 512
_MAX_REPEATS = 8
_REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})


def match_pattern(patterns: Mapping[str, Any], path: str) -> Any | None:
    """Return the value of the first pattern that matches the end of a module path.

    Source: peft 0.21, ``peft.utils.other.get_pattern_key``.

    Args:
        patterns: Values by pattern, checked by ``refuse_costly_patterns``.
        path: A module path.
    """
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            return value
    return None


def refuse_costly_patterns(patterns: Mapping[str, Any], *, field: str) -> None:
    """Check patterns from a file before any is matched.

    Raises:
        ForeignFormatError: A pattern is no regular expression, is too long, or nests repetitions.
    """
    for pattern in patterns:
        reason = _reason(pattern)
        if reason:
            raise ForeignFormatError(
                f"adapter_config.json: {field} {pattern!r}: {reason}",
                context={"field": field},
                code="peft-pattern",
                hint="spell out the module names",
            )


def _reason(pattern: str) -> str | None:
    if len(pattern) > _MAX_LENGTH:
        return f"longer than {_MAX_LENGTH} characters"
    try:
        depths = list(_repeat_depths(_parser.parse(pattern), 0))
    except (re.error, RecursionError, OverflowError) as error:
        return f"no regular expression ({error})"
    if any(depth > 1 for depth in depths) or len(depths) > _MAX_REPEATS:
        return "its repetitions could take exponential time to match"
    return None


def _repeat_depths(tree: Any, depth: int) -> Iterator[int]:
    """Yield, for each repetition in a parsed pattern, how many repetitions it stands in, itself included."""
    for operation, argument in tree:
        inside = depth + 1 if str(operation) in _REPEATS else depth
        if inside > depth:
            yield inside
        for branch in _branches(argument):
            yield from _repeat_depths(branch, inside)


def _branches(argument: Any) -> Iterator[Any]:
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for item in argument:
            yield from _branches(item)
