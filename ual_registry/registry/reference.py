"""How an adapter is named: ``name`` (newest revision), ``name@3``, ``name@alias``, ``sha256:...``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ual_registry.digest import Digest
from ual_registry.errors import RegistryError

__all__ = ["Reference", "check_alias", "check_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A parsed reference; exactly one of ``digest`` and ``name`` is set, and at most one of the others.

    >>> Reference.parse("triage@production").alias
    'production'
    >>> Reference.parse("triage@3").number
    3
    """

    digest: Digest | None = None
    name: str | None = None
    number: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference.

        Raises:
            RegistryError: It is not well formed.
            FormatError: It starts like a digest and is none.
        """
        if text.startswith("sha256:"):
            return cls(digest=Digest.parse(text))
        name, at, rest = text.partition("@")
        check_name(name)
        if not at:
            return cls(name=name)
        if rest.isdecimal():
            return cls(name=name, number=int(rest[:18]))
        return cls(name=name, alias=check_alias(rest))


def check_name(name: str) -> str:
    """Return ``name`` if an adapter may be called so.

    Raises:
        RegistryError: It may not.
    """
    if not _NAME.match(name):
        raise RegistryError(
            f"adapter name {name!r}: expected 1 to 128 letters, digits, '.', '_' and '-', the first a letter or digit",
            code="name",
            context={"name": name},
        )
    return name


def check_alias(alias: str) -> str:
    """Return ``alias`` if an alias may be called so.

    Raises:
        RegistryError: It may not; digits alone would be a revision number.
    """
    if not _NAME.match(alias) or alias.isdecimal():
        raise RegistryError(
            f"alias {alias!r}: expected letters, digits, '.', '_' and '-', not digits alone",
            code="name",
            context={"alias": alias},
        )
    return alias
