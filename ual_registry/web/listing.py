"""The adapters of a registry as models that a client can name."""

from __future__ import annotations

from ual_registry.registry.registry import Registry
from ual_registry.registry.views import RevisionRecord
from ual_registry.web.engine import ServedModel

__all__ = ["registered_models"]

_ADAPTER = "adapter"
_PAGE = 100
_MOST = 1000


def registered_models(registry: Registry) -> list[ServedModel]:
    """Return the adapters of a registry by name and by alias, from its first 1,000 revisions.

    Args:
        registry: The registry.
    """
    found: dict[str, ServedModel] = {}
    after = None
    for _ in range(_MOST // _PAGE):
        page = registry.search("", limit=_PAGE, after=after)
        for revision in page.items:
            if revision.kind != _ADAPTER:
                continue
            for name in (revision.name, *(f"{revision.name}@{alias}" for alias in revision.aliases)):
                # The newest revision of a name comes first, and it is the one that the name means.
                found.setdefault(name, _model(name, revision))
        after = page.next
        if after is None:
            break
    return list(found.values())


def _model(name: str, revision: RevisionRecord) -> ServedModel:
    created_s = int(revision.created_at.timestamp())
    return ServedModel(id=name, created_s=created_s, root=revision.digest, parent=revision.base)
