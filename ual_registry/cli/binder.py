"""The commands about binders: list, show, infer, check."""

from __future__ import annotations

from typing import Any

import click

from ual_registry.air.codec import encode
from ual_registry.cli.binder_report import inferred_text, report_text
from ual_registry.cli.binder_text import binder_text, list_text
from ual_registry.cli.output import Output, common_options
from ual_registry.errors import BinderError
from ual_registry.workflows.binders import ShownBinder, list_binders, show_binder
from ual_registry.workflows.check_binder import check_binder
from ual_registry.workflows.infer_binder import infer_binder

__all__ = ["binder_command"]


@click.group("binder")
def binder_command() -> None:
    """Show, infer and check binders: which module of an architecture plays which role."""


@binder_command.command("list")
@common_options
def list_command(output: Output) -> None:
    """List every binder with the model types that it is for."""
    found = list_binders()

    def text() -> str:
        count = sum(len(item.model_types) for item in found)
        return f"{list_text(found)}\n\n{len(found)} binders for {count} model types"

    output.result({"binders": found}, text)


@binder_command.command("show")
@click.argument("name", metavar="ARCH")
@common_options
def show_command(name: str, output: Output) -> None:
    """Draw one block of an architecture and list its modules.

    ARCH is an architecture, a model type, a binder document, or a base model on disk or on the
    Hub, whose dimensions are then shown too.
    """
    shown = show_binder(name)
    output.result(_shown_document(shown), lambda: binder_text(shown, with_gguf=output.is_verbose))


def _shown_document(shown: ShownBinder) -> dict[str, Any]:
    base = encode(shown.base) if shown.base else None
    return {"model_type": shown.model_type, "base_model": base, "binder": encode(shown.binder)}


@binder_command.command("infer")
@click.argument("base", metavar="BASE")
@click.option("-o", "--output", "target", metavar="PATH", help="File to write the binder document to.")
@click.option("--force", is_flag=True, help="Replace what stands at PATH.")
@common_options
def infer_command(base: str, target: str | None, force: bool, output: Output) -> None:
    """Find the binder of an unknown architecture from what its model computes.

    A tiny model is built from the config alone and watched; no weights are needed, and no code that the config names
    is run. What could not be told is said, and modules that contradict one another are refused.
    """
    found = infer_binder(base, target, force=force)
    document = {"document": found.document, "evidence": found.evidence, "confidence": found.confidence}
    output.result({**document, "undecided": found.undecided, "path": target}, lambda: inferred_text(found, target))


@binder_command.command("check")
@click.argument("path", metavar="FILE")
@click.option(
    "--base",
    metavar="BASE",
    help="Base model to check on: folder, config.json or OWNER/NAME; by default each type's own.",
)
@common_options
def check_command(path: str, base: str | None, output: Output) -> int:
    """Check a binder document against the real model: its classes, its modules, and what they compute.

    The exit code is that of a binder error where something is wrong or could not be checked.
    """
    report = check_binder(path, base)
    output.result(report, lambda: report_text(report))
    return BinderError.exit_code if report.faults or report.undecided else 0
