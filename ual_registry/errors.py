"""The whole error tree: who must act, a stable code, an exit code, where, and what to do next.

It decides how errors are named, numbered and worded. It leaves printing to the command line.
Only the standard library is used, so that every other module may import it.

Branches are sorted by who must act:

    UALError
      FormatError          the file or document       3
      BinderError          the architecture           4
      TransferError        the transfer               5
      TrainingError        the training run           6
      RouteError           the dispatcher             7
      RegistryError        the registry               8
      HubError             the Hub                    9
      MissingExtraError    the installation          10
      StorageError         the file system           11
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

__all__ = [
    "AmbiguousArchitectureError",
    "BaseMismatchError",
    "BinderDataError",
    "BinderError",
    "ContainerError",
    "DigestMismatchError",
    "ForeignFormatError",
    "FormatError",
    "HubAccessError",
    "HubConflictError",
    "HubError",
    "HubNotFoundError",
    "HubUnavailableError",
    "MissingExtraError",
    "NoCounterpartError",
    "NumericalError",
    "QueryError",
    "RegistryConflictError",
    "RegistryError",
    "RegistryNotFoundError",
    "RegistryUnavailableError",
    "RouteError",
    "RuleError",
    "SchemaError",
    "ShapeError",
    "StorageError",
    "TrainingError",
    "TransferError",
    "UALError",
    "UninferableArchitectureError",
    "UnknownArchitectureError",
    "UnresolvedModuleError",
    "UnsupportedVersionError",
    "error_classes",
]


class UALError(Exception):
    """The root of every error that this package raises on purpose.

    Args:
        message: What is wrong and where, expected and got; one line.
        context: The place in machine-readable form (tensor, path, digest, ...).
        hint: What the user can do next.
        code: A finer stable code than the class's own, for documents with many ways to be wrong.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 3

    def __init__(
        self,
        message: str,
        *,
        context: Mapping[str, object] | None = None,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.context = dict(context or {})
        self.hint = hint
        self.problem_code = code or self.code

    def reword(self, message: str) -> None:
        """Say it in other words, such as with the place that only a caller knows; nothing else changes."""
        self.message = message
        self.args = (message,)


class FormatError(UALError):
    """A file or document is not what it must be."""

    code = "format"


class ContainerError(FormatError):
    """The bytes are no legal safetensors container (spec: container)."""

    code = "container"


class SchemaError(FormatError):
    """A document does not follow its JSON Schema."""

    code = "schema"


class RuleError(FormatError):
    """A document follows its schema and still contradicts itself or its tensors."""

    code = "rule"


class UnsupportedVersionError(FormatError):
    """A document has a version, or needs a feature, that this reader does not know."""

    code = "unsupported-version"


class DigestMismatchError(FormatError):
    """Stored bytes do not have the digest that names them."""

    code = "digest-mismatch"


class ForeignFormatError(FormatError):
    """A file of another format (PEFT, ...) is broken, or says something that AIR cannot carry."""

    code = "foreign-format"


class BinderError(UALError):
    """An architecture cannot be bound."""

    code = "binder"
    exit_code = 4


class UnknownArchitectureError(BinderError):
    """No binder knows this model type."""

    code = "unknown-architecture"


class AmbiguousArchitectureError(BinderError):
    """More than one binder fits, and nothing tells which."""

    code = "ambiguous-architecture"


class BinderDataError(BinderError):
    """A binder document is wrong, or a base model's config lacks what the binder needs."""

    code = "binder-data"


class UnresolvedModuleError(BinderError):
    """A module path has no place in the architecture."""

    code = "unresolved-module"


class BaseMismatchError(BinderError):
    """The adapter's factors do not have the shapes of the given base model."""

    code = "base-mismatch"


class UninferableArchitectureError(BinderError):
    """What a model computes does not tell which role its modules play, or contradicts itself."""

    code = "uninferable-architecture"


class TransferError(UALError):
    """An adapter cannot be carried to another base model."""

    code = "transfer"
    exit_code = 5


class NoCounterpartError(TransferError):
    """Nothing of the adapter has a place in the target base model."""

    code = "no-counterpart"


class ShapeError(TransferError):
    """Factors have shapes that do not belong together."""

    code = "shape"


class NumericalError(TransferError):
    """A number is not finite, or a computation lost its meaning."""

    code = "numerical"


class TrainingError(UALError):
    """A training run cannot start or go on."""

    code = "training"
    exit_code = 6


class RouteError(UALError):
    """A query cannot be routed."""

    code = "route"
    exit_code = 7


class RegistryError(UALError):
    """The registry cannot do what was asked."""

    code = "registry"
    exit_code = 8


class RegistryNotFoundError(RegistryError):
    """The registry has no such adapter, revision, alias or artifact."""

    code = "not-found"


class RegistryConflictError(RegistryError):
    """Somebody else changed what this call expected to find."""

    code = "conflict"


class RegistryUnavailableError(RegistryError):
    """The database or the blob store cannot be used now."""

    code = "unavailable"


class QueryError(RegistryError):
    """A search query is not well formed; the context holds the column, from 1."""

    code = "query"


class HubError(UALError):
    """The Hub cannot do what was asked."""

    code = "hub"
    exit_code = 9


class HubNotFoundError(HubError):
    """The Hub has no such repository, revision or file."""

    code = "hub-not-found"


class HubAccessError(HubError):
    """The Hub refuses access."""

    code = "hub-access"


class HubUnavailableError(HubError):
    """The Hub cannot be reached."""

    code = "hub-unavailable"


class HubConflictError(HubError):
    """The Hub repository changed since it was read."""

    code = "hub-conflict"


class MissingExtraError(UALError):
    """An optional part of the package is not installed.

    Args:
        extra: The name of the extra, as in ``pip install 'ual-registry[extra]'``.
        needed_for: What the user asked for, as a noun phrase.
    """

    code = "missing-extra"
    exit_code = 10

    def __init__(self, extra: str, *, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the extra '{extra}', which is not installed",
            context={"extra": extra},
            hint=f"pip install 'ual-registry[{extra}]'",
        )


class StorageError(UALError):
    """The file system refuses to read or write."""

    code = "storage"
    exit_code = 11

    @classmethod
    def of(cls, action: str, path: object, error: OSError | ValueError) -> StorageError:
        """Translate an error of the system met while doing ``action`` ("read", "write") to ``path``."""
        reason = getattr(error, "strerror", None) or str(error)
        hint = _STORAGE_HINTS.get(type(error))
        return cls(f"cannot {action} {path}: {reason}", context={"path": str(path)}, hint=hint)


_STORAGE_HINTS: dict[type[Exception], str] = {
    FileNotFoundError: "check the path",
    PermissionError: "check the permissions of the file and its folder",
    IsADirectoryError: "give a file, not a folder",
    FileExistsError: "a file stands where a folder is needed; check the path",
    NotADirectoryError: "a file stands where a folder is needed; check the path",
    ValueError: "check the path",
}


def error_classes(root: type[UALError] = UALError) -> Iterator[type[UALError]]:
    """Yield ``root`` and every class below it, depth first, in the order of this file."""
    yield root
    for child in root.__subclasses__():
        yield from error_classes(child)
