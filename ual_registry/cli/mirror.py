"""The command that keeps many adapters at both ends: mirror."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from ual_registry.cli.mirror_report import mirror_document, mirror_text
from ual_registry.cli.output import Output, common_options, size_text
from ual_registry.errors import HubError
from ual_registry.workflows.mirror import (
    DEFAULT_JOBS,
    MirrorOptions,
    MirrorState,
    mirror_here,
    mirror_there,
    silent,
)
from ual_registry.workflows.push_order import PushOptions

__all__ = ["mirror_command"]

_INTERRUPTED = 130
_MOST_JOBS = 32


@click.command(
    "mirror",
    epilog="\b\nExamples:\n"
    "  ual mirror hf:org\n"
    '  ual mirror "base:llama rank>=16" --into path/to/registry\n'
    '  ual mirror "owner:search-team" --to hf:org --private',
)
@click.argument("source", nargs=-1, required=True, metavar="SOURCE")
@click.option("--into", metavar="HOME", help="Folder of the registry to pull into; by default the one of 'ual add'.")
@click.option("--to", "target", metavar="hf:ORG", help="Push to repositories of ORG instead; SOURCE is a query here.")
@click.option("--jobs", type=click.IntRange(1, _MOST_JOBS), default=DEFAULT_JOBS, show_default=True, help="At once.")
@click.option("--base", metavar="BASE", help="Pulling: base model of PEFT files; by default the one that they name.")
@click.option("--again", is_flag=True, help="Pulling: try again what was refused for what it holds.")
@click.option("--private", is_flag=True, help="Pushing: only to repositories that nobody else sees.")
@click.option("--air-only", is_flag=True, help="Pushing: leave out the PEFT files.")
@click.option("--allow-unpinned", is_flag=True, help="Pushing: also what names no commit of its base model.")
@common_options
def mirror_command(
    source: tuple[str, ...], *, into: str | None, target: str | None, jobs: int, output: Output, **options: Any
) -> int:
    """Pull all adapters of an owner, or that a query holds for; or push what a query holds for.

    SOURCE is hf:ORG, a user or an organisation of the Hub, or a query as 'ual search --hub' takes it. Every adapter
    becomes a revision of ORG.NAME, after its repository; one in a folder of it is ORG.NAME--FOLDER. With --to SOURCE
    is a query of the registry, and every revision goes to the repository of ORG that has its adapter's name, ORG.NAME
    to ORG/NAME again, oldest first.

    One that is refused does not stop the others; the exit code is 9 then. What was done is kept in a journal in the
    registry's folder: the same command again goes on where it was, however it ended, and asks only for the list where
    all is done. No more is asked than the Hub allows. Ctrl-C gives up what is begun, and reports what is done.
    """
    text = " ".join(source)
    _check(into, target, options)
    with _shown(output, "revisions" if target else "repositories") as progress:
        if target is None:
            how = MirrorOptions(jobs=jobs, again=options["again"], base=options["base"], progress=progress)
            report = mirror_here(text, into=into, options=how)
        else:
            push = PushOptions(
                private=options["private"],
                air_only=options["air_only"],
                allow_unpinned=options["allow_unpinned"],
                retry=True,
            )
            report = mirror_there(text, target, options=MirrorOptions(jobs=jobs, push=push, progress=progress))
    for note in report.notes:
        output.note(f"note: {note}")
    output.result(mirror_document(report), lambda: mirror_text(report, is_verbose=output.is_verbose))
    if report.is_interrupted:
        return _INTERRUPTED
    return 0 if report.is_complete else HubError.exit_code


def _check(into: str | None, target: str | None, options: dict[str, Any]) -> None:
    if into is not None and target is not None:
        raise click.UsageError("give either --into or --to")
    foreign = ("base", "again") if target else ("private", "air_only", "allow_unpinned")
    for name in foreign:
        if options[name]:
            flag = name.replace("_", "-")
            raise click.UsageError(f"--{flag} belongs to {'pulling' if target else 'pushing, with --to'}")


@contextlib.contextmanager
def _shown(output: Output, unit: str) -> Iterator[Callable[[MirrorState], None]]:
    """Yield what shows count, rate and time left on a terminal, and nothing elsewhere."""
    if output.is_quiet or not sys.stderr.isatty():
        yield silent
        return
    from tqdm import tqdm  # noqa: PLC0415  # only where somebody looks

    with tqdm(desc="mirroring", unit=f" {unit}", file=sys.stderr, leave=False, dynamic_ncols=True, smoothing=0) as bar:

        def show(state: MirrorState) -> None:
            said = [size_text(state.received_bytes)] if state.received_bytes else []
            said += [f"waiting {state.wait_s} s, as the Hub asks"] if state.wait_s else []
            if bar.total is None:  # what was settled before tells nothing of the rate
                bar.initial = bar.n = state.done
            bar.total = state.total
            bar.set_postfix_str(", ".join(said), refresh=False)
            bar.update(state.done - bar.n)
            bar.refresh()

        yield show
