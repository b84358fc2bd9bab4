"""Check a binder document: whether it is legal, and whether it is right about the real model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.binders.describe import config_fields
from ual_registry.workflows.binder_files import read_base, read_document
from ual_registry.workflows.extras import need_transformers

if TYPE_CHECKING:
    from ual_registry.tracing.check import BinderCheck

__all__ = ["BinderReport", "check_binder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BinderReport:
    """What was checked of a binder document.

    Attributes:
        architecture: Its name.
        checks: Every check, in the order in which it was made.
    """

    architecture: str
    checks: tuple[BinderCheck, ...]

    @property
    def faults(self) -> int:
        """How many faults there are."""
        return sum(len(item.faults) for item in self.checks)

    @property
    def undecided(self) -> int:
        """How many checks could not be made."""
        return sum(item.undecided is not None for item in self.checks)


def check_binder(path: str | Path, base: str | Path | None = None) -> BinderReport:
    """Check a binder document against the real classes and against what a tiny model computes.

    Args:
        path: The document.
        base: A model folder, a ``config.json`` or a repository of the Hub to check it on; by default the config that
            transformers gives each of its model types.

    Raises:
        BinderDataError: The document is not legal.
        MissingExtraError: torch or transformers is not installed.
        BinderError: The binder is not for the config, or the model cannot be built.
        StorageError: A file cannot be read.
    """
    binder = read_document(Path(path))
    given = None if base is None else read_base(base)
    if given is not None:
        config_fields(binder, given)  # says whether it is for this config, before anything is loaded
    need_transformers("the check of a binder")
    from ual_registry.tracing.check import check, default_config  # noqa: PLC0415  # loads torch and transformers

    configs = [given] if given is not None else [default_config(name) for name in binder.model_types]
    return BinderReport(
        architecture=binder.architecture,
        checks=tuple(item for config in configs for item in check(binder, config)),
    )
