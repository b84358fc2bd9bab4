"""The command that publishes an adapter on the Hub: push."""

from __future__ import annotations

import sys
from typing import Any

import click

from ual_registry.cli.output import Output, common_options, size_text, table
from ual_registry.hub.changes import Change, FileChange
from ual_registry.workflows.push import PushOutcome, PushResult, push
from ual_registry.workflows.push_order import PushOptions

__all__ = ["push_command"]


@click.command(
    "push",
    epilog="\b\nExamples:\n"
    "  ual push medical@production my-org/medical --dry-run\n"
    "  ual push medical@production my-org/medical --tag v1\n"
    "  ual push medical.air my-org/adapters --subfolder medical --private",
)
@click.argument("ref")
@click.argument("repo")
@click.option("--air-only", is_flag=True, help="Leave out the PEFT pair, which others load without this program.")
@click.option("--tag", "tags", multiple=True, metavar="T", help="Git tag for the new commit; repeatable.")
@click.option("--private", is_flag=True, help="Make a new repository private; one that is public is refused.")
@click.option(
    "--revision",
    "branch",
    default="main",
    show_default=True,
    metavar="BRANCH",
    help="Branch to push to; made where it is not there.",
)
@click.option("--subfolder", metavar="S", help="Folder in the repository, where it holds several adapters.")
@click.option("--message", "-m", metavar="M", help="Commit message; by default what the adapter is.")
@click.option("--dry-run", is_flag=True, help="Print exactly what would change; change nothing.")
@click.option("--retry", is_flag=True, help="Where somebody else was faster, push on top of what they pushed.")
@click.option("--allow-unpinned", is_flag=True, help="Push though the commit of the base model is not known.")
@common_options
def push_command(ref: str, repo: str, output: Output, **options: Any) -> None:
    """Publish an adapter on the Hugging Face Hub, in one commit.

    REPO is OWNER/NAME; it is made where it is not there. It gets the AIR file, the same adapter for PEFT, a model card
    and its picture. Everything is checked before anything is sent, what is there already is not sent again, and what
    you wrote into the card by hand stays. The token is that of 'hf auth login' or HF_TOKEN.
    """
    show_progress = sys.stderr.isatty() and not output.is_quiet
    result = push(ref, repo, PushOptions(**options, show_progress=show_progress))
    for remark in result.remarks:
        output.note(f"note: {remark}")
    output.result(result, lambda: _text(result, ref))


def _text(result: PushResult, ref: str) -> str:
    lines = [_headline(result, ref), table([_row(file) for file in result.files], ["", "file", "size", "before"])]
    if result.tags:
        lines.append(f"tags {', '.join(result.tags)}")
    if result.outcome is PushOutcome.PLANNED:
        lines += ["", result.card_diff] if result.card_diff else []
    else:
        lines += [f"{result.url}/tree/{result.commit}", result.digest]
    return "\n".join(lines)


def _headline(result: PushResult, ref: str) -> str:
    place = f"{result.repository}, branch {result.revision}"
    if result.outcome is PushOutcome.PUSHED:
        made = " (a new repository)" if result.makes_repository else " (a new branch)" if result.makes_branch else ""
        return f"pushed {ref} to {place}{made}: {_counts(result.files)}"
    if all(file.change is Change.UNCHANGED for file in result.files):
        return f"nothing to change: {place} holds all of {ref} already"
    made = "; the branch would be made" if result.makes_branch else ""
    made = "; the repository would be made" if result.makes_repository else made
    return f"would push {ref} to {place}: {_counts(result.files)}{made}"


def _counts(files: tuple[FileChange, ...]) -> str:
    found = {change: sum(file.change is change for file in files) for change in Change}
    return ", ".join(f"{count} {change}" for change, count in found.items() if count)


def _row(file: FileChange) -> list[str]:
    after = "" if file.change is Change.REMOVED else size_text(file.size_bytes)
    before = "" if file.previous_bytes is None else size_text(file.previous_bytes)
    return [file.change, file.path, after, before]
