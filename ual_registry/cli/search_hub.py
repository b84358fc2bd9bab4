"""``ual search --hub`` in words and as a document."""

from __future__ import annotations

from typing import Any

from ual_registry.cli.output import Output, size_text, table
from ual_registry.registry.views import RevisionRecord
from ual_registry.workflows.hub_search import HubHit, HubSearch, search_hub

__all__ = ["search_on_hub"]

_OF_A_REGISTRY = {"name", "number", "created_at", "owner", "aliases", "tags", "yank_reason", "digest", "size_bytes"}
"""What a record says of a revision in a registry, or of its file."""


def search_on_hub(
    query: str, limit: int, author: str | None, limit_repositories: int, *, refresh: bool, output: Output
) -> None:
    """Search the Hub and print what was found, and what could not be read.

    Args:
        query: The search language.
        limit: How many hits at most.
        author: Whose repositories; ``None`` for everybody's.
        limit_repositories: How many repositories to look at.
        refresh: Whether to read again what is known.
        output: How to speak.

    Raises:
        UALError: As ``workflows.hub_search.search_hub``.
    """
    found = search_hub(query, limit=limit, author=author, limit_repositories=limit_repositories, refresh=refresh)
    _say_how(found, limit, output)
    output.result(_document(found), lambda: _text(found))
    for item in found.unread:
        place = f"{item.repository}:{item.path}" if item.path else item.repository
        output.note(f"not read: {place} [{item.code}]: {item.reason}")


def _say_how(found: HubSearch, limit: int, output: Output) -> None:
    """Tell how far the answer reaches."""
    if found.offline is not None:
        output.note(f"{found.offline}\nthis is the answer of the cache alone, as of {found.oldest} or later")
    else:
        listed = f"{found.listed:,}" if found.is_complete else f"at least {found.listed:,}"
        more = "; --limit-repositories looks at more" if found.looked_at < found.listed else ""
        output.note(f"looked at {found.looked_at:,} of {listed} repositories ({found.known:,} from the cache){more}")
    if found.has_more:
        output.note(f"there are more than {limit:,}; --limit shows more")
    if not found.hits:
        output.note("nothing found")


def _document(found: HubSearch) -> dict[str, Any]:
    return {
        "hits": [_hit_document(hit) for hit in found.hits],
        "has_more": found.has_more,
        "repositories": {
            "looked_at": found.looked_at,
            "from_cache": found.known,
            "listed": found.listed,
            "is_complete": found.is_complete,
        },
        "unread": found.unread,
        "offline": found.offline,
        "oldest": found.oldest,
    }


def _hit_document(hit: HubHit) -> dict[str, Any]:
    fields = [name for name in RevisionRecord.__slots__ if name not in _OF_A_REGISTRY]
    return {
        "repository": hit.repository,
        "commit": hit.commit,
        "path": hit.header.path,
        "form": hit.header.form,
        "is_private": hit.is_private,
        "gated": hit.gated,
        "digest": hit.header.digest,
        "size_bytes": hit.header.size_bytes,
        "tags": sorted(hit.record.tags),
        **{name: getattr(hit.record, name) for name in fields},
    }


def _text(found: HubSearch) -> str:
    rows = [
        [
            hit.repository,
            hit.header.path,
            f"{hit.record.base} ({hit.record.architecture})" if hit.record.base is not None else "",
            hit.record.method,
            "/".join(str(rank) for rank in hit.record.ranks),
            f"{len(hit.record.roles)}",
            hit.record.domain or "",
            size_text(hit.header.size_bytes),
            hit.commit[:12],
        ]
        for hit in found.hits
    ]
    return table(rows, ["repository", "file", "base", "method", "rank", "roles", "domain", "size", "commit"])
