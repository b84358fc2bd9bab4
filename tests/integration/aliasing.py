"""Processes that move one alias at once: ``python -m tests.integration.aliasing PROCESSES NAME ALIAS``.

The registry is the one that the environment names. Each process reads where the alias points to and waits until all
the others have read it, too. Then it points the alias at a revision of its own, if nobody has moved it meanwhile, and
says in one line of JSON what it expected, what it wanted, and what came of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.integration.adding import run_at_once
from ual_registry.errors import RegistryError
from ual_registry.registry.registry import Registry


def main(processes: int, name: str, alias: str) -> int:
    """Start the processes, the first of which wants revision 1, and so on; return how many failed."""
    return run_at_once([partial(_move, name, alias, number) for number in range(1, processes + 1)])


def _move(name: str, alias: str, wanted: int, wait: Callable[[], None]) -> dict[str, Any]:
    registry = Registry.open()
    expected = next((item.number for item in registry.revisions(name).items if alias in item.aliases), 0)
    said: dict[str, Any] = {"expected": expected, "wanted": wanted, "previous": None, "number": None, "refusal": None}
    wait()
    try:
        move = registry.alias(name, alias, str(wanted), expected=expected)
    except RegistryError as error:
        refusal = {"type": type(error).__name__, "code": error.code, "context": dict(error.context)}
        return {**said, "refusal": refusal}
    return {**said, "previous": move.previous, "number": move.number}


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
