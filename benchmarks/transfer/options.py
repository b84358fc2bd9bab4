"""Options that several commands of the transfer benchmark have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import platformdirs

__all__ = ["cache_option"]


def cache_option(what: str = "Folder of adapters and numbers.") -> Callable[[Any], Any]:
    """Return the option for the folder of what is kept, in the user's cache where nobody says.

    Args:
        what: What is in it, for people.
    """
    return click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: platformdirs.user_cache_path("ual-registry") / "transfer-benchmark",
        help=f"{what}  [default: in the user's cache]",
    )
