"""Say that a binder cannot be inferred, and what to do instead."""

from __future__ import annotations

from typing import Any

from ual_registry.errors import UninferableArchitectureError

__all__ = ["refusal"]

_HINT = "write the binder by hand; see CONTRIBUTING.md, 'Add a binder'"


def refusal(message: str, *, hint: str = _HINT, **context: Any) -> UninferableArchitectureError:
    """Return the error to raise.

    Args:
        message: What was seen, in one line.
        hint: What to do instead.
        context: The place in machine-readable form.
    """
    return UninferableArchitectureError(message.splitlines()[0], context=context, hint=hint)
