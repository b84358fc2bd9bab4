"""Sentence encoders by what a user names them: a folder, or a repository on the Hub at a pinned commit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from ual_registry.air.commit import is_commit
from ual_registry.errors import RouteError
from ual_registry.hub.address import HubAddress, is_hub, is_repository
from ual_registry.hub.client import Hub
from ual_registry.hub.download import download
from ual_registry.hub.model import HubFile, Snapshot
from ual_registry.workflows.extras import need_dispatch

if TYPE_CHECKING:
    from ual_registry.dispatch.encode import CachedEncoder, SentenceEncoder, TextEncoder
    from ual_registry.dispatch.router import Router

__all__ = ["DEFAULT_ENCODER", "cached", "cached_or_same", "find_encoder", "matching_encoder"]

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"

_ENDINGS = (".json", ".txt", ".model", ".safetensors")
_MODULES = "modules.json"
_FOREIGN_FOLDERS = ("onnx", "openvino")


def find_encoder(
    name: str | Path | None = None, *, dimension: int | None = None, hub: Hub | None = None
) -> SentenceEncoder:
    """Load a sentence encoder.

    Args:
        name: Its folder, or its repository on the Hub, ``[hf:]owner/name[@revision]``; ``DEFAULT_ENCODER`` if absent.
        dimension: Length of the embeddings of the router that it is for, which tells the view of the encoder.
        hub: The Hub; that of the environment where absent.

    Raises:
        MissingExtraError: What encoders need is not installed.
        RouteError: It is no sentence encoder.
        HubError: The Hub refuses or cannot be reached.
    """
    need_dispatch("sentence encoders")
    text = str(name or DEFAULT_ENCODER)
    if Path(text).is_dir():
        return _viewed(Path(text), dimension)
    if not is_hub(text) and not is_repository(text.partition("@")[0]):
        raise RouteError(
            f"{text}: there is no such folder",
            code="encoder",
            context={"path": text},
            hint="give the folder of a sentence-transformers model, or OWNER/NAME on the Hub",
        )
    address = HubAddress.parse(text)
    commit = address.revision
    if is_commit(commit) and _is_whole(folder := _folder(address.repository, commit)):
        return _viewed(folder, dimension, id=address.repository, revision=commit)  # also without a connection
    own = hub or Hub.open()
    snapshot = own.pin(address.repository, address.revision)
    return _viewed(_fetched(own, snapshot), dimension, id=snapshot.repository, revision=snapshot.commit)


def _viewed(
    folder: Path, dimension: int | None, *, id: str | None = None, revision: str | None = None
) -> SentenceEncoder:
    """Load an encoder with the view whose embeddings have a dimension; with the best one where none is asked for."""
    from ual_registry.dispatch.encode import View, load_encoder  # noqa: PLC0415  # loads torch

    found = load_encoder(folder, id=id, revision=revision)
    if dimension in (None, found.identity.dimension):
        return found
    return load_encoder(folder, id=id, revision=revision, view=View.PLAIN)


def matching_encoder(router: Router, encoder: TextEncoder | str | Path | None = None) -> TextEncoder:
    """Return the encoder of a router.

    Args:
        router: The router.
        encoder: The encoder, its folder or its repository; what the router names where absent.

    Raises:
        RouteError: It is another one than the router was fitted on.
        UALError: As ``find_encoder``.
    """
    from ual_registry.dispatch.encode import require_encoder  # noqa: PLC0415  # loads torch

    wanted = router.manifest.encoder
    if encoder is None:
        if not wanted.revision and not Path(wanted.id).is_dir():
            raise RouteError(
                f"the router's encoder {wanted.id!r} was a folder, and there is none of that name here",
                code="encoder",
                context={"encoder": wanted.id},
                hint="give the folder with --encoder",
            )
        encoder = f"{wanted.id}@{wanted.revision}" if wanted.revision else wanted.id
    found = find_encoder(encoder, dimension=wanted.dimension) if isinstance(encoder, (str, Path)) else encoder
    require_encoder(wanted, found.identity)
    return found


def cached_or_same(encoder: TextEncoder) -> TextEncoder:
    """Return an encoder that keeps what it said; one that is not ours is left as it is."""
    from ual_registry.dispatch.encode import SentenceEncoder  # noqa: PLC0415  # loads torch

    return cached(encoder) if isinstance(encoder, SentenceEncoder) else encoder


def cached(encoder: SentenceEncoder) -> CachedEncoder:
    """Return the encoder with the cache of this user on disk."""
    from ual_registry.dispatch.encode import CachedEncoder  # noqa: PLC0415  # loads torch

    return CachedEncoder(encoder, _cache() / "embeddings.sqlite")


def _cache() -> Path:
    return Path(platformdirs.user_cache_dir("ual-registry", appauthor=False))


def _folder(repository: str, commit: str) -> Path:
    return _cache() / "encoders" / repository.replace("/", "--") / commit


def _is_whole(folder: Path) -> bool:
    return (folder / _MODULES).is_file()


def _fetched(hub: Hub, snapshot: Snapshot) -> Path:
    """Return a folder with the encoder's files, verified as they came; a commit is fetched once."""
    folder = _folder(snapshot.repository, snapshot.commit)
    wanted = [file for file in snapshot.files.values() if _is_needed(file)]
    missing = [file for file in wanted if not (folder / file.path).is_file()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        # The list of modules comes last, which tells a whole folder from a half fetched one.
        missing.sort(key=lambda file: file.path == _MODULES)
        download(hub, snapshot, missing, folder)
    return folder


def _is_needed(file: HubFile) -> bool:
    head = file.path.split("/", 1)[0]
    return file.path.endswith(_ENDINGS) and head not in _FOREIGN_FOLDERS
