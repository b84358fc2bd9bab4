"""The adapters of a registry as models that a client can name."""

from __future__ import annotations

from ual_registry.errors import FormatError, RegistryError, RegistryUnavailableError
from ual_registry.registry.reference import is_path
from ual_registry.registry.registry import Registry
from ual_registry.registry.views import RevisionRecord, on_all_pages
from ual_registry.web.engine import ServedModel

__all__ = ["named_digest", "named_model", "registered_models"]

_ADAPTER = "adapter"
_PAGE = 1000
_MOST_NAMES = 100
"""Names of one file that are looked at for the one that was asked."""


def registered_models(registry: Registry) -> list[ServedModel]:
    """Return the adapters of a registry by name and by alias; what is hidden is left out.

    Args:
        registry: The registry.

    Raises:
        RegistryUnavailableError: It cannot be asked.
    """
    found: dict[tuple[str, str], RevisionRecord] = {}
    for adapter in on_all_pages(lambda after: registry.list(limit=_PAGE, after=after)):
        if adapter.newest.kind == _ADAPTER:
            found[adapter.name, ""] = adapter.newest
    for revision in on_all_pages(lambda after: registry.search(f"kind:{_ADAPTER} alias:*", limit=_PAGE, after=after)):
        found |= {(revision.name, alias): revision for alias in revision.aliases}
    return [_model(f"{name}@{alias}" if alias else name, found[name, alias]) for name, alias in sorted(found)]


def named_digest(registry: Registry, reference: str) -> str | None:
    """Return the digest of what a client named; ``None`` where it names nothing of the registry.

    Args:
        registry: The registry.
        reference: ``name``, ``name@3``, ``name@alias`` or ``sha256:...``; a path names nothing.

    Raises:
        RegistryUnavailableError: It cannot be asked.
    """
    if is_path(reference):
        return None
    try:
        return str(registry.resolve(reference))
    except RegistryUnavailableError:
        raise
    except (RegistryError, FormatError):
        return None


def named_model(registry: Registry, reference: str) -> ServedModel | None:
    """Return the adapter that a client named, under that name; arguments and errors as ``named_digest``."""
    digest = named_digest(registry, reference)
    if digest is None:
        return None
    page = registry.search(f"digest:{digest.removeprefix('sha256:')}", limit=_MOST_NAMES)
    if not page:
        return ServedModel(id=reference, root=digest)  # hidden from lists, and served to who names it
    name = reference.partition("@")[0]
    own = next((revision for revision in page if revision.name == name), page[0])
    return _model(reference, own) if own.kind == _ADAPTER else None


def _model(name: str, revision: RevisionRecord) -> ServedModel:
    created_s = int(revision.created_at.timestamp())
    return ServedModel(id=name, created_s=created_s, root=revision.digest, parent=revision.base)
