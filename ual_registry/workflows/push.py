"""Publish an adapter on the Hub: one commit with the AIR file, the PEFT pair, a model card and its picture."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from enum import StrEnum

from ual_registry.errors import HubConflictError, UALError
from ual_registry.hub.changes import FileChange
from ual_registry.hub.client import Hub
from ual_registry.hub.model import Snapshot
from ual_registry.hub.target import (
    MAIN,
    Target,
    check_private,
    check_tags,
    check_token,
    look,
    prepare,
    set_tags,
    tag_conflict,
)
from ual_registry.hub.upload import CommitOrder, commit
from ual_registry.workflows.push_material import Material, prepared
from ual_registry.workflows.push_order import PushOptions, checked_repository
from ual_registry.workflows.push_plan import Plan, make_plan

__all__ = ["PushOutcome", "PushResult", "push"]

_ROUNDS = 20
"""How often a push is planned anew on what others pushed; of as many pushers at once, each round one wins."""

_LONGEST_PAUSE_S = 2.0
_SUMMARY_LENGTH = 120


class PushOutcome(StrEnum):
    """What a push came to."""

    PUSHED = "pushed"
    UNCHANGED = "unchanged"
    PLANNED = "planned"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """What a push did, or would do.

    Attributes:
        outcome: What it came to.
        repository: The repository.
        revision: The branch.
        url: The repository's page.
        digest: Digest of the AIR file.
        commit: The commit that holds the files; ``None`` where it is only planned.
        parent: The commit that the changes were planned on; ``None`` where the repository is not there yet.
        makes_repository: Whether the repository was not there.
        makes_branch: Whether the branch was not there; it begins with what ``main`` holds.
        files: What becomes of every file that the push is about, by path.
        card_diff: The change of the card as a unified diff; empty where it stays as it is.
        tags: Git tags of the commit.
        remarks: What whoever pushes should know.
    """

    outcome: PushOutcome
    repository: str
    revision: str
    url: str
    digest: str
    commit: str | None
    parent: str | None
    makes_repository: bool
    makes_branch: bool
    files: tuple[FileChange, ...]
    card_diff: str
    tags: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Push:
    """One push on its way: where to, what, how, and what was remarked."""

    hub: Hub
    repository: str
    material: Material
    options: PushOptions
    remarks: list[str] = field(default_factory=list)


def push(reference: str, repository: str, options: PushOptions | None = None, *, hub: Hub | None = None) -> PushResult:
    """Publish an adapter on the Hub, in one commit or not at all.

    Everything is checked before anything is sent. Files that the repository holds already are not sent again; where it
    holds all of them, no commit is made. An adapter of the registry gets a link to the commit.

    Args:
        reference: A path to an AIR file, or a reference into the registry.
        repository: The repository, ``owner/name``; it is made where it is not there.
        options: How to push.
        hub: The Hub; by default the one of the environment.

    Raises:
        HubConflictError: Somebody else was faster, or a tag is on another commit.
        HubError: A word is none that the Hub knows, the adapter may not be pushed, or the Hub refuses.
        UALError: The adapter cannot be read, or is not legal.
    """
    options = options or PushOptions()
    name = checked_repository(repository, options, reference=str(reference))
    if not options.dry_run:
        check_token()
    with prepared(
        reference, prefix=options.prefix, air_only=options.air_only, allow_unpinned=options.allow_unpinned
    ) as material:
        work = _Push(
            hub=hub or Hub.open(),
            repository=name,
            material=material,
            options=options,
            remarks=list(material.remarks),
        )
        return _push(work)


def _push(work: _Push) -> PushResult:
    rounds = _ROUNDS if work.options.retry else 1
    for number in range(1, rounds + 1):
        try:
            return _push_once(work)
        except HubConflictError as error:
            if number == rounds or "tag" in error.context:
                raise
            time.sleep(random.uniform(0, _LONGEST_PAUSE_S))  # noqa: S311  # so that pushers do not meet again
    raise AssertionError  # pragma: no cover - the loop ends by return or raise


def _push_once(work: _Push) -> PushResult:
    """Look, plan, and commit on what was seen."""
    options = work.options
    target = look(work.hub, work.repository, options.branch, tags=options.tags)
    if target.snapshot is not None:
        check_private(target.snapshot, private=options.private)
    plan = make_plan(work.hub, work.repository, work.material, target.snapshot)
    _check_free(target, plan, options.tags)
    if options.dry_run:
        return _result(work, target, plan, PushOutcome.PLANNED)
    snapshot = prepare(work.hub, target, private=options.private)
    if target.snapshot is None or snapshot.commit != target.snapshot.commit:
        plan = make_plan(work.hub, work.repository, work.material, snapshot)
    if plan.changes_nothing:
        return _finish(work, target, plan, snapshot, snapshot.commit)
    oid = commit(work.hub, _order(work, plan, snapshot), note=work.remarks.append)
    return _finish(work, target, plan, snapshot, oid)


def _check_free(target: Target, plan: Plan, tags: tuple[str, ...]) -> None:
    """Refuse tags that stand elsewhere than on what the branch holds, before anything is sent."""
    for tag in tags:
        at = target.tags.get(tag)
        is_there = plan.changes_nothing and target.snapshot is not None and at == target.snapshot.commit
        if at is not None and not is_there:
            raise tag_conflict(target.repository, tag, at)


def _order(work: _Push, plan: Plan, snapshot: Snapshot) -> CommitOrder:
    summary, description = _message(work.material, work.options)
    return CommitOrder(
        parent=snapshot,
        branch=work.options.branch,
        contents=plan.contents,
        removed=plan.removed,
        summary=summary,
        description=description,
        show_progress=work.options.show_progress,
    )


def _message(material: Material, options: PushOptions) -> tuple[str, str]:
    """Return the first line of the commit message, and the rest of it with the digest as a trailer."""
    manifest = material.manifest
    title = manifest.name or material.name or "adapter"
    text = (options.message or "").strip() or (
        f"Push {title}: LoRA of rank {manifest.method.rank} for {manifest.base_model.id}\n\n"
        f"{len(manifest.entries)} entries in {material.air.path}"
        f"{'' if options.air_only else ', and the same adapter for PEFT beside it'}."
    )
    summary, _, rest = text.partition("\n")
    trailer = f"AIR-Digest: {material.digest}"
    return summary[:_SUMMARY_LENGTH], f"{rest.strip()}\n\n{trailer}" if rest.strip() else trailer


def _finish(work: _Push, target: Target, plan: Plan, snapshot: Snapshot, oid: str) -> PushResult:
    """Note what was pushed, and set the tags."""
    outcome = PushOutcome.UNCHANGED if plan.changes_nothing else PushOutcome.PUSHED
    if work.material.name is not None:
        _link(work, oid, is_new=outcome is PushOutcome.PUSHED)
    tags = [tag for tag in check_tags(work.options.tags) if target.tags.get(tag) != oid]
    set_tags(work.hub, work.repository, oid, tags)
    return _result(work, target, plan, outcome, commit=oid, parent=snapshot.commit)


def _link(work: _Push, oid: str, *, is_new: bool) -> None:
    """Note in the registry where the adapter was published; where it was there before, only if that is not known."""
    from ual_registry.registry.registry import Registry  # noqa: PLC0415  # a path needs no database

    registry, digest, path = Registry.open(), str(work.material.digest), work.material.air.path
    try:
        known = registry.linked(work.repository, path=path, direction="push")
        if is_new or all(link.digest != digest for link in known):
            registry.link(
                digest,
                repository=work.repository,
                commit=oid,
                path=path,
                direction="push",
                name=work.material.name or "",
            )
    except UALError as error:
        error.hint = f"commit {oid} is pushed; the same command again notes it in the registry"
        raise


def _result(
    work: _Push,
    target: Target,
    plan: Plan,
    outcome: PushOutcome,
    *,
    commit: str | None = None,
    parent: str | None = None,
) -> PushResult:
    seen = target.snapshot.commit if target.snapshot else None
    return PushResult(
        outcome=outcome,
        repository=work.repository,
        revision=work.options.branch,
        url=f"{work.hub.endpoint}/{work.repository}",
        digest=str(work.material.digest),
        commit=commit,
        parent=parent or seen,
        makes_repository=target.snapshot is None,
        makes_branch=not target.has_branch and work.options.branch != MAIN,
        files=plan.files,
        card_diff=plan.card_diff,
        tags=check_tags(work.options.tags),
        remarks=tuple(work.remarks),
    )
