"""The command that examines an adapter for an engine and on its base model: doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ual_registry.cli.output import Output, common_options
from ual_registry.engines.rules import ENGINES
from ual_registry.errors import FormatError

if TYPE_CHECKING:
    from ual_registry.engines.findings import Diagnosis
    from ual_registry.workflows.effects import RecordedEffect

__all__ = ["doctor_command"]

_WORDS = {
    "rejected": "rejected",
    "ignored": "ignored",
    "other_effect": "other effect",
    "no_effect": "no effect",
    "note": "note",
}

_HINT = "hint: 'ual convert REF DIR --to vllm' writes plain LoRA with one rank and one alpha, --to merged a whole model"


@click.command(
    "doctor",
    epilog="\b\nExamples:\n"
    "  ual doctor medical@production --for vllm --served-name my-model\n"
    "  ual doctor path/to/peft-folder --for gguf\n"
    "  ual doctor my-adapter.air --for sglang --base path/to/base-model --json\n"
    "  ual doctor medical --base path/to/base-model --record",
)
@click.argument("ref")
@click.option("--for", "engine", type=click.Choice(ENGINES), help="The engine; gguf means llama.cpp.")
@click.option(
    "--base",
    help="Base model that it is to serve with: its folder, its config.json, or OWNER/NAME on the Hub. In a folder with "
    "weights the adapter is tried.",
)
@click.option(
    "--served-name",
    metavar="NAME",
    help="Name under which vLLM serves the base model, where its resolver is to find the adapter.",
)
@click.option(
    "-o", "--output", "path", metavar="PATH", help="AIR file to write, with a record of what the adapter does on BASE."
)
@click.option("--record", is_flag=True, help="Add it to the registry with that record, as the next revision.")
@click.option("--force", is_flag=True, help="Replace what stands at PATH.")
@common_options
def doctor_command(ref: str, output: Output, **options: Any) -> int:
    """Say what an engine would reject of an adapter, what it would silently ignore, and what does nothing.

    REF may also be a PEFT folder. An AIR file is examined as the PEFT folder that 'ual convert' makes of it. Where BASE
    is a folder with weights, the adapter is tried on it: that it acts, and does what it is recorded to do. Exits with 3
    where the engine, or the adapter, would not do what the adapter says; notes aside.
    """
    from ual_registry.workflows.doctor import diagnose  # noqa: PLC0415  # not for the help
    from ual_registry.workflows.effects import EffectOrder, record_effect  # noqa: PLC0415  # likewise

    engine, base, served_name = options["engine"], options["base"], options["served_name"]
    path, is_recorded = options["path"], options["record"]
    _check(engine, base, served_name, is_kept=path is not None or is_recorded)
    recorded = None
    if path is not None or is_recorded:
        order = EffectOrder(output=path, is_recorded=is_recorded, is_forced=options["force"])
        recorded = record_effect(ref, Path(base), order)
        ref = recorded.path or str(recorded.revision)
    diagnosis = diagnose(ref, engine, base=base, served_name=served_name)
    output.result(_document(diagnosis, recorded), lambda: _text(diagnosis, base, recorded))
    return 0 if diagnosis.is_clean else FormatError.exit_code


def _check(engine: str | None, base: str | None, served_name: str | None, *, is_kept: bool) -> None:
    if served_name is not None and engine != "vllm":
        raise click.UsageError("--served-name belongs to --for vllm")
    if engine is None and base is None:
        raise click.UsageError("give --for ENGINE, --base BASE, or both")
    if is_kept and base is None:
        raise click.UsageError(
            "what the adapter does is seen on --base: the folder of the base model, with its weights"
        )


def _document(diagnosis: Diagnosis, recorded: RecordedEffect | None) -> dict[str, Any]:
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
        "recorded": None
        if recorded is None
        else {"path": recorded.path, "digest": recorded.digest, "revision": recorded.revision},
    }


def _text(diagnosis: Diagnosis, base: str | None, recorded: RecordedEffect | None) -> str:
    verdict = "ok" if diagnosis.is_clean else "not as the adapter says"
    where = f"for {diagnosis.engine} ({diagnosis.version})" if diagnosis.engine is not None else f"on {base}"
    lines = [f"{diagnosis.path} {where}, {diagnosis.modules} modules: {verdict}"]
    width = max((len(_WORDS[found.verdict]) for found in diagnosis.findings), default=0)
    for found in diagnosis.findings:
        source = f" [{found.source}]" if found.source else ""
        lines.append(f"  {_WORDS[found.verdict]:<{width}}  {found.where}: {found.says}{source}")
    if {"rejected", "ignored"} & {found.verdict for found in diagnosis.findings}:
        lines.append(_HINT)
    if recorded is not None and recorded.path is not None:
        lines.append(f"wrote {recorded.path} ({recorded.digest})")
    if recorded is not None and recorded.revision is not None:
        lines.append(f"recorded as {recorded.revision}")
    return "\n".join(lines)
