"""The command that examines an adapter for an engine: doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ual_registry.cli.output import Output, common_options
from ual_registry.engines.rules import ENGINES
from ual_registry.errors import FormatError

if TYPE_CHECKING:
    from ual_registry.engines.findings import Diagnosis

__all__ = ["doctor_command"]

_WORDS = {
    "rejected": "rejected",
    "ignored": "ignored",
    "no_effect": "no effect",
    "note": "note",
}

_HINT = "hint: 'ual convert REF DIR --to vllm' writes plain LoRA with one rank and one alpha, --to merged a whole model"


@click.command(
    "doctor",
    epilog="\b\nExamples:\n"
    "  ual doctor medical@production --for vllm --served-name my-model\n"
    "  ual doctor path/to/peft-folder --for gguf\n"
    "  ual doctor my-adapter.air --for sglang --base path/to/base-model --json",
)
@click.argument("ref")
@click.option("--for", "engine", required=True, type=click.Choice(ENGINES), help="The engine; gguf means llama.cpp.")
@click.option(
    "--base", help="Base model that it is to serve with: its folder, its config.json, or OWNER/NAME on the Hub."
)
@click.option(
    "--served-name",
    metavar="NAME",
    help="Name under which vLLM serves the base model, where its resolver is to find the adapter.",
)
@common_options
def doctor_command(ref: str, engine: str, base: str | None, served_name: str | None, output: Output) -> int:
    """Say what an engine would reject of an adapter, what it would silently ignore, and what does nothing.

    REF may also be a PEFT folder. An AIR file is examined as the PEFT folder that 'ual convert' makes of it. Exits with
    3 where the engine would not do what the adapter says; notes aside.
    """
    from ual_registry.workflows.doctor import diagnose  # noqa: PLC0415  # not for the help

    if served_name is not None and engine != "vllm":
        raise click.UsageError("--served-name belongs to --for vllm")
    diagnosis = diagnose(ref, engine, base=base, served_name=served_name)
    output.result(_document(diagnosis), lambda: _text(diagnosis))
    return 0 if diagnosis.is_clean else FormatError.exit_code


def _document(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "path": diagnosis.path,
        "engine": diagnosis.engine,
        "version": diagnosis.version,
        "modules": diagnosis.modules,
        "is_clean": diagnosis.is_clean,
        "findings": [
            {"verdict": str(found.verdict), "where": found.where, "says": found.says, "source": found.source}
            for found in diagnosis.findings
        ],
    }


def _text(diagnosis: Diagnosis) -> str:
    verdict = "ok" if diagnosis.is_clean else "not as the adapter says"
    lines = [f"{diagnosis.path} for {diagnosis.engine} ({diagnosis.version}), {diagnosis.modules} modules: {verdict}"]
    for found in diagnosis.findings:
        source = f" [{found.source}]" if found.source else ""
        lines.append(f"  {_WORDS[found.verdict]:<9}  {found.where}: {found.says}{source}")
    if {"rejected", "ignored"} & {found.verdict for found in diagnosis.findings}:
        lines.append(_HINT)
    return "\n".join(lines)
