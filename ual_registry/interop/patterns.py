"""The regular expressions of PEFT's ``rank_pattern`` and ``alpha_pattern``, read as PEFT reads them.

They come from files of strangers, and Python's matcher takes exponential time on some. Before any is matched, the
number of ways in which a module path could be read by it is bounded; what passes the bound is refused.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from re import _parser
from typing import Any

from ual_registry.errors import ForeignFormatError

__all__ = ["match_pattern", "refuse_costly_patterns"]

_MAX_LENGTH = 512
_MAX_WAYS = 2**18
"""Ways to read one module path by all patterns of a field together."""

_PATH_LENGTH = 64
"""Characters of a module path, about the longest of any architecture."""

_REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})


def match_pattern(patterns: Mapping[str, Any], path: str) -> Any | None:
    """Return the value of the first pattern that matches the end of a module path.

    Source: peft 0.21, ``peft.utils.other.get_pattern_key``.

    Args:
        patterns: Values by pattern, checked by ``refuse_costly_patterns``.
        path: A module path.
    """
    return next((value for pattern, value in patterns.items() if _compiled(pattern).match(path)), None)


@functools.lru_cache(maxsize=8192)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({pattern})$")


def refuse_costly_patterns(patterns: Mapping[str, Any], *, field: str) -> None:
    """Check patterns from a file before any is matched.

    Raises:
        ForeignFormatError: A pattern is no regular expression, is too long, or could take very long to match.
    """
    total = 0
    for pattern in patterns:
        if len(pattern) > _MAX_LENGTH:
            raise _refusal(field, pattern[:_MAX_LENGTH], f"longer than {_MAX_LENGTH} characters")
        try:
            _compiled(pattern)
            total += _ways(_parser.parse(pattern))
        except (re.error, RecursionError, OverflowError) as error:
            raise _refusal(field, pattern, f"no regular expression ({error})") from error
        if total > _MAX_WAYS:
            raise _refusal(field, pattern, "its repetitions could take very long to match")


def _refusal(field: str, pattern: str, reason: str) -> ForeignFormatError:
    return ForeignFormatError(
        f"adapter_config.json: {field} {pattern!r}: {reason}",
        context={"field": field},
        code="peft-pattern",
        hint="spell out the module names",
    )


def _ways(tree: Any) -> int:
    """Bound the ways in which a sequence of items can match: the product over its items, capped."""
    ways = 1
    for operation, argument in tree:
        ways *= _ways_of_item(str(operation), argument)
        if ways > _MAX_WAYS:
            return _MAX_WAYS + 1
    return ways


def _ways_of_item(operation: str, argument: Any) -> int:
    if operation in _REPEATS:
        low, high, body = argument
        return _ways_of_repeat(int(low), min(int(high), _PATH_LENGTH), _ways(body))
    if operation == "BRANCH":
        return sum(_ways(branch) for branch in argument[1])
    parts = argument if isinstance(argument, tuple) else (argument,)
    return max(1, sum(_ways(part) for part in parts if isinstance(part, _parser.SubPattern)))


def _ways_of_repeat(low: int, high: int, each: int) -> int:
    """Sum ``each ** n`` over the possible numbers of repetitions, capped."""
    total, ways = 0, 1
    for count in range(high + 1):
        total += ways if count >= low else 0
        ways *= each
        if max(total, ways) > _MAX_WAYS:
            return _MAX_WAYS + 1
    return max(1, total)
