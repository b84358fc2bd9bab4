"""The commands about files: show, convert."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ual_registry.cli.engine_forms import ENGINE_FORMS, refuse_labels, to_engine
from ual_registry.cli.output import Output, common_options, size_text
from ual_registry.hub.address import is_hub

if TYPE_CHECKING:
    from ual_registry.workflows.convert import ConvertResult, Direction

__all__ = ["convert_command", "show_command"]


@click.command(
    "show",
    epilog="\b\nExamples:\n"
    "  ual show medical@production\n"
    "  ual show hf:example/medical@v1\n"
    "  ual show hf:example/many:german/adapter.air\n"
    "  ual show triage@2 --plot loss.png",
)
@click.argument("ref")
@click.option("--plot", metavar="FILE", help="Picture of the training's loss to write, .png or .svg.")
@click.option("--force", is_flag=True, help="Replace what stands at the picture's FILE.")
@common_options
def show_command(ref: str, plot: str | None, force: bool, output: Output) -> None:
    """Describe an adapter (base, roles, ranks, layers, lineage, provenance) or a router (encoder, domains, limits).

    REF may also be hf:OWNER/NAME[@REVISION][:PATH]: what a repository of the Hub holds, read by at most three small
    requests. Where it holds several adapters, they are listed.
    """
    if is_hub(ref):
        if plot is not None:
            raise click.UsageError("--plot draws an adapter that is here; get it with 'ual pull'")
        from ual_registry.cli.look import hub_document, hub_text  # noqa: PLC0415  # only where the Hub is named
        from ual_registry.workflows.show_hub import show_hub  # noqa: PLC0415  # as above

        found = show_hub(ref)
        output.result(hub_document(found), lambda: hub_text(found))
        return
    from ual_registry.cli.describe import description_document, description_text  # noqa: PLC0415  # not for validate
    from ual_registry.workflows.show import RouterDescription, show  # noqa: PLC0415  # as above

    description = show(ref)
    if isinstance(description, RouterDescription):
        if plot is not None:
            raise click.UsageError("--plot draws the training of an adapter, and this is a router")
        from ual_registry.cli.describe_router import router_document, router_text  # noqa: PLC0415  # as above

        output.result(router_document(description), lambda: router_text(description))
        return
    if plot is not None:
        from ual_registry.workflows.plot_training import plot_training  # noqa: PLC0415  # as above

        plot_training(ref, plot, force=force)
        output.note(f"drew {plot}")
    output.result(description_document(description), lambda: description_text(description))


@click.command(
    "convert",
    epilog="\b\nExamples:\n"
    "  ual convert my-adapter my-adapter.air --base path/to/base-model\n"
    "  ual convert my-adapter.air my-adapter-again\n"
    "  ual convert my-adapter.air renamed --edition transformers-5 --base path/to/base-model\n"
    "  ual convert my-adapter.air to-look-at --to folder\n"
    "  ual convert to-look-at edited.air\n"
    "  ual convert medical@production served/medical --to vllm --served-name my-model\n"
    "  ual convert medical@production medical.gguf --to gguf\n"
    "  ual convert medical@production merged --to merged --base path/to/base-model",
)
@click.argument("src")
@click.argument("dst")
@click.option(
    "--to",
    type=click.Choice(["air", "peft", "folder", *ENGINE_FORMS]),
    help="Format to write; by default AIR from a folder and PEFT from a file.",
)
@click.option("--base", help="Base model of the adapter: its folder, its config.json, or OWNER/NAME on the Hub.")
@click.option("--base-id", help="Hub id of the base model, as a label; by default as --base or the configuration says.")
@click.option("--base-revision", help="Commit of the base model; by default as --base or the configuration says.")
@click.option("--name", help="Label to write into the manifest.")
@click.option("--description", help="What the adapter does, to write into the manifest.")
@click.option(
    "--domain", help="The field that it serves, to write into the manifest; 'ual search domain:...' finds it."
)
@click.option("--license", "license_", help="SPDX expression to write into the manifest.")
@click.option(
    "--seed-prompts",
    metavar="FILE",
    help="JSON file of up to five inputs of the kind that the adapter is made for, to write into the manifest; a "
    "distillation starts from them.",
)
@click.option(
    "--edition",
    metavar="NAME",
    help="Give a PEFT folder the module names of an edition, such as transformers-5; 'ual binder show' lists them.",
)
@click.option(
    "--served-name",
    metavar="NAME",
    help="Name under which vLLM serves the base model, for a folder that its resolver is to find.",
)
@click.option("--force", is_flag=True, help="Replace what stands at DST.")
@common_options
def convert_command(src: str, dst: str, to: str | None, force: bool, output: Output, **options: str | None) -> None:
    """Convert between an AIR file, a PEFT folder and an unpacked folder; no number changes.

    For engines the adapter gets one rank and one alpha, its scalings folded into its factors: a PEFT folder for vLLM
    and the like, a GGUF file for llama.cpp, or its base model with the adapter merged in, which any engine serves.

    An unpacked folder is for human eyes: manifest.json, a table of the tensors, and the tensors. Its manifest may be
    edited; on the way back it is checked and sealed anew. A JSON file of ual-adapter 0.1 becomes an AIR file too.
    """
    from ual_registry.workflows import convert as workflow  # noqa: PLC0415  # as above

    served_name = options.pop("served_name")
    if to in ENGINE_FORMS:
        result = to_engine(src, dst, to, {**options, "served_name": served_name}, force=force)
    elif served_name is not None:
        raise click.UsageError("--served-name belongs to --to vllm")
    else:
        result = _converted_result(src, dst, workflow.direction(src, dst, to), options, force=force)
    for loss in result.losses:
        output.note(f"lost: {loss}")
    if result.left_behind:
        output.note(f"left behind, no part of the adapter: {', '.join(result.left_behind)}")
    output.result(
        result,
        lambda: _converted(
            result.path, result.entry_count, result.extra_count, result.size_bytes, result.tensor_digest
        ),
    )


def _converted_result(
    src: str, dst: str, way: Direction, options: dict[str, str | None], *, force: bool
) -> ConvertResult:
    """Convert in one of the directions in which no number changes."""
    from ual_registry.workflows import convert as workflow  # noqa: PLC0415  # not for show
    from ual_registry.workflows.references import locate  # noqa: PLC0415  # as above

    names = _taken_names(options, may_differ=way is workflow.Direction.TO_PEFT)
    if way is workflow.Direction.TO_AIR:
        base, license_ = options.pop("base"), options.pop("license_")
        labels = workflow.Labels(license=license_, **options)
        return workflow.convert_to_air(src, dst, base=base, labels=labels, force=force)
    refuse_labels(options)
    if way is workflow.Direction.FROM_FOLDER:
        return workflow.convert_from_folder(src, dst, force=force)
    if way is workflow.Direction.TO_FOLDER:
        return workflow.convert_to_folder(locate(src), dst, force=force)
    return workflow.convert_to_peft(locate(src), dst, **names, force=force)


def _taken_names(options: dict[str, str | None], *, may_differ: bool) -> dict[str, str | None]:
    """Take out of the options whose names modules are to have, and the base model that says which these are."""
    edition = options.pop("edition")
    if edition is None:
        return {}
    if not may_differ:
        raise click.UsageError("--edition belongs to converting an AIR file to a PEFT folder")
    return {"edition": edition, "base": options.pop("base")}


def _converted(path: str, entries: int, extras: int, size_bytes: int, digest: str) -> str:
    extra = f", {extras} tensors without a role" if extras else ""
    return f"wrote {path} ({entries} entries{extra}, {size_text(size_bytes)})\ntensors {digest}"
