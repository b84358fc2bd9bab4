"""The commands about files: show, convert."""

from __future__ import annotations

import click

from ual_registry.cli.output import Output, common_options, size_text
from ual_registry.hub.address import is_hub

__all__ = ["convert_command", "show_command"]


@click.command(
    "show",
    epilog="\b\nExamples:\n"
    "  ual show medical@production\n"
    "  ual show hf:example/medical@v1\n"
    "  ual show hf:example/many:german/adapter.air",
)
@click.argument("ref")
@common_options
def show_command(ref: str, output: Output) -> None:
    """Describe an adapter: base, roles, ranks, layers, lineage, provenance.

    REF may also be hf:OWNER/NAME[@REVISION][:PATH]: what a repository of the Hub holds, read by at most three small
    requests. Where it holds several adapters, they are listed.
    """
    if is_hub(ref):
        from ual_registry.cli.look import hub_document, hub_text  # noqa: PLC0415  # only where the Hub is named
        from ual_registry.workflows.show_hub import show_hub  # noqa: PLC0415  # as above

        found = show_hub(ref)
        output.result(hub_document(found), lambda: hub_text(found))
        return
    from ual_registry.cli.describe import description_document, description_text  # noqa: PLC0415  # not for validate
    from ual_registry.workflows.show import show  # noqa: PLC0415  # as above

    description = show(ref)
    output.result(description_document(description), lambda: description_text(description))


@click.command(
    "convert",
    epilog="\b\nExamples:\n"
    "  ual convert my-adapter my-adapter.air --base path/to/base-model\n"
    "  ual convert my-adapter.air my-adapter-again\n"
    "  ual convert my-adapter.air renamed --edition transformers-5 --base path/to/base-model\n"
    "  ual convert my-adapter.air to-look-at --to folder\n"
    "  ual convert to-look-at edited.air",
)
@click.argument("src")
@click.argument("dst")
@click.option(
    "--to",
    type=click.Choice(["air", "peft", "folder"]),
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
@click.option("--force", is_flag=True, help="Replace what stands at DST.")
@common_options
def convert_command(src: str, dst: str, to: str | None, force: bool, output: Output, **options: str | None) -> None:
    """Convert between an AIR file, a PEFT folder and an unpacked folder; no number changes.

    An unpacked folder is for human eyes: manifest.json, a table of the tensors, and the tensors. Its manifest may be
    edited; on the way back it is checked and sealed anew. A JSON file of ual-adapter 0.1 becomes an AIR file too.
    """
    from ual_registry.workflows import convert as workflow  # noqa: PLC0415  # as above
    from ual_registry.workflows.references import locate  # noqa: PLC0415  # as above

    way = workflow.direction(src, dst, to)
    names = _taken_names(options, may_differ=way is workflow.Direction.TO_PEFT)
    if way is workflow.Direction.TO_AIR:
        base, license_ = options.pop("base"), options.pop("license_")
        labels = workflow.Labels(license=license_, **options)
        result = workflow.convert_to_air(src, dst, base=base, labels=labels, force=force)
    else:
        _refuse_labels(options)
        if way is workflow.Direction.FROM_FOLDER:
            result = workflow.convert_from_folder(src, dst, force=force)
        elif way is workflow.Direction.TO_FOLDER:
            result = workflow.convert_to_folder(locate(src), dst, force=force)
        else:
            result = workflow.convert_to_peft(locate(src), dst, **names, force=force)
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


def _taken_names(options: dict[str, str | None], *, may_differ: bool) -> dict[str, str | None]:
    """Take out of the options whose names modules are to have, and the base model that says which these are."""
    edition = options.pop("edition")
    if edition is None:
        return {}
    if not may_differ:
        raise click.UsageError("--edition belongs to converting an AIR file to a PEFT folder")
    return {"edition": edition, "base": options.pop("base")}


def _refuse_labels(options: dict[str, str | None]) -> None:
    for name, value in options.items():
        if value is not None:
            flag = name.rstrip("_").replace("_", "-")
            raise click.UsageError(f"--{flag} belongs to converting a PEFT folder to AIR")


def _converted(path: str, entries: int, extras: int, size_bytes: int, digest: str) -> str:
    extra = f", {extras} tensors without a role" if extras else ""
    return f"wrote {path} ({entries} entries{extra}, {size_text(size_bytes)})\ntensors {digest}"
