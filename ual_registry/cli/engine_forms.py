"""The forms of ``ual convert`` that engines read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ual_registry.workflows.convert import ConvertResult

__all__ = ["ENGINE_FORMS", "refuse_labels", "to_engine"]

ENGINE_FORMS = ("vllm", "gguf", "merged")
"""What ``--to`` may name beside the forms in which no number changes."""


def to_engine(
    source: str, target: str, form: str | None, options: Mapping[str, str | None], *, force: bool
) -> ConvertResult:
    """Convert to one of the forms that engines read."""
    from ual_registry.workflows import engines  # noqa: PLC0415  # not for the other forms
    from ual_registry.workflows.references import locate  # noqa: PLC0415  # as above

    given = dict(options)
    base, served_name = given.pop("base"), given.pop("served_name")
    if given.pop("edition", None) is not None:
        raise click.UsageError("--edition belongs to converting an AIR file to a PEFT folder")
    refuse_labels(given)
    if base is not None and form != "merged":
        raise click.UsageError(f"--base belongs to --to merged; --to {form} needs no base model")
    if served_name is not None and form != "vllm":
        raise click.UsageError("--served-name belongs to --to vllm")
    if form == "vllm":
        return engines.convert_to_vllm(locate(source), target, served_name=served_name, force=force)
    if form == "gguf":
        return engines.convert_to_gguf(locate(source), target, force=force)
    if base is None:
        raise click.UsageError("--to merged needs --base: the folder of the base model, with its weights")
    return engines.convert_to_merged(locate(source), target, base=base, force=force)


def refuse_labels(options: Mapping[str, str | None]) -> None:
    """Refuse options that only describe an adapter that becomes an AIR file.

    Raises:
        click.UsageError: One is given.
    """
    for name, value in options.items():
        if value is not None:
            flag = name.rstrip("_").replace("_", "-")
            raise click.UsageError(f"--{flag} belongs to converting a PEFT folder to AIR")
