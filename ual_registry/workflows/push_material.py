"""What is pushed: an adapter found by its reference, checked in full, and the files that are made from it."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.air.adapter import Adapter
from ual_registry.air.commit import is_commit
from ual_registry.air.model import Manifest
from ual_registry.air.read import open_legal
from ual_registry.air.validate import scanned_problems
from ual_registry.digest import Digest
from ual_registry.errors import DigestMismatchError, ForeignFormatError, HubError, StorageError
from ual_registry.hub.address import is_hub, is_repository
from ual_registry.hub.changes import Content
from ual_registry.hub.choice import AIR_FILE, CONFIG_FILE, WEIGHTS_FILE
from ual_registry.hub.picture import draw_picture
from ual_registry.interop.to_peft import to_peft
from ual_registry.registry.files import new_folder, sweep_folders
from ual_registry.registry.intake import take_in
from ual_registry.remote import is_url
from ual_registry.workflows.reading import read_adapter
from ual_registry.workflows.references import locate

if TYPE_CHECKING:
    from ual_registry.registry.registry import Registry

__all__ = ["PEFT_FILES", "PICTURE_FILE", "Material", "prepared"]

PICTURE_FILE = "adapter.png"
PEFT_FILES = (WEIGHTS_FILE, CONFIG_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """An adapter ready to be pushed.

    Attributes:
        digest: Digest of the AIR file.
        manifest: What it says about itself.
        name: Its name in the registry, empty where it has none; ``None`` where it was given as a path.
        prefix: What stands before the names of its files in the repository: empty, or a folder with ``/``.
        air: The AIR file.
        others: The PEFT pair and the picture, as far as they are made; they live as long as the block does.
        remarks: What whoever pushes should know.
    """

    digest: Digest
    manifest: Manifest
    name: str | None
    prefix: str
    air: Content
    others: tuple[Content, ...]
    remarks: tuple[str, ...] = ()

    @property
    def paths(self) -> frozenset[str]:
        """The paths of its files in the repository."""
        return frozenset(content.path for content in (self.air, *self.others))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An AIR file by its reference.

    Attributes:
        path: Where it is.
        digest: Its digest, where the registry holds it; all of it was checked when it was added.
        name: Its name in the registry, empty where it has none there; ``None`` where it was given as a path.
    """

    path: Path
    digest: Digest | None = None
    name: str | None = None


@contextlib.contextmanager
def prepared(reference: str, *, prefix: str, air_only: bool, allow_unpinned: bool) -> Iterator[Material]:
    """Find an adapter, check all of it, and make the files that are pushed with it.

    What is made lives in a temporary folder, which is gone after the block.

    Args:
        reference: A path, or a reference into the registry.
        prefix: What stands before the names of the files in the repository: empty, or a folder with ``/``.
        air_only: Whether to leave out the PEFT pair.
        allow_unpinned: Whether the base model's commit may be unknown.

    Raises:
        FormatError: The file is not legal AIR, or its bytes were changed; or PEFT cannot say what it says.
        RegistryError: The reference names nothing.
        HubError: It is yanked (``hub-yanked``), unpinned (``hub-unpinned``), or on the Hub already.
        StorageError: The file system refuses.
    """
    found = _find(reference)
    with read_adapter(found.path) as adapter, _temporary_folder() as folder, ThreadPoolExecutor(1) as aside:
        _check_pinned(adapter.manifest, reference, allow_unpinned=allow_unpinned)
        drawing = aside.submit(draw_picture, adapter.manifest)  # which takes as long as the checks, and reads nothing
        digest = found.digest or _checked(found.path)
        others = () if air_only else _peft_pair(adapter, folder / "peft", prefix)
        picture = drawing.result()
        if picture is not None:
            others += (Content.of_bytes(prefix + PICTURE_FILE, picture),)
        yield Material(
            digest=digest,
            manifest=adapter.manifest,
            name=found.name,
            prefix=prefix,
            air=Content.of_file(prefix + AIR_FILE, found.path, digest=digest),
            others=others,
            remarks=tuple(_remarks(adapter.manifest, air_only=air_only, has_picture=picture is not None)),
        )


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Make a folder that is gone after the block; what killed commands left beside it goes as well."""
    with new_folder(_own_place()) as folder:
        with contextlib.suppress(StorageError):
            sweep_folders(folder)
        yield folder


def _own_place() -> Path:
    """Return a folder for temporary ones that nobody else can write to, however open the place around it is.

    Raises:
        StorageError: It cannot be made, or is somebody else's.
    """
    place = Path(tempfile.gettempdir()) / f"ual-push-{os.getuid()}"
    try:
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
        state = place.lstat()
    except OSError as error:
        raise StorageError.of("write", place, error) from error
    if state.st_uid != os.getuid() or stat.S_IMODE(state.st_mode) & 0o077 or not stat.S_ISDIR(state.st_mode):
        raise StorageError(
            f"cannot write {place}: expected a folder of yours that others cannot open",
            context={"path": str(place)},
            hint="remove it, or set TMPDIR to a folder of your own",
        )
    return place


def _find(reference: str) -> _Found:
    """Find the AIR file that is meant; bytes of the registry must have the digest that names them."""
    if is_hub(reference) or is_url(reference):
        raise HubError(
            f"cannot push {reference}: it is on a server, expected a file or the name of a registered adapter",
            code="hub-address",
            context={"reference": reference},
            hint="pull it first: 'ual pull REPO --name NAME'",
        )
    path = locate(reference)
    if path == Path(reference):  # what the registry holds stands at a place of its own
        return _Found(path=path)
    return _find_registered(reference)


def _find_registered(reference: str) -> _Found:
    from ual_registry.registry.registry import Registry  # noqa: PLC0415  # a path needs no database

    registry = Registry.open()
    expected = registry.resolve(reference)
    name = _shown_name(registry, reference, expected)
    path = registry.find(str(expected))
    digest = Digest.of_file(path)
    if digest != expected:
        raise DigestMismatchError(
            f"{reference}: stored bytes have the digest {digest}, expected {expected}",
            context={"path": str(path), "digest": str(expected)},
            hint="run 'ual fsck --deep' to see what else is damaged",
        )
    return _Found(path=path, digest=digest, name=name)


def _shown_name(registry: Registry, reference: str, digest: Digest) -> str:
    """Return the name of the revision that is meant, if it is not withdrawn; empty where it has none.

    Raises:
        HubError: It is yanked.
    """
    from ual_registry.registry.reference import Reference  # noqa: PLC0415  # as above

    parsed = Reference.parse(reference)
    records = [
        record
        for record in registry.search(f"digest:{digest.hex} yanked:true,false").items
        if parsed.name in (None, record.name)
        and parsed.number in (None, record.number)
        and (parsed.alias is None or parsed.alias in record.aliases)
    ]
    if records and all(record.yank_reason is not None for record in records):
        record = records[0]
        raise HubError(
            f"{record.name}@{record.number}: is yanked ({record.yank_reason}); nothing was pushed",
            code="hub-yanked",
            context={"name": record.name, "revision": record.number, "digest": str(digest)},
            hint=f"name another revision, or show it again by 'ual yank {record.name}@{record.number} --undo'",
        )
    return parsed.name or (records[0].name if records else "")


def _checked(path: Path) -> Digest:
    """Read a legal file once: check all of its tensors, and return its digest.

    Raises:
        FormatError: A factor is not finite, or the tensors do not have their digest.
        StorageError: It cannot be read, or was changed meanwhile.
    """
    found = open_legal(path)
    assert found.manifest is not None  # a legal file has one
    try:
        intake = take_in(found, None)
    finally:
        found.source.close()
    for problem in scanned_problems(found.manifest, intake.scan):
        raise problem.to_error()
    return intake.digest


def _check_pinned(manifest: Manifest, reference: str, *, allow_unpinned: bool) -> None:
    revision = manifest.base_model.revision
    if allow_unpinned or is_commit(revision):
        return
    got = "missing" if revision is None else f"{revision!r}, expected a commit"
    raise HubError(
        f"{reference}: base_model.revision is {got}; without a commit nobody can tell which weights of "
        f"{manifest.base_model.id} it belongs to",
        code="hub-unpinned",
        context={"base": manifest.base_model.id, "revision": revision},
        hint=f"{_how_to_pin(manifest)}, or pass --allow-unpinned",
    )


def _how_to_pin(manifest: Manifest) -> str:
    if any(parent.relation == "projected_from" for parent in manifest.parents):
        return "transfer it again with --to OWNER/NAME@COMMIT, or with --to-revision COMMIT"
    return "write it into the file by 'ual convert FOLDER FILE.air --base BASE --base-revision COMMIT'"


def _peft_pair(adapter: Adapter, folder: Path, prefix: str) -> tuple[Content, ...]:
    try:
        to_peft(adapter, folder)
    except ForeignFormatError as error:
        error.hint = f"pass --air-only to push it without the PEFT pair; {error.hint or 'PEFT cannot say what it says'}"
        raise
    weights = Content.of_file(prefix + WEIGHTS_FILE, folder / WEIGHTS_FILE, like=prefix + AIR_FILE)
    return weights, Content.of_file(prefix + CONFIG_FILE, folder / CONFIG_FILE)


def _remarks(manifest: Manifest, *, air_only: bool, has_picture: bool) -> Iterator[str]:
    """Yield what whoever pushes should know of what others will see."""
    origin = manifest.origin
    named = str(origin.config.get("base_model_name_or_path") or "") if origin else manifest.base_model.id
    if not is_repository(manifest.base_model.id, owned=False):
        yield f"the base model is called {manifest.base_model.id!r}, which is no id on the Hub; others cannot find it"
    if not air_only and named and not is_repository(named, owned=False):
        yield f"{CONFIG_FILE} names the base model {named!r}; others must name the base model by themselves"
    if not has_picture:
        yield "no picture in the card: pip install matplotlib"
