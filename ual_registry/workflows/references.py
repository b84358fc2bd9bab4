"""What a user may name an adapter by: a path, or a reference into the registry."""

from __future__ import annotations

from pathlib import Path

from ual_registry.errors import ForeignFormatError, HubError, RegistryError, StorageError
from ual_registry.hub.address import is_hub, is_repository, repository_of_url
from ual_registry.interop.folder import is_unpacked
from ual_registry.registry.reference import Reference, is_path
from ual_registry.remote import is_url
from ual_registry.storage import is_folder

__all__ = ["add_revision", "locate", "refuse_hub", "registered_name"]


def locate(reference: str) -> Path:
    """Return the AIR file that a reference means.

    A reference is a path where it ends in ``.air`` or holds a separator; otherwise it is ``name``, ``name@3``,
    ``name@alias`` or ``sha256:...`` in the registry, whatever files of that name stand in the working folder.

    Raises:
        RegistryError: It names nothing in the registry.
        ForeignFormatError: It is a folder.
        HubError: It is on the Hub.
        StorageError: There is no such file, and it may be meant as a repository of the Hub.
    """
    refuse_hub(reference)
    if is_url(reference):
        raise _is_address(reference)
    path = Path(reference)
    if is_path(reference):
        if is_folder(path):
            raise _is_folder(reference)
        if is_repository(reference) and path.suffix != ".air" and not path.exists():
            raise StorageError(
                f"cannot read {reference}: No such file or directory",
                context={"path": reference},
                hint=f"check the path; what is on the Hub is written hf:{reference}",
            )
        return path
    # The registry brings a database library along, which a path does not need.
    from ual_registry.registry.registry import Registry  # noqa: PLC0415

    try:
        return Registry.open().find(reference)
    except RegistryError as error:
        if error.problem_code not in _NAMES_NOTHING or not reference:
            raise
        if path.is_dir():
            raise _is_folder(reference) from error
        if path.is_file():
            error.hint = f"to use the file, write ./{reference}"
        raise


_NAMES_NOTHING = ("not-found", "name")


def refuse_hub(reference: str) -> None:
    """Refuse an address of the Hub where a file or a name in the registry is needed.

    Raises:
        HubError: It is one.
    """
    if is_hub(reference):
        raise HubError(
            f"{reference}: is on the Hub, expected an AIR file or the name of a registered adapter",
            code="hub-reference",
            hint=f"'ual pull {reference.removeprefix('hf:')}' brings it into the registry",
        )


def registered_name(reference: str, *, recorded: str) -> str:
    """Return the name that a reference has in the registry.

    Args:
        reference: The reference.
        recorded: What is to be recorded under the name, as a noun phrase.

    Raises:
        RegistryError: It is a path or a digest, which have none.
    """
    name = None if is_path(reference) else Reference.parse(reference).name
    if name is None:
        raise RegistryError(
            f"cannot record {recorded} of {reference}: it is no name in the registry",
            code="not-recordable",
            hint=f"'ual add FILE.air --name NAME' gives it one; -o FILE.air writes {recorded} into a file",
        )
    return name


def add_revision(path: Path, name: str) -> str:
    """Add an AIR file to the registry as the next revision of a name, and return what that is called."""
    from ual_registry.registry.registry import Registry  # noqa: PLC0415  # brings a database library along

    added = Registry.open().add(path, name=name)
    return f"{added.name}@{added.number}"


def _is_address(reference: str) -> StorageError:
    meant = repository_of_url(reference)
    return StorageError(
        f"{reference}: is an address, expected an AIR file or the name of a registered adapter",
        context={"path": reference},
        hint=f"what is on the Hub is written hf:{meant}" if meant else f"'ual validate {reference}' reads its header",
    )


def _is_folder(reference: str) -> ForeignFormatError:
    if is_unpacked(Path(reference)):
        return ForeignFormatError(
            f"{reference}: is an unpacked adapter, expected an AIR file or the name of a registered adapter",
            code="folder",
            hint=f"it becomes an AIR file again by 'ual convert {reference} FILE.air'",
        )
    return ForeignFormatError(
        f"{reference}: is a folder, expected an AIR file or the name of a registered adapter",
        code="folder",
        hint=f"a PEFT folder becomes an AIR file by 'ual convert {reference} FILE.air --base BASE'",
    )
